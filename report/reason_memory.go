package report

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
)

// explain says why the kernel died: first what the log says, then what memory
// knows better. crashed is what ran on the CPU that crashed, stuck the stack of
// the task or CPU that did not get on; either may be nil, and where both are the
// log has to do. task is the task_struct that was on the crashed CPU, 0 if that
// is unknown.
func (r *Report) explain(k source, in *incident, crashed, stuck *stack.Stack, task kernel.VirtAddr) {
	c := &r.Crash
	if c.Kind == KindUnknown {
		if c.Kind, in.class = guess(crashed); c.Kind != KindUnknown {
			c.Cause = fmt.Sprintf("%s, by the stack: the log does not say", in.class)
		}
	}
	c.Class, c.Source, c.Waited = in.class, in.source, in.waited
	if c.Stuck = in.stuck; c.Stuck == nil && in.stuckCPU >= 0 {
		c.Stuck = r.ranOn(in.stuckCPU)
	}
	memory, _ := k.(*kernel.Kernel)
	f := in.fault
	if regs := faultRegs(crashed); regs != nil {
		f.takeRegs(regs)
	}
	if c.Kind == KindOops || c.Kind == KindBug {
		r.explainFault(k, memory, &f)
	}
	if c.Source == "" && memory != nil && f.hasPC && (c.Kind == KindBug || c.Kind == KindWarning) {
		bug, err := BugAt(memory, kernel.VirtAddr(f.pc))
		switch {
		case err == nil:
			c.Source = bug.String()
		case !errors.Is(err, kernel.ErrNotFound):
			r.missing("the place in the source", err)
		}
	}
	if c.Detail == "" {
		c.Detail = in.detail(k.Arch().PageSize)
	}
	if s := c.Stuck; c.Class == ClassHardLockup && s != nil && s.PID >= 0 {
		c.Detail += fmt.Sprintf(" while it ran %s (PID %d)", cmp.Or(s.Comm, "a task"), s.PID)
	}
	switch {
	case c.Kind == KindLockup:
		// That it was found in an interrupt says nothing.
	case memory != nil && task != 0:
		var err error
		if c.InInterrupt, err = interrupted(memory, task); err != nil {
			r.missing("whether it was in an interrupt", err)
		}
	case c.Kind != KindOops && c.Kind != KindBug && c.Kind != KindWarning:
		// Exceptions look like interrupts in the log: riscv counts them as such.
		c.InInterrupt = in.interrupt
	}
	r.place(in)
	r.Signature = r.sign(in, crashed, stuck)
}

// explainFault fills in what the exception was.
func (r *Report) explainFault(k source, memory *kernel.Kernel, f *fault) {
	c := &r.Crash
	var mapped func(kernel.VirtAddr) bool
	if memory != nil {
		mapped = func(va kernel.VirtAddr) bool { _, err := memory.Translate(va); return err == nil }
	}
	class, words := f.decode(k.Arch(), mapped)
	if c.Kind == KindOops && class != "" && c.Class != ClassStackOverflow {
		c.Class, c.Detail = class, words
	}
	if !f.hasPC && !f.addressed {
		return
	}
	if r.Fault == nil {
		r.Fault = &Fault{}
	}
	r.Fault.PC = kernel.VirtAddr(f.pc)
	if f.addressed {
		r.Fault.Address = kernel.VirtAddr(f.address)
	}
	if c.Kind == KindOops {
		r.Fault.Meaning = words
	}
}

// place moves where it happened out of what only found it: checks of lists, memcpy
// and its like, the scheduler.
func (r *Report) place(in *incident) {
	c := &r.Crash
	switch {
	case c.Where == "" && c.Kind == KindOops:
		c.Where = in.fault.caller // it jumped to where no code is
		return
	case c.Kind != KindLockup && !machinery(plainName(c.Where)):
		return
	case c.Kind != KindLockup && c.Kind != KindOops && c.Kind != KindBug && c.Kind != KindWarning:
		return
	}
	if in.elsewhere() {
		c.Where = ""
		return
	}
	names := in.names()
	if first := significant(names, 1); len(in.frames) > 0 && len(first) > 0 {
		c.Where = names[slices.IndexFunc(names, func(s string) bool { return plainName(s) == first[0] })]
	}
}

// meaning is what happened, in words.
func (r *Report) meaning() string {
	s := r.Crash.Detail
	if s == "" && r.Fault != nil {
		s = r.Fault.Meaning
	}
	return printable(s)
}

// ranOn is the task that ran on a CPU: the scheduler knows it of CPUs that left no
// note, too, since they did not answer.
func (r *Report) ranOn(cpu int64) *Task {
	for _, q := range r.RunQueues {
		if int64(q.CPU) == cpu && q.Current.Addr != 0 {
			return &Task{Comm: printable(q.Current.Comm), PID: int64(q.Current.PID), CPU: q.CPU}
		}
	}
	for _, c := range r.CPUs {
		if int64(c.Number) == cpu {
			return &Task{Comm: c.Comm, PID: int64(c.PID), CPU: c.Number}
		}
	}
	return &Task{PID: -1, CPU: int(cpu)}
}

