package kimage

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
)

// The .xz container ("The .xz File Format", 1.2.1, in xz's doc/).
const (
	xzMagic  = "\xfd7zXZ\x00"
	xzFooter = "YZ"

	xzLZMA2 = 0x21 // filters
	xzRISCV = 0x0b
)

// errWindow: a dictionary larger than maxWindow.
var errWindow = errors.New("dictionary too large")

// xzReader unpacks one stream, which is all that xz(1) writes.
type xzReader struct {
	in    *forward
	check hash.Hash // nil without
	size  int       // of the check in the file
	block io.Reader // nil between blocks
	index []xzRecord
	// Of the block: where its data begins, the length of its header, what
	// came out.
	at, header, out int64
	data            *lzmaStream
	branched        bool // filtered, with positions from start on
	start           uint32
}

// xzRecord is what the index says of a block.
type xzRecord struct{ unpadded, uncompressed uint64 }

func newXZ(r io.Reader) (*xzReader, error) {
	z := &xzReader{in: &forward{r: r}}
	h, err := z.bytes(12)
	if err != nil {
		return nil, err
	}
	if string(h[:6]) != xzMagic || h[6] != 0 || crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]) {
		return nil, errors.New("broken header")
	}
	switch h[7] {
	case 0:
	case 1:
		z.check, z.size = crc32.NewIEEE(), 4
	case 4:
		z.check, z.size = crc64.New(crc64.MakeTable(crc64.ECMA)), 8
	case 10:
		z.check, z.size = sha256.New(), 32
	default:
		return nil, fmt.Errorf("unknown kind of check %d", h[7])
	}
	return z, nil
}

func (z *xzReader) bytes(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(z.in, b)
	return b, unexpected(err)
}

