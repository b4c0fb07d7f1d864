package device

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strings"
	"unicode/utf16"
)

// Filesystem is what a superblock says about its filesystem.
type Filesystem struct {
	Type string `json:"type"` // the kernel's name for it, like ext4
	// UUID in the spelling of blkid(8) and /dev/disk/by-uuid: lower-case with
	// hyphens, or XXXX-XXXX for vfat.
	UUID  string `json:"uuid"`
	Label string `json:"label,omitempty"`
	Size  uint64 `json:"size"` // bytes, as the filesystem was made
	// Devices is how many block devices the filesystem spans.
	Devices uint64 `json:"devices"`
}

func (f Filesystem) String() string { return f.Type + " " + f.UUID }

// ErrAmbiguous: superblocks of several filesystems were found, all but one of
// them left over from former times.
var ErrAmbiguous = errors.New("several filesystems at once")

// prober knows one superblock: where it lies and how to read it. parse gets
// exactly length bytes and returns nil if they are something else.
type prober struct {
	offset int64
	length int
	parse  func(b []byte) *Filesystem
}

var probers = [...]prober{
	{0, 512, parseXFS},
	{0, 512, parseFAT},
	{1024, 1024, parseExt},
	{1024, 1152, parseF2FS},
	{64 << 10, 4096, parseBtrfs},
	{0, 64, parseDumps},
	{0, 2048, parseVolume},
	{0, 256, parseMember},
	{4096, 256, parseMember},
}

// DumpsMagic begins a partition of ours, which holds crashes and no filesystem
// (target/partition); its UUID is at offset 24. DumpsType is its type here.
const (
	DumpsMagic = "PANICROOM-DUMPS\n"
	DumpsType  = "panicroom"
)

// parseDumps recognises a partition of ours.
func parseDumps(b []byte) *Filesystem {
	if string(b[:len(DumpsMagic)]) != DumpsMagic {
		return nil
	}
	le := binary.LittleEndian
	return &Filesystem{Type: DumpsType, Devices: 1, UUID: uuid(b[24:]), Size: size(le.Uint64(b[40:]), 1<<min(le.Uint32(b[20:]), 63))}
}

// Identify finds the filesystem on a block device or image. The error is
// [ErrUnknownFilesystem] if there is none of those known here (ext2/3/4, xfs,
// btrfs, vfat, f2fs, partitions of ours, volumes of LVM and members of arrays of MD), wraps [ErrAmbiguous] if there are several, and is the
// reader's if it cannot be read.
func Identify(r io.ReaderAt) (Filesystem, error) {
	all, err := identifyAll(r)
	switch {
	case err != nil:
		return Filesystem{}, err
	case len(all) == 0:
		return Filesystem{}, ErrUnknownFilesystem
	case len(all) > 1:
		return Filesystem{}, fmt.Errorf("%w: %v", ErrAmbiguous, all)
	}
	return all[0], nil
}

func identifyAll(r io.ReaderAt) ([]Filesystem, error) {
	var all []Filesystem
	for _, p := range probers {
		b := make([]byte, p.length)
		if n, err := r.ReadAt(b, p.offset); n < len(b) {
			if errors.Is(err, io.EOF) || err == nil {
				continue // too small to hold this one
			}
			return nil, err
		}
		if f := p.parse(b); f != nil {
			all = append(all, *f)
		}
	}
	return all, nil
}

// parseExt reads struct ext4_super_block, fs/ext4/ext4.h (Linux 7.2).
func parseExt(b []byte) *Filesystem {
	le := binary.LittleEndian
	if le.Uint16(b[0x38:]) != 0xef53 {
		return nil
	}
	logBlock := le.Uint32(b[0x18:])
	if logBlock > 6 { // EXT4_MAX_BLOCK_LOG_SIZE is 16: 64 KiB
		return nil
	}
	compat, incompat, roCompat := le.Uint32(b[0x5c:]), le.Uint32(b[0x60:]), le.Uint32(b[0x64:])
	const (
		hasJournal = 0x4 // compat
		journalDev = 0x8 // incompat
		bits64     = 0x80
		// What ext3 knows: filetype, recover, meta_bg; sparse_super,
		// large_file, btree_dir.
		ext3Incompat, ext3ROCompat = 0x2 | 0x4 | 0x10, 0x1 | 0x2 | 0x4
	)
	f := &Filesystem{Devices: 1, UUID: uuid(b[0x68:]), Label: text(b[0x78:0x88])}
	switch {
	case incompat&journalDev != 0:
		return nil // only a journal
	case incompat&^ext3Incompat != 0 || roCompat&^ext3ROCompat != 0:
		f.Type = "ext4"
	case compat&hasJournal != 0:
		f.Type = "ext3"
	default:
		f.Type = "ext2"
	}
	blocks := uint64(le.Uint32(b[0x4:]))
	if incompat&bits64 != 0 {
		blocks |= uint64(le.Uint32(b[0x150:])) << 32
	}
	f.Size = size(blocks, 1024<<logBlock)
	return f
}

