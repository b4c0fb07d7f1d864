package deflate

import (
	"encoding/binary"
	"math/bits"
)

// The alphabets of RFC 1951, section 3.2.5.
const (
	endOfBlock     = 256
	firstLength    = 257
	numLiterals    = 286
	numDistances   = 30
	numLengths     = 19
	maxBits        = 15
	maxLengthsBits = 7 // of the code that the lengths are written in
)

// lengthSymbolOf is the symbol for the length of a copy, 3 to 258, and how many
// bits of length-3 follow it.
func lengthSymbolOf(length int) (symbol, extra int) {
	x := length - 3
	switch {
	case x < 8:
		return firstLength + x, 0
	case length == maxMatch:
		return numLiterals - 1, 0
	}
	// Four symbols for each power of two.
	extra = bits.Len(uint(x)) - 3
	return firstLength + 4*(extra+1) + x>>extra&3, extra
}

// distanceSymbolOf is the symbol for a distance less one, and how many bits of
// that follow it.
func distanceSymbolOf(x int) (symbol, extra int) {
	if x < 4 {
		return x, 0
	}
	// Two symbols for each power of two.
	extra = bits.Len(uint(x)) - 2
	return 2*(extra+1) + x>>extra&1, extra
}

// block writes src as one block: with codes made for it, or as it is if that is
// shorter.
func (e *Encoder) block(w *bitWriter, src []byte, last bool) {
	final := uint64(0)
	if last {
		final = 1
	}
	e.find(src)
	e.literals.build(numLiterals, maxBits)
	e.distances.build(numDistances, maxBits)
	literals, distances := e.header()
	size := 3 + 5 + 5 + 4 + 3*e.lengthsWritten() + e.lengths.size(numLengths) + e.literals.size(numLiterals) + e.distances.size(numDistances)
	for _, s := range e.symbols {
		size += int(s.extraBits)
	}
	for i := 265; i < numLiterals-1; i++ {
		size += int(e.literals.count[i]) * ((i - 261) / 4)
	}
	for i := 4; i < numDistances; i++ {
		size += int(e.distances.count[i]) * ((i - 2) / 2)
	}
	if size >= 8*len(src)+40 {
		w.add(final, 3) // BTYPE 0
		w.stored(src)
		return
	}
	w.add(final|2<<1, 3) // BTYPE 2
	w.add(uint64(literals-257), 5)
	w.add(uint64(distances-1), 5)
	n := e.lengthsWritten()
	w.add(uint64(n-4), 4)
	w.flush()
	for _, symbol := range lengthsOrder[:n] {
		w.add(uint64(e.lengths.bits[symbol]), 3)
		w.flush()
	}
	for _, s := range e.symbols {
		w.add(uint64(e.lengths.codes[s.symbol]), uint(e.lengths.bits[s.symbol]))
		w.add(uint64(s.extra), uint(s.extraBits))
		w.flush()
	}
	e.write(w, src)
}

// write writes the steps.
func (e *Encoder) write(w *bitWriter, src []byte) {
	acc, n, out, o := w.acc, w.n, w.out, w.o
	for _, s := range e.steps {
		part := src[:s.literals]
		src = src[int(s.literals)+int(s.length):]
		// Three of 15 bits, and 7 that wait, fit into a word.
		for len(part) >= 3 {
			a, b, c := part[0], part[1], part[2]
			acc |= uint64(e.literals.codes[a]) << (n & 63)
			n += uint(e.literals.bits[a])
			acc |= uint64(e.literals.codes[b]) << (n & 63)
			n += uint(e.literals.bits[b])
			acc |= uint64(e.literals.codes[c]) << (n & 63)
			n += uint(e.literals.bits[c])
			binary.LittleEndian.PutUint64(out[o:], acc)
			o += int(n >> 3)
			acc >>= n & 56
			n &= 7
			part = part[3:]
		}
		for _, b := range part {
			acc |= uint64(e.literals.codes[b]) << (n & 63)
			n += uint(e.literals.bits[b])
		}
		binary.LittleEndian.PutUint64(out[o:], acc)
		o += int(n >> 3)
		acc >>= n & 56
		n &= 7
		if s.length == 0 {
			continue
		}
		symbol, extra := lengthSymbolOf(int(s.length))
		acc |= uint64(e.literals.codes[symbol]) << (n & 63)
		n += uint(e.literals.bits[symbol])
		acc |= uint64(int(s.length)-3) & (1<<uint(extra) - 1) << (n & 63)
		n += uint(extra)
		symbol, extra = distanceSymbolOf(int(s.distance))
		acc |= uint64(e.distances.codes[symbol]) << (n & 63)
		n += uint(e.distances.bits[symbol])
		acc |= uint64(s.distance) & (1<<uint(extra) - 1) << (n & 63)
		n += uint(extra)
		binary.LittleEndian.PutUint64(out[o:], acc)
		o += int(n >> 3)
		acc >>= n & 56
		n &= 7
	}
	w.acc, w.n, w.o = acc, n, o
	w.add(uint64(e.literals.codes[endOfBlock]), uint(e.literals.bits[endOfBlock]))
	w.flush()
}

