package stack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// kthread builds the stack of a kernel thread that sleeps: schedule, middle,
// outer, and its beginning.
func kthread(m *machine) {
	m.sleeps(m.calls("schedule", "other", 0x20), stackEnd-0x200, stackEnd-0x1c0)
	m.record(stackEnd-0x1c0, stackEnd-0x180, m.calls("middle", "schedule", 0x40))
	m.record(stackEnd-0x180, stackEnd-0x140, m.callsRegister("outer", 0x60))
	m.record(stackEnd-0x140, 0xffffffff80002000, m.callsRegister("ret_from_fork", 0x10))
}

// userTask builds the stack of a process that sleeps in a system call.
func userTask(m *machine) {
	m.sleeps(m.calls("schedule", "other", 0x20), stackEnd-0x300, stackEnd-0x2c0)
	m.record(stackEnd-0x2c0, stackEnd-regsSize, m.calls("middle", "schedule", 0x40))
	m.record(stackEnd-regsSize, 0x3fff1000, m.callsRegister("handle_exception", 0x100))
	m.regs(stackEnd-regsSize, registers{pc: 0x10244, sp: 0x3fff0000, fp: 0x3fff1000}, fromUser, 8, 0)
}

func TestSleeping(t *testing.T) {
	t.Run("kernel thread", func(t *testing.T) {
		m := newMachine()
		kthread(m)
		check(t, m.unwinder(t).Sleeping(taskAt), `
			schedule+0x20/0x100
			middle+0x40/0x100
			outer+0x60/0x100
			ret_from_fork+0x10/0x40
		`)
	})
	t.Run("process", func(t *testing.T) {
		m := newMachine()
		userTask(m)
		check(t, m.unwinder(t).Sleeping(taskAt), `
			schedule+0x20/0x100
			middle+0x40/0x100
			handle_exception+0x100/0x200
			0x10244 interrupted by system call in user mode
		`)
	})
	t.Run("never ran", func(t *testing.T) {
		m := newMachine()
		m.sleeps(m.in("ret_from_fork", 0), stackEnd-regsSize, 0)
		check(t, m.unwinder(t).Sleeping(taskAt), `
			ret_from_fork+0x0/0x40
		`)
	})
	t.Run("in a module", func(t *testing.T) {
		m := newMachine()
		kthread(m)
		m.record(stackEnd-0x180, stackEnd-0x140, m.callsRegister("mod_work", 0x60))
		check(t, m.unwinder(t).Sleeping(taskAt), `
			schedule+0x20/0x100
			middle+0x40/0x100
			mod_work+0x60/0x100 [mod]
			ret_from_fork+0x10/0x40
		`)
	})
	t.Run("running", func(t *testing.T) {
		m := newMachine()
		kthread(m)
		m.bytes(taskAt+32, []byte{1})
		check(t, m.unwinder(t).Sleeping(taskAt), `
			broken: the task was running: its stack is that of its CPU
		`)
	})
	t.Run("without a stack", func(t *testing.T) {
		m := newMachine()
		m.put(taskAt+16, 0)
		check(t, m.unwinder(t).Sleeping(taskAt), `
			broken: the task has no stack any more
		`)
	})
	t.Run("no task", func(t *testing.T) {
		if s := newMachine().unwinder(t).Sleeping(0x1234); !strings.Contains(s.Broken, "excluded") || s.Frames == nil {
			t.Errorf("got %+v", s)
		}
	})
	t.Run("stack pointer elsewhere", func(t *testing.T) {
		m := newMachine()
		kthread(m)
		m.sleeps(m.in("schedule", 0x20), irqBase, irqBase)
		if s := m.unwinder(t).Sleeping(taskAt); !strings.Contains(s.Broken, "not on the task's stack") {
			t.Errorf("got %+v", s)
		}
	})
	t.Run("the last instruction of a function is a call", func(t *testing.T) {
		m := newMachine()
		kthread(m)
		m.record(stackEnd-0x180, stackEnd-0x140, m.callsRegister("outer", 0x100))
		s := m.unwinder(t).Sleeping(taskAt)
		if f := s.Frames[2]; f.Function != "outer" || f.Offset != 0x100 || f.Doubt != "" {
			t.Errorf("got %+v", f)
		}
	})
	t.Run("boot code that is gone", func(t *testing.T) {
		m := newMachine()
		kthread(m)
		m.record(stackEnd-0x180, stackEnd-0x140, m.in("start_kernel", 0x60))
		check(t, m.unwinder(t).Sleeping(taskAt), `
			schedule+0x20/0x100
			middle+0x40/0x100
			start_kernel+0x60/0x100
			ret_from_fork+0x10/0x40
		`)
	})
	t.Run("tail call", func(t *testing.T) {
		m := newMachine()
		kthread(m)
		m.record(stackEnd-0x1c0, stackEnd-0x180, m.calls("middle", "cold", 0x40))
		check(t, m.unwinder(t).Sleeping(taskAt), `
			schedule+0x20/0x100, called cold
			middle+0x40/0x100
			outer+0x60/0x100
			ret_from_fork+0x10/0x40
		`)
	})
	t.Run("part of a function elsewhere", func(t *testing.T) {
		m := newMachine()
		kthread(m)
		m.symbols[4].Name = "cold.isra.0" // schedule
		m.record(stackEnd-0x1c0, stackEnd-0x180, m.calls("middle", "cold", 0x40))
		if f := m.unwinder(t).Sleeping(taskAt).Frames[0]; f.Function != "cold.isra.0" || f.Tail != "" {
			t.Errorf("got %+v", f)
		}
	})
}