// faultRegs are the registers of the exception that the CPU died of: the
// innermost one on its stack that is no interrupt.
func faultRegs(s *stack.Stack) *stack.Regs {
	if s == nil {
		return nil
	}
	for _, f := range s.Frames {
		if f.Regs == nil {
			continue
		}
		if f.Regs.User || f.Regs.Code > 63 || f.Doubt != "" {
			return nil // the highest bit marks interrupts
		}
		return f.Regs
	}
	return nil
}

// takeRegs takes from memory what is surer there than in the log. An exception
// that the log does not know, or an older one on the same stack, is not it.
func (f *fault) takeRegs(regs *stack.Regs) {
	var pc uint64
	for _, reg := range regs.Registers {
		if reg.Name == "pc" || reg.Name == "epc" {
			pc = reg.Value
		}
	}
	if f.hasPC && f.pc != pc {
		return
	}
	f.pc, f.hasPC = pc, true
	f.cause, f.hasCause = int64(regs.Code), true
	f.access = riscvAccess(f.cause)
	if memoryCause(f.cause) {
		f.address, f.addressed = uint64(regs.BadAddr), true
	}
}

// detail is what the log tells beside the class, in words.
func (in *incident) detail(pageSize uint64) string {
	switch in.class {
	case ClassHungTask:
		if in.stuck != nil {
			return fmt.Sprintf("%s (PID %d) waited for more than %.0f s", in.stuck.Comm, in.stuck.PID, in.waited)
		}
	case ClassSoftLockup:
		if in.stuckCPU >= 0 {
			s := fmt.Sprintf("CPU %d was kept in the kernel for %.0f s", in.stuckCPU, in.waited)
			if in.stuck != nil {
				s += fmt.Sprintf(" by %s (PID %d)", in.stuck.Comm, in.stuck.PID)
			}
			return s
		}
	case ClassHardLockup:
		if in.stuckCPU >= 0 {
			return fmt.Sprintf("CPU %d took no interrupt", in.stuckCPU)
		}
	case ClassRCUStall:
		if in.stuckCPU >= 0 {
			return fmt.Sprintf("CPU %d let no grace period end", in.stuckCPU)
		}
		if in.stuck != nil {
			return fmt.Sprintf("PID %d let no grace period end", in.stuck.PID)
		}
	case ClassStackOverflow:
		return "the kernel's stack was used up"
	case ClassInitKilled:
		return initDetail(in.reason)
	case ClassOOM, ClassOOMCgroup:
		// "board invoked oom-killer: gfp_mask=0x140cca(...), order=0, ..."
		name, rest, ok := strings.Cut(in.cause, " invoked oom-killer: ")
		_, order, ok2 := strings.Cut(rest, " order=")
		if n := number(order, -1); ok && ok2 && n >= 0 && n < 32 {
			return fmt.Sprintf("%s asked for %d KiB", name, pageSize<<n>>10)
		}
	}
	return ""
}

// initDetail tells how the first process ended: "Attempted to kill init!
// exitcode=0x00000300", the status that wait(2) would have.
func initDetail(reason string) string {
	_, code, ok1 := strings.Cut(reason, "exitcode=0x")
	status, ok2 := leadingHex(code)
	switch signal := status & 0x7f; {
	case !ok1 || !ok2:
		return ""
	case signal != 0:
		return fmt.Sprintf("the first process was killed by signal %d", signal)
	}
	return fmt.Sprintf("the first process ended with exit code %d", status>>8&0xff)
}

// Bits of preempt_count: include/linux/preempt.h (Linux 5.4 to 7.2).
const (
	softirqServed = 1 << 8 // a softirq runs; the bits above count how often they are off
	hardirqShift  = 16
	nmiShift      = 20
	nestMask      = 0xf
)

// interrupted tells whether a task was interrupted on its CPU and the interrupt
// was not over. riscv enters exceptions out of the kernel as NMIs, which count
// as an interrupt each (irqentry_nmi_enter, kernel/entry/common.c): those are
// left out.
func interrupted(k *kernel.Kernel, task kernel.VirtAddr) (bool, error) {
	tasks, err := k.Struct("task_struct", "thread_info")
	if err != nil {
		return false, err
	}
	info, err := k.Struct("thread_info", "preempt_count")
	if err != nil {
		return false, err
	}
	var b [4]byte // of more, where the architecture keeps another flag above
	if err := k.ReadVirt(b[:], task+kernel.VirtAddr(tasks.Offset("thread_info")+info.Offset("preempt_count"))); err != nil {
		return false, fmt.Errorf("preempt_count: %w", err)
	}
	n := binary.LittleEndian.Uint32(b[:])
	hard, nmi := n>>hardirqShift&nestMask, n>>nmiShift&nestMask
	return hard > nmi || n&softirqServed != 0, nil
}