// parseXFS reads struct xfs_dsb, fs/xfs/libxfs/xfs_format.h (Linux 7.2); it is
// big-endian.
func parseXFS(b []byte) *Filesystem {
	be := binary.BigEndian
	block := uint64(be.Uint32(b[4:]))
	if string(b[:4]) != "XFSB" || block < 512 || block > 64<<10 || bits.OnesCount64(block) != 1 {
		return nil
	}
	return &Filesystem{Type: "xfs", Devices: 1, UUID: uuid(b[32:]), Label: text(b[108:120]), Size: size(be.Uint64(b[8:]), block)}
}

// parseBtrfs reads struct btrfs_super_block, include/uapi/linux/btrfs_tree.h
// (Linux 7.2).
func parseBtrfs(b []byte) *Filesystem {
	if string(b[0x40:0x48]) != "_BHRfS_M" {
		return nil
	}
	return &Filesystem{Type: "btrfs", Devices: max(1, binary.LittleEndian.Uint64(b[0x88:])), UUID: uuid(b[0x20:]), Label: text(b[0x12b:0x22b]), Size: binary.LittleEndian.Uint64(b[0x70:])}
}

// parseF2FS reads struct f2fs_super_block, include/linux/f2fs_fs.h (Linux 7.2).
func parseF2FS(b []byte) *Filesystem {
	le := binary.LittleEndian
	logBlock := le.Uint32(b[16:])
	if le.Uint32(b) != 0xf2f52010 || logBlock < 12 || logBlock > 16 {
		return nil
	}
	var label []uint16
	for i := 124; i < 124+2*512; i += 2 {
		c := le.Uint16(b[i:])
		if c == 0 {
			break
		}
		label = append(label, c)
	}
	return &Filesystem{Type: "f2fs", Devices: 1, UUID: uuid(b[108:]), Label: printable(string(utf16.Decode(label))), Size: size(le.Uint64(b[36:]), 1<<logBlock)}
}

// parseFAT reads the boot sector of FAT12, FAT16 and FAT32,
// include/uapi/linux/msdos_fs.h (Linux 7.2).
func parseFAT(b []byte) *Filesystem {
	le := binary.LittleEndian
	sector, cluster, fats := uint64(le.Uint16(b[11:])), b[13], b[16]
	if b[510] != 0x55 || b[511] != 0xaa || sector < 512 || sector > 4096 || bits.OnesCount64(sector) != 1 ||
		bits.OnesCount8(cluster) != 1 || le.Uint16(b[14:]) == 0 || fats == 0 || fats > 2 || b[21] < 0xf0 {
		return nil
	}
	var ext []byte // signature, serial number, label and type's name
	switch {
	case string(b[82:87]) == "FAT32":
		ext = b[66:]
	case string(b[54:57]) == "FAT":
		ext = b[38:]
	default:
		return nil
	}
	if ext[0] != 0x28 && ext[0] != 0x29 {
		return nil
	}
	f := &Filesystem{Type: "vfat", Devices: 1, UUID: fmt.Sprintf("%04X-%04X", le.Uint16(ext[3:]), le.Uint16(ext[1:]))}
	if ext[0] == 0x29 {
		if label := strings.TrimRight(text(ext[5:16]), " "); label != "NO NAME" {
			f.Label = label
		}
	}
	sectors := uint64(le.Uint16(b[19:]))
	if sectors == 0 {
		sectors = uint64(le.Uint32(b[32:]))
	}
	f.Size = size(sectors, sector)
	return f
}

// size multiplies, and knows no answer when the numbers are absurd.
func size(n, unit uint64) uint64 {
	hi, lo := bits.Mul64(n, unit)
	if hi != 0 {
		return 0
	}
	return lo
}

func uuid(b []byte) string {
	h := hex.EncodeToString(b[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// text is a name padded with zeros.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return printable(string(b))
}

// printable replaces what would play tricks with a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
