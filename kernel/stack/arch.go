package stack

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// arch is what differs between architectures: values and functions, filled by
// one file each (riscv64_stack.go).
type arch struct {
	machine vmcore.Machine

	// A frame record lies below the frame pointer: the caller's frame pointer at
	// fp-callerFP, the return address at fp-callerPC. A function that calls no
	// other may save the frame pointer alone, at fp-leafFP.
	callerFP, callerPC, leafFP uint64

	// registers are the names of the words with which struct pt_regs begins;
	// pc, ra, sp and fp are four of them. status, cause and badAddr are members
	// that follow.
	registers              []string
	pc, ra, sp, fp         string
	status, cause, badAddr string
	current                string // register that has the task while the kernel runs
	regsAlign              uint64 // bytes that the struct's place on a stack is rounded up to

	// entry is the function that exceptions come to first, and entryEnd are names
	// for the end of it and of the way back, the first that exists.
	entry    string
	entryEnd []string
	// first are the functions in which stacks begin.
	first []string
	// irqStack is the per-CPU pointer to the interrupts' stack, overflowStack the
	// per-CPU stack for those that are full, and overflowSize its bytes.
	irqStack, overflowStack string
	overflowSize            uint64
	// graphReturn is where functions that the function graph tracer watches
	// return to; their callers stand elsewhere. probeReturn are the same for
	// functions that return probes watch, whose callers are not looked for.
	graphReturn string
	probeReturn []string

	// call decodes the call that ends code, which is before a return address ra.
	call func(code []byte, ra kernel.VirtAddr) call
	// callBytes is how much code that needs.
	callBytes int
	// framed tells whether code, from a function's first instruction to where it
	// was interrupted, sets up the frame pointer.
	framed func(code []byte) bool
	// explain puts the cause of an exception into words; badAddr tells whether
	// there is an address at fault.
	explain func(code uint64) (words string, badAddr bool)
	// user tells from the status register whether user mode was interrupted.
	user       func(status uint64) bool
	threadSize uint64 // bytes of a stack, if types do not tell
}

// call is a call instruction.
type call struct {
	ok     bool            // there is one
	target kernel.VirtAddr // of a direct call; 0 if a register had it
}

// newArch is nil for architectures that are not known here.
func newArch(m vmcore.Machine) (*arch, error) {
	switch m {
	case vmcore.MachineRISCV:
		return riscv64(), nil
	}
	return nil, fmt.Errorf("stacks of %v: %w", m, kernel.ErrUnsupported)
}
