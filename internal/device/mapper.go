package device

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// Mapped is a block device that the device mapper makes of parts of others, one
// after the other: a logical volume of LVM, as a rule.
type Mapped struct {
	Parts []Part `json:"parts"`
}

// Part is a run of sectors of 512 bytes of another block device.
type Part struct {
	Sectors uint64 `json:"sectors"`
	// On is the UUID of the physical volume that it is on, From where it begins
	// there.
	On   string `json:"on"`
	From uint64 `json:"from"`
}

// maxParts bounds the parts of a volume; each was once an extension of it.
const maxParts = 256

// IsMapped tells whether the device mapper makes a block device.
func IsMapped(fsys fs.FS, b *Block) bool {
	_, err := fs.Stat(fsys, path.Join(b.Path, "dm", "name"))
	return err == nil
}

// Linear reads the table of a device that the device mapper makes. volume tells the
// UUID of the physical volume on a block device. The error wraps [ErrStacked] for
// whatever is not linear: a snapshot, a mirror, a thin or an encrypted volume needs
// more than its table.
func Linear(name string, table []sys.MapperTarget, volume func(major, minor uint32) (string, error)) (*Mapped, error) {
	if len(table) == 0 || len(table) > maxParts {
		return nil, fmt.Errorf("%s: table of %d parts, not 1 to %d: %w", name, len(table), maxParts, ErrStacked)
	}
	m := &Mapped{}
	var next uint64
	for _, t := range table {
		if t.Type != "linear" {
			return nil, fmt.Errorf("%s: %w in a way (%s) that only its own tools can set up", name, ErrStacked, t.Type)
		}
		f := strings.Fields(t.Params)
		if len(f) != 2 || t.Start != next || t.Length == 0 {
			return nil, fmt.Errorf("%s: part of %d sectors at %d: linear %q", name, t.Length, t.Start, t.Params)
		}
		next += t.Length
		major, minor, err := ParseNumber(f[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		from, err := strconv.ParseUint(f[1], 10, 55)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		on, err := volume(major, minor)
		if err != nil {
			return nil, fmt.Errorf("%s on device %d:%d: %w", name, major, minor, err)
		}
		m.Parts = append(m.Parts, Part{Sectors: t.Length, On: on, From: from})
	}
	return m, nil
}

// Volumes are the UUIDs of the physical volumes, each once.
func (m *Mapped) Volumes() []string {
	var all []string
	seen := map[string]bool{}
	for _, p := range m.Parts {
		if !seen[p.On] {
			seen[p.On] = true
			all = append(all, p.On)
		}
	}
	return all
}

// Check finds what could not be set up.
func (m *Mapped) Check() error {
	if len(m.Parts) == 0 || len(m.Parts) > maxParts {
		return fmt.Errorf("%d parts, not 1 to %d", len(m.Parts), maxParts)
	}
	for _, p := range m.Parts {
		if p.On == "" || p.Sectors == 0 || p.Sectors > 1<<55 {
			return fmt.Errorf("part of %d sectors on %q", p.Sectors, p.On)
		}
	}
	return nil
}

// Table is what makes the device again, where volumes have these numbers, like
// "254:1".
func (m *Mapped) Table(numbers map[string]string) []sys.MapperTarget {
	var table []sys.MapperTarget
	var start uint64
	for _, p := range m.Parts {
		table = append(table, sys.MapperTarget{Start: start, Length: p.Sectors, Type: "linear", Params: fmt.Sprintf("%s %d", numbers[p.On], p.From)})
		start += p.Sectors
	}
	return table
}

// Number is the number of a block device by the name of its file in /dev, as
// sysfs writes it: "254:1".
func Number(fsys fs.FS, device string) (string, error) {
	text, err := readSmall(fsys, path.Join("sys/class/block", strings.ReplaceAll(strings.TrimPrefix(device, "/dev/"), "/", "!"), "dev"))
	if err != nil {
		return "", err
	}
	if _, _, err := ParseNumber(text); err != nil {
		return "", err
	}
	return strings.TrimSpace(text), nil
}

// volumeType is the type under which the label of a physical volume is found.
const volumeType = "LVM2_member"

// ErrNoVolume: a block device is not a physical volume of LVM.
var ErrNoVolume = errors.New("not a physical volume of LVM, so nothing to find it by again")

// PhysicalVolume is the UUID of the physical volume on a block device.
func PhysicalVolume(r io.ReaderAt) (string, error) {
	all, err := identifyAll(r)
	if err != nil {
		return "", err
	}
	for _, f := range all {
		if f.Type == volumeType {
			return f.UUID, nil
		}
	}
	return "", ErrNoVolume
}

// parseVolume reads the label of a physical volume, which is in one of the first
// four sectors: LABELONE, its sector, a checksum, where the header is, LVM2 001;
// the header begins with the UUID (lib/format_text/layout.h and lib/label/label.h
// of LVM2 2.03).
func parseVolume(b []byte) *Filesystem {
	for sector := 0; sector+512 <= len(b); sector += 512 {
		l := b[sector : sector+512]
		if string(l[:8]) != "LABELONE" || string(l[24:32]) != "LVM2 001" {
			continue
		}
		at := int(l[20]) | int(l[21])<<8
		if l[22]|l[23] != 0 || at < 32 || at+32 > len(l) {
			return nil
		}
		id := l[at : at+32]
		for _, c := range id {
			if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '!' || c == '#') {
				return nil
			}
		}
		// As LVM and blkid write it.
		s := string(id)
		return &Filesystem{Type: volumeType, Devices: 1,
			UUID: strings.Join([]string{s[:6], s[6:10], s[10:14], s[14:18], s[18:22], s[22:26], s[26:]}, "-")}
	}
	return nil
}
