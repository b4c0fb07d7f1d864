// Package zstdpage compresses pages as zstd frames, as small as libzstd makes
// them at its level 1 and, in Go, about as fast.
//
// It is written from RFC 8878. What it does not do is what pages do not need:
// frames are single segments without checksum, made of blocks of 64 KiB that
// know nothing of each other. Reading zstd is another package's business.
package zstdpage

import (
	"encoding/binary"
	"slices"
)

const (
	// blockSize is how much is compressed at once, in bytes, so that positions
	// have 16 bits. The format has twice as much.
	blockSize = 1 << 16

	// tableBits is small enough for the table to be cleared for each page: in
	// 4 KiB of memory more entries save nothing (0.07 %).
	tableBits = 12

	// slack is what may be loaded and stored beyond the end of a buffer.
	slack = 16

	// overhead is how much longer than its data a frame may be while it is
	// made: headers, and the descriptions of tables of a block that is then
	// stored as it is.
	overhead = 256
)

// MaxSize is how much room a frame of n bytes needs. It becomes at most 9 bytes
// longer than its data, and 3 for each block of 64 KiB; the rest is needed
// while it is made.
func MaxSize(n int) int { return n + 3*(n/blockSize) + overhead }

// Encoder compresses pages, one at a time; NewEncoder makes one. It has 180 KiB,
// of which it touches 60 for pages of 4 KiB; for pages of 64 KiB 540.
type Encoder struct {
	table  [1 << tableBits]uint16 // by hash of four bytes, where they stood last
	window window                 // the block; when it has been looked through, the bits of sequences

	buffer   [blockSize + slack]byte // the literals of all sequences
	literals int                     // how many

	sequences []sequence
	symbols   []symbols
	recent    [3]uint32 // the distances that can be repeated

	huffman                huffman
	literal, match, offset coder
}

// NewEncoder makes an Encoder.
func NewEncoder() *Encoder {
	e := new(Encoder)
	e.literal.init(&literalDefault, literalCodes, 6)
	e.match.init(&matchDefault, matchCodes, 6)
	e.offset.init(&offsetDefault, offsetCodes, 5)
	return e
}

// Append appends the page as a frame to dst. It does not allocate if dst has
// room for MaxSize(len(page)) bytes more, unless no page was as long before.
func (e *Encoder) Append(dst, page []byte) []byte {
	dst = slices.Grow(dst, MaxSize(len(page)))
	if n := min(len(page), blockSize)/searched + 1; n > cap(e.sequences) {
		e.sequences = make([]sequence, n)
		e.symbols = make([]symbols, n)
	}
	dst = appendHeader(dst, len(page))
	e.recent = [3]uint32{1, 4, 8} // RFC 8878, 3.1.1.5
	for {
		block := page[:min(len(page), blockSize)]
		page = page[len(block):]
		last := byte(0)
		if len(page) == 0 {
			last = 1
		}
		dst = e.appendBlock(dst, block, last)
		if last == 1 {
			return dst
		}
	}
}

// appendHeader appends the header of a frame of n bytes, RFC 8878, 3.1.1.1: a
// single segment with its size.
func appendHeader(dst []byte, n int) []byte {
	dst = append(dst, 0x28, 0xb5, 0x2f, 0xfd)
	switch {
	case n < 256:
		return append(dst, 0x20, byte(n))
	case n < 256+1<<16:
		return binary.LittleEndian.AppendUint16(append(dst, 0x60), uint16(n-256))
	default:
		return binary.LittleEndian.AppendUint32(append(dst, 0xa0), uint32(n))
	}
}

// The types of blocks, RFC 8878, 3.1.1.2.2.
const (
	blockRaw        = 0
	blockCompressed = 2
)

// appendBlock appends a block, compressed if that is smaller.
func (e *Encoder) appendBlock(dst, block []byte, last byte) []byte {
	start := len(dst)
	recent := e.recent
	dst = append(dst, 0, 0, 0)
	size, kind := len(block), byte(blockRaw)
	if len(block) > slack {
		e.find(block)
		limit := len(dst) + len(block)
		if dst = e.appendLiterals(dst); len(dst) < limit {
			var ok bool
			if dst, ok = e.appendSequences(dst, limit); ok {
				size, kind = len(dst)-start-3, blockCompressed
			}
		}
	}
	if kind == blockRaw {
		e.recent = recent // nobody reads these sequences
		dst = append(dst[:start+3], block...)
	}
	h := size<<3 | int(kind<<1|last)
	dst[start], dst[start+1], dst[start+2] = byte(h), byte(h>>8), byte(h>>16)
	return dst
}
