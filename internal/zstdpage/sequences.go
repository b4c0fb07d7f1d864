package zstdpage

import (
	"encoding/binary"
	"math/bits"
)

// sequence is a match and the literals before it, RFC 8878, 3.1.1.3.2.1.
type sequence struct {
	offset   uint32 // as it is coded: 1 to 3 repeat one of the last three, else distance+3
	literals uint16
	match    uint16 // its length - minMatch
}

const (
	minMatch = 3 // of the format
	searched = 4 // and how long those are at least that are looked for

	// How many codes there are. Offsets have more, of blocks that are larger.
	literalCodes = 36
	matchCodes   = 53
	offsetCodes  = 29
)

// Codes of literals and match lengths: small ones have a code each, and above
// there is one for each power of two, and in between a few.
var (
	smallLiterals = smallCodes(64, &literalBits)
	smallMatches  = smallCodes(128, &matchBits)

	literalBits = [maxSymbols]uint8{16: 1, 17: 1, 18: 1, 19: 1, 20: 2, 21: 2, 22: 3, 23: 3, 24: 4, 25: 6, 26: 7, 27: 8, 28: 9, 29: 10, 30: 11, 31: 12, 32: 13, 33: 14, 34: 15, 35: 16}
	matchBits   = [maxSymbols]uint8{32: 1, 33: 1, 34: 1, 35: 1, 36: 2, 37: 2, 38: 3, 39: 3, 40: 4, 41: 4, 42: 5, 43: 7, 44: 8, 45: 9, 46: 10, 47: 11, 48: 12, 49: 13, 50: 14, 51: 15, 52: 16}
)

// smallCodes tells the codes of values below n from how many extra bits there
// are for each code.
func smallCodes(n int, extra *[maxSymbols]uint8) (codes [128]uint8) {
	v := 0
	for c, b := range extra {
		for range 1 << b {
			if v < n {
				codes[v] = uint8(c)
			}
			v++
		}
	}
	return codes
}

// literalCode is the code of n literals.
func literalCode(n uint16) uint8 {
	if n < 64 {
		return smallLiterals[n&127]
	}
	return uint8(bits.Len16(n) + 18)
}

// matchCode is the code of a match that is n bytes longer than minMatch.
func matchCode(n uint16) uint8 {
	if n < 128 {
		return smallMatches[n&127]
	}
	return uint8(bits.Len16(n) + 35)
}

// The distributions that a block need not describe, RFC 8878, 3.1.1.3.2.2.
var (
	literalDefault = distribution{4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1}
	matchDefault   = distribution{1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1}
	offsetDefault  = distribution{1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1}
)

// How a table is described, RFC 8878, 3.1.1.3.2.1.
const (
	modePredefined = 0
	modeRLE        = 1
	modeCompressed = 2
)

// coder chooses and makes the table for one of the three codes of sequences.
type coder struct {
	table      // the one in use
	counts     histogram
	predefined table
	cost       [maxSymbols]uint32 // of a symbol by the predefined table, in bits/256
	own        distribution
}

// init sets the predefined distribution of so many codes.
func (c *coder) init(d *distribution, codes int, log uint) {
	c.predefined.buildRare(d, codes-1, log)
	for s, n := range d {
		c.cost[s&(maxSymbols-1)] = uint32(log)<<8 - log2(uint32(max(n, 1)))
	}
}

// log2 is the logarithm in 1/256.
func log2(n uint32) uint32 {
	l := uint32(bits.Len32(n) - 1)
	m := (n<<8)>>l - 256 // 0-255
	// Between the powers of two the logarithm is above the chord.
	return l<<8 + m + (m*(256-m)*88)>>16
}

// choose chooses how to code n symbols, and appends what the reader must know
// of it.
func (c *coder) choose(dst []byte, n, codes int) (_ []byte, mode byte) {
	const (
		few    = 128 // sequences, for which the predefined table may be the better one
		byByte = 8 << 8
	)
	distinct, last := 0, 0
	for i := range codes {
		k := c.counts[i&(maxSymbols-1)]
		used := int(-uint32(k) >> 31)
		distinct += used
		last = max(last, i&-used)
	}
	if distinct == 1 {
		if n*int(c.cost[last&(maxSymbols-1)]) > byByte {
			c.single(last)
			return append(dst, byte(last)), modeRLE
		}
		c.table = c.predefined
		return dst, modePredefined
	}
	if n < few {
		var fixed, own uint32
		for i := range last + 1 {
			k := uint32(c.counts[i&(maxSymbols-1)])
			fixed += k * c.cost[i&(maxSymbols-1)]
			own -= k * log2(max(k, 1))
		}
		own += uint32(n) * log2(uint32(n))
		// The description, as it mostly is.
		own += uint32(distinct)*(5<<8) + uint32(last)*(1<<7) + 8<<8
		if fixed <= own+own>>6 {
			c.table = c.predefined
			return dst, modePredefined
		}
	}
	log := uint(max(minTableLog, min(bits.Len(uint(n-1))-2, maxTableLog), bits.Len(uint(distinct))+1))
	c.own.normalize(&c.counts, last, n, log)
	c.build(&c.own, last, log)
	return appendTable(dst, &c.own, log), modeCompressed
}

