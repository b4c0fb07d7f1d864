package zstdpage

import (
	"encoding/binary"
	"math/bits"
)

// The types of literals sections, RFC 8878, 3.1.1.3.1.1.
const (
	literalsRaw        = 0
	literalsRLE        = 1
	literalsCompressed = 2
)

// fewLiterals are stored as they are: the description of a code would be
// longer than what it saves.
const fewLiterals = 32

// appendLiterals appends the section of literals.
func (e *Encoder) appendLiterals(dst []byte) []byte {
	literals := e.buffer[:e.literals]
	if len(literals) < fewLiterals {
		return append(appendLiteralsHeader(dst, literalsRaw, len(literals)), literals...)
	}
	h := &e.huffman
	most := int(h.count(literals))
	if most == len(literals) {
		return append(appendLiteralsHeader(dst, literalsRLE, len(literals)), literals[0])
	}
	if most > len(literals)>>7+4 {
		if dst, ok := h.appendCompressed(dst, literals); ok {
			return dst
		}
	}
	return append(appendLiteralsHeader(dst, literalsRaw, len(literals)), literals...)
}

// appendLiteralsHeader appends the header of n literals that are not compressed.
func appendLiteralsHeader(dst []byte, kind byte, n int) []byte {
	switch {
	case n < 1<<5:
		return append(dst, byte(n<<3)|kind)
	case n < 1<<12:
		return append(dst, byte(n<<4|1<<2)|kind, byte(n>>4))
	default:
		return append(dst, byte(n<<4|3<<2)|kind, byte(n>>4), byte(n>>12))
	}
}

// appendCompressed appends a section of counted literals in a Huffman code. ok
// is false if that is not smaller than the literals.
func (h *huffman) appendCompressed(dst, literals []byte) (_ []byte, ok bool) {
	n := len(literals)
	size := h.build(n, min(maxCodeBits, bits.Len(uint(n))))
	if size+size>>6 >= n {
		return dst, false
	}
	// One stream of up to 1023 bytes is the smallest form; more make four.
	streams, head := 1, 3
	switch {
	case n >= 1<<14:
		streams, head = 4, 5
	case n >= 1<<10:
		streams, head = 4, 4
	}
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0)[:start+head]
	dst, ok = h.appendWeights(dst)
	if !ok || len(dst)-start+size+6 >= n {
		return dst[:start], false
	}
	if streams == 1 {
		dst = h.appendStream(dst, literals)
	} else {
		sizes := len(dst) // of the first three
		dst = append(dst, 0, 0, 0, 0, 0, 0)
		quarter := (n + 3) / 4
		for i := range 4 {
			before := len(dst)
			dst = h.appendStream(dst, literals[i*quarter:min(n, i*quarter+quarter)])
			if i < 3 {
				binary.LittleEndian.PutUint16(dst[sizes+2*i:], uint16(len(dst)-before))
			}
		}
	}
	size = len(dst) - start - head
	if size >= n {
		return dst[:start], false
	}
	var v uint64
	switch head {
	case 3:
		v = uint64(literalsCompressed | 0<<2 | n<<4 | size<<14)
	case 4:
		v = uint64(literalsCompressed | 2<<2 | n<<4 | size<<18)
	default:
		v = uint64(literalsCompressed|3<<2|n<<4) | uint64(size)<<22
	}
	for i := range head {
		dst[start+i] = byte(v >> (8 * i))
	}
	return dst, true
}
