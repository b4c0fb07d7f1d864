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
)

const (
	// MaxBlock is how much can be compressed at once, in bytes: the largest
	// page of any kernel, with room.
	MaxBlock = 1 << 20

	tableBits = 12

	// How far back the instructions reach, and how much they copy in their
	// short form; the length of longer copies stands in bytes of its own.
	m2Distance, m2Length = 2048, 8
	m3Distance, m3Length = 16384, 33
	// One less than could be written: at the last distance, bitstream version
	// 1 has runs of zeros.
	m4Distance, m4Length = 16384 + 0x7ffe, 9

	// tail is how many bytes at the end are not looked up, so that eight can
	// be loaded from any that are.
	tail = 8
)

// Encoder compresses blocks, one at a time. The zero value is ready; it keeps
// 16 KiB. Nothing is cleared between blocks.
type Encoder struct {
	// table has, by hash of four bytes, where they stood last: position in
	// the block plus base. What is below base is of earlier blocks.
	table [1 << tableBits]uint32
	base  uint32
}

// MaxSize is the most that a block of n bytes can become.
func MaxSize(n int) int { return n + n/255 + 16 }

// Append appends the compressed block to dst. It does not allocate if dst has
// room for MaxSize(len(src)) bytes more. It panics if src is longer than
// MaxBlock.
func (e *Encoder) Append(dst, src []byte) []byte {
	if len(src) > MaxBlock {
		panic("lzo: block too long")
	}
	if e.base == 0 || e.base > 1<<32-1-2*MaxBlock {
		clear(e.table[:])
		e.base = 1 // so that an empty entry, 0, is of an earlier block
	}
	start := len(dst)
	literals := 0 // from here on nothing is written yet
	at := 0
	limit := len(src) - tail
	for at < limit {
		word := binary.LittleEndian.Uint32(src[at:])
		slot := &e.table[word*0x9e3779b1>>(32-tableBits)]
		seen := int(int64(*slot) - int64(e.base))
		*slot = e.base + uint32(at)
		if seen < 0 || at-seen > m4Distance || binary.LittleEndian.Uint32(src[seen:]) != word {
			// The longer nothing is found, the larger the steps: data that
			// cannot be compressed shall not cost much.
			at += 1 + (at-literals)>>5
			continue
		}
		n := 4 + common(src[seen+4:], src[at+4:])
		// The match may have begun in what was stepped over.
		for at > literals && seen > 0 && src[at-1] == src[seen-1] {
			at, seen, n = at-1, seen-1, n+1
		}
		dst = appendLiterals(dst, start, src[literals:at])
		dst = appendCopy(dst, at-seen, n)
		at += n
		literals = at
		if at < limit {
			// Where one match ended the next one often refers to.
			word := binary.LittleEndian.Uint32(src[at-2:])
			e.table[word*0x9e3779b1>>(32-tableBits)] = e.base + uint32(at-2)
		}
	}
	dst = appendLiterals(dst, start, src[literals:])
	e.base += uint32(len(src)) + 1
	return append(dst, 0x11, 0, 0) // M4 with distance 16384: the end
}

// common is the length of what a and b begin with both; b is the shorter one.
func common(a, b []byte) int {
	n := 0
	for len(b)-n >= 8 {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
		n += 8
	}
	for n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// appendLiterals appends bytes that are copied from the stream. The stream
// begins at start of dst.
func appendLiterals(dst []byte, start int, b []byte) []byte {
	n := len(b)
	switch {
	case n == 0:
		return dst
	case len(dst) == start && n <= 255-17:
		// The first byte of a stream has a form of its own.
		dst = append(dst, byte(17+n))
	case len(dst) > start && n <= 3:
		// Up to three ride on the copy before them: in the low bits of its
		// last byte but one, of whichever instruction.
		dst[len(dst)-2] |= byte(n)
	case n <= 3+15:
		dst = append(dst, byte(n-3))
	default:
		dst = appendLength(append(dst, 0), n-3-15)
	}
	return append(dst, b...)
}

// appendCopy appends the copy of n >= 4 bytes from distance back.
func appendCopy(dst []byte, distance, n int) []byte {
	if distance <= m2Distance && n <= m2Length {
		d := distance - 1
		return append(dst, byte((n-1)<<5|d&7<<2), byte(d>>3))
	}
	opcode, short := 0x20, m3Length
	d := distance - 1
	if distance > m3Distance {
		d = distance - 16384
		opcode, short = 0x10|d>>14<<3, m4Length
		d &= 0x3fff
	}
	if n <= short {
		dst = append(dst, byte(opcode|(n-2)))
	} else {
		dst = appendLength(append(dst, byte(opcode)), n-short)
	}
	return append(dst, byte(d<<2), byte(d>>6))
}

// appendLength appends the part of a length, at least 1, that is beyond the
// bits of its instruction.
func appendLength(dst []byte, n int) []byte {
	for ; n > 255; n -= 255 {
		dst = append(dst, 0)
	}
	return append(dst, byte(n))
}
