// Package stack finds out which functions called each other on the stacks of a
// dead kernel: of what ran on its CPUs, and of tasks that slept. It follows
// frame pointers, through interrupts and exceptions from one stack to the next,
// without debuginfo.
//
// Nothing on a stack is trusted: a frame must lie on a stack that is known, above
// the one before it, and its return address in code, behind a call. What fails
// that is marked and not silently believed.
package stack

import (
	"fmt"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Stack is who called whom, the innermost function first.
type Stack struct {
	Frames []Frame `json:"frames"`
	// Broken is why it ends before its beginning in the task's first function or
	// the entry from user space; "" when it does not. Frames that were only found
	// on the rest of the stack, by no frame pointer, then stand at the end, each
	// with its Doubt.
	Broken string `json:"broken,omitempty"`
}

// Frame is one function on a stack.
type Frame struct {
	// PC is where the function was: the instruction at which it was interrupted,
	// or the one that its callee would have returned to.
	PC kernel.VirtAddr `json:"pc"`
	FP kernel.VirtAddr `json:"fp,omitempty"` // of its frame; 0 if unknown or none
	// Function is its name, with Offset bytes to PC of Size altogether; "" where
	// no symbol covers PC.
	Function string `json:"function,omitempty"`
	Offset   uint64 `json:"offset"`
	Size     uint64 `json:"size"`
	Module   string `json:"module,omitempty"`
	// Interrupted: an exception or an interrupt came here, and Regs are the
	// registers at that moment. Without, it is a call.
	Interrupted bool   `json:"interrupted,omitempty"`
	Regs        *Regs  `json:"regs,omitempty"`
	Doubt       string `json:"doubt,omitempty"` // why the frame cannot be trusted; "" when it can
	// Tail is the function that the caller called, when that is another one: it
	// went on to this one without coming back, or was compiled into one that did.
	// A guess, from the call instruction. Kernels with frame pointers are compiled
	// without such calls, so it is rare: assembly, and what the linker has joined.
	Tail string `json:"tail,omitempty"`
}

// String is the frame as kernels print it, "function+0x12/0x34 [module]", the
// address alone where there is no function, with "? " in front of what is in
// doubt.
func (f Frame) String() string {
	var b strings.Builder
	if f.Doubt != "" {
		b.WriteString("? ")
	}
	if f.Function == "" {
		b.WriteString(f.PC.String())
	} else {
		fmt.Fprintf(&b, "%s+%#x/%#x", f.Function, f.Offset, f.Size)
	}
	if f.Module != "" {
		b.WriteString(" [" + f.Module + "]")
	}
	return b.String()
}

// Regs are the registers that an exception or an interrupt left on the stack:
// struct pt_regs.
type Regs struct {
	Addr      kernel.VirtAddr   `json:"addr"` // of the struct
	Registers []kernel.Register `json:"registers"`
	// Cause is what happened, in words: "load page fault", "supervisor timer
	// interrupt", "breakpoint". Code is the number that the machine has for it,
	// in JSON a string, since all of its bits count.
	Cause string `json:"cause,omitempty"`
	Code  uint64 `json:"code,string"`
	// BadAddr is the address at fault, where the cause has one.
	BadAddr kernel.VirtAddr `json:"bad_addr,omitempty"`
	// User: it came in user mode.
	User bool `json:"user,omitempty"`
}
