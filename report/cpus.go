package report

import (
	"errors"
	"fmt"
	"slices"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// readCPUs describes the CPUs and decides which one crashed: by panic_cpu,
// else by what the log says. It returns them in the order of the report's.
func (r *Report) readCPUs(k source, in *incident) []kernel.CPU {
	cpus, err := k.CPUs()
	if err != nil {
		r.missing("registers of CPUs", err)
	}
	r.Machine.CPUs = len(cpus)
	crashed := in.cpu
	if n, err := k.PanicCPU(); err == nil {
		crashed = n
	} else if crashed < 0 {
		r.missing("which CPU crashed", err)
	}
	index := -1
	for i, c := range cpus {
		if c.Number >= 0 && c.Number == crashed {
			index = i
		}
	}
	if index < 0 {
		index = onlyMatch(cpus, r.Crash.Task)
	}

	if index >= 0 {
		// The crashed one comes first.
		crash := cpus[index]
		if crash.Number < 0 {
			crash.Number = crashed // the log knew
		}
		cpus = slices.Concat([]kernel.CPU{crash}, cpus[:index], cpus[index+1:])
	}

	symbols := &symbolizer{k: k}
	for i, c := range cpus {
		out := CPU{Number: c.Number, PID: c.PID, Crashed: i == 0 && index >= 0, PC: symbols.at(c.PC, false)}
		if k.Arch().RA != "" {
			ra := symbols.at(c.RA, true)
			out.RA = &ra
		}
		for _, reg := range c.Registers {
			out.Registers = append(out.Registers, Register{reg.Name, fmt.Sprintf("%#x", reg.Value)})
		}
		if out.Crashed && r.Crash.Task == nil {
			r.Crash.Task = &Task{PID: int64(c.PID), CPU: out.Number}
		}
		r.CPUs = append(r.CPUs, out)
	}
	r.fixBacktrace(symbols)
	if symbols.err != nil {
		r.missing("names of functions", symbols.err)
	}
	if r.Crash.Task == nil {
		r.missing("which task crashed", errors.New("neither log nor crash notes tell"))
	}
	return cpus
}

// onlyMatch is the index of the CPU that ran the task, if there is exactly one.
func onlyMatch(cpus []kernel.CPU, t *Task) int {
	index := -1
	for i, c := range cpus {
		if t == nil || int64(c.PID) != t.PID {
			continue
		}
		if index >= 0 {
			return -1
		}
		index = i
	}
	return index
}

// symbolizer names addresses. When symbols cannot be read it says so once.
type symbolizer struct {
	k   source
	err error
}

// at names an address: "function+0x12/0x34 [module]". A return address belongs
// to the call before it, which matters when the call was a function's last
// instruction.
func (s *symbolizer) at(va kernel.VirtAddr, returns bool) Frame {
	f := Frame{Address: fmt.Sprintf("%#x", uint64(va))}
	if va == 0 {
		return f
	}
	look := va
	if returns {
		look--
	}
	sym, off, err := s.k.SymbolAt(look)
	if err != nil {
		if s.err == nil && !errors.Is(err, kernel.ErrNotFound) {
			s.err = err
		}
		return f
	}
	if returns {
		off++
	}
	name := sym.Name
	if name == "" {
		name = "?"
	}
	f.Text = fmt.Sprintf("%s+%#x/%#x", printable(name), off, sym.Size)
	if sym.Module != "" {
		f.Text += " [" + printable(sym.Module) + "]"
	}
	return f
}

// fixBacktrace renames frames that the kernel attributed to the function after
// the right one: it names return addresses as they are, and behind the last
// instruction of a function that never returns (panic's callers mostly) the
// next function begins.
func (r *Report) fixBacktrace(s *symbolizer) {
	for i, f := range r.Crash.Backtrace {
		if i == 0 || f.Address == "" || !atStart(f.Text) {
			continue
		}
		if va, ok := parseHex(f.Address[2:]); ok && va != 0 {
			if better := s.at(kernel.VirtAddr(va), true); better.Text != "" {
				r.Crash.Backtrace[i].Text = better.Text
			}
		}
	}
	if r.Crash.Where == "" {
		r.Crash.Where = caller(r.Crash.Backtrace)
	}
}
