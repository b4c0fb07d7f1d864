// Package vmcore reads and writes kernel dumps as physical memory with typed
// holes: ELF cores (/proc/vmcore, /proc/kcore, makedumpfile -E) and
// kdump-compressed files. It knows formats and nothing of kernels; what the
// memory means is the business of package kernel.
//
// Dumps of any architecture open on any host, and nothing in a dump is
// trusted: every length and offset is checked, one unreadable page costs one
// page.
package vmcore

import "errors"

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

// Errors of reading a dump. They are wrapped with the address at fault.
var (
	// ErrUnrecognizedFormat: the file is no dump in a format known here.
	ErrUnrecognizedFormat = errors.New("not a dump in a known format")
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
