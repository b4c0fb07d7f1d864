package zstdpage

import (
	"encoding/binary"
	"math/bits"
)

// What follows is RFC 8878, 4.1: finite state entropy, of which an encoder
// needs for each symbol how to get from one state to the next.

const (
	minTableLog = 5 // of the format
	maxTableLog = 8 // of every table written here; the format has one more
	maxStates   = 1 << maxTableLog
	maxSymbols  = 64 // more than there are, for the sake of masks
)

// histogram counts symbols.
type histogram [maxSymbols]uint16

// distribution has, for each symbol, how many states are its own; less than
// one, which still is one but elsewhere, is -1.
type distribution [maxSymbols]int16

// transition says how a symbol changes the state: the number of bits written
// is (state + bits) >> 16, and the next state stands at state >> that number,
// plus next.
type transition struct {
	bits uint32
	next int32
}

// table is a distribution made ready for encoding. States are numbered from
// 1<<log.
type table struct {
	log         uint
	transitions [maxSymbols]transition
	states      [maxStates]uint16
}

// inverse has, by log, what undoes the step in which the format spreads the
// states of a symbol: the step is size/2 + size/8 + 3, and step * inverse is 1
// modulo the size.
var inverse = [maxTableLog + 1]int{5: 7, 6: 3, 7: 91, 8: 11}

// build makes the table of a distribution of symbols 0 to last.
func (t *table) build(d *distribution, last int, log uint) {
	t.log = log
	size := 1 << log
	var spread [maxStates + 8]uint8 // symbols as often as they have states
	var start [maxSymbols]uint16
	sum := 0
	for s := range last + 1 {
		n := int(d[s&(maxSymbols-1)])
		start[s&(maxSymbols-1)] = uint16(sum)
		most := log + 1 - uint(bits.Len16(uint16(n-1)|1))
		tr := &t.transitions[s&(maxSymbols-1)]
		tr.bits, tr.next = uint32(most<<16)-uint32(n)<<(most&31), int32(sum-n)
		eight := uint64(s) * 0x0101010101010101
		for i := sum & (maxStates - 1); i < sum+n; i += 8 {
			binary.LittleEndian.PutUint64(spread[i&(maxStates-1):][:8], eight)
		}
		sum += n
	}
	step := inverse[log]
	for i, k := size, 0; i < 2*size; i++ {
		s := spread[k&(size-1)&(maxStates-1)] & (maxSymbols - 1)
		k += step
		t.states[start[s]&(maxStates-1)] = uint16(i)
		start[s]++
	}
}

// buildRare makes the table of a distribution in which symbols have less than
// one state: these have the last ones.
func (t *table) buildRare(d *distribution, last int, log uint) {
	t.log = log
	size := 1 << log
	var spread [maxStates]uint8
	var start [maxSymbols]uint16
	high := size
	sum := 0
	for s := range last + 1 {
		n := int(d[s])
		start[s] = uint16(sum)
		if n < 0 {
			n = 1
			high--
			spread[high] = uint8(s)
		}
		most := log + 1 - uint(bits.Len16(uint16(n-1)|1))
		t.transitions[s] = transition{uint32(most<<16) - uint32(n)<<most, int32(sum - n)}
		sum += n
	}
	at := 0
	for s := range last + 1 {
		for range max(d[s], 0) {
			spread[at] = uint8(s)
			at = (at + size>>1 + size>>3 + 3) & (size - 1)
			for at >= high {
				at = (at + size>>1 + size>>3 + 3) & (size - 1)
			}
		}
	}
	for i := range size {
		s := spread[i]
		t.states[start[s]] = uint16(size + i)
		start[s]++
	}
}

// single makes the table in which there is one symbol and nothing to write.
func (t *table) single(s int) {
	t.log = 0
	t.transitions[s] = transition{}
	t.states[0] = 0
}

// begin is the first state for a symbol: the one that costs least.
func (t *table) begin(s uint8) uint32 {
	tr := t.transitions[s&(maxSymbols-1)]
	n := (tr.bits + 1<<15) >> 16
	return uint32(t.states[uint32(int32((n<<16-tr.bits)>>(n&31))+tr.next)&(maxStates-1)])
}

