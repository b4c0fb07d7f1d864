package kernel

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// riscv64Registers is struct user_regs_struct, pr_reg of riscv64's crash notes:
// arch/riscv/include/uapi/asm/ptrace.h (Linux 7.2).
var riscv64Registers = []string{
	"pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1",
	"a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7",
	"s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11",
	"t3", "t4", "t5", "t6",
}

// riscv64Arch fills an Arch from what arch_crash_save_vmcoreinfo writes since
// Linux 6.4: arch/riscv/kernel/vmcore_info.c (7.2). Older riscv64 kernels do
// not say how they map memory, and their dumps cannot be translated.
func riscv64Arch(info *VMCoreInfo) (*Arch, error) {
	a := &Arch{
		Machine:   vmcore.MachineRISCV,
		PageSize:  4096,
		IndexBits: 9,
		// SECTION_SIZE_BITS, arch/riscv/include/asm/sparsemem.h (5.4 to 7.2).
		SectionBits: 27,
		Decode:      riscv64Entry,
		Registers:   riscv64Registers,
		PC:          "pc", SP: "sp", FP: "s0", RA: "ra",
	}
	if n, ok := info.PageSize(); ok && n != a.PageSize {
		return nil, fmt.Errorf("PAGESIZE=%d on riscv64: %w", n, ErrUnsupported)
	}

	bits, ok := info.Number("VA_BITS")
	if satp, hasSatp := info.Number("satp"); hasSatp && uint64(satp)>>60 != 0 {
		// satp is the register itself (7.2 and newer) and so beyond doubt; its
		// address of a page table is not, that may be a process's.
		bits, ok = riscv64SatpBits(uint64(satp))
		if !ok {
			return nil, fmt.Errorf("satp mode %d: %w", uint64(satp)>>60, ErrUnsupported)
		}
	}
	if !ok {
		return nil, fmt.Errorf("NUMBER(VA_BITS): %w", ErrNoInfo)
	}
	var levels int
	switch bits {
	case 39:
		levels = 3
	case 48:
		levels = 4
	case 57:
		levels = 5
	default:
		return nil, fmt.Errorf("VA_BITS=%d on riscv64: %w", bits, ErrUnsupported)
	}
	a.VABits = uint(bits)
	a.Mode = fmt.Sprintf("sv%d", bits)
	for l := levels - 1; l >= 0; l-- {
		a.Shifts = append(a.Shifts, 12+9*uint(l))
	}

	var err error
	number, symbol := info.need(&err)
	// The linear map may take half of the kernel's half of the address space:
	// KERN_VIRT_SIZE/2, arch/riscv/include/asm/pgtable.h (7.2).
	a.Linear = Mapping{
		Virt: VirtAddr(number("PAGE_OFFSET")),
		Phys: vmcore.PhysAddr(number("phys_ram_base")),
		Size: 1 << (a.VABits - 2),
	}
	// The image's map goes from its first address to the end of the address
	// space; va_kernel_pa_offset has KASLR in it.
	link := number("KERNEL_LINK_ADDR")
	a.Image = Mapping{
		Virt: VirtAddr(link),
		Phys: vmcore.PhysAddr(link - number("va_kernel_pa_offset")),
		Size: -link,
	}
	root := symbol("swapper_pg_dir")
	if err != nil {
		return nil, err
	}
	if a.Root, ok = a.Image.ToPhys(root); !ok {
		return nil, fmt.Errorf("swapper_pg_dir at %#x is outside the kernel image at %#x: %w", root, link, ErrCorrupt)
	}
	return a, nil
}

// riscv64SatpBits is the address width for the mode field of satp: RISC-V
// privileged specification, section 12.1.11 (20240411).
func riscv64SatpBits(satp uint64) (bits int64, ok bool) {
	switch satp >> 60 {
	case 8:
		return 39, true
	case 9:
		return 48, true
	case 10:
		return 57, true
	}
	return 0, false
}

// riscv64Entry decodes a page table entry: V in bit 0, R W X in bits 1 to 3,
// the page number in bits 10 to 53. What is above that (PBMT, N and what T-Head
// put there) says how memory is cached or hints at contiguity, and is masked. An
// entry with any of R W X is a leaf at whatever level it is.
func riscv64Entry(entry uint64, va VirtAddr) (vmcore.PhysAddr, EntryKind) {
	const napot, ppn = 1 << 63, 1<<44 - 1
	if entry&1 == 0 {
		return 0, EntryNone
	}
	page := entry >> 10 & ppn
	if entry&0xe == 0 {
		return vmcore.PhysAddr(page << 12), EntryTable
	}
	if entry&napot != 0 && page&0xf == 8 {
		// Svnapot: one of 16 equal entries that map 64 KiB together. The low
		// bits of the page number are the code of the size; those of the
		// address take their place.
		page = page&^0xf | uint64(va)>>12&0xf
	}
	return vmcore.PhysAddr(page << 12), EntryLeaf
}
