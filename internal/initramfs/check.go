package initramfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/kimage"
)

// What can be wrong; errors of [Check] that are about the data wrap one of them.
var (
	// ErrTruncated: the data ends before the archive does.
	ErrTruncated = errors.New("truncated initramfs")
	// ErrCorrupt: it is no initramfs, or not one any more.
	ErrCorrupt = errors.New("corrupt initramfs")
	// ErrTooLarge: it unpacks to more than any machine boots with.
	ErrTooLarge = errors.New("initramfs out of all proportion")
)

// Contents is what an initramfs has in it.
type Contents struct {
	Archives int      `json:"archives"`
	Codecs   []string `json:"codecs,omitempty"` // of the compressed ones, in order
	Files    int      `json:"files"`            // regular files
	// Unpacked is the memory that the files take, in bytes: tmpfs keeps whole
	// pages.
	Unpacked uint64 `json:"unpacked"`
	// Init tells that there is a program /init.
	Init bool `json:"init"`
}

const (
	pageSize   = 4096
	headerSize = 110     // of an entry, before its name
	maxName    = 4096    // PATH_MAX, with the NUL
	maxEntries = 1 << 20 // of one initramfs
	maxBytes   = 8 << 30 // unpacked
	trailer    = "TRAILER!!!"
)

// Check reads an initramfs as the kernel will (init/initramfs.c, Linux 6.12 and
// 7.2; Documentation/driver-api/early-userspace/buffer-format.rst): newc
// archives, with zeros between, and at the end maybe one that is compressed.
//
// What has a checksum is compared: gzip, xz, zstd, bzip2, lzo and archives of the
// kind 070702. A flipped bit in the contents of a file in a plain archive, or in
// lz4's legacy frame, looks like any other contents.
func Check(r io.Reader) (*Contents, error) {
	c := &checker{left: maxBytes}
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		first, err := skipZeros(in)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if first == '0' {
			if err := c.archive(in, ""); err != nil {
				return nil, err
			}
			continue
		}
		if err := c.compressed(in); err != nil {
			return nil, err
		}
		break
	}
	if c.Archives == 0 {
		return nil, fmt.Errorf("%w: there is nothing in it", ErrTruncated)
	}
	return &c.Contents, nil
}

// checker is one Check.
type checker struct {
	Contents
	entries int
	left    uint64 // bytes that may still come
}

// skipZeros goes to the next byte that is not zero, without taking it.
func skipZeros(r *bufio.Reader) (byte, error) {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if b != 0 {
			return b, r.UnreadByte()
		}
	}
}

// compressed checks an archive, or several, in a compressed stream, and reads
// the stream to its end, where its checksum is.
func (c *checker) compressed(r io.Reader) error {
	plain, codec, err := kimage.Decompress(r)
	if err != nil {
		return c.unpacking(err)
	}
	defer plain.Close()
	if codec == "" {
		return fmt.Errorf("%w: archive %d is neither a newc archive nor compressed in a known way", ErrCorrupt, c.Archives+1)
	}
	c.Codecs = append(c.Codecs, codec)
	in := bufio.NewReaderSize(plain, 64<<10)
	for {
		first, err := skipZeros(in)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return c.unpacking(err)
		}
		if first != '0' {
			return fmt.Errorf("%w: archive %d, in %s, is no newc archive", ErrCorrupt, c.Archives+1, codec)
		}
		if err := c.archive(in, codec); err != nil {
			// Odd contents of corrupt data: the checksum knows better.
			if _, end := io.Copy(io.Discard, io.LimitReader(in, 1<<30)); end != nil {
				return c.unpacking(end)
			}
			return err
		}
	}
}

// unpacking makes an error of the decompressor one of this package.
func (c *checker) unpacking(err error) error {
	e, ok := errors.AsType[*kimage.Error](err)
	switch {
	case !ok:
		return err
	case errors.Is(e, kimage.ErrTruncated):
		return fmt.Errorf("%w: archive %d: %s", ErrTruncated, c.Archives+1, e.Detail)
	case errors.Is(e, kimage.ErrTooLarge):
		return fmt.Errorf("%w: archive %d: %s", ErrTooLarge, c.Archives+1, e.Detail)
	}
	return fmt.Errorf("%w: archive %d: %s", ErrCorrupt, c.Archives+1, e.Detail)
}

