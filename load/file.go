package load

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// What kexec_file_load(2) puts into the reserved memory beside what it is given
// (Linux 7.2, arch/riscv/kernel/machine_kexec_file.c): the purgatory and its
// stack, and what it adds to the device tree.
const (
	purgatorySize = 64 << 10
	treeGrowth    = 4 << 10
)

// elfcorehdrWord is what the kernel puts in front of the command line.
const elfcorehdrWord = len("elfcorehdr=0x0123456789abcdef ")

// crashByFile plans what the kernel will do: it is given kernel, initramfs and
// command line and does the rest, and what can be foreseen of that is checked.
func (p *Plan) crashByFile(l *layout, tree *fdt.Tree, firmware []Excluded) error {
	a, m := l.arch, l.machine
	p.Flags = sys.KexecFileOnCrash
	// The header of the dump is made by the kernel, with the firmware's memory
	// in it (prepare_elf_headers walks all System RAM).
	p.core(a, m, nil, l.opts)
	if err := p.cover(m); err != nil {
		return err
	}
	ram := m.SystemRAM()
	for _, e := range firmware {
		for _, r := range intersect(e.Range, ram) {
			p.warn("the kernel's own header of the dump has %v in it, which is %s; pages of it that cannot be read are left out while saving", r, e.Why)
		}
	}
	header, err := p.coreHeader(a)
	if err != nil {
		return err
	}
	blob, err := tree.Marshal()
	if err != nil {
		return &RuleError{Rule: RuleDeviceTree, Detail: err.Error(), Err: err}
	}
	places, err := p.place(a, l.kernel.Image, len(l.initramfs), len(blob)+treeGrowth, len(header)+purgatorySize, l.opts)
	if err != nil {
		return err
	}
	p.Checks = append(p.Checks, Check{"kernel's purgatory", true, "the kernel checks all it loaded with SHA-256 before it starts it; if something changed it stops there, silently"})
	return p.byFile(l, places)
}

// byFile finishes a plan for kexec_file_load(2).
func (p *Plan) byFile(l *layout, places places) error {
	image := l.kernel.Image
	p.Entry = l.kernel.entry()
	kernel, initramfs := places.kernel, places.initramfs
	kernel.Mem, kernel.Data, kernel.store = 0, l.kernel.data(), l.kernel.store
	kernel.MemSize = roundUp(image.ImageSize, l.arch.kernelAlign)
	p.Segments = []Segment{kernel}
	total := kernel.MemSize
	if len(l.initramfs) > 0 {
		initramfs.Mem, initramfs.Data = 0, l.initramfs
		p.Segments = append(p.Segments, initramfs)
		total += initramfs.MemSize
	}
	if total > l.machine.MemTotal/2 {
		return &RuleError{Rule: RuleHalf,
			Detail: fmt.Sprintf("%s would be loaded, the kernel takes at most half of its %s", ui.Bytes(total), ui.Bytes(l.machine.MemTotal)),
			Remedy: []string{"make the initramfs smaller"}}
	}
	p.DeviceTree = []string{"made by the kernel from the running one"}
	p.pass("kernel's rules", "an ELF image of one segment, %s in all; the kernel places it", ui.Bytes(total))
	return nil
}

// handing is what goes to kexec_file_load(2).
type handing struct {
	header    []byte // see wrap
	kernel    []byte
	store     *store // the kernel lies in, or nil
	initramfs []byte // nil for none
	cmdline   string
	flags     int
}

// handOver makes the system call.
func handOver(h *handing) error {
	if h.flags&sys.KexecFileUnload != 0 {
		return sys.KexecFileLoad(nil, nil, "", h.flags)
	}
	var err error
	file := h.store.takes(h)
	if file == nil {
		if file, err = memfd("panicroom-kernel", h.header, h.kernel); err != nil {
			return fmt.Errorf("a file in memory for the kernel: %w", err)
		}
		defer file.Close()
	}
	if len(h.initramfs) == 0 {
		return sys.KexecFileLoad(file, nil, h.cmdline, h.flags|sys.KexecFileNoInitramfs)
	}
	initramfs, err := memfd("panicroom-initramfs", h.initramfs)
	if err != nil {
		return fmt.Errorf("a file in memory for the initramfs: %w", err)
	}
	defer initramfs.Close()
	return sys.KexecFileLoad(file, initramfs, h.cmdline, h.flags)
}