func TestDoubts(t *testing.T) {
	t.Run("not after a call", func(t *testing.T) {
		m := newMachine()
		kthread(m)
		m.bytes(textBase+0x200, make([]byte, 0x100))
		m.record(stackEnd-0x180, stackEnd-0x140, m.in("inner", 0x60))
		check(t, m.unwinder(t).Sleeping(taskAt), `
			schedule+0x20/0x100
			middle+0x40/0x100
			? inner+0x60/0x100: not after a call
			ret_from_fork+0x10/0x40
		`)
	})
	t.Run("no symbol", func(t *testing.T) {
		m := newMachine()
		kthread(m)
		at := entryBase + 0x800
		m.bytes(at-2, []byte{0x82, 0x97})
		m.record(stackEnd-0x180, stackEnd-0x140, at)
		check(t, m.unwinder(t).Sleeping(taskAt), `
			schedule+0x20/0x100
			middle+0x40/0x100
			? 0xffffffff80010800: no function is known there
			ret_from_fork+0x10/0x40
		`)
	})
	t.Run("code of BPF", func(t *testing.T) {
		m := newMachine()
		kthread(m)
		at := kernel.VirtAddr(0xffffffff7f000100)
		m.bytes(at-2, []byte{0x82, 0x97})
		m.record(stackEnd-0x180, stackEnd-0x140, at)
		check(t, m.unwinder(t).Sleeping(taskAt), `
			schedule+0x20/0x100
			middle+0x40/0x100
			? 0xffffffff7f000100: no function is known there
			ret_from_fork+0x10/0x40
		`)
	})
	t.Run("return probe", func(t *testing.T) {
		m := newMachine()
		kthread(m)
		m.record(stackEnd-0x180, stackEnd-0x140, m.in("arch_rethook_trampoline", 0))
		check(t, m.unwinder(t).Sleeping(taskAt), `
			schedule+0x20/0x100
			middle+0x40/0x100
			? arch_rethook_trampoline+0x0/0x40: its caller is not known
			ret_from_fork+0x10/0x40
		`)
	})
	t.Run("code that cannot be read", func(t *testing.T) {
		m := newMachine()
		kthread(m)
		m.function("far", 0xffffffff80011000-0x800, 0x100)
		m.record(stackEnd-0x180, stackEnd-0x140, m.in("far", 0x60))
		delete(m.mem, entryBase&^4095)
		if s := m.unwinder(t).Sleeping(taskAt); s.Broken != "" || !strings.HasPrefix(s.Frames[2].Doubt, "its code cannot be read") {
			t.Errorf("got %s", text(s))
		}
	})
}

