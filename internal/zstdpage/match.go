package zstdpage

import (
	"encoding/binary"
	"math/bits"
)

// window holds a block, and room for loads of eight bytes from any of it.
// Positions in it are 16 bits, so that masking them is all the checking that
// loads need.
type window = [blockSize + slack]byte

func load64(w *window, at int) uint64 {
	at &= blockSize - 1
	return binary.LittleEndian.Uint64(w[at : at+8])
}

func load32(w *window, at int) uint32 {
	at &= blockSize - 1
	return binary.LittleEndian.Uint32(w[at : at+4])
}

func hash(word uint32) uint32 { return word * 0x9e3779b1 >> (32 - tableBits) }

// find splits a block into literals and matches. At every position it looks
// whether the last distance repeats one further on, which in arrays of
// structures it mostly does, and where the next four bytes stood last.
func (e *Encoder) find(block []byte) {
	table := &e.table
	// An empty entry is position 0, which is a place to look as good as any:
	// what counts is what stands there.
	clear(table[:])
	w := &e.window
	n := copy(w[:blockSize], block)
	binary.LittleEndian.PutUint64(w[n:n+8], 0)
	limit := n - 8
	seqs := e.sequences[:cap(e.sequences)]
	found := 0    // sequences
	literals := 0 // of them all
	anchor := 0   // from here on nothing is written yet
	r0, r1, r2 := int(e.recent[0]), int(e.recent[1]), int(e.recent[2])
	at := 1
	for at < limit {
		word := load64(w, at)
		slot := &table[hash(uint32(word))]
		seen := int(*slot)
		*slot = uint16(at)
		var start, end int
		code := uint32(1)
		if rep := at + 1 - r0; uint32(word>>8) == load32(w, rep) && rep >= 0 {
			end = common(w, rep+4, at+5, n)
			start = at + 1
			// A sequence without literals cannot repeat the last distance.
			if start > anchor+1 && rep > 0 && byte(word) == w[(rep-1)&(blockSize-1)] {
				start--
			}
		} else if uint32(word) == load32(w, seen) {
			end = common(w, seen+4, at+4, n)
			start = at
			// The match may have begun before.
			if seen >= 8 {
				back := min(bits.LeadingZeros64(load64(w, start-8)^load64(w, seen-8))>>3, start-anchor)
				start -= back
				seen -= back
			}
			distance := start - seen
			code = uint32(distance + 3)
			if start > anchor {
				switch distance {
				case r0:
					code = 1
				case r1:
					code = 2
					r0, r1 = r1, r0
				case r2:
					code = 3
					r0, r1, r2 = r2, r0, r1
				default:
					r0, r1, r2 = distance, r0, r1
				}
			} else {
				switch distance {
				case r1:
					code = 1
					r0, r1 = r1, r0
				case r2:
					code = 2
					r0, r1, r2 = r2, r0, r1
				default:
					r0, r1, r2 = distance, r0, r1
				}
			}
		} else {
			// The longer nothing is found, the larger the steps: data that
			// cannot be compressed shall not cost much.
			at += 1 + (at-anchor)>>7
			continue
		}
		// Eight bytes at a time: what is too much is overwritten.
		ll := start - anchor
		for i := 0; i < ll; i += 8 {
			a := (literals + i) & (blockSize - 1)
			binary.LittleEndian.PutUint64(e.buffer[a:a+8], load64(w, anchor+i))
		}
		literals += ll
		s := &seqs[found]
		s.offset, s.literals, s.match = code, uint16(ll), uint16(end-start-minMatch)
		found++
		table[hash(load32(w, start+2))] = uint16(start + 2)
		at = end
		anchor = end
		table[hash(load32(w, at-2))] = uint16(at - 2)
		// Two distances often take turns.
		for at < limit {
			word := load32(w, at)
			rep := at - r1
			if rep < 0 || load32(w, rep) != word {
				break
			}
			end := common(w, rep+4, at+4, n)
			r0, r1 = r1, r0
			table[hash(word)] = uint16(at)
			s := &seqs[found]
			s.offset, s.literals, s.match = 1, 0, uint16(end-at-minMatch)
			found++
			at = end
			anchor = at
		}
	}
	copy(e.buffer[literals:], w[anchor:n])
	literals += n - anchor
	e.literals = literals
	e.sequences = seqs[:found]
	e.recent = [3]uint32{uint32(r0), uint32(r1), uint32(r2)}
}

// common is where what stands at a and at b, which is later, begins to differ,
// as a position after b and at most n.
func common(w *window, a, b, n int) int {
	for b < n {
		if x := load64(w, a) ^ load64(w, b); x != 0 {
			b += bits.TrailingZeros64(x) >> 3
			break
		}
		a += 8
		b += 8
	}
	return min(b, n)
}
