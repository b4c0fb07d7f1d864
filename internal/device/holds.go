package device

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// signature is how something on a block device is known.
type signature struct {
	what   string
	offset int64
	magic  string
}

// signatures are of what is no filesystem that a dump could go to, and yet
// nothing to be written over. Their places are those of util-linux's libblkid and
// of the formats' own documents.
var signatures = [...]signature{
	{"an encrypted volume (LUKS)", 0, "LUKS\xba\xbe"},
	{"a volume of LVM", 0, "LABELONE"},
	{"a volume of LVM", 512, "LABELONE"},
	{"a volume of LVM", 1024, "LABELONE"},
	{"a volume of LVM", 1536, "LABELONE"},
	{"a member of a RAID array", 0, "\xfc\x4e\x2b\xa9"},
	{"a member of a RAID array", 4096, "\xfc\x4e\x2b\xa9"},
	{"swap", 4096 - 10, "SWAPSPACE2"},
	{"swap", 4096 - 10, "SWAP-SPACE"},
	{"hibernated memory", 4096 - 10, "S1SUSPEND"},
	{"an NTFS filesystem", 3, "NTFS    "},
	{"an exFAT filesystem", 3, "EXFAT   "},
	{"a squashfs filesystem", 0, "hsqs"},
	{"an erofs filesystem", 1024, "\xe2\xe1\xf5\xe0"},
	{"an ISO 9660 filesystem", 32769, "CD001"},
	{"a bcachefs filesystem", 4096 + 24, "\xc6\x85\x73\xf6"},
	{"a partition table (GPT)", 512, "EFI PART"},
	{"a partition table or boot sector", 510, "\x55\xaa"},
}

// begins is how much of the beginning of a block device must be zero for it to
// count as empty, and ends of its end: RAID metadata and backups of partition
// tables lie there.
const (
	begins = 1 << 20
	ends   = 128 << 10
)

// Holds tells what is on a block device or image of size bytes, "" if it is
// empty: whatever is not zero at its beginning or end is taken for something.
func Holds(r io.ReaderAt, size int64) (what string, err error) {
	all, err := identifyAll(r)
	if err != nil {
		return "", err
	}
	if len(all) > 0 {
		return all[0].String(), nil
	}
	for _, s := range signatures {
		b := make([]byte, len(s.magic))
		if _, err := r.ReadAt(b, s.offset); err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		if string(b) == s.magic {
			return s.what, nil
		}
	}
	buf := make([]byte, 64<<10)
	for _, part := range [][2]int64{{0, min(begins, size)}, {max(0, size-ends), size}} {
		for at := part[0]; at < part[1]; at += int64(len(buf)) {
			b := buf[:min(int64(len(buf)), part[1]-at)]
			if _, err := r.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
				return "", err
			}
			if i := bytes.IndexFunc(b, func(r rune) bool { return r != 0 }); i < 0 {
				continue
			}
			if part[0] > 0 && raidAtEnd(r, size) {
				return "a member of a RAID array", nil
			}
			return "data of an unknown kind", nil
		}
	}
	return "", nil
}

// raidAtEnd recognises the superblock of MD arrays of versions 0.90 and 1.0,
// whose place is counted from the end (drivers/md/md.c, super_90_load and
// super_1_load, Linux 7.2).
func raidAtEnd(r io.ReaderAt, size int64) bool {
	for _, at := range []int64{(size &^ (64<<10 - 1)) - 64<<10, ((size - 8<<10) &^ 4095)} {
		b := make([]byte, 4)
		if at < 0 {
			continue
		}
		if _, err := r.ReadAt(b, at); err == nil && binary.LittleEndian.Uint32(b) == 0xa92b4efc {
			return true
		}
	}
	return false
}