// What breaks a chain, and what is found then.
func TestBroken(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(m *machine)
		want   string
	}{
		{"circle", func(m *machine) { m.record(stackEnd-0x180, stackEnd-0x1c0, m.callsRegister("outer", 0x60)) }, `
			schedule+0x20/0x100
			middle+0x40/0x100
			outer+0x60/0x100
			? ret_from_fork+0x10/0x40: found on the stack, not by a frame
			broken: frame pointer 0xff20000000013e40 does not go up from 0xff20000000013e80
		`},
		{"itself", func(m *machine) { m.record(stackEnd-0x180, stackEnd-0x180, m.callsRegister("outer", 0x60)) }, `
			schedule+0x20/0x100
			middle+0x40/0x100
			outer+0x60/0x100
			? ret_from_fork+0x10/0x40: found on the stack, not by a frame
			broken: frame pointer 0xff20000000013e80 does not go up from 0xff20000000013e80
		`},
		{"off the stack", func(m *machine) { m.record(stackEnd-0x180, stackEnd+0x40, m.callsRegister("outer", 0x60)) }, `
			schedule+0x20/0x100
			middle+0x40/0x100
			outer+0x60/0x100
			? ret_from_fork+0x10/0x40: found on the stack, not by a frame
			broken: frame pointer 0xff20000000014040 is not on the stack, 0xff20000000010000 to 0xff20000000014000
		`},
		{"nothing", func(m *machine) { m.record(stackEnd-0x180, 0, m.callsRegister("outer", 0x60)) }, `
			schedule+0x20/0x100
			middle+0x40/0x100
			outer+0x60/0x100
			? ret_from_fork+0x10/0x40: found on the stack, not by a frame
			broken: frame pointer 0x0 is not on the stack, 0xff20000000010000 to 0xff20000000014000
		`},
		{"odd", func(m *machine) { m.record(stackEnd-0x180, stackEnd-0x13f, m.callsRegister("outer", 0x60)) }, `
			schedule+0x20/0x100
			middle+0x40/0x100
			outer+0x60/0x100
			? ret_from_fork+0x10/0x40: found on the stack, not by a frame
			broken: frame pointer 0xff20000000013ec1 is no multiple of 8
		`},
		{"return to data", func(m *machine) { m.record(stackEnd-0x180, stackEnd-0x140, taskAt) }, `
			schedule+0x20/0x100
			middle+0x40/0x100
			? 0xff60000000300000: no code is there
			? ret_from_fork+0x10/0x40: found on the stack, not by a frame
			broken: return address 0xff60000000300000 is in no code
		`},
		{"return to nothing", func(m *machine) { m.record(stackEnd-0x180, stackEnd-0x140, 0) }, `
			schedule+0x20/0x100
			middle+0x40/0x100
			? ret_from_fork+0x10/0x40: found on the stack, not by a frame
			broken: the frames end at 0xff20000000013e80, before the beginning: return address 0x0
		`},
		{"return to user space", func(m *machine) { m.record(stackEnd-0x180, stackEnd-0x140, 0x10000) }, `
			schedule+0x20/0x100
			middle+0x40/0x100
			? ret_from_fork+0x10/0x40: found on the stack, not by a frame
			broken: the frames end at 0xff20000000013e80, before the beginning: return address 0x10000
		`},
		{"unreadable", func(m *machine) {
			m.record(stackEnd-0x180, stackEnd-0x1000, m.callsRegister("outer", 0x60))
			m.sleeps(m.in("schedule", 0x20), stackEnd-0x2200, stackEnd-0x2000)
			m.record(stackEnd-0x2000, stackEnd-0x1800, m.in("middle", 0x40))
			delete(m.mem, stackEnd-0x2000)
		}, `
			schedule+0x20/0x100
			middle+0x40/0x100
			? middle+0x40/0x100: found on the stack, not by a frame
			? outer+0x60/0x100: found on the stack, not by a frame
			? ret_from_fork+0x10/0x40: found on the stack, not by a frame
			broken: frame at 0xff20000000012800: kernel memory at 0xff20000000012000: page excluded from the dump
		`},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine()
			kthread(m)
			test.damage(m)
			check(t, m.unwinder(t).Sleeping(taskAt), test.want)
		})
	}
}

// interrupted builds the stack of a process that was interrupted in middle,
// which outer had called, in a system call: the handler of the interrupt is on
// the stack in inner, which is at fp. It gives the registers of inner.
func interrupted(m *machine, r registers, cause, badAddr uint64) (fp kernel.VirtAddr) {
	m.record(stackEnd-regsSize, 0x3fff1000, m.callsRegister("handle_exception", 0x100))
	m.regs(stackEnd-regsSize, registers{pc: 0x10244, sp: 0x3fff0000, fp: 0x3fff1000}, fromUser, 8, 0)
	at := r.sp - regsSize
	m.regs(at, r, fromKernel, cause, badAddr)
	m.record(at, r.fp, m.callsRegister("handle_exception", 0xe0))
	return at
}

