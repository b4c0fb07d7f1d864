package kerneltest

import "github.com/panicroom-kdump/panicroom/vmcore"

// Damaged is Data with some words of it replaced, for fuzzing.
type Damaged struct {
	*Data
	words map[vmcore.PhysAddr]uint64
}

// Damage replaces words of what is in the linear map: three bytes say which, and
// what it becomes, another one's address or a small number. The Data itself stays
// as it is.
func (d *Data) Damage(how []byte) Damaged {
	const first = Base + 1<<24
	words := uint64(physical(d.next)-first) / 8
	m := Damaged{d, make(map[vmcore.PhysAddr]uint64)}
	for ; len(how) >= 3 && words > 0; how = how[3:] {
		word := (uint64(how[0]) | uint64(how[1])<<8) % words
		to := uint64(how[2])
		if to >= 32 {
			to = linear(first) + to*words/256*8
		}
		m.words[first+vmcore.PhysAddr(8*word)] = to
	}
	return m
}

// ReadPhys reads memory as it is now.
func (m Damaged) ReadPhys(p []byte, addr vmcore.PhysAddr) (int, error) {
	n, err := m.Data.ReadPhys(p, addr)
	for at, word := range m.words {
		for i := range vmcore.PhysAddr(8) {
			if b := at + i; b >= addr && b-addr < vmcore.PhysAddr(n) {
				p[b-addr] = byte(word >> (8 * i))
			}
		}
	}
	return n, err
}
