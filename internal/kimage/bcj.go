package kimage

import (
	"encoding/binary"
	"io"
)

// branches undoes the filter for RISC-V code that xz from 5.6 on applies to a
// kernel before it compresses it (scripts/xz_wrap.sh, 6.12): addresses in jumps
// and in pairs of AUIPC and what uses it have become absolute, with their bytes
// in big endian order, and become relative again here.
type branches struct {
	r   io.Reader
	buf []byte
	// Of buf, ready bytes are done and left to be read; size have been filled.
	done, ready, size int
	pos               uint32 // of buf[0]
	err               error
}

func newBranches(r io.Reader, start uint32) *branches {
	return &branches{r: r, buf: make([]byte, 64<<10), pos: start}
}

func (b *branches) Read(p []byte) (int, error) {
	for b.done == b.ready {
		if b.err != nil {
			return 0, b.err
		}
		// The rest is too short to be told; more comes behind it.
		b.size = copy(b.buf, b.buf[b.ready:b.size])
		b.pos += uint32(b.ready)
		b.done = 0
		var n int
		n, b.err = b.r.Read(b.buf[b.size:])
		b.size += n
		b.ready = undoBranches(b.buf[:b.size], b.pos)
		if b.err != nil {
			b.ready = b.size // the last bytes are as they were
		}
		if n == 0 && b.err == nil {
			return 0, nil
		}
	}
	n := copy(p, b.buf[b.done:b.ready])
	b.done += n
	return n, nil
}

// Of the RISC-V instruction set (unprivileged specification, chapters 2 and 34).
const (
	opJAL   = 0x6f
	opAUIPC = 0x17

	regZero, regRA, regSP, regT0 = 0, 1, 2, 5
)

// marker is what an AUIPC that the filter has changed ends in: destination sp,
// and two bits more, which compilers do not make.
const marker = 3<<12 | regSP<<7 | opAUIPC

// undoBranches does it to code at position pos, and returns how much of it is
// done. How far it goes on after something that it leaves alone is part of the
// format: the filter went the same way.
func undoBranches(code []byte, pos uint32) int {
	i := 0
	for i+8 <= len(code) {
		at := pos + uint32(i)
		switch {
		case code[i] == opJAL|regRA<<7&0xff: // the lowest bit of the destination is in this byte
			i += undoJAL(code[i:], at)
		case code[i]&0x7f == opAUIPC:
			i += undoAUIPC(code[i:], at)
		default:
			i += 2
		}
	}
	return i
}

// undoJAL undoes a call: the upper twenty bits of the instruction are bits 20 to
// 1 of the address, the highest byte first.
func undoJAL(code []byte, pc uint32) int {
	rd := regRA | uint32(code[1]&0x0f)<<1
	if rd != regRA && rd != regT0 {
		return 2
	}
	to := uint32(code[1]>>4)<<17 | uint32(code[2])<<9 | uint32(code[3])<<1
	off := to - pc
	// The immediate of the J format is in no order.
	imm := off>>20&1<<19 | off>>1&0x3ff<<9 | off>>11&1<<8 | off>>12&0xff
	binary.LittleEndian.PutUint32(code, imm<<12|rd<<7|opJAL)
	return 4
}

// undoAUIPC undoes a pair of AUIPC and an instruction that adds 12 bits to its
// register. Changed, it is the marker below the lower 20 bits of the second
// instruction, whose base register becomes that of the AUIPC again, and then the
// address. What had looked like that before is kept as a pair.
func undoAUIPC(code []byte, pc uint32) int {
	le := binary.LittleEndian
	first, second := le.Uint32(code), le.Uint32(code[4:])
	if rd := first >> 7 & 31; rd != regZero && rd != regSP {
		isPair := second&3 == 3 && second>>15&31 == rd
		if !isPair {
			return 6
		}
		le.PutUint32(code, second<<12|regSP<<7|opAUIPC)
		le.PutUint32(code[4:], first&^0xfff+second>>20)
		return 8
	}
	base := first >> 27
	if first&0x3fff != marker || base == regZero || base == regSP {
		return 4
	}
	off := binary.BigEndian.Uint32(code[4:]) - pc
	// The lower part is signed, so the upper one is rounded.
	le.PutUint32(code, (off+0x800)&^0xfff|base<<7|opAUIPC)
	le.PutUint32(code[4:], off<<20|first>>12)
	return 8
}