const timer = 1<<63 | 5

func note(m *machine, pc, ra, sp, fp kernel.VirtAddr) kernel.CPU {
	return kernel.CPU{PC: pc, RA: ra, SP: sp, FP: fp, Registers: []kernel.Register{{Name: "tp", Value: uint64(taskAt)}}}
}

func TestExceptionInTheMiddle(t *testing.T) {
	m := newMachine()
	// middle has called other before, so ra is in middle itself.
	outer := stackEnd - regsSize - 0x40
	r := registers{pc: m.in("middle", 0x60), ra: m.calls("middle", "other", 0x50), sp: outer - 0x100, fp: outer - 0x60}
	at := interrupted(m, r, 13, 0x18)
	m.record(r.fp, outer, m.calls("outer", "middle", 0x20))
	m.record(outer, stackEnd-regsSize, m.callsRegister("handle_exception", 0x100))
	m.record(outer, stackEnd-regsSize, m.callsRegister("cold", 0x30))
	c := note(m, m.in("inner", 0x10), m.calls("inner", "leaf", 0x10), at-0x40, at)
	c.Number = 0
	want := `
		inner+0x10/0x100
		handle_exception+0xe0/0x200
		middle+0x60/0x100 interrupted by load page fault at 0x18
		outer+0x20/0x100
		cold+0x30/0x100
		handle_exception+0x100/0x200
		0x10244 interrupted by system call in user mode
	`
	check(t, m.unwinder(t).CPU(c, taskAt), want)
	// The task stands in the registers too.
	check(t, m.unwinder(t).CPU(c, 0), want)
	c.Registers = nil
	check(t, m.unwinder(t).CPU(c, 0), want)

	regs := m.unwinder(t).CPU(c, taskAt).Frames[2].Regs
	if regs.Addr != at || regs.User || regs.Code != 13 || len(regs.Registers) != 35 ||
		regs.Registers[0] != (kernel.Register{Name: "epc", Value: uint64(r.pc)}) ||
		regs.Registers[33] != (kernel.Register{Name: "cause", Value: 13}) {
		t.Errorf("registers: %+v", regs)
	}
}

