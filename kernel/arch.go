package kernel

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Arch is an architecture as one kernel ran on it: values and functions,
// filled by one file per architecture (riscv64_arch.go). All architectures
// here are little-endian and 64 bits wide.
type Arch struct {
	Machine  vmcore.Machine
	Mode     string // of the page tables, as people call it: "sv48"
	VABits   uint   // width of virtual addresses
	PageSize uint64 // bytes
	// SectionBits is the binary logarithm of the bytes in a section of SPARSEMEM,
	// for kernels that do not say (NUMBER(SECTION_SIZE_BITS), since 5.13).
	SectionBits uint
	Root        vmcore.PhysAddr // the kernel's top-level page table

	// Linear is the map of all physical memory, Image that of the kernel's
	// own text and data; there, addresses are arithmetic and page tables need
	// not be read.
	Linear, Image Mapping

	// Shifts has, for each level of page tables from the top, the number of
	// address bits below its index: an entry of level i maps 1<<Shifts[i]
	// bytes. A table has 1<<IndexBits entries of 8 bytes.
	Shifts    []uint
	IndexBits uint

	// Decode says what the entry found for va in a page table means: addr is
	// the next table or, for a leaf, the page.
	Decode func(entry uint64, va VirtAddr) (addr vmcore.PhysAddr, kind EntryKind)

	// Registers are the names of pr_reg in a CPU's crash note (struct
	// elf_prstatus), in order, 8 bytes each; PC, SP, FP and RA are the names
	// of four of them, RA "" where return addresses are on the stack only.
	Registers      []string
	PC, SP, FP, RA string
}

// EntryKind is the kind of a page table's entry.
type EntryKind int

// The kinds of entries.
const (
	EntryNone  EntryKind = iota // nothing mapped
	EntryTable                  // points to the next table
	EntryLeaf                   // maps memory
)

// Mapping is a range of virtual memory that maps a range of physical memory of
// the same size.
type Mapping struct {
	Virt VirtAddr
	Phys vmcore.PhysAddr
	Size uint64
}

// ToPhys translates va; ok is false when it is not in the mapping.
func (m Mapping) ToPhys(va VirtAddr) (pa vmcore.PhysAddr, ok bool) {
	off := uint64(va - m.Virt)
	return m.Phys + vmcore.PhysAddr(off), off < m.Size
}

// ToVirt is the address at which pa is mapped; ok is false when it is not.
func (m Mapping) ToVirt(pa vmcore.PhysAddr) (va VirtAddr, ok bool) {
	off := uint64(pa - m.Phys)
	return m.Virt + VirtAddr(off), off < m.Size
}

// NewArch says how a kernel on machine works, from its vmcoreinfo alone; a
// loader asks it about the running kernel. The error is ErrNoInfo with the key
// that is missing, or ErrUnsupported.
func NewArch(machine vmcore.Machine, info *VMCoreInfo) (*Arch, error) {
	switch machine {
	case vmcore.MachineRISCV:
		return riscv64Arch(info)
	}
	return nil, fmt.Errorf("page tables of %v: %w", machine, ErrUnsupported)
}
