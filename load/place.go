package load

import (
	"fmt"
	"slices"

	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/kimage"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/reserve"
)

// spare is what the kernel takes of the main region for itself while loading:
// a page of code and a copy of vmcoreinfo (kernel/kexec_core.c of 7.2).
const spare = 2 * pageSize

// places is where everything goes.
type places struct {
	kernel, initramfs, tree, header Segment
}

// place puts the kernel at the beginning of the main region and everything else
// at its end, so that what lies between is one piece of free memory. Early
// kernels lose the memory below them (before 6.4), so the beginning is not
// only tidy.
func (p *Plan) place(a *arch, image *kimage.Image, initramfs, tree, header int, opts *Options) (places, error) {
	main := p.Regions[0]
	if uint64(tree) > a.treeLimit {
		return places{}, &RuleError{Rule: RuleDeviceTree,
			Detail: fmt.Sprintf("the device tree has %d bytes, the kernel's early boot maps %d", tree, a.treeLimit)}
	}
	var l places
	base := roundUp(main.Start, a.kernelAlign)
	// The kernel keeps everything up to the next boundary for itself; an
	// initramfs there is refused as overlapping (STRICT_KERNEL_RWX).
	floor := base + roundUp(image.ImageSize, a.kernelAlign)
	l.kernel = Segment{Name: SegmentKernel, Mem: base, MemSize: roundUp(image.ImageSize, pageSize), Size: image.FileSize}

	sizes := []struct {
		segment *Segment
		name    string
		size    uint64
	}{
		{&l.header, SegmentHeader, uint64(header)},
		{&l.tree, SegmentTree, uint64(tree)},
		{&l.initramfs, SegmentInitramfs, uint64(initramfs)},
	}
	needed := floor - main.Start
	// The kernel's own pages can lie in the gaps that alignment makes.
	if gaps := needed - l.kernel.MemSize; gaps < spare {
		needed += spare - gaps
	}
	for _, s := range sizes {
		needed += roundUp(s.size, pageSize)
	}
	unpacked := opts.Unpacked
	if unpacked == 0 {
		unpacked = 3 * uint64(initramfs)
	}
	p.Room.Loaded, p.Room.Unpacked = needed, roundUp(unpacked, pageSize)
	for _, r := range p.Regions {
		p.Room.Reserved += r.Size()
	}
	end := main.End &^ (pageSize - 1)
	if main.Start >= end || needed > end-main.Start {
		return l, p.tooSmall(fmt.Sprintf("%s of the main region are needed and it has %s", ui.Bytes(needed), ui.Bytes(main.Size())), image, initramfs)
	}
	if total := p.Room.Needed(); total > p.Room.Reserved {
		return l, p.tooSmall(fmt.Sprintf("%s are needed and %s are reserved", ui.Bytes(total), ui.Bytes(p.Room.Reserved)), image, initramfs)
	}
	p.Room.Free = p.Room.Reserved - needed - p.Room.Unpacked
	for _, s := range sizes {
		size := roundUp(s.size, pageSize)
		end -= size
		*s.segment = Segment{Name: s.name, Mem: end, MemSize: size, Size: s.size}
	}
	return l, nil
}

// tooSmall explains the arithmetic.
func (p *Plan) tooSmall(what string, image *kimage.Image, initramfs int) error {
	size, _ := reserve.Round(p.Room.Needed())
	size = max(size, leastReservation)
	return &RuleError{Rule: RuleRoom,
		Detail: fmt.Sprintf("the reserved memory is too small: %s: kernel %s, initramfs %s and %s more when unpacked, %s to work with",
			what, ui.Bytes(image.ImageSize), ui.Bytes(uint64(initramfs)), ui.Bytes(p.Room.Unpacked), ui.Bytes(p.Room.Working)),
		Remedy: []string{
			fmt.Sprintf("reserve more: %s on the kernel command line, then restart", reserve.Parameter(size)),
			"or make the initramfs smaller: panicroom load --dry-run lists what is in it"}}
}

// leastReservation is never too much to ask for.
const leastReservation = 128 << 20