// A function is interrupted in every state of its frame, and so is the first of
// a CPU.
func TestInterruptedFunction(t *testing.T) {
	outer := kernel.VirtAddr(stackEnd - regsSize)
	own := outer - 0x60
	for _, test := range []struct {
		name string
		set  func(m *machine) registers
		want string
	}{
		{"leaf without a frame", func(m *machine) registers {
			return registers{pc: m.in("leaf", 4), ra: m.calls("outer", "leaf", 0x20), fp: outer}
		}, "leaf+0x4/0x100 interrupted"},
		{"leaf that saved its frame pointer", func(m *machine) registers {
			m.put(own-8, uint64(outer))
			return registers{pc: m.in("leaf", 0x10), ra: m.calls("outer", "leaf", 0x20), fp: own}
		}, "leaf+0x10/0x100 interrupted"},
		{"before its first call", func(m *machine) registers {
			ra := m.calls("outer", "leaf", 0x20)
			m.record(own, outer, ra)
			return registers{pc: m.in("leaf", 0x10), ra: ra, fp: own}
		}, "leaf+0x10/0x100 interrupted"},
		{"after a call", func(m *machine) registers {
			m.record(own, outer, m.calls("outer", "leaf", 0x20))
			return registers{pc: m.in("leaf", 0x10), ra: m.calls("leaf", "other", 0x10), fp: own}
		}, "leaf+0x10/0x100 interrupted"},
		{"after a call, far from its beginning", func(m *machine) registers {
			m.record(own, outer, m.calls("outer", "far", 0x20))
			return registers{pc: m.in("far", 0x300), ra: m.calls("far", "other", 0x200), fp: own}
		}, "far+0x300/0x400 interrupted"},
		{"called itself, no frame yet", func(m *machine) registers {
			m.record(own, outer, m.calls("outer", "leaf", 0x20))
			return registers{pc: m.in("leaf", 2), ra: m.calls("leaf", "leaf", 0x40), fp: own}
		}, "leaf+0x2/0x100 interrupted|leaf+0x40/0x100"},
		{"call of nothing", func(m *machine) registers {
			return registers{pc: 0, ra: m.callsRegister("outer", 0x20), fp: outer}
		}, "0x0 interrupted"},
		{"call of data", func(m *machine) registers {
			return registers{pc: taskAt, ra: m.callsRegister("outer", 0x20), fp: outer}
		}, "0xff60000000300000 interrupted"},
		{"ra used for something else", func(m *machine) registers {
			m.record(own, outer, m.calls("outer", "leaf", 0x20))
			return registers{pc: m.in("leaf", 0x10), ra: 0x1234, fp: own}
		}, "leaf+0x10/0x100 interrupted"},
		{"called from the entry", func(m *machine) registers {
			return registers{pc: m.in("leaf", 2), ra: m.callsRegister("handle_exception", 0x100), sp: stackEnd - regsSize, fp: 0x1234}
		}, "leaf+0x2/0x100 interrupted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine()
			m.function("far", textBase+0x1000, 0x400)
			r := test.set(m)
			if r.sp == 0 {
				r.sp = own - 0x100
			}
			at := interrupted(m, r, timer, 0)
			if test.name != "called from the entry" {
				m.record(outer, 0x3fff1000, m.callsRegister("handle_exception", 0x100))
			}
			first := strings.Split(test.want, "|")
			want := first[0] + " by supervisor timer interrupt\n"
			for _, f := range first[1:] {
				want += f + "\n"
			}
			if test.name != "called from the entry" {
				want += "outer+0x20/0x100\n"
			}
			want += "handle_exception+0x100/0x200\n0x10244 interrupted by system call in user mode\n"
			// The stack of a CPU whose note has what was interrupted.
			c := note(m, r.pc, r.ra, r.sp, r.fp)
			check(t, m.unwinder(t).CPU(c, taskAt), want)
			// And of one that is in the handler.
			c = note(m, m.in("inner", 0x10), m.calls("inner", "cold", 0x10), at-0x40, at)
			check(t, m.unwinder(t).CPU(c, taskAt), "inner+0x10/0x100\nhandle_exception+0xe0/0x200\n"+want)
		})
	}
}

func TestIRQStack(t *testing.T) {
	m := newMachine()
	m.function("call_on_irq_stack", entryBase+0x600, 0x40)
	r := registers{pc: m.in("middle", 0x60), ra: m.calls("middle", "other", 0x50), sp: stackEnd - 0x400, fp: stackEnd - regsSize}
	at := interrupted(m, r, 1<<63|9, 0)
	// The handler's first function, on the task's stack, and the change.
	m.record(at, r.fp, m.calls("handle_exception", "outer", 0xe0))
	m.record(at-0x40, at, m.calls("outer", "call_on_irq_stack", 0x20))
	m.record(irqEnd, at-0x40, m.callsRegister("call_on_irq_stack", 0x20))
	m.record(irqEnd-0x40, irqEnd, m.calls("inner", "cold", 0x30))
	c := note(m, m.in("cold", 0x10), m.calls("cold", "leaf", 0x10), irqEnd-0x100, irqEnd-0x40)
	want := `
		cold+0x10/0x100
		inner+0x30/0x100
		call_on_irq_stack+0x20/0x40
		outer+0x20/0x100
		handle_exception+0xe0/0x200
		middle+0x60/0x100 interrupted by supervisor external interrupt
		handle_exception+0x100/0x200
		0x10244 interrupted by system call in user mode
	`
	check(t, m.unwinder(t).CPU(c, taskAt), want)
	c.Number = -1 // it is known by its stack
	check(t, m.unwinder(t).CPU(c, taskAt), want)

	// Back to a stack that was left is no way.
	m.record(r.fp, irqEnd-0x80, m.callsRegister("outer", 0x40))
	if s := m.unwinder(t).CPU(c, taskAt); !strings.Contains(s.Broken, "not on the stack") {
		t.Errorf("got %s", text(s))
	}
}