// symbols are a sequence as it is written: three codes, and the bits beyond
// them.
type symbols struct {
	extra   uint64
	literal uint8
	match   uint8
	offset  uint8
	bits    uint8 // of extra
}

// appendSequences appends the section of sequences. ok is false if dst becomes as
// long as limit.
func (e *Encoder) appendSequences(dst []byte, limit int) (_ []byte, ok bool) {
	seqs := e.sequences
	n := len(seqs)
	switch {
	case n == 0:
		return append(dst, 0), true
	case n < 128:
		dst = append(dst, byte(n))
	default:
		dst = append(dst, byte(n>>8+128), byte(n))
	}
	coded := e.code(seqs)
	modes := len(dst)
	dst = append(dst, 0)
	dst, ll := e.literal.choose(dst, n, literalCodes)
	dst, of := e.offset.choose(dst, n, offsetCodes)
	dst, ml := e.match.choose(dst, n, matchCodes)
	dst[modes] = ll<<6 | of<<4 | ml<<2
	size := e.encode(coded)
	if len(dst)+size >= limit {
		return dst, false
	}
	return append(dst, e.window[:size]...), true
}

// encode writes the bits of sequences, at least one and the last one first, into
// the window, and returns how many bytes they are. If they are longer than a
// block they are of no use and overwrite each other.
func (e *Encoder) encode(coded []symbols) int {
	w := &e.window
	i := len(coded) - 1
	s := &coded[i]
	literal, match, offset := e.literal.begin(s.literal), e.match.begin(s.match), e.offset.begin(s.offset)
	acc, used := s.extra, uint(s.bits)
	at := 0
	for i--; i >= 0; i-- {
		binary.LittleEndian.PutUint64(w[at&(blockSize-1):][:8], acc)
		at += int(used >> 3)
		acc >>= used & 56
		used &= 7
		s := &coded[i]
		t := &e.offset.transitions[s.offset&(maxSymbols-1)]
		width := uint(offset+t.bits) >> 16
		rest := offset >> (width & 31)
		acc |= uint64(offset^rest<<(width&31)) << (used & 63)
		used += width
		offset = uint32(e.offset.states[(rest+uint32(t.next))&(maxStates-1)])
		t = &e.match.transitions[s.match&(maxSymbols-1)]
		width = uint(match+t.bits) >> 16
		rest = match >> (width & 31)
		acc |= uint64(match^rest<<(width&31)) << (used & 63)
		used += width
		match = uint32(e.match.states[(rest+uint32(t.next))&(maxStates-1)])
		t = &e.literal.transitions[s.literal&(maxSymbols-1)]
		width = uint(literal+t.bits) >> 16
		rest = literal >> (width & 31)
		acc |= uint64(literal^rest<<(width&31)) << (used & 63)
		used += width
		literal = uint32(e.literal.states[(rest+uint32(t.next))&(maxStates-1)])
		if s.bits > 32 {
			binary.LittleEndian.PutUint64(w[at&(blockSize-1):][:8], acc)
			at += int(used >> 3)
			acc >>= used & 56
			used &= 7
		}
		acc |= s.extra << (used & 63)
		used += uint(s.bits)
	}
	binary.LittleEndian.PutUint64(w[at&(blockSize-1):][:8], acc)
	at += int(used >> 3)
	acc >>= used & 56
	used &= 7
	acc |= uint64(match&(1<<e.match.log-1)) << (used & 63)
	used += e.match.log
	acc |= uint64(offset&(1<<e.offset.log-1)) << (used & 63)
	used += e.offset.log
	acc |= uint64(literal&(1<<e.literal.log-1)) << (used & 63)
	used += e.literal.log
	acc |= 1 << (used & 63)
	binary.LittleEndian.PutUint64(w[at&(blockSize-1):][:8], acc)
	return at + int(used>>3) + 1
}

// code finds the symbols of sequences, and counts them.
func (e *Encoder) code(seqs []sequence) []symbols {
	clear(e.literal.counts[:])
	clear(e.match.counts[:])
	clear(e.offset.counts[:])
	coded := e.symbols[:len(seqs)]
	for i := range coded {
		s := &seqs[i]
		l, m, o := literalCode(s.literals), matchCode(s.match), uint8(bits.Len32(s.offset)-1)
		e.literal.counts[l&(maxSymbols-1)]++
		e.match.counts[m&(maxSymbols-1)]++
		e.offset.counts[o&(maxSymbols-1)]++
		lb, mb := literalBits[l&(maxSymbols-1)], matchBits[m&(maxSymbols-1)]
		extra := uint64(s.offset) &^ (1 << (o & 63))
		extra = extra<<(mb&63) | uint64(s.match)&(1<<(mb&63)-1)
		extra = extra<<(lb&63) | uint64(s.literals)&(1<<(lb&63)-1)
		c := &coded[i]
		c.extra = extra
		c.literal, c.match, c.offset, c.bits = l, m, o, o+lb+mb
	}
	return coded
}