// suggestReservation is the crashkernel= for a machine whose initramfs is not
// known yet: the running kernel's size stands for the panic kernel's.
func suggestReservation(m *host.Machine) string {
	f := reserve.OfMachine(m)
	if r, ok := m.KernelImage(); ok {
		f.Image = r.Size()
	}
	f.ACPI, f.Modules = FromACPI(m), reserve.UsualModules()
	return reserve.Recommend(f).Parameter
}

// check goes through the kernel's own conditions for the crash slot once more,
// over the finished plan and without knowing how it was made (kernel/kexec_core.c
// of 7.2, sanity_check_segment_list; arch/riscv/kernel/machine_kexec.c).
func (p *Plan) check(a *arch, m *host.Machine, noTree bool) error {
	main := p.Regions[0]
	if err := p.checkSegments(a, m, []host.Range{main}, noTree); err != nil {
		return err
	}
	var used []host.Range
	for _, s := range p.Segments {
		used = append(used, s.Range())
	}
	var free uint64
	for _, r := range host.Subtract([]host.Range{main}, used) {
		free += r.Size() &^ (pageSize - 1)
	}
	if free < spare {
		return broken("%d bytes of the main region are left, the kernel needs %d while loading", free, spare)
	}
	return nil
}

// broken is the error of a plan that should not have been made.
func broken(format string, args ...any) error {
	return &RuleError{Rule: RuleSegments, Detail: fmt.Sprintf(format, args...),
		Remedy: []string{"this is a bug of panicroom; record the machine: panicroom load --record DIR --dry-run"}}
}

// checkSegments checks what holds for both slots; within is the memory that
// segments may lie in, merged.
func (p *Plan) checkSegments(a *arch, m *host.Machine, within []host.Range, noTree bool) error {
	inside := func(r host.Range) bool {
		return slices.ContainsFunc(within, func(w host.Range) bool { return w.Start <= r.Start && r.End <= w.End })
	}
	kernel := p.Segment(SegmentKernel)
	if kernel == nil || kernel.Mem%a.kernelAlign != 0 || p.Entry < kernel.Mem || p.Entry >= kernel.Mem+kernel.Size {
		return broken("entry %#x is not in a kernel at a boundary of %#x bytes", p.Entry, a.kernelAlign)
	}
	if len(p.Segments) > maxSegments {
		return broken("%d segments, the kernel takes %d", len(p.Segments), maxSegments)
	}
	var total uint64
	for i, s := range p.Segments {
		r := s.Range()
		switch {
		case s.Mem%pageSize != 0 || s.MemSize%pageSize != 0 || r.End <= r.Start:
			return broken("segment %s at %v is not whole pages", s.Name, r)
		case !inside(r):
			return broken("segment %s at %v is outside of %s", s.Name, r, spell(within))
		case uint64(len(s.Data)) != s.Size || s.Size > s.MemSize:
			return broken("segment %s has %d bytes of data for %d bytes of memory", s.Name, len(s.Data), s.MemSize)
		}
		for _, other := range p.Segments[:i] {
			if o := other.Range(); r.Start < o.End && o.Start < r.End {
				return broken("segments %s and %s overlap at %v", s.Name, other.Name, r)
			}
		}
		total += s.MemSize
	}
	tree := slices.IndexFunc(p.Segments, func(s Segment) bool { return hasTreeMagic(s.Data) })
	if !noTree && (tree < 0 || p.Segments[tree].Name != SegmentTree) {
		return broken("the kernel would not find the device tree")
	}
	if total > m.MemTotal/2 {
		return &RuleError{Rule: RuleHalf,
			Detail: fmt.Sprintf("%s would be loaded, the kernel takes at most half of its %s", ui.Bytes(total), ui.Bytes(m.MemTotal)),
			Remedy: []string{"make the initramfs smaller"}}
	}
	p.pass("kernel's rules", "%d segments, %s, aligned, apart, inside of %s", len(p.Segments), ui.Bytes(total), spell(within))
	return nil
}

const maxSegments = 16 // KEXEC_SEGMENT_MAX, include/uapi/linux/kexec.h

func hasTreeMagic(b []byte) bool {
	return len(b) > 40 && b[0] == 0xd0 && b[1] == 0x0d && b[2] == 0xfe && b[3] == 0xed
}
