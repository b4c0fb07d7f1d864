package device

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// Array is a mirror that MD makes of block devices.
type Array struct {
	Level string `json:"level"` // raid1
	// Minor is that of the version of the metadata, 1.Minor.
	Minor int `json:"minor"`
	// Members are the UUIDs of the devices.
	Members []string `json:"members"`
}

// IsArray tells whether MD makes a block device.
func IsArray(fsys fs.FS, b *Block) bool {
	_, err := fs.Stat(fsys, path.Join(b.Path, "md", "level"))
	return err == nil
}

// ErrNoMember: a block device is no member of an array that can be found again.
var ErrNoMember = errors.New("not a member of an array")

// maxMembers bounds the members of an array.
const maxMembers = 32

// ArrayOf reads what an array is made of. member tells the UUID of the member on a
// block device. The error wraps [ErrStacked] for whatever is not a whole mirror with
// its metadata at the beginning.
func ArrayOf(fsys fs.FS, b *Block, member func(major, minor uint32) (string, error)) (*Array, error) {
	attribute := func(name string) string {
		text, err := readSmall(fsys, path.Join(b.Path, "md", name))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(text)
	}
	a := &Array{Level: attribute("level")}
	if a.Level != "raid1" {
		return nil, fmt.Errorf("/dev/%s: %w, as %s; only raid1 can be set up", b.Name, ErrStacked, a.Level)
	}
	switch version := attribute("metadata_version"); version {
	case "1.1":
		a.Minor = 1
	case "1.2":
		a.Minor = 2
	default:
		return nil, fmt.Errorf("/dev/%s: %w, with metadata %s; only 1.1 and 1.2 can be set up", b.Name, ErrStacked, version)
	}
	if n := attribute("degraded"); n != "0" {
		return nil, fmt.Errorf("/dev/%s: %w, of which %s are missing", b.Name, ErrStacked, n)
	}
	slaves, err := names(fsys, path.Join(b.Path, "slaves"))
	if err != nil {
		return nil, err
	}
	for _, s := range slaves {
		text, err := readSmall(fsys, path.Join("sys/class/block", s, "dev"))
		if err != nil {
			return nil, err
		}
		major, minor, err := ParseNumber(text)
		if err != nil {
			return nil, err
		}
		uuid, err := member(major, minor)
		if err != nil {
			return nil, fmt.Errorf("/dev/%s on %s: %w", b.Name, s, err)
		}
		a.Members = append(a.Members, uuid)
	}
	return a, a.Check()
}

// Check finds what could not be set up.
func (a *Array) Check() error {
	if a.Level == "" || a.Minor < 1 || a.Minor > 2 || len(a.Members) == 0 || len(a.Members) > maxMembers {
		return fmt.Errorf("array of level %q, metadata 1.%d, %d members", a.Level, a.Minor, len(a.Members))
	}
	for _, m := range a.Members {
		if m == "" {
			return errors.New("member without a UUID")
		}
	}
	return nil
}

// memberType is the type under which the superblock of a member is found.
const memberType = "linux_raid_member"

// Member is the UUID of the member of an array on a block device, its own and not
// the array's.
func Member(r io.ReaderAt) (string, error) {
	all, err := identifyAll(r)
	if err != nil {
		return "", err
	}
	for _, f := range all {
		if f.Type == memberType {
			return f.UUID, nil
		}
	}
	return "", ErrNoMember
}

// parseMember reads struct mdp_superblock_1, include/uapi/linux/raid/md_p.h (Linux
// 7.2).
func parseMember(b []byte) *Filesystem {
	le := binary.LittleEndian
	if le.Uint32(b) != 0xa92b4efc || le.Uint32(b[4:]) != 1 {
		return nil
	}
	return &Filesystem{Type: memberType, Devices: max(1, uint64(le.Uint32(b[92:]))), UUID: uuid(b[168:]), Label: text(b[32:64]), Size: size(le.Uint64(b[80:]), 512)}
}
