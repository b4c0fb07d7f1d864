package main

import (
	"fmt"
	"slices"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
)

const (
	whyNoReturn reason = "a call that never returns may be a function's last instruction; the address behind it is the next function's, which crash names, and which we do not"
	whyLeaf     reason = "the function in which the CPU stopped has no frame of its own, so its caller stands only in the register ra, where crash does not look"
	whyUser     reason = "our last frame is where user space was, as the registers tell that were saved at the entry to the kernel; crash's walk has ended before"
	whyEntry    reason = "crash's walk ends before the code that enters the kernel or begins a task, whose frames have another form"
)

// compareStacks compares what ran on each CPU, function by function.
func compareStacks(o *ours, t *theirs) *comparison {
	c := &comparison{Question: askStacks, What: "CPUs"}
	pair(c, o.stacks, t.stacks,
		func(x cpuStack) uint64 { return uint64(x.cpu) }, func(y theirStack) uint64 { return y.cpu },
		func(x cpuStack, y theirStack) {
			c.same(fmt.Sprintf("CPU %d: task", x.cpu), addr(x.task), addr(y.task))
			c.frames(fmt.Sprintf("CPU %d", x.cpu), o.symbolAt, x.stack, y)
		},
		func(x cpuStack) { c.missing("", fmt.Sprintf("CPU %d", x.cpu), true) },
		func(y theirStack) { c.missing("", fmt.Sprintf("CPU %d", y.cpu), false) })
	return c
}

// compareBlocked compares the stacks of tasks that nothing can interrupt.
func compareBlocked(o *ours, t *theirs) *comparison {
	c := &comparison{Question: askBlocked, What: "tasks"}
	c.same("number of blocked tasks", len(o.blocked), len(t.blocked))
	pair(c, o.blocked, t.blocked,
		func(x cpuStack) uint64 { return uint64(x.task) }, func(y theirStack) uint64 { return y.task },
		func(x cpuStack, y theirStack) {
			c.frames(fmt.Sprintf("PID %d (%s)", y.pid, y.comm), o.symbolAt, x.stack, y)
		},
		func(x cpuStack) { c.missing("", fmt.Sprintf("blocked task %v", x.task), true) },
		func(y theirStack) { c.missing("", fmt.Sprintf("blocked task PID %d (%s)", y.pid, y.comm), false) })
	return c
}

// cpuStack is a stack of ours and whose it is.
type cpuStack struct {
	cpu   int
	task  kernel.VirtAddr
	stack stack.Stack
}

// symbolNamer names the symbol that begins at or before an address; "" if there is none.
type symbolNamer func(kernel.VirtAddr) (name string, offset uint64)

// frames compares two backtraces: each address where crash was must be in ours, in the
// same order, with the same name. What one of them has in addition needs a reason.
func (c *comparison) frames(whose string, symbolAt symbolNamer, ours stack.Stack, theirs theirStack) {
	for _, said := range theirs.said {
		c.differ("", difference{whose, "a stack", fmt.Sprintf("%q", said)})
	}
	if len(theirs.frames) == 0 || len(ours.Frames) == 0 {
		c.same(whose+": frames", len(ours.Frames), len(theirs.frames))
		return
	}
	next := 0 // of ours
	for i, y := range theirs.frames {
		name := fmt.Sprintf("%s, frame %d", whose, i)
		at := slices.IndexFunc(ours.Frames[next:], func(f stack.Frame) bool { return uint64(f.PC) == y.pc })
		if at < 0 {
			c.differ("", difference{name, "nothing", fmt.Sprintf("%s at %#x", y.function, y.pc)})
			continue
		}
		for _, f := range ours.Frames[next : next+at] {
			why := reason("")
			if i == 1 && next == 1 && at == 1 {
				why = whyLeaf
			}
			c.differ(why, difference{name, describe(f), "nothing"})
		}
		c.function(name, symbolAt, ours.Frames[next+at], y)
		next += at + 1
	}
	for i, f := range ours.Frames[next:] {
		why := reason("")
		switch {
		case entry(f.Function):
			why = whyEntry
		case int64(f.PC) >= 0 && next+i == len(ours.Frames)-1:
			why = whyUser // kernel addresses have the highest bit
		}
		c.differ(why, difference{whose + ", at the end", describe(f), "nothing"})
	}
}

func describe(f stack.Frame) string {
	return fmt.Sprintf("%s+%#x/%#x at %#x", f.Function, f.Offset, f.Size, uint64(f.PC))
}

// function compares the names that the two have for one address.
func (c *comparison) function(what string, symbolAt symbolNamer, f stack.Frame, y theirFrame) {
	why := reason("")
	if name, offset := symbolAt(f.PC); name == y.function && offset == 0 && f.Offset == f.Size {
		why = whyNoReturn
	}
	c.allow(why, what, f.Function, y.function)
}

// entries are the functions at the outer end of stacks: arch/riscv/kernel/entry.S and
// head.S (Linux 6.12 and 7.2).
var entries = []string{
	"handle_exception", "ret_from_exception", "ret_from_fork", "ret_from_fork_kernel_asm", "ret_from_fork_user_asm",
	"secondary_start_sbi", ".Lsecondary_start_common", "_start_kernel",
}

func entry(function string) bool { return slices.Contains(entries, function) }