func TestOverflowStack(t *testing.T) {
	m := newMachine()
	m.function("handle_bad_stack", entryBase+0x600, 0x80)
	fp := stackBase + 0x40
	r := registers{pc: m.in("middle", 4), ra: m.calls("middle", "middle", 0x50), sp: stackBase - 0x30, fp: fp}
	m.regs(overEnd-regsSize, r, fromKernel, 15, uint64(stackBase-8))
	m.record(overEnd-regsSize, r.sp, r.ra) // as handle_bad_stack finds them
	m.record(fp, fp+0x200, m.in("middle", 0x50))
	m.record(fp+0x200, stackEnd-regsSize, m.calls("outer", "middle", 0x20))
	m.record(stackEnd-regsSize, 0x3fff1000, m.callsRegister("handle_exception", 0x100))
	m.regs(stackEnd-regsSize, registers{pc: 0x10244}, fromUser, 8, 0)
	m.record(overEnd-0x200, overEnd-regsSize, m.calls("handle_bad_stack", "inner", 0x20))
	rest := `
		middle+0x4/0x100 interrupted by store page fault at 0xff2000000000fff8
		middle+0x50/0x100
		middle+0x50/0x100
		outer+0x20/0x100
		handle_exception+0x100/0x200
		0x10244 interrupted by system call in user mode
	`
	c := note(m, m.in("inner", 0x10), m.calls("inner", "leaf", 0x10), overEnd-0x240, overEnd-0x200)
	check(t, m.unwinder(t).CPU(c, taskAt), "inner+0x10/0x100\nhandle_bad_stack+0x20/0x80\n"+strings.TrimLeft(rest, "\n"))
	// The note has the registers of the fault when the oops itself starts the
	// crash kernel.
	check(t, m.unwinder(t).CPU(note(m, r.pc, r.ra, r.sp, r.fp), taskAt), rest)
}

func TestUserMode(t *testing.T) {
	m := newMachine()
	m.regs(stackEnd-regsSize, registers{pc: 0x10244, sp: 0x3fff0000}, fromUser, 1<<63|1, 0)
	c := kernel.CPU{PC: 0x10244, SP: 0x3fff0000, Registers: []kernel.Register{{Name: "pc", Value: 0x10244}}}
	s := m.unwinder(t).CPU(c, taskAt)
	check(t, s, `
		0x10244 interrupted by supervisor software interrupt in user mode
	`)
	// Without the task, what the note says.
	s = m.unwinder(t).CPU(c, 0)
	if len(s.Frames) != 1 || !s.Frames[0].Regs.User || s.Frames[0].Regs.Registers[0].Value != 0x10244 || s.Broken != "" {
		t.Errorf("got %+v", s)
	}
}

// The kernel jumped to a process's address.
func TestKernelInUserSpace(t *testing.T) {
	m := newMachine()
	userTask(m)
	r := registers{pc: 0x10000, ra: m.callsRegister("outer", 0x20), sp: stackEnd - 0x300, fp: stackEnd - regsSize}
	interrupted(m, r, 12, 0x10000)
	check(t, m.unwinder(t).CPU(note(m, r.pc, r.ra, r.sp, r.fp), taskAt), `
		0x10000 interrupted by instruction page fault at 0x10000
		outer+0x20/0x100
		handle_exception+0x100/0x200
		0x10244 interrupted by system call in user mode
	`)
}

func TestJoined(t *testing.T) {
	got := joined([]region{{0x3000, 0x1000}, {0x1000, 0x800}, {0x1400, 0x1000}, {0x9000, 0}, {0x3800, 0x10}, {^kernel.VirtAddr(0) - 15, 0x1000}})
	want := []region{{0x1000, 0x1400}, {0x3000, 0x1000}, {^kernel.VirtAddr(0) - 15, 15}}
	if !slices.Equal(got, want) {
		t.Errorf("joined: %v; want %v", got, want)
	}
}

func TestExceptionRegistersOutside(t *testing.T) {
	for _, at := range []kernel.VirtAddr{stackEnd - 0x100, stackEnd - 0x80} {
		m := newMachine()
		m.sleeps(m.callsRegister("schedule", 0x20), stackEnd-0x300, at)
		m.record(at, 0, m.callsRegister("handle_exception", 0xe0))
		if s := m.unwinder(t).Sleeping(taskAt); !strings.Contains(s.Broken, "not on the stack") {
			t.Errorf("got %s", text(s))
		}
	}
	// Registers that lead down.
	m := newMachine()
	at := stackEnd - 0x200
	m.sleeps(m.callsRegister("schedule", 0x20), at-0x100, at)
	m.record(at, 0, m.callsRegister("handle_exception", 0xe0))
	m.regs(at, registers{pc: m.in("middle", 8), sp: at - 0x20}, fromKernel, 13, 0)
	if s := m.unwinder(t).Sleeping(taskAt); !strings.Contains(s.Broken, "on no stack above") || s.Frames[2].Doubt == "" {
		t.Errorf("got %s", text(s))
	}
}

