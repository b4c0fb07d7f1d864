package stack

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// regsLayout is how struct pt_regs lies in memory.
type regsLayout struct {
	size                   uint64 // with what alignment adds on a stack
	bytes                  uint64
	pc, ra, sp, fp         uint64 // offsets
	status, cause, badAddr uint64
}

const maxRegs = 4096

func (r *regsLayout) read(l *kernel.Layout, a *arch) error {
	size, ok := l.Size("pt_regs")
	if !ok || size > maxRegs || size < uint64(8*len(a.registers)) {
		return fmt.Errorf("struct pt_regs of %d bytes: %w", size, kernel.ErrNoInfo)
	}
	r.bytes = size
	r.size = (size + a.regsAlign - 1) &^ (a.regsAlign - 1)
	offset := func(name string) (uint64, error) {
		f, ok := l.Field("pt_regs." + name)
		if !ok || f.Size != 8 || f.Offset > size-8 {
			return 0, fmt.Errorf("pt_regs.%s: %w", name, kernel.ErrNoInfo)
		}
		return f.Offset, nil
	}
	for i, name := range a.registers {
		// Those whose place the layout has must be where the order puts them.
		if off, err := offset(name); err == nil && off != uint64(8*i) {
			return fmt.Errorf("pt_regs.%s at %d, %d expected: %w", name, off, 8*i, kernel.ErrUnsupported)
		}
	}
	for _, m := range []struct {
		name string
		to   *uint64
	}{
		{a.pc, &r.pc}, {a.ra, &r.ra}, {a.sp, &r.sp}, {a.fp, &r.fp},
		{a.status, &r.status}, {a.cause, &r.cause}, {a.badAddr, &r.badAddr},
	} {
		var err error
		if *m.to, err = offset(m.name); err != nil {
			return err
		}
	}
	return nil
}

// registers are those that unwinding goes on with, and what is told of them.
type registers struct {
	pc, ra, sp, fp kernel.VirtAddr
	told           *Regs // nil: no exception left them
}

// readRegs reads a struct pt_regs on the stack that is being read.
func (u *Unwinder) readRegs(at kernel.VirtAddr) (*registers, error) {
	words := make([]uint64, u.regs.bytes/8)
	for i := range words {
		var err error
		if words[i], err = u.memory.word(at + kernel.VirtAddr(8*i)); err != nil {
			return nil, fmt.Errorf("registers at %v: %w", at, err)
		}
	}
	get := func(off uint64) uint64 { return words[off/8] }
	told := &Regs{Addr: at, Code: get(u.regs.cause), User: u.arch.user(get(u.regs.status))}
	var hasAddr bool
	if told.Cause, hasAddr = u.arch.explain(told.Code); hasAddr {
		told.BadAddr = kernel.VirtAddr(get(u.regs.badAddr))
	}
	told.Registers = make([]kernel.Register, len(u.arch.registers), len(u.arch.registers)+3)
	for i, name := range u.arch.registers {
		told.Registers[i] = kernel.Register{Name: name, Value: words[i]}
	}
	told.Registers = append(told.Registers,
		kernel.Register{Name: u.arch.status, Value: get(u.regs.status)},
		kernel.Register{Name: u.arch.cause, Value: told.Code},
		kernel.Register{Name: u.arch.badAddr, Value: get(u.regs.badAddr)})
	return &registers{
		pc: kernel.VirtAddr(get(u.regs.pc)), ra: kernel.VirtAddr(get(u.regs.ra)),
		sp: kernel.VirtAddr(get(u.regs.sp)), fp: kernel.VirtAddr(get(u.regs.fp)),
		told: told,
	}, nil
}
