// Package disasm reads the instructions of a dead kernel, where it was at fault.
package disasm

import (
	"encoding/hex"
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Bounds of what is read.
const (
	maxInstructions = 256     // before and after, each
	maxFunction     = 1 << 20 // bytes from a function's beginning
	maxLength       = 8       // bytes of an instruction
)

// Instruction is one instruction of the dead kernel's code.
type Instruction struct {
	Addr  kernel.VirtAddr `json:"addr"`
	Bytes string          `json:"bytes"` // hexadecimal, in the order of memory
	// Text is as an assembler reads it, with the names of what it jumps to or
	// reaches for; "" if it is none.
	Text  string `json:"text"`
	Fault bool   `json:"fault,omitempty"` // it is the one that was asked for
}

// source is what instructions are read from; *kernel.Kernel is one.
type source interface {
	ReadVirt(p []byte, va kernel.VirtAddr) error
	SymbolAt(va kernel.VirtAddr) (kernel.Symbol, uint64, error)
}

var _ source = (*kernel.Kernel)(nil)

// arch is what differs between architectures.
type arch struct {
	align  kernel.VirtAddr // of instructions
	length func(code []byte) int
	// text is the instruction that code begins with, and what it reaches for with
	// the help of the one before it: 0 is nothing.
	text func(code, before []byte, addr kernel.VirtAddr, name func(kernel.VirtAddr) string) string
}

func newArch(m vmcore.Machine) (*arch, error) {
	switch m {
	case vmcore.MachineRISCV:
		return riscv64(), nil
	}
	return nil, fmt.Errorf("instructions of %v: %w", m, kernel.ErrUnsupported)
}

// Around is the instruction at pc with some before and after it, of the same
// function. Instructions have no marks at their beginnings: what is before pc is
// found from the beginning of the function, and left out where there is none.
// The error is kernel.ErrUnsupported for an architecture that is not known here,
// or why the code cannot be read; what could be is returned with it.
func Around(k *kernel.Kernel, pc kernel.VirtAddr, before, after int) ([]Instruction, error) {
	a, err := newArch(k.Arch().Machine)
	if err != nil {
		return nil, err
	}
	return around(k, a, pc, before, after)
}

func around(k source, a *arch, pc kernel.VirtAddr, before, after int) ([]Instruction, error) {
	before, after = min(max(before, 0), maxInstructions), min(max(after, 0), maxInstructions)
	if pc%a.align != 0 {
		return nil, fmt.Errorf("instruction at %v: no multiple of %d: %w", pc, a.align, kernel.ErrNotFound)
	}
	r := reader{k: k, a: a}
	sym, off, err := k.SymbolAt(pc)
	known := err == nil && sym.Size > 0
	var addrs []kernel.VirtAddr
	if known && off <= maxFunction {
		addrs = r.before(sym.Addr, pc, before+1)
	}
	// One more than asked for, for what it says about the next.
	var last []byte
	if len(addrs) == before+1 && before >= 0 {
		last, _ = r.at(addrs[0])
		addrs = addrs[1:]
	}
	addrs = append(addrs, pc)
	var all []Instruction
	for at, n := addrs[0], 0; n < len(addrs)+after; n++ {
		if known && at > pc && uint64(at-sym.Addr) >= sym.Size {
			break
		}
		code, err := r.at(at)
		if err != nil {
			return all, fmt.Errorf("instruction at %v: %w", at, err)
		}
		all = append(all, Instruction{
			Addr: at, Bytes: hex.EncodeToString(code), Text: a.text(code, last, at, r.name), Fault: at == pc,
		})
		at += kernel.VirtAddr(len(code))
		last = code
	}
	return all, nil
}

// reader reads instructions through a page.
type reader struct {
	k    source
	a    *arch
	page [4096]byte
	from kernel.VirtAddr // of page
	have bool
}

// at is the instruction at an address, which may cross a page.
func (r *reader) at(va kernel.VirtAddr) ([]byte, error) {
	var b [maxLength]byte
	for n := range b {
		if err := r.byte(va+kernel.VirtAddr(n), &b[n]); err != nil {
			if n < int(r.a.align) || n < r.a.length(b[:n]) {
				return nil, err
			}
			break
		}
	}
	return append([]byte(nil), b[:min(r.a.length(b[:]), maxLength)]...), nil
}

func (r *reader) byte(va kernel.VirtAddr, to *byte) error {
	if page := va &^ 4095; !r.have || r.from != page {
		r.have = false
		if err := r.k.ReadVirt(r.page[:], page); err != nil {
			return err
		}
		r.from, r.have = page, true
	}
	*to = r.page[va&4095]
	return nil
}

// before is the addresses of the last n instructions between from and to; nil if
// none ends at to, which happens where data stands among the code.
func (r *reader) before(from, to kernel.VirtAddr, n int) []kernel.VirtAddr {
	var last []kernel.VirtAddr
	for at := from; at < to; {
		code, err := r.at(at)
		if err != nil {
			return nil
		}
		if len(last) == n {
			last = last[:copy(last, last[1:])]
		}
		last = append(last, at)
		if at += kernel.VirtAddr(len(code)); at > to {
			return nil
		}
	}
	return last
}

// name is the function or variable at an address, with the distance from its
// beginning if there is any; "" if it is in none.
func (r *reader) name(va kernel.VirtAddr) string {
	sym, off, err := r.k.SymbolAt(va)
	if err != nil || sym.Name == "" {
		return ""
	}
	s := sym.Name
	if off != 0 {
		s += fmt.Sprintf("+%#x", off)
	}
	if sym.Module != "" {
		s += " [" + sym.Module + "]"
	}
	return s
}
