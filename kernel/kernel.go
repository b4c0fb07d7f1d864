// Package kernel sees a dead kernel through its dump: vmcoreinfo, page tables,
// the log, symbols, types, the memory map, modules, CPUs. It answers
// questions; opinions are the business of package report.
//
// Everything is read from the dump itself, without debuginfo, and nothing
// there is trusted: lists and tables are walked with bounds, and a broken one
// ends with an error, never with a loop. Works on any host for any
// architecture; an architecture is one value of type [Arch].
//
// The root of everything is vmcoreinfo, a text that the dying kernel left in
// the dump's notes ([VMCoreInfo]). From there lead the page tables ([Arch],
// [Kernel.Translate]), with them the log and the symbol table, with symbols
// all the rest.
package kernel

import (
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// VirtAddr is a kernel virtual address of the dumped machine.
type VirtAddr uint64

// Memory is physical memory of the dumped machine. *vmcore.Dump is one.
type Memory interface {
	// ReadPhys fills p from addr on. It returns fewer bytes only with an
	// error: vmcore.ErrHole, vmcore.ErrExcluded or vmcore.ErrUnreadable.
	ReadPhys(p []byte, addr vmcore.PhysAddr) (int, error)
}

// Errors of looking into a dump. They are wrapped with the thing at fault;
// errors of package vmcore come through too.
var (
	// ErrNoInfo: the dump lacks a piece of information that the answer needs,
	// mostly a key of vmcoreinfo that this kernel does not write.
	ErrNoInfo = errors.New("not in the dump's vmcoreinfo")
	// ErrNotMapped: the dead kernel's page tables have nothing at the address.
	ErrNotMapped = errors.New("address not mapped")
	// ErrUnsupported: the dump's architecture or format version is not known here.
	ErrUnsupported = errors.New("not supported")
	// ErrCorrupt: a structure of the dead kernel is damaged.
	ErrCorrupt = errors.New("damaged kernel data")
	// ErrNotFound: no symbol, CPU or other thing answers the question.
	ErrNotFound = errors.New("not found")
)

// Options of [Open] and [New]. The zero value is good, and so is nil.
type Options struct {
	// Layout is the layout of the kernel's structs if it is known already; nil
	// looks for it in the dump when it is needed.
	Layout *Layout
}

// Kernel is the dead kernel. It is safe for concurrent use when its Memory is.
type Kernel struct {
	// Immutable.
	mem   Memory
	info  *VMCoreInfo
	arch  *Arch
	notes []vmcore.Note
	opts  Options

	// Found when first asked for.
	symbolsMu  sync.Mutex
	symbols    *kallsyms
	symbolsErr error

	modulesMu   sync.Mutex
	modules     []Module
	modulesRead bool
	modulesErr  error
	moduleIndex map[VirtAddr][]moduleFunction // by the address of struct module
	indexed     int                           // symbols in it
	scanned     uint64                        // symbols that were looked at one by one

	perCPUMu  sync.Mutex
	perCPU    *PerCPU
	perCPUErr error

	layoutMu  sync.Mutex
	layout    *Layout
	layoutErr error

	translations translations
}

// New looks at the kernel in mem. machine, vmcoreinfo and notes are what the
// dump's headers say; vmcoreinfo is the text alone, without the note around
// it. The error is ErrNoInfo when vmcoreinfo lacks what address translation
// needs, and ErrUnsupported for an unknown machine. Memory is not read yet.
func New(mem Memory, machine vmcore.Machine, vmcoreinfo []byte, notes []vmcore.Note, opts *Options) (*Kernel, error) {
	info, err := ParseVMCoreInfo(vmcoreinfo)
	if err != nil {
		return nil, err
	}
	arch, err := NewArch(machine, info)
	if err != nil {
		return nil, fmt.Errorf("%v kernel: %w", machine, err)
	}
	k := &Kernel{mem: mem, info: info, arch: arch, notes: notes}
	if opts != nil {
		k.opts = *opts
	}
	return k, nil
}

// Info is what the dying kernel said about itself.
func (k *Kernel) Info() *VMCoreInfo { return k.info }

// Arch is how the dead kernel's machine works.
func (k *Kernel) Arch() *Arch { return k.arch }

// Memory is the physical memory that k was opened with.
func (k *Kernel) Memory() Memory { return k.mem }

// String is the address as people write it.
func (a VirtAddr) String() string { return fmt.Sprintf("%#x", uint64(a)) }

// Format prints it so for all verbs that are not of numbers; "%x" has no 0x.
func (a VirtAddr) Format(s fmt.State, verb rune) {
	if verb == 'v' || verb == 's' {
		fmt.Fprintf(s, fmt.FormatString(s, 's'), a.String())
		return
	}
	fmt.Fprintf(s, fmt.FormatString(s, verb), uint64(a))
}

// MarshalText writes the address in hexadecimal with 0x: as a number JSON's
// readers would round it.
func (a VirtAddr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (a *VirtAddr) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 0, 64)
	if err != nil {
		return fmt.Errorf("address %q: %w", text, err)
	}
	*a = VirtAddr(n)
	return nil
}
