package zstdpage

import (
	"encoding/binary"
	"math/bits"
)

// maxCodeBits is the longest code of a literal, RFC 8878, 4.2.1.
const maxCodeBits = 11

// huffman is a code for literals.
type huffman struct {
	counts  [256]uint16
	symbols [256]uint8 // those that there are, in order
	present int        // how many
	ideal   [256]uint16
	length  [256]uint8  // in bits; 0: there is none
	codes   [256]uint16 // code<<4 | its length
	longest int
	weights table
}

// count counts literals, and returns how many there are of the one that there
// are most of.
func (h *huffman) count(literals []byte) uint16 {
	clear(h.counts[:])
	for _, b := range literals {
		h.counts[b]++
	}
	n := 0
	most := uint16(0)
	for s, c := range h.counts {
		h.symbols[n&255] = uint8(s)
		n += int(-uint32(c) >> 31) // 1 if there are any
		most = max(most, c)
	}
	h.present = n
	return most
}

// build makes a code, no longer than limit bits, of n counted literals of at
// least two kinds, and returns how many bytes they become.
//
// It is not the best code, for which one would sort the symbols and grow a tree
// of them, but on kernel memory within 0.1 % of it in a third of the time. Each
// symbol has an ideal length, a fraction. If all were rounded up there would be
// a code with room left; so as many are rounded down as there is room for,
// those first that lose most by rounding up.
func (h *huffman) build(n, limit int) int {
	const (
		unit  = 1 << fraction
		below = unit - 1
	)
	symbols := h.symbols[:h.present]
	all := int(logarithm(n)) + 1
	// What rounding down costs, by fractions: room is counted in codes of
	// limit bits.
	var costs [unit]int
	room := 1 << limit
	for _, s := range symbols {
		ideal := max(all-int(logarithm(int(h.counts[s]))), unit)
		h.ideal[s] = uint16(ideal)
		if whole := ideal >> fraction; whole < limit {
			costs[ideal&below] += 1 << ((limit - whole) & 15)
		} else {
			room--
		}
	}
	room -= costs[0]
	for _, c := range costs[1:] {
		room -= c >> 1
	}
	down := 0 // fractions up to this one are rounded down
	longer := 0
	if room < 0 {
		longer = 1 // so many rare ones are shortened to limit that all others must be longer
	}
	for down < below && costs[down+1]>>1 <= room {
		down++
		room -= costs[down] >> 1
	}
	clear(h.length[:])
	var at [16]uint16 // how many codes there are of each length
	size := 0
	for {
		room = 1 << limit
		size = 0
		clear(at[:])
		for _, s := range symbols {
			l := min((int(h.ideal[s])+below-down)>>fraction+longer, limit)
			room -= 1 << ((limit - l) & 15)
			h.length[s] = uint8(l)
			at[l&15]++
			size += l * int(h.counts[s])
		}
		if room >= 0 {
			break
		}
		longer++ // ends when all have limit bits
	}
	// What room is left goes to the next fraction, then to whom it fits. None
	// must be left: readers would take the code for damaged.
	for pass := 0; room > 0; pass++ {
		for _, s := range symbols {
			l := int(h.length[s])
			cost := 1 << ((limit - l) & 15)
			if cost <= room && (pass > 0 || int(h.ideal[s])&below == down+1) && l > 1 {
				h.length[s] = uint8(l - 1)
				at[l&15]--
				at[(l-1)&15]++
				size -= int(h.counts[s])
				room -= cost
			}
		}
	}
	// Codes of one length are in order of their symbols; the longest begin.
	h.longest = limit
	for at[h.longest&15] == 0 {
		h.longest--
	}
	var next [16]uint16
	first := uint16(0)
	for l := h.longest; l > 0; l-- {
		next[l&15] = first
		first = (first + at[l&15]) >> 1
	}
	for _, s := range symbols {
		l := h.length[s] & 15
		h.codes[s] = next[l]<<4 | uint16(l)
		next[l]++
	}
	return (size + 8) >> 3
}

// fraction is how many bits of a logarithm are behind the point.
const fraction = 5

// logarithm is that of base 2, rounded down.
func logarithm(n int) uint32 {
	if n < len(logarithms) {
		return uint32(logarithms[n])
	}
	return log2(uint32(n)) >> (8 - fraction)
}

var logarithms = func() (l [256]uint8) {
	for n := 1; n < len(l); n++ {
		l[n] = uint8(log2(uint32(n)) >> (8 - fraction))
	}
	return l
}()

// appendWeights appends the description of the code, RFC 8878, 4.2.1.1. It
// fails if there are too many symbols for one form and too few different
// lengths for the other.
func (h *huffman) appendWeights(dst []byte) (_ []byte, ok bool) {
	// The last weight follows from the others.
	n := int(h.symbols[(h.present-1)&255])
	var weight [16]uint8 // of lengths
	for l := 1; l <= h.longest; l++ {
		weight[l&15] = uint8(h.longest + 1 - l)
	}
	var counts histogram
	weights := h.length[:n] // the lengths are of no use any more
	for i, l := range weights {
		w := weight[l&15]
		weights[i] = w
		counts[w&15]++
	}
	top := h.longest
	for counts[top&15] == 0 {
		top--
	}
	most := 0
	for _, c := range counts[:16] {
		most = max(most, int(c))
	}
	start := len(dst)
	if most > 1 && most < n {
		var d distribution
		log := uint(max(minTableLog, min(6, bits.Len(uint(n-1))-2))) // the format has up to 6 here
		d.normalize(&counts, top, n, log)
		h.weights.build(&d, top, log)
		dst = appendTable(append(dst, 0), &d, log)
		dst = h.weights.appendPaired(dst, weights)
		if size := len(dst) - start - 1; size < 128 && (size < (n+1)/2 || n > 128) {
			dst[start] = byte(size)
			return dst, true
		}
		dst = dst[:start]
	}
	if n > 128 {
		return dst, false
	}
	dst = append(dst, byte(127+n))
	for i := 0; i < n; i += 2 {
		// The one after the last is a length, or 0 at the end: it is not read.
		dst = append(dst, weights[i]<<4)
		if i+1 < n {
			dst[len(dst)-1] |= weights[i+1]
		}
	}
	return dst, true
}

// appendStream appends literals, the last one first, RFC 8878, 4.2.2. dst has
// room for them and eight bytes more.
func (h *huffman) appendStream(dst, literals []byte) []byte {
	start := len(dst)
	dst = dst[:cap(dst)]
	acc, used := uint64(0), uint(0)
	at := start
	i := len(literals)
	for i >= 4 {
		l := literals[i-4 : i]
		c := h.codes[l[3]]
		acc |= uint64(c>>4) << (used & 63)
		used += uint(c & 15)
		c = h.codes[l[2]]
		acc |= uint64(c>>4) << (used & 63)
		used += uint(c & 15)
		c = h.codes[l[1]]
		acc |= uint64(c>>4) << (used & 63)
		used += uint(c & 15)
		c = h.codes[l[0]]
		acc |= uint64(c>>4) << (used & 63)
		used += uint(c & 15)
		binary.LittleEndian.PutUint64(dst[at:at+8], acc)
		at += int(used >> 3)
		acc >>= used & 56
		used &= 7
		i -= 4
	}
	for i > 0 {
		i--
		c := h.codes[literals[i]]
		acc |= uint64(c>>4) << (used & 63)
		used += uint(c & 15)
	}
	acc |= 1 << (used & 63)
	binary.LittleEndian.PutUint64(dst[at:at+8], acc)
	return dst[:at+int(used>>3)+1]
}
