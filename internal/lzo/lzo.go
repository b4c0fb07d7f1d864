// Package lzo compresses pages as LZO1X-1 does, which is what readers of
// kdump-compressed dumps have taken longest.
//
// It is written from the description of the stream that the kernel's
// decompressor understands, Documentation/staging/lzo.rst (Linux 7.2), which
// also names the instructions: M2, M3 and M4 copy from ever further back. Only
// bitstream version 0 is written. Reading LZO is another package's business.
package lzo

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

const (
	// MaxBlock is how much can be compressed at once, in bytes: the largest
	// page that a dump can have.
	MaxBlock = 1 << 18

	tableBits = 12

	// How far back the instructions reach, and how much they copy in their
	// short form; the length of longer copies stands in bytes of its own.
	m2Distance, m2Length = 2048, 8
	m3Distance, m3Length = 16384, 33
	// One less than could be written: at the last distance, bitstream version
	// 1 has runs of zeros.
	m4Distance, m4Length = 16384 + 0x7ffe, 9

	// tail is how many bytes at the end are not looked up, so that four can be
	// compared at any that are, and then eight.
	tail = 12
	// slack is how much is written beyond the end of literals, for copying
	// eight bytes at a time.
	slack = 16
)

// Encoder compresses blocks, one at a time. The zero value is ready; it keeps
// 8 KiB and the block.
type Encoder struct {
	// block is a copy of what is compressed. It costs a hundredth of the time
	// to make and saves a fifth: nothing has to be asked before four or eight
	// bytes of it are read, for an index of 18 bits is always within.
	block [MaxBlock + 8]byte
	// table has, by hash of four bytes, the low half of where they stood last.
	// An entry that is empty means the start of the block, so that no question
	// has to be asked: whether four bytes are the same is compared anyway.
	table [1 << tableBits]uint16
}

// MaxSize is the most that a block of n bytes can become.
func MaxSize(n int) int { return n + n/255 + 16 + slack }

// Append appends the compressed block to dst. It does not allocate if dst has
// room for MaxSize(len(src)) bytes more. It panics if src is longer than
// MaxBlock.
func (e *Encoder) Append(dst, src []byte) []byte {
	if len(src) > MaxBlock {
		panic("lzo: block too long")
	}
	clear(e.table[:])
	copy(e.block[:], src)
	start := len(dst)
	dst = slices.Grow(dst, MaxSize(len(src)))
	out := dst[start : start+MaxSize(len(src))]
	o := 0        // end of what is written of out
	literals := 0 // from here on nothing is written yet
	limit := len(src) - tail
	for at := 1; at < limit; {
		word := e.four(at)
		slot := &e.table[word*0x9e3779b1>>(32-tableBits)]
		d := int(uint16(at) - *slot)
		*slot = uint16(at)
		if e.four(at-d) != word || uint(d-1) >= m4Distance {
			// The longer nothing is found, the larger the steps: data that
			// cannot be compressed shall not cost much.
			at += 1 + (at-literals)>>5
			continue
		}
		n := e.common(at-d, at, len(src))
		if at > literals {
			o = putLiterals(out, o, src, literals, at)
		}
		if d <= m2Distance && n <= m2Length {
			out[o] = byte((n-1)<<5 | (d-1)&7<<2)
			out[o+1] = byte((d - 1) >> 3)
			o += 2
		} else {
			o = putCopy(out, o, d, n)
		}
		at += n
		literals = at
	}
	if literals < len(src) {
		o = putLiterals(out, o, src, literals, len(src))
	}
	// M4 with distance 16384: the end.
	return append(dst[:start+o], 0x11, 0, 0)
}

// four is the four bytes of the block at i, which is below MaxBlock.
func (e *Encoder) four(i int) uint32 {
	i &= MaxBlock - 1
	return binary.LittleEndian.Uint32(e.block[i : i+4])
}

// eight is four for eight bytes.
func (e *Encoder) eight(i int) uint64 {
	i &= MaxBlock - 1
	return binary.LittleEndian.Uint64(e.block[i : i+8])
}

// common is how many bytes are the same at a and at b, a later place, up to end.
// The first four are.
func (e *Encoder) common(a, b, end int) int {
	n := 4
	for b+n < end {
		if x := e.eight(a+n) ^ e.eight(b+n); x != 0 {
			n += bits.TrailingZeros64(x) / 8
			break
		}
		n += 8
	}
	return min(n, end-b)
}

// putLiterals writes the bytes of src in from to to, at least one, which will
// be copied from the stream, to out[o:], and gives the new end.
func putLiterals(out []byte, o int, src []byte, from, to int) int {
	n := to - from
	switch {
	case o == 0 && n <= 255-17:
		// The first byte of a stream has a form of its own.
		out[0] = byte(17 + n)
		o = 1
	case o > 0 && n <= 3:
		// Up to three ride on the copy before them: in the low bits of its
		// last byte but one, of whichever instruction.
		out[o-2] |= byte(n)
	case n <= 3+15:
		out[o] = byte(n - 3)
		o++
	default:
		out[o] = 0
		o = putLength(out, o+1, n-3-15)
	}
	if n <= 16 && from+16 <= len(src) {
		a, b := out[o:o+16], src[from:from+16]
		binary.LittleEndian.PutUint64(a, binary.LittleEndian.Uint64(b))
		binary.LittleEndian.PutUint64(a[8:], binary.LittleEndian.Uint64(b[8:]))
		return o + n
	}
	return o + copy(out[o:], src[from:to])
}

// putCopy writes the copy of n >= 4 bytes from distance back, too far or too
// long for M2, to out[o:], and gives the new end.
func putCopy(out []byte, o, distance, n int) int {
	opcode, short := 0x20, m3Length
	d := distance - 1
	if distance > m3Distance {
		d = distance - 16384
		opcode, short = 0x10|d>>14<<3, m4Length
		d &= 0x3fff
	}
	if n <= short {
		out[o] = byte(opcode | (n - 2))
		o++
	} else {
		out[o] = byte(opcode)
		o = putLength(out, o+1, n-short)
	}
	out[o] = byte(d << 2)
	out[o+1] = byte(d >> 6)
	return o + 2
}

// putLength writes the part of a length, at least 1, that is beyond the bits of
// its instruction.
func putLength(out []byte, o, n int) int {
	for ; n > 255; n -= 255 {
		out[o] = 0
		o++
	}
	out[o] = byte(n)
	return o + 1
}