// normalize scales counts of symbols 0 to last, total in all and at least two
// different, to a sum of 1<<log in which each has at least one.
func (d *distribution) normalize(counts *histogram, last, total int, log uint) {
	left := 1 << log
	largest := uint32(0)
	scale := uint32(1<<24) / uint32(total)
	for s := range last + 1 {
		c := uint32(counts[s&(maxSymbols-1)])
		n := max((c*scale+1<<(23-log))>>(24-log), min(c, 1))
		largest = max(largest, n<<8|uint32(s))
		left -= int(n)
		d[s&(maxSymbols-1)] = int16(n)
	}
	// What rounding has left over, or taken too much, is the largest one's.
	most := &d[largest&(maxSymbols-1)]
	if left >= 0 || int(*most)+left > int(*most)>>1 {
		*most += int16(left)
		return
	}
	for ; left < 0; left++ {
		most := &d[0]
		for s := range d[:last+1] {
			if d[s] > *most {
				most = &d[s]
			}
		}
		*most--
	}
}

// appendTable appends the description of a distribution, RFC 8878, 4.1.1.
func appendTable(dst []byte, d *distribution, log uint) []byte {
	acc, used := uint64(log-minTableLog), uint(4)
	left := 1<<log + 1
	for s := 0; left > 1; s++ {
		// Values up to left are written in the bits of left, of which the
		// lowest have one bit less.
		n := int(d[s&(maxSymbols-1)])
		v := n + 1
		width := uint(bits.Len(uint(left)))
		short := 1<<(width&63) - 1 - left
		if v < short {
			width--
		} else if v >= 1<<((width-1)&63) {
			v += short
		}
		acc |= uint64(v) << (used & 63)
		used += width
		left -= n
		if n == 0 {
			// How many more zeros follow, in steps of three.
			for more := true; more; {
				zeros := 0
				for zeros < 3 && d[(s+1)&(maxSymbols-1)] == 0 {
					zeros++
					s++
				}
				acc |= uint64(zeros) << (used & 63)
				used += 2
				more = zeros == 3
				if used >= 32 {
					dst = binary.LittleEndian.AppendUint32(dst, uint32(acc))
					acc >>= 32
					used -= 32
				}
			}
		}
		if used >= 32 {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(acc))
			acc >>= 32
			used -= 32
		}
	}
	for ; used > 0; used -= min(used, 8) {
		dst = append(dst, byte(acc))
		acc >>= 8
	}
	return dst
}

// appendPaired appends symbols, at least two, with two states that take turns,
// RFC 8878, 4.2.1.2.
func (t *table) appendPaired(dst []byte, symbols []uint8) []byte {
	n := len(symbols)
	acc, used := uint64(0), uint(0)
	var even, odd uint32
	if n&1 == 0 {
		odd = t.begin(symbols[n-1])
		even = t.begin(symbols[n-2])
		n -= 2
	} else {
		even = t.begin(symbols[n-1])
		odd = t.begin(symbols[n-2])
		tr := t.transitions[symbols[n-3]&(maxSymbols-1)]
		width := uint((even+tr.bits)>>16) & 31
		acc |= uint64(even&(1<<width-1)) << (used & 63)
		used += width
		even = uint32(t.states[uint32(int32(even>>width)+tr.next)&(maxStates-1)])
		n -= 3
	}
	for n >= 2 {
		tr := t.transitions[symbols[n-1]&(maxSymbols-1)]
		width := uint((odd+tr.bits)>>16) & 31
		acc |= uint64(odd&(1<<width-1)) << (used & 63)
		used += width
		odd = uint32(t.states[uint32(int32(odd>>width)+tr.next)&(maxStates-1)])
		tr = t.transitions[symbols[n-2]&(maxSymbols-1)]
		width = uint((even+tr.bits)>>16) & 31
		acc |= uint64(even&(1<<width-1)) << (used & 63)
		used += width
		even = uint32(t.states[uint32(int32(even>>width)+tr.next)&(maxStates-1)])
		n -= 2
		if used >= 32 {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(acc))
			acc >>= 32
			used -= 32
		}
	}
	mask := uint32(1)<<t.log - 1
	acc |= uint64(odd&mask) << used
	used += t.log
	acc |= uint64(even&mask) << used
	used += t.log
	acc |= 1 << used
	for used++; used > 0; used -= min(used, 8) {
		dst = append(dst, byte(acc))
		acc >>= 8
	}
	return dst
}
