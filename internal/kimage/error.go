package kimage

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// What can be wrong with an image; errors of this package that are about the
// file and not about reading it wrap one of them.
var (
	// ErrNotKernel: nothing in the file says that it is a kernel.
	ErrNotKernel = errors.New("not a kernel image")
	// ErrTruncated: the file, or what is compressed in it, ends before the
	// image does.
	ErrTruncated = errors.New("truncated kernel image")
	// ErrCorrupt: a form is recognised, and what it says of itself cannot be.
	ErrCorrupt = errors.New("corrupt kernel image")
	// ErrTooLarge: more memory, bytes or layers than any kernel has.
	ErrTooLarge = errors.New("kernel image out of all proportion")
	// ErrWrongMachine: a kernel of another architecture.
	ErrWrongMachine = errors.New("kernel image of another architecture")
	// ErrNotLoadable: a kernel of this architecture in a form that cannot
	// be loaded.
	ErrNotLoadable = errors.New("kernel image of a kind that cannot be loaded")
	// ErrStripped: a relocatable vmlinux that has lost its relocations. It can
	// be loaded, and then hangs without a word.
	ErrStripped = errors.New("kernel image without its relocations")
)

// Error says what a file is instead of a kernel that can be loaded.
type Error struct {
	// Err is one of the sentinels of this package.
	Err error
	// Kind and Machine are what was recognised, zero if nothing was.
	Kind    Kind
	Machine Machine
	// Layers are what it was found in, outermost first.
	Layers []Layer
	// Detail is the finding with its numbers.
	Detail string
	// Path of the file, if known; the hints name it. [Open] sets it.
	Path string

	hints   []string // lines of advice with FILE for the path
	release string   // of a stripped vmlinux
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%v: %s", e.Err, e.Detail)
	for _, l := range slices.Backward(e.Layers) {
		text += ", inside of " + l.String()
	}
	if e.Path != "" {
		return e.Path + ": " + text
	}
	return text
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
		all = append(all, strings.ReplaceAll(h, "FILE", path))
	}
	return all
}

// Advice; FILE is the path.
const (
	whereKernelsAre = "Debian's kernel is /boot/vmlinux-$(uname -r), from 7.x on /usr/lib/modules/$(uname -r)/vmlinuz; a self-built one is arch/riscv/boot/Image"
	copyAgain       = "copy or install the kernel again, and see that its disk is not full: ls -l FILE; df FILE"
	thisMachines    = "use the kernel of this machine: its name ends in $(uname -r), and uname -m says riscv64"
	newerKernel     = "use a kernel of 5.6 or later"
)
