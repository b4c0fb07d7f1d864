package load

import "github.com/panicroom-kdump/panicroom/internal/host"

// riscv64 are the rules of Linux 6.1 to 7.2. No purgatory is needed: the kernel
// finds the device tree among the segments and enters the panic kernel with
// a0 = hart, a1 = device tree, satp = 0 (arch/riscv/kernel/machine_kexec.c).
func riscv64() *arch {
	return &arch{
		name:        "riscv64",
		elfMachine:  243,
		kernelAlign: 2 << 20, // setup_vm: BUG_ON(phys_addr % PMD_SIZE)
		treeLimit:   2 << 20, // create_fdt_early_page_table maps two PMDs
		cmdlineSize: func(v version) int {
			if v.atLeast(7, 2) { // arch/riscv/include/uapi/asm/setup.h
				return 2048
			}
			return 1024
		},
		linear: riscv64Linear,

		fileSince:      version{5, 19}, // arch/riscv/kernel/elf_kexec.c
		fileTwoRegions: version{7, 2},  // arch/riscv/kernel/machine_kexec_file.c, prepare_elf_headers; not in 6.12
		link:           0xffffffff80000000,
		traps:          []string{"nokaslr", "no4lvl", "no5lvl"}, // arch/riscv/kernel/pi/cmdline_early.c
	}
}

// riscv64Linear follows arch/riscv/include/asm/page.h: the linear map begins at
// PAGE_OFFSET with the first RAM (6.4 and later), or with the kernel image.
// vmcoreinfo tells both numbers since 6.2; the table is for when /proc/kcore
// cannot be read, and only for versions whose sources were looked into.
func riscv64Linear(m *host.Machine) (uint64, bool) {
	offset, ok1 := m.Number("PAGE_OFFSET")
	base, ok2 := m.Number("phys_ram_base")
	if ok1 && ok2 {
		return offset - base, true
	}
	v := parseVersion(m.Release)
	old, recent := v == version{6, 1}, v.atLeast(6, 12)
	switch {
	case !old && !recent:
		return 0, false
	case m.MMU == "sv57":
		offset = 0xff60000000000000
	case m.MMU == "sv48":
		offset = 0xffffaf8000000000
	case m.MMU == "sv39" && old:
		offset = 0xffffffd800000000
	case m.MMU == "sv39":
		offset = 0xffffffd600000000
	default:
		return 0, false
	}
	if old {
		// Debian's _text lies 8 KiB behind _start, where the map begins.
		image, ok := m.KernelImage()
		return offset - image.Start&^(2<<20-1), ok
	}
	ram := m.SystemRAM()
	if len(ram) == 0 {
		return 0, false
	}
	return offset - ram[0].Start&^(2<<20-1), true
}
