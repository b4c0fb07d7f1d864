// Package kernel sees a dead kernel through its dump: vmcoreinfo, page tables,
// the log, symbols, types, the memory map, modules, CPUs. It answers
// questions; opinions are the business of package report.
//
// Everything is read from the dump itself, without debuginfo, and nothing
// there is trusted: lists and tables are walked with bounds, and a broken one
// ends with an error, never with a loop. Works on any host for any
// architecture; an architecture is one value of type [Arch].
package kernel

import "github.com/panicroom-kdump/panicroom/vmcore"

// VirtAddr is a kernel virtual address of the dumped machine.
type VirtAddr uint64

// Memory is physical memory of the dumped machine. *vmcore.Dump is one.
type Memory interface {
	// ReadPhys fills p from addr on. It returns fewer bytes only with an
	// error: vmcore.ErrHole, vmcore.ErrExcluded or vmcore.ErrUnreadable.
	ReadPhys(p []byte, addr vmcore.PhysAddr) (int, error)
}