func TestFunctionGraph(t *testing.T) {
	for _, form := range []string{"words", "structs"} {
		t.Run(form, func(t *testing.T) {
			m := newMachine()
			kthread(m)
			hidden := m.in("return_to_handler", 0)
			calls := [][2]kernel.VirtAddr{ // ret and func, the outermost first
				{m.in("outer", 0x60), m.in("middle", 4)},
				{m.in("middle", 0x40), m.in("leaf", 4)}, // went on to schedule
				{hidden, m.in("schedule", 4)},
			}
			m.put(taskAt+40, uint64(graphAt))
			if form == "words" {
				for i, c := range calls {
					m.put(graphAt+kernel.VirtAddr(40*i), uint64(c[0]), uint64(c[1]), 0x55, 0x77, 4|1<<10|1<<12)
				}
				m.put32(taskAt+48, uint32(5*len(calls)))
			} else {
				for i, c := range calls {
					m.put(graphAt+kernel.VirtAddr(24*i), uint64(c[0]), uint64(c[1]), 0x55)
				}
				m.put32(taskAt+48, uint32(len(calls)-1))
			}
			m.record(stackEnd-0x1c0, stackEnd-0x180, hidden)
			m.record(stackEnd-0x180, stackEnd-0x140, hidden)
			check(t, m.unwinder(t).Sleeping(taskAt), `
				schedule+0x20/0x100
				middle+0x40/0x100
				outer+0x60/0x100
				ret_from_fork+0x10/0x40
			`)
			// Without what the tracer knows, the frames alone go on.
			m.put32(taskAt+48, 0xffffffff)
			check(t, m.unwinder(t).Sleeping(taskAt), `
				schedule+0x20/0x100
				? return_to_handler+0x0/0x40: its caller is not known
				? return_to_handler+0x0/0x40: its caller is not known
				ret_from_fork+0x10/0x40
			`)
		})
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := newArch(vmcore.Machine(62)); !errors.Is(err, kernel.ErrUnsupported) {
		t.Errorf("x86_64: %v; want ErrUnsupported", err)
	}
	for _, test := range []struct {
		name   string
		damage func(m *machine)
		want   error
	}{
		{"pt_regs", func(m *machine) { delete(m.layout.Structs, "pt_regs") }, kernel.ErrNoInfo},
		{"thread", func(m *machine) { delete(m.layout.Structs, "thread_struct") }, kernel.ErrNoInfo},
		{"order", func(m *machine) {
			m.layout.Structs["pt_regs"].Fields["sp"] = kernel.Field{Offset: 24, Size: 8}
		}, kernel.ErrUnsupported},
		{"entry", func(m *machine) { delete(m.lookups, "handle_exception") }, kernel.ErrNotFound},
		{"text", func(m *machine) { delete(m.lookups, "_etext") }, kernel.ErrNotFound},
	} {
		m := newMachine()
		test.damage(m)
		if _, err := newUnwinder(m, riscv64(), nil, nil); !errors.Is(err, test.want) {
			t.Errorf("%s: %v; want %v", test.name, err, test.want)
		}
	}
}

func TestManyFrames(t *testing.T) {
	m := newMachine()
	ra := m.callsRegister("middle", 0x40)
	m.sleeps(ra, stackBase, stackBase+16)
	for fp := stackBase + 16; fp < stackEnd; fp += 16 {
		m.record(fp, fp+16, ra)
	}
	s := m.unwinder(t).Sleeping(taskAt)
	if want := fmt.Sprintf("more than %d frames", maxFrames); len(s.Frames) != maxFrames || s.Broken != want {
		t.Errorf("%d frames, %q; want %d, %q", len(s.Frames), s.Broken, maxFrames, want)
	}
}

func TestStackSizeOfTheKernel(t *testing.T) {
	m := newMachine()
	m.lookups["__start_init_stack"], m.lookups["__end_init_stack"] = 0xffffffff81c00000, 0xffffffff81c08000
	if u := m.unwinder(t); u.threadSize != 32<<10 {
		t.Errorf("stacks have %d bytes", u.threadSize)
	}
	m.lookups["__end_init_stack"]++
	if u := m.unwinder(t); u.threadSize != 16<<10 {
		t.Errorf("stacks have %d bytes", u.threadSize)
	}
}

// randomStack fills stacks with words that are likely to mean something.
func randomStack(m *machine, r *rand.Rand) {
	words := []uint64{
		0, 1, 0x10000, uint64(stackBase), uint64(stackEnd), uint64(irqEnd), uint64(overEnd), uint64(overEnd - regsSize),
		uint64(m.callsRegister("outer", 0x20)), uint64(m.callsRegister("handle_exception", 0x100)),
		uint64(m.callsRegister("mod_work", 0x20)), uint64(m.in("return_to_handler", 0)), fromKernel, timer,
		uint64(m.callsRegister("middle", 0x20)), uint64(m.in("leaf", 4)), uint64(m.callsRegister("ret_from_fork", 0x10)),
	}
	word := func(near kernel.VirtAddr) uint64 {
		switch r.IntN(4) {
		case 0:
			return words[r.IntN(len(words))]
		case 1:
			return uint64(near) + 16 + 8*r.Uint64N(32)
		case 2:
			return uint64(stackBase) + 8*r.Uint64N(stackSize/8)
		}
		return r.Uint64()
	}
	for _, at := range []kernel.VirtAddr{stackEnd - 512, irqEnd - 256, overEnd - 512} {
		for i := range kernel.VirtAddr(64) {
			if at+8*i < irqEnd || at < irqBase {
				m.put(at+8*i, word(at+8*i))
			}
		}
	}
	m.put(taskAt+64, word(stackEnd), word(stackEnd-512), word(stackEnd-512))
}

// sane checks what holds for every stack, whatever was read.
func sane(t testing.TB, s Stack) {
	t.Helper()
	if len(s.Frames) > maxFrames || s.Frames == nil {
		t.Fatalf("%d frames", len(s.Frames))
	}
	if s.Broken == "" && len(s.Frames) == 0 {
		t.Fatal("no frames and no reason")
	}
	for _, f := range s.Frames {
		if f.Function != "" && (f.Offset > f.Size || f.Size == 0) {
			t.Fatalf("frame %+v", f)
		}
	}
}

func TestRandomStacks(t *testing.T) {
	n := 20_000 // a million of them took 25 s and found nothing more
	if testing.Short() {
		n = 2000
	}
	r := rand.New(rand.NewPCG(6, 12))
	m := newMachine()
	u := m.unwinder(t)
	for range n {
		randomStack(m, r)
		u.memory.at = region{} // another dump
		sane(t, u.Sleeping(taskAt))
		pick := func() kernel.VirtAddr {
			all := []kernel.VirtAddr{stackEnd, irqEnd, overEnd, m.in("leaf", 4), m.in("outer", 0x20)}
			return all[r.IntN(len(all))] - kernel.VirtAddr(8*r.IntN(64))
		}
		sane(t, u.CPU(kernel.CPU{PC: pick(), RA: pick(), SP: pick(), FP: pick()}, taskAt))
	}
}

func FuzzStack(f *testing.F) {
	f.Add([]byte{}, uint64(stackEnd-0x200), uint64(stackEnd-0x1c0), uint64(textBase+0x20))
	f.Add(make([]byte, 512), uint64(irqEnd-0x100), uint64(irqEnd-0x40), uint64(textBase+4))
	f.Fuzz(func(t *testing.T, b []byte, sp, fp, pc uint64) {
		m := newMachine()
		kthread(m)
		userTask(m)
		b = b[:min(len(b), 2048)]
		for _, end := range []kernel.VirtAddr{stackEnd, irqEnd, overEnd} {
			m.bytes(end-kernel.VirtAddr(len(b)), b)
		}
		u := m.unwinder(t)
		c := kernel.CPU{PC: kernel.VirtAddr(pc), SP: kernel.VirtAddr(sp), FP: kernel.VirtAddr(fp), RA: m.in("outer", 0x20)}
		sane(t, u.CPU(c, taskAt))
		m.sleeps(c.PC, c.SP, c.FP)
		sane(t, u.Sleeping(taskAt))
	})
}

func BenchmarkSleeping(b *testing.B) {
	m := newMachine()
	userTask(m)
	u := m.unwinder(b)
	b.ReportAllocs()
	for b.Loop() {
		u.Sleeping(taskAt)
	}
}
