package load

import (
	"fmt"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// forReboot plans for the reboot slot: a kernel that reboot(2) starts instead
// of the firmware, with all memory of the machine. The kernel keeps what it is
// given anywhere and copies it to its place when it goes (kernel/kexec_core.c),
// so places are chosen among the memory that is free once nobody runs.
func (p *Plan) forReboot(l *layout) error {
	a, m, opts := l.arch, l.machine, l.opts
	if m.LimitReboot > 0 && m.LimitReboot <= 2 {
		p.warn("kernel.kexec_load_limit_reboot lets kernels be loaded or unloaded %d more times until a restart", m.LimitReboot)
	}
	image := l.kernel.Image
	size := places{
		kernel:    Segment{Name: SegmentKernel, MemSize: roundUp(image.ImageSize, pageSize), Size: image.FileSize},
		initramfs: Segment{Name: SegmentInitramfs, MemSize: roundUp(uint64(len(l.initramfs)), pageSize), Size: uint64(len(l.initramfs))},
	}
	if p.Method == ByFile {
		return p.byFile(l, size)
	}
	p.Flags = a.elfMachine << 16
	tree, err := deviceTree(m, opts)
	if err != nil {
		return err
	}
	firmware, err := p.firmware(l, tree)
	if err != nil {
		return err
	}
	draft, _, err := p.editRebootTree(tree, opts, size.initramfs)
	if err != nil {
		return err
	}
	if uint64(len(draft)) > a.treeLimit {
		return &RuleError{Rule: RuleDeviceTree,
			Detail: fmt.Sprintf("the device tree has %d bytes, the kernel's early boot maps %d", len(draft), a.treeLimit)}
	}
	size.tree = Segment{Name: SegmentTree, MemSize: roundUp(uint64(len(draft)), pageSize), Size: uint64(len(draft))}
	free := rebootMemory(a, m, firmware)
	placed, err := placeForReboot(a, free, size)
	if err != nil {
		return err
	}
	blob, edits, err := p.editRebootTree(tree, opts, placed.initramfs)
	if err != nil {
		return err
	}
	p.DeviceTree = edits
	p.Entry = placed.kernel.Mem + l.kernel.entry()
	placed.kernel.Data, placed.initramfs.Data, placed.tree.Data = l.kernel.data(), l.initramfs, blob
	p.Segments = []Segment{placed.tree, placed.kernel}
	if len(l.initramfs) > 0 {
		p.Segments = append(p.Segments, placed.initramfs)
	}
	return p.checkSegments(a, m, free, false)
}

// rebootMemory is the memory that the next kernel may be put into: all but what
// the firmware or a device keeps, and what is reserved for a panic kernel,
// which stays armed until the last moment.
func rebootMemory(a *arch, m *host.Machine, firmware []Excluded) []host.Range {
	var taken []host.Range
	for _, r := range m.Iomem {
		// Nested in System RAM these are what the running kernel keeps for itself,
		// and among that are tables of the firmware.
		if r.Name == "Reserved" || r.Name == "Crash kernel" || r.Name == "Soft Reserved" || strings.HasPrefix(r.Name, "ACPI") {
			taken = append(taken, r.Range)
		}
	}
	// The running kernel has more than iomem shows, from boundary to boundary.
	if r, ok := m.KernelImage(); ok {
		taken = host.Subtract(taken, []host.Range{{Start: r.Start &^ (a.kernelAlign - 1), End: roundUp(r.End, a.kernelAlign)}})
	}
	for _, e := range firmware {
		taken = append(taken, e.Range)
	}
	// What a driver has added may not be there when the next kernel starts.
	var ram []host.Range
	for _, r := range m.Iomem {
		if r.Name == "System RAM" {
			ram = append(ram, r.Range)
		}
	}
	return host.Subtract(ram, taken)
}

// placeForReboot puts the kernel as low as possible, for what lies below it is
// lost to kernels before 6.4, and the others above it.
func placeForReboot(a *arch, free []host.Range, size places) (places, error) {
	p := size
	kernel := roundUp(size.kernel.MemSize, a.kernelAlign)
	base, ok := lowest(free, a.kernelAlign, kernel)
	if !ok {
		return p, &RuleError{Rule: RuleRoom, Detail: fmt.Sprintf("no piece of free memory of %s for the kernel: %s", ui.Bytes(kernel), spell(free))}
	}
	p.kernel.Mem = base
	free = host.Subtract(free, []host.Range{{Start: 0, End: base + kernel}})
	// The larger first: the smaller also fits wherever that could have been.
	others := []*Segment{&p.tree, &p.initramfs}
	if p.initramfs.MemSize > p.tree.MemSize {
		slices.Reverse(others)
	}
	for _, s := range others {
		if s.MemSize == 0 {
			continue
		}
		if s.Mem, ok = lowest(free, pageSize, s.MemSize); !ok {
			return p, &RuleError{Rule: RuleRoom, Detail: fmt.Sprintf("no piece of free memory of %s for the %s above the kernel at %#x", ui.Bytes(s.MemSize), s.Name, base)}
		}
		free = host.Subtract(free, []host.Range{s.Range()})
	}
	return p, nil
}

// lowest is the first place for size bytes.
func lowest(free []host.Range, align, size uint64) (uint64, bool) {
	for _, r := range free {
		at := roundUp(r.Start, align)
		if at >= r.Start && at < r.End && r.End-at >= size {
			return at, true
		}
	}
	return 0, false
}

// editRebootTree makes the device tree of a kernel that has the whole machine.
func (p *Plan) editRebootTree(base *fdt.Tree, opts *Options, initramfs Segment) (blob []byte, edits []string, err error) {
	var start, end uint64
	if chosen := base.Find("/chosen"); chosen != nil {
		start, _ = chosen.Uint("linux,initrd-start")
		end, _ = chosen.Uint("linux,initrd-end")
	}
	t := forNext(base)
	// The firmware's reservations stay, the running kernel's initramfs goes.
	t.Reserve = slices.DeleteFunc(t.Reserve, func(r fdt.Range) bool {
		return r.Address < end && start < r.Address+r.Size
	})
	t.start(p.Cmdline, initramfs, opts.Seed)
	t.chosen.Set("linux,booted-from-kexec", nil)
	t.say("/chosen: linux,booted-from-kexec")
	return t.finish()
}