// archive checks one newc archive up to its trailer.
func (c *checker) archive(r *bufio.Reader, codec string) error {
	where := fmt.Sprintf("archive %d", c.Archives+1)
	if codec != "" {
		where += ", in " + codec
	}
	for n := 1; ; n++ {
		e, err := readEntry(r)
		if err == nil {
			err = c.contents(r, e)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("%w: %s ends in entry %d, without the trailer", ErrTruncated, where, n)
		case errors.Is(err, ErrCorrupt), errors.Is(err, ErrTooLarge):
			return fmt.Errorf("%w (%s, entry %d)", err, where, n)
		case err != nil:
			return c.unpacking(err)
		}
		if e.name == trailer {
			c.Archives++
			return nil
		}
	}
}

// entry is the header of a file.
type entry struct {
	name  string
	mode  uint32
	size  uint32
	sum   uint32
	check bool // sum is to be compared
}

// Kinds of files in a mode, include/uapi/linux/stat.h.
const (
	typeMask = 0o170000
	regular  = 0o100000
	symlink  = 0o120000
)

// readEntry reads a header and its name, with the padding behind.
func readEntry(r io.Reader) (*entry, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	e := &entry{}
	switch magic := string(h[:6]); magic {
	case "070701":
	case "070702":
		e.check = true
	default:
		return nil, fmt.Errorf("%w: an entry begins with %q", ErrCorrupt, magic)
	}
	var fields [13]uint32
	for i := range fields {
		v, err := strconv.ParseUint(string(h[6+8*i:][:8]), 16, 32)
		if err != nil {
			return nil, fmt.Errorf("%w: field %d of a header is %q", ErrCorrupt, i+1, h[6+8*i:][:8])
		}
		fields[i] = uint32(v)
	}
	e.mode, e.size, e.sum = fields[1], fields[6], fields[12]
	length := fields[11]
	if length == 0 || length > maxName {
		return nil, fmt.Errorf("%w: a name of %d bytes", ErrCorrupt, length)
	}
	name := make([]byte, padded(headerSize+length)-headerSize)
	if _, err := io.ReadFull(r, name); err != nil {
		return nil, err
	}
	if name[length-1] != 0 || strings.IndexByte(string(name[:length]), 0) != int(length)-1 {
		return nil, fmt.Errorf("%w: a name of %d bytes is not terminated there", ErrCorrupt, length)
	}
	e.name = string(name[:length-1])
	return e, nil
}

// padded rounds up to where the next part begins.
func padded(n uint32) uint32 { return (n + 3) &^ 3 }

// contents reads what a file has in it, and counts the file.
func (c *checker) contents(r io.Reader, e *entry) error {
	if c.entries++; c.entries > maxEntries {
		return fmt.Errorf("%w: more than %d entries", ErrTooLarge, maxEntries)
	}
	size := uint64(e.size)
	if size > c.left {
		return fmt.Errorf("%w: more than %d GiB", ErrTooLarge, maxBytes>>30)
	}
	c.left -= size
	if e.mode&typeMask == symlink && size > maxName {
		return fmt.Errorf("%w: %q is a link of %d bytes", ErrCorrupt, e.name, size)
	}
	var sum adder
	if _, err := io.CopyN(&sum, r, int64(size)); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, r, int64((4-size%4)%4)); err != nil {
		return err
	}
	if e.check && e.mode&typeMask == regular && size > 0 && uint32(sum) != e.sum {
		return fmt.Errorf("%w: %q has the checksum %#x, not %#x", ErrCorrupt, e.name, uint32(sum), e.sum)
	}
	if e.name == trailer {
		return nil
	}
	if e.mode&typeMask == regular {
		c.Files++
		c.Unpacked += (size + pageSize - 1) &^ (pageSize - 1)
	}
	if strings.TrimPrefix(strings.TrimPrefix(e.name, "."), "/") == "init" && (e.mode&typeMask == symlink || e.mode&typeMask == regular && e.mode&0o111 != 0) {
		c.Init = true
	}
	return nil
}

// adder is the checksum of 070702: the sum of all bytes.
type adder uint32

func (a *adder) Write(p []byte) (int, error) {
	for _, b := range p {
		*a += adder(b)
	}
	return len(p), nil
}
