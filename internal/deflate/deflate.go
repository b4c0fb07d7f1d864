// Package deflate compresses pages as zlib does, each by itself: what it writes
// is of RFC 1950 around RFC 1951, no larger than level 1 of zlib makes it.
//
// A page is one block with Huffman codes made for it, 32 KiB at most; a longer
// page has several. Reading is another package's business.
package deflate

import (
	"encoding/binary"
	"hash/adler32"
	"math/bits"
	"slices"
)

const (
	// chunk is how much of a page goes into one block. It is the reach of the
	// format, too, so that no distance has to be checked.
	chunk = 32 << 10

	minMatch, maxMatch = 3, 258
	// near is how far back a copy of three bytes may be from: what is said of
	// longer distances takes as many bits as the bytes themselves.
	near      = 1024
	tableBits = 12
	// probes is how many earlier places are compared, good the length of a
	// match that is taken without looking further.
	probes, good = 4, 24
	// short is the length of a match that is only taken if none that begins a
	// byte later is clearly longer. It is below tail.
	short = 8

	// tail is how many bytes at the end are not looked up, so that eight can be
	// loaded from any that are.
	tail = 12

	// slack is how much is written beyond the end of the bits: they go eight
	// bytes at a time.
	slack = 16
)

// Encoder compresses blocks, one at a time. The zero value is ready; it keeps
// 280 KiB, of which pages of 4 KiB use 50.
type Encoder struct {
	// head has, by hash of three bytes, where they stood last; prev, by
	// position, where the same hash stood before. 0 ends a chain.
	head [1 << tableBits]uint16
	prev [chunk]uint16
	// What the block is made of.
	steps []step

	literals, distances code
	lengths             code // of the other two's lengths
	symbols             []lengthSymbol
}

// step is literals and the copy behind them; the last one of a block has none.
type step struct {
	literals int32
	length   uint16 // of the copy, 0: none
	distance uint16 // less one
}

// MaxSize is the most that a block of n bytes can become, with what is needed
// while it is written.
func MaxSize(n int) int { return n + (n/chunk+1)*(5+1) + 2 + 4 + slack }

// AppendZlib appends the compressed block to dst. It does not allocate if dst
// has room for MaxSize(len(src)) bytes more.
func (e *Encoder) AppendZlib(dst, src []byte) []byte {
	start := len(dst)
	dst = slices.Grow(dst, MaxSize(len(src)))
	w := bitWriter{out: dst[start : start+MaxSize(len(src))]}
	w.add(0x0178, 16) // 32 KiB of window, level 1
	w.flush()
	for rest := src; ; {
		part := rest[:min(chunk, len(rest))]
		rest = rest[len(part):]
		e.block(&w, part, len(rest) == 0)
		if len(rest) == 0 {
			break
		}
	}
	return binary.BigEndian.AppendUint32(dst[:start+w.end()], adler32.Checksum(src))
}

// find divides src into steps, and counts the symbols.
func (e *Encoder) find(src []byte) {
	e.steps = e.steps[:0]
	clear(e.head[:])
	clear(e.literals.count[:])
	clear(e.distances.count[:])
	literals := 0 // from here on nothing is a step yet
	limit := len(src) - tail
	for at := 1; at < limit; {
		word := binary.LittleEndian.Uint32(src[at:])
		slot := &e.head[hash(word)]
		seen := int(*slot)
		e.prev[at%chunk] = *slot
		*slot = uint16(at)
		best, from := 0, 0
		for range probes {
			if (binary.LittleEndian.Uint32(src[seen:])^word)<<8 == 0 && (best == 0 || src[seen+best] == src[at+best]) {
				if n := 3 + common(src[seen+3:], src[at+3:]); n > best {
					best, from = n, seen
					if n >= good || at+n >= len(src) {
						break
					}
				}
			}
			if seen = int(e.prev[seen%chunk]); seen == 0 {
				break
			}
		}
		if best < minMatch || best == minMatch && at-from > near {
			// The longer nothing is found, the larger the steps.
			at += 1 + (at-literals)>>8
			continue
		}
		if best < short && at+1 < limit {
			// A longer one may begin a byte later.
			seen := int(e.head[hash(binary.LittleEndian.Uint32(src[at+1:]))])
			if src[seen+best] == src[at+1+best] && common(src[seen:], src[at+1:]) > best+1 {
				at++
				continue
			}
		}
		best = min(best, maxMatch)
		e.take(src[literals:at], best, at-from)
		end := at + best
		// All of what is copied may be copied from again.
		for at++; at < min(end, limit); at++ {
			slot := &e.head[hash(binary.LittleEndian.Uint32(src[at:]))]
			e.prev[at%chunk] = *slot
			*slot = uint16(at)
		}
		at = end
		literals = at
	}
	e.take(src[literals:], 0, 0)
	e.literals.count[endOfBlock]++
}

// take notes a step.
func (e *Encoder) take(literals []byte, length, distance int) {
	for _, b := range literals {
		e.literals.count[b]++
	}
	s := step{literals: int32(len(literals))}
	if length > 0 {
		s.length, s.distance = uint16(length), uint16(distance-1)
		symbol, _ := lengthSymbolOf(length)
		e.literals.count[symbol]++
		symbol, _ = distanceSymbolOf(distance - 1)
		e.distances.count[symbol]++
	}
	e.steps = append(e.steps, s)
}

// hash is of the first three bytes of a word.
func hash(word uint32) uint32 { return word << 8 * 0x9e3779b1 >> (32 - tableBits) }

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
