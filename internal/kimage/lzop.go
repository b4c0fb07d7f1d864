package kimage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"hash/crc32"
	"io"

	"github.com/anchore/go-lzo"
)

// What lzop(1) writes, as the kernel reads it (lib/decompress_unlzo.c, 6.12).
// All numbers are big endian.
const (
	lzopMagic = "\x89LZO\x00\r\n\x1a\n"

	lzopAdlerUnpacked = 0x0001 // a checksum of each block's data
	lzopAdlerPacked   = 0x0002
	lzopExtraField    = 0x0040
	lzopCRCUnpacked   = 0x0100
	lzopCRCPacked     = 0x0200
	lzopFilter        = 0x0800
	lzopHeaderCRC     = 0x1000

	lzopBlock = 256 << 10 // the largest block that the kernel takes
)

// lzop unpacks block by block.
type lzop struct {
	r        io.Reader
	flags    uint32
	packed   []byte
	unpacked []byte
	left     []byte // of unpacked
}

func newLZOP(r io.Reader) (*lzop, error) {
	h := &lzopHeader{r: r}
	if magic := h.bytes(len(lzopMagic)); h.err == nil && string(magic) != lzopMagic {
		return nil, errors.New("no lzop header")
	}
	h.sum = nil // the magic is not in the checksum
	version := h.number(2)
	h.number(2) // version of the library
	if version >= 0x0940 {
		h.number(2) // version needed to unpack
	}
	method := h.number(1)
	if version >= 0x0940 {
		h.number(1) // level
	}
	flags := h.number(4)
	if flags&lzopFilter != 0 {
		h.number(4)
	}
	h.number(4) // mode
	h.number(4) // time
	if version >= 0x0940 {
		h.number(4)
	}
	h.bytes(int(h.number(1))) // name
	h.check(flags)
	if flags&lzopExtraField != 0 && h.err == nil {
		// Not written by anybody; its length is not to be believed.
		h.bytes(int(min(h.number(4), 64<<10)))
		h.check(flags)
	}
	switch {
	case h.err != nil:
		return nil, h.err
	case method < 1 || method > 3:
		return nil, fmt.Errorf("method %d is not lzo1x", method)
	case flags&lzopFilter != 0:
		return nil, errors.New("data with a filter, which the kernel does not know either")
	}
	return &lzop{r: r, flags: flags, packed: make([]byte, lzopBlock), unpacked: make([]byte, lzopBlock)}, nil
}

// lzopHeader reads fields until the first error and keeps what the checksum
// is over.
type lzopHeader struct {
	r   io.Reader
	sum []byte
	err error
}

func (h *lzopHeader) bytes(n int) []byte {
	b := make([]byte, n)
	if h.err == nil {
		_, err := io.ReadFull(h.r, b)
		h.err = unexpected(err)
		h.sum = append(h.sum, b...)
	}
	return b
}

func (h *lzopHeader) number(size int) uint32 {
	var b [4]byte
	copy(b[4-size:], h.bytes(size))
	return binary.BigEndian.Uint32(b[:])
}

func (h *lzopHeader) check(flags uint32) {
	want := adler32.Checksum(h.sum)
	if flags&lzopHeaderCRC != 0 {
		want = crc32.ChecksumIEEE(h.sum)
	}
	if got := h.number(4); h.err == nil && got != want {
		h.err = errors.New("wrong checksum of the header")
	}
	h.sum = nil
}

func (z *lzop) Read(p []byte) (int, error) {
	if len(z.left) == 0 {
		if err := z.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, z.left)
	z.left = z.left[n:]
	return n, nil
}

// next unpacks a block.
func (z *lzop) next() error {
	h := &lzopHeader{r: z.r}
	size := h.number(4)
	if h.err == nil && size == 0 {
		return io.EOF
	}
	packed := h.number(4)
	if h.err == nil && (size > lzopBlock || packed == 0 || packed > size) {
		return fmt.Errorf("a block of %d bytes, packed %d", size, packed)
	}
	sums := []struct {
		flag   uint32
		packed bool
		of     func([]byte) uint32
		want   uint32
	}{
		{lzopAdlerUnpacked, false, adler32.Checksum, 0},
		{lzopCRCUnpacked, false, crc32.ChecksumIEEE, 0},
		{lzopAdlerPacked, true, adler32.Checksum, 0},
		{lzopCRCPacked, true, crc32.ChecksumIEEE, 0},
	}
	for i := range sums {
		// What did not get smaller is stored as it is, with one checksum.
		if z.flags&sums[i].flag == 0 || sums[i].packed && packed == size {
			sums[i].of = nil
			continue
		}
		sums[i].want = h.number(4)
	}
	if h.err != nil {
		return h.err
	}
	in, out := z.packed[:packed], z.unpacked[:size]
	if _, err := io.ReadFull(z.r, in); err != nil {
		return unexpected(err)
	}
	if packed == size {
		copy(out, in)
	} else if n, err := lzo.Decompress(in, out); err != nil {
		return err
	} else if n != len(out) {
		return fmt.Errorf("a block unpacks to %d bytes instead of %d", n, size)
	}
	for _, s := range sums {
		of := out
		if s.packed {
			of = in
		}
		if s.of != nil && s.of(of) != s.want {
			return errors.New("wrong checksum of a block")
		}
	}
	z.left = out
	return nil
}
