// Package vmcore reads and writes kernel dumps as physical memory with typed
// holes: ELF cores (/proc/vmcore, makedumpfile -E) and kdump-compressed files,
// in several files (makedumpfile --split) and flattened for a pipe (-F).
// It knows formats and nothing of kernels; what the memory means is the
// business of package kernel.
//
// Dumps of any architecture open on any host, and nothing in a dump is
// trusted: every length and offset is checked, one unreadable page costs one
// page.
package vmcore

import (
	"errors"
	"fmt"
)

// PhysAddr is a physical address of the dumped machine, in bytes.
type PhysAddr uint64

// PFN is a page frame number: a physical address divided by the page size of
// the dumped kernel.
type PFN uint64

// Range is physical memory from Start up to, not including, End.
type Range struct {
	Start, End PhysAddr
}

// Size is the number of bytes in r.
func (r Range) Size() uint64 { return uint64(r.End - r.Start) }

// Contains tells whether addr lies in r.
func (r Range) Contains(addr PhysAddr) bool { return addr >= r.Start && addr < r.End }

// String is the range as /proc/iomem would print it, last byte included.
func (r Range) String() string {
	if r.Start >= r.End {
		return fmt.Sprintf("%08x-empty", uint64(r.Start))
	}
	return fmt.Sprintf("%08x-%08x", uint64(r.Start), uint64(r.End)-1)
}

// Errors of reading a dump. They are wrapped with the address at fault, see
// [AddrError].
var (
	// ErrUnrecognizedFormat: the file is no dump in a format known here.
	ErrUnrecognizedFormat = errors.New("not a dump in a known format")
	// ErrUnsupported: the file is a dump, in a variant that cannot be read here.
	ErrUnsupported = errors.New("unsupported kind of dump")
	// ErrCorrupt: the file claims to be a dump and breaks the rules of its format.
	ErrCorrupt = errors.New("corrupt dump")
	// ErrHole: the machine had no memory at the address.
	ErrHole = errors.New("no memory at this address")
	// ErrExcluded: the memory existed and was left out of the dump on purpose.
	ErrExcluded = errors.New("page excluded from the dump")
	// ErrUnreadable: the page should be there and cannot be read: the hardware
	// refuses (firmware's memory), the file is truncated, I/O fails.
	ErrUnreadable = errors.New("page unreadable")
)

// AddrError is what reading physical memory fails with: the first address that
// could not be read, one of [ErrHole], [ErrExcluded], [ErrUnreadable] or
// [ErrUnsupported], and the cause below it if there is one.
type AddrError struct {
	Addr  PhysAddr
	Kind  error
	Cause error // nil if Kind says all
}

func (e *AddrError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("physical address %#x: %v: %v", uint64(e.Addr), e.Kind, e.Cause)
	}
	return fmt.Sprintf("physical address %#x: %v", uint64(e.Addr), e.Kind)
}

// Unwrap gives Kind and Cause.
func (e *AddrError) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// hintedError is an error with advice for the person who sees it.
type hintedError struct {
	error
	hints []string
}

func (e *hintedError) Unwrap() error   { return e.error }
func (e *hintedError) Hints() []string { return e.hints }