// lengthSymbol is a part of how the lengths of codes are written.
type lengthSymbol struct{ symbol, extra, extraBits uint8 }

// lengthsOrder is the order in which the lengths of the code for lengths are
// written; RFC 1951, section 3.2.7.
var lengthsOrder = [numLengths]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// lengthsWritten is how many of them must be.
func (e *Encoder) lengthsWritten() int {
	n := numLengths
	for n > 4 && e.lengths.bits[lengthsOrder[n-1]] == 0 {
		n--
	}
	return n
}

// header makes the symbols and the code that the lengths of both codes are
// written in, and tells how many lengths of each there are.
func (e *Encoder) header() (literals, distances int) {
	literals = numLiterals
	for literals > firstLength && e.literals.bits[literals-1] == 0 {
		literals--
	}
	distances = numDistances
	for distances > 1 && e.distances.bits[distances-1] == 0 {
		distances--
	}
	var all [numLiterals + numDistances]uint8
	n := copy(all[:], e.literals.bits[:literals])
	n += copy(all[n:], e.distances.bits[:distances])
	clear(e.lengths.count[:])
	e.symbols = e.symbols[:0]
	emit := func(symbol, extra, extraBits int) {
		e.lengths.count[symbol]++
		e.symbols = append(e.symbols, lengthSymbol{uint8(symbol), uint8(extra), uint8(extraBits)})
	}
	for i := 0; i < n; {
		length := all[i]
		end := i + 1
		for end < n && all[end] == length {
			end++
		}
		run := end - i
		i = end
		if length != 0 {
			emit(int(length), 0, 0)
			run--
		}
		for run >= 3 {
			switch m := 0; {
			case length != 0:
				m = min(run, 6)
				emit(16, m-3, 2)
				run -= m
			case run <= 10:
				emit(17, run-3, 3)
				run = 0
			default:
				m = min(run, 138)
				emit(18, m-11, 7)
				run -= m
			}
		}
		for range run {
			emit(int(length), 0, 0)
		}
	}
	e.lengths.build(numLengths, maxLengthsBits)
	return literals, distances
}

// bitWriter writes bits, the lowest first.
type bitWriter struct {
	out []byte
	o   int
	acc uint64
	n   uint // bits in acc
}

// add adds n bits. At most 56 may be added between two flushes.
func (w *bitWriter) add(b uint64, n uint) {
	w.acc |= b << (w.n & 63)
	w.n += n
}

// flush writes whole bytes.
func (w *bitWriter) flush() {
	binary.LittleEndian.PutUint64(w.out[w.o:], w.acc)
	w.o += int(w.n >> 3)
	w.acc >>= w.n & 56
	w.n &= 7
}

// end pads the last byte and tells how many there are.
func (w *bitWriter) end() int {
	if w.n > 0 {
		w.n = (w.n + 7) &^ 7
		w.flush()
	}
	return w.o
}

// stored writes what follows the type of a block that is not compressed.
func (w *bitWriter) stored(b []byte) {
	w.end()
	w.add(uint64(len(b))|uint64(^uint16(len(b)))<<16, 32)
	w.flush()
	w.o += copy(w.out[w.o:], b)
}
