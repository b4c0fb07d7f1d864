package reserve

import (
	"bytes"
	"strconv"

	"github.com/panicroom-kdump/panicroom/internal/boot"
	"github.com/panicroom-kdump/panicroom/internal/host"
)

// Kind is what a target is, as far as memory is concerned: the filesystem of a
// directory, or how the dump leaves the machine.
type Kind string

// The kinds of targets.
const (
	Ext4      Kind = "ext4"
	XFS       Kind = "xfs"
	Btrfs     Kind = "btrfs"
	F2FS      Kind = "f2fs"
	VFAT      Kind = "vfat"
	Partition Kind = "partition"
	NFS       Kind = "nfs"
	SSH       Kind = "ssh"
)

// Module is a module of the initramfs.
type Module struct {
	boot.ModuleSize
	Shipped uint64 `json:"shipped"` // bytes of its file in the initramfs
}

// Facts are what the arithmetic starts from, in bytes where nothing else is said.
// What is zero is not known, and a usual value stands for it.
type Facts struct {
	Kernel string `json:"kernel"` // release of the panic kernel
	Image  uint64 `json:"image"`  // memory that its image takes (image_size)

	Packed   uint64 `json:"packed"`   // the initramfs as it is loaded
	Unpacked uint64 `json:"unpacked"` // and when the kernel has unpacked it
	// Modules are loaded one after the other, and stay; the file of each goes then.
	Modules []Module `json:"modules"`
	Targets []Kind   `json:"targets"`
	CPUs    int      `json:"cpus"`                // that the panic kernel starts
	Limit   uint64   `json:"mem_limit,omitempty"` // of saving; 0 is chosen then

	// What the panic kernel shares with the running one, or is taken to.
	SectionRoots  uint64 `json:"section_roots"` // LENGTH(mem_section)
	SectionBytes  uint64 `json:"section_bytes"`
	PageBytes     uint64 `json:"page_bytes"`
	PageStruct    uint64 `json:"page_struct"` // SIZE(page)
	ACPI          bool   `json:"acpi"`        // ACPI tables describe the machine
	BounceBuffers bool   `json:"bounce_buffers"`
	RAM           uint64 `json:"ram"` // of the machine; nothing is in proportion to it
}

// OfMachine are the facts that the machine itself tells; what shall be loaded is
// the caller's to fill in.
func OfMachine(m *host.Machine) Facts {
	f := Facts{
		Kernel: m.Release, CPUs: 1, PageBytes: m.PageSize, RAM: memory(m),
		SectionRoots: number(m.VMCoreInfoText, "LENGTH(mem_section)"),
		PageStruct:   number(m.VMCoreInfoText, "SIZE(page)"),
	}
	if bits := number(m.VMCoreInfoText, "NUMBER(SECTION_SIZE_BITS)"); bits > 0 && bits < 40 {
		f.SectionBytes = 1 << bits
	}
	// Two regions: the main one is where a device with 32 address lines cannot
	// reach.
	f.BounceBuffers = len(m.CrashRegions()) > 1
	return f
}

// memory is how much memory a machine has, with what its kernel keeps for itself:
// what ranges of crashkernel= are about.
func memory(m *host.Machine) uint64 {
	var n uint64
	for _, r := range m.SystemRAM() {
		n += r.Size()
	}
	return max(n, m.MemTotal)
}

// number is the number behind "KEY=" in vmcoreinfo, 0 if there is none.
func number(text []byte, key string) uint64 {
	for line := range bytes.Lines(text) {
		if k, v, ok := bytes.Cut(bytes.TrimSpace(line), []byte("=")); ok && string(k) == key {
			n, err := strconv.ParseUint(string(v), 10, 40)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}

// known puts usual values in the place of what is not known: those of riscv64
// kernels as Debian builds them.
func (f Facts) known() Facts {
	for _, d := range []struct {
		fact  *uint64
		usual uint64
	}{
		{&f.Image, 40 * mib}, {&f.Packed, 4 * mib}, {&f.Unpacked, 3 * f.Packed}, {&f.SectionRoots, 4 << 20},
		{&f.SectionBytes, 128 * mib}, {&f.PageBytes, 4 * kib}, {&f.PageStruct, 64},
	} {
		if *d.fact == 0 {
			*d.fact = d.usual
		}
	}
	if f.Unpacked == 0 {
		f.Unpacked = 3 * f.Packed
	}
	f.CPUs = max(1, f.CPUs)
	return f
}

// UsualModules stand for those of a target that is not known: ext4 on a virtio disk,
// as Debian's 6.12 for riscv64 has it.
func UsualModules() []Module {
	return []Module{{boot.ModuleSize{Name: "ext4", Packed: 735 * kib, File: 6842 * kib, Memory: 8978 * kib, Start: 5974 * kib}, 735 * kib}}
}