func (z *xzReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if z.block == nil {
			if err := z.next(); err != nil {
				return 0, err
			}
			z.block = z.data
			if z.branched {
				z.block = newBranches(z.data, z.start)
			}
		}
		n, err := z.block.Read(p)
		z.out += int64(n)
		if z.check != nil {
			z.check.Write(p[:n])
		}
		if err == io.EOF {
			err = z.end()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// whole unpacks all to memory, which is the dictionary of each block until the
// block is complete and what the filter did to it can be undone.
func (z *xzReader) whole(to []byte, _ int64) (int, error) {
	n := 0
	for {
		if err := z.next(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return n, err
		}
		size, err := z.data.whole(to[n:], 0)
		if err != nil {
			return n, err
		}
		block := to[n:][:size]
		n += size
		z.out = int64(size)
		if z.branched {
			undoBranches(block, z.start)
		}
		if z.check != nil {
			z.check.Write(block)
		}
		if err := z.end(); err != nil {
			return n, err
		}
	}
}

// next begins a block; after the last one it is [io.EOF].
func (z *xzReader) next() error {
	first, err := z.bytes(1)
	if err != nil {
		return err
	}
	if first[0] == 0 {
		return z.tail()
	}
	rest, err := z.bytes(int(first[0])*4 + 3)
	if err != nil {
		return err
	}
	h := append(first, rest...)
	z.header = int64(len(h))
	h, sum := h[:len(h)-4], h[len(h)-4:]
	if crc32.ChecksumIEEE(h) != binary.LittleEndian.Uint32(sum) {
		return errors.New("wrong checksum of a block's header")
	}
	flags, h := h[1], h[2:]
	if flags&0x3c != 0 {
		return fmt.Errorf("unknown flags %#x of a block", flags)
	}
	unpacked := uint64(maxWindow)
	for _, present := range []byte{0x40, 0x80} { // sizes, which the index has again
		if flags&present != 0 {
			size, n := binary.Uvarint(h)
			if n <= 0 {
				return errors.New("broken header of a block")
			}
			if present == 0x80 {
				unpacked = size
			}
			h = h[n:]
		}
	}
	branched := flags&3 == 1
	var start uint32
	if branched {
		switch {
		case len(h) > 2 && h[0] == xzRISCV && h[1] == 0:
			h = h[2:]
		case len(h) > 6 && h[0] == xzRISCV && h[1] == 4:
			start = binary.LittleEndian.Uint32(h[2:])
			h = h[6:]
		default:
			branched = false
		}
	}
	if branched != (flags&3 != 0) || len(h) < 3 || h[0] != xzLZMA2 || h[1] != 1 {
		return errors.New("filters that a riscv64 kernel is not compressed with")
	}
	dictionary, err := xzDictionary(h[2])
	if err != nil {
		return err
	}
	z.at, z.out = z.in.pos, 0
	if z.check != nil {
		z.check.Reset()
	}
	z.data, z.branched, z.start = newLZMA2(z.in, int(min(dictionary, unpacked))), branched, start
	return nil
}

// xzDictionary is the size of a dictionary: 2 or 3 times a power of two.
func xzDictionary(b byte) (uint64, error) {
	if b > 40 {
		return 0, fmt.Errorf("dictionary size %#x", b)
	}
	size := uint64(2|b&1) << (b/2 + 11)
	if size > maxWindow {
		return 0, errWindow
	}
	return size, nil
}

// end checks a block that was read.
func (z *xzReader) end() error {
	z.block = nil
	packed := z.in.pos - z.at
	z.index = append(z.index, xzRecord{uint64(z.header + packed + int64(z.size)), uint64(z.out)})
	padding, err := z.bytes(int(-packed & 3))
	if err != nil {
		return err
	}
	if len(bytes.Trim(padding, "\x00")) != 0 {
		return errors.New("broken padding of a block")
	}
	sum, err := z.bytes(z.size)
	if err != nil || z.check == nil {
		return err
	}
	want := z.check.Sum(nil)
	if z.size < 32 { // little endian in the file
		for i, j := 0, len(want)-1; i < j; i, j = i+1, j-1 {
			want[i], want[j] = want[j], want[i]
		}
	}
	if !bytes.Equal(sum, want) {
		return errors.New("wrong checksum of the data")
	}
	return nil
}

// tail checks the index, whose first byte was read, and the footer.
func (z *xzReader) tail() error {
	start := z.in.pos - 1
	sum := crc32.NewIEEE()
	sum.Write([]byte{0})
	r := &xzNumbers{r: io.TeeReader(z.in, sum)}
	if n := r.next(); r.err == nil && n != uint64(len(z.index)) {
		return fmt.Errorf("%d blocks, the index has %d", len(z.index), n)
	}
	for _, want := range z.index {
		if got := (xzRecord{r.next(), r.next()}); r.err == nil && got != want {
			return errors.New("the index does not match the blocks")
		}
	}
	for r.err == nil && (z.in.pos-start)%4 != 0 {
		if b := r.byte(); r.err == nil && b != 0 {
			return errors.New("broken index")
		}
	}
	if r.err != nil {
		return r.err
	}
	b, err := z.bytes(4)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b) != sum.Sum32() {
		return errors.New("wrong checksum of the index")
	}
	size := z.in.pos - start
	f, err := z.bytes(12)
	if err != nil {
		return err
	}
	if string(f[10:]) != xzFooter || crc32.ChecksumIEEE(f[4:10]) != binary.LittleEndian.Uint32(f) ||
		(int64(binary.LittleEndian.Uint32(f[4:]))+1)*4 != size {
		return errors.New("broken footer")
	}
	return io.EOF
}

// xzNumbers reads numbers of 7 bits a byte until the first error.
type xzNumbers struct {
	r   io.Reader
	err error
}

func (x *xzNumbers) byte() byte {
	var b [1]byte
	if x.err == nil {
		_, err := io.ReadFull(x.r, b[:])
		x.err = unexpected(err)
	}
	return b[0]
}

func (x *xzNumbers) next() uint64 {
	var n uint64
	for i := range 9 {
		b := x.byte()
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return n
		}
	}
	if x.err == nil {
		x.err = errors.New("broken number in the index")
	}
	return 0
}
