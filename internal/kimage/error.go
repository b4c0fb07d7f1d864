package kimage

import (
	"errors"
	"fmt"
)

// What can be wrong with an image; errors of this package wrap one of them.
var (
	// ErrNotKernel: nothing in the file says that it is a kernel.
	ErrNotKernel = errors.New("not a kernel image")
	// ErrTruncated: the file ends before the image does.
	ErrTruncated = errors.New("truncated kernel image")
	// ErrWrongMachine: a kernel of another architecture.
	ErrWrongMachine = errors.New("kernel image of another architecture")
	// ErrCompressed: there may be a kernel inside of a compressed file.
	ErrCompressed = errors.New("compressed kernel image")
	// ErrNotLoadable: a kernel of this architecture in a form that cannot
	// be loaded.
	ErrNotLoadable = errors.New("kernel image of a kind that cannot be loaded")
)

// Error says what a file is instead of a kernel that can be loaded.
type Error struct {
	// Err is one of the sentinels of this package.
	Err error
	// Kind and Machine are what was recognised, zero if nothing was.
	Kind    Kind
	Machine Machine
	// Detail is the finding with its numbers.
	Detail string
	// Path of the file, if known; the hints name it. [Open] sets it.
	Path string

	// hints are lines of advice with %[1]s for the path.
	hints []string
}

func (e *Error) Error() string {
	if e.Path != "" {
		return fmt.Sprintf("%s: %v: %s", e.Path, e.Err, e.Detail)
	}
	return fmt.Sprintf("%v: %s", e.Err, e.Detail)
}

func (e *Error) Unwrap() error { return e.Err }

// Hints are commands that lead to a kernel that can be loaded.
func (e *Error) Hints() []string {
	path := e.Path
	if path == "" {
		path = "FILE"
	}
	var all []string
	for _, h := range e.hints {
		all = append(all, fmt.Sprintf(h, path))
	}
	return all
}

// whereKernelsAre is the advice for a file that is nothing at all. %.0s eats
// the path.
const whereKernelsAre = "%.0sDebian's kernel is /boot/vmlinux-$(uname -r), from 7.x on /usr/lib/modules/$(uname -r)/vmlinuz; a self-built one is arch/riscv/boot/Image"
