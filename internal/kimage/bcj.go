package kimage

import (
	"encoding/binary"
	"io"
)

// branches undoes the filter for RISC-V code that xz from 5.6 on applies to a
// kernel before it compresses it (scripts/xz_wrap.sh, 6.12): addresses in jumps
// and in pairs of AUIPC and what uses it have become absolute, with their bytes
// in big endian order, and become relative again here. After lib/xz/xz_dec_bcj.c
// of Linux 6.12 by Lasse Collin and Igor Pavlov, which is under 0BSD.
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

// undoBranches does it to code at position pos, and returns how much of it is
// done.
func undoBranches(code []byte, pos uint32) int {
	le := binary.LittleEndian
	i := 0
	for ; i+8 <= len(code); i += 2 {
		first := uint32(code[i])
		switch {
		case first == 0xef: // JAL with ra
			b1, b2, b3 := uint32(code[i+1]), uint32(code[i+2]), uint32(code[i+3])
			if b1&0x0d != 0 {
				continue
			}
			addr := (b1&0xf0)<<13 | b2<<9 | b3<<1
			addr -= pos + uint32(i)
			code[i+1] = byte(b1&0x0f | addr>>8&0xf0)
			code[i+2] = byte(addr>>16&0x0f | addr>>7&0x10 | addr<<4&0xe0)
			code[i+3] = byte(addr>>4&0x7f | addr>>13&0x80)
			i += 2
		case first&0x7f == 0x17: // AUIPC
			upper, lower := le.Uint32(code[i:]), le.Uint32(code[i+4:])
			if upper&0xe80 != 0 { // rd is not x0 or x2: it was no pair, or looked like one that is done
				if (upper<<8^(lower-3))&0xf8003 != 0 {
					i += 4
					continue
				}
				addr := upper&0xfffff000 + lower>>20
				upper, lower = 0x17|2<<7|lower<<12, addr
			} else {
				rs1 := upper >> 27
				if (upper-0x3117)<<18 >= rs1&0x1d {
					i += 2
					continue
				}
				addr := binary.BigEndian.Uint32(code[i+4:]) - (pos + uint32(i))
				upper, lower = 0x17|rs1<<7|(addr+0x800)&0xfffff000, upper>>12|addr<<20
			}
			le.PutUint32(code[i:], upper)
			le.PutUint32(code[i+4:], lower)
			i += 6
		}
	}
	return min(i, len(code))
}
