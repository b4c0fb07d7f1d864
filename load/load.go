// Package load puts the panic kernel in place: it plans where kernel,
// initramfs, device tree and the header of the dump go in the reserved memory,
// checks every rule of the kernel beforehand, makes the system call, and puts
// the last good panic kernel back if the kernel refuses all the same.
//
// Planning is a pure function of the machine's facts; a [Plan] is plain data
// that can be printed, compared and kept. Only [Execute], [Unload] and [Crash]
// touch the machine.
package load

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/kimage"
	"github.com/panicroom-kdump/panicroom/reserve"
)

// Options say what is not a fact of the machine. The zero value is right for a
// machine that shall boot its own kernel.
type Options struct {
	// Purpose is the slot to load into; "" is ForCrash.
	Purpose Purpose
	// Method is the system call to use; "" is Auto.
	Method Method
	// Cmdline is the new kernel's whole command line; nil means what
	// [InheritCmdline] keeps of the running kernel's, or for a reboot
	// [SameCmdline].
	Cmdline *string
	// Append is added to the command line with a space between.
	Append string
	// DTB is a device tree to use instead of the one the machine was booted
	// with.
	DTB []byte
	// Seed is what the panic kernel's random numbers start from, 64 bytes or
	// more that nobody else knows; see [FreshSeed]. Without it, a panic kernel
	// on a machine without a source of randomness may wait long for some.
	Seed []byte
	// Unpacked is the size of the initramfs when unpacked, in bytes; 0 is
	// unknown and taken for three times its size.
	Unpacked uint64
	// Codecs are the compressions that the initramfs is in, as
	// [CheckInitramfs] tells; without them it is not asked whether the kernel
	// knows them.
	Codecs []string
	// Force loads a kernel whose configuration says that it will not work.
	Force bool
	// WorkingMemory is how much memory the panic kernel and its program need
	// beside what is loaded and unpacked, in bytes; 0 is what all of them do. See
	// [reserve.Working].
	WorkingMemory uint64

	// Environment is the SHA-256 of what the crash environment will check the rest
	// of itself against; nil if it does not. It goes into the device tree.
	Environment *[32]byte
	// NoInitramfs allows a kernel that is loaded without one.
	NoInitramfs bool
	// Within is the memory that everything must be loaded into, beside all
	// other rules; nil if they are enough. Nothing is moved for its sake.
	Within *host.Range

	// Warnings are of what was made for this load; they are kept with the plan.
	Warnings []string

	Test TestOptions
}

// TestOptions break a plan on purpose. They are for tests of what happens
// then and for nothing else.
type TestOptions struct {
	// IncludeFirmware leaves the firmware's memory in the dump, where reading
	// it faults: the capture must survive that.
	IncludeFirmware bool
	// OmitDTB leaves the device tree out, which the kernel refuses with EINVAL
	// after it has freed what was loaded before.
	OmitDTB bool
}

// workingMemory is how much the panic kernel shall have to work with. Of whose
// initramfs nothing is known, that is what all need; package reserve has the
// arithmetic.
func workingMemory(m *host.Machine, tree *fdt.Tree, image, initramfs uint64, opts *Options) uint64 {
	if opts.WorkingMemory != 0 {
		return opts.WorkingMemory
	}
	f := reserve.OfMachine(m)
	f.Image, f.Packed, f.Unpacked, f.ACPI = image, initramfs, opts.Unpacked, fromACPI(tree)
	f.BounceBuffers = false // not every panic kernel has devices
	return reserve.Working(f)
}

// fromACPI tells whether the kernel takes the machine from ACPI tables: its device
// tree has no CPUs then, as the EFI stub makes one where the firmware gives none.
func fromACPI(tree *fdt.Tree) bool { return tree.Find("/cpus") == nil }

// FromACPI tells the same of a machine; false if it has no device tree.
func FromACPI(m *host.Machine) bool {
	tree, err := deviceTree(m, &Options{})
	return err == nil && fromACPI(tree)
}

// Make plans the loading of a kernel; initramfs is the archive as it shall lie
// in memory. Broken rules come back as [*RuleError].
func Make(m *host.Machine, kernel *Kernel, initramfs []byte, opts *Options) (*Plan, error) {
	if opts == nil {
		opts = &Options{}
	}
	if err := CheckMachine(m, opts); err != nil {
		return nil, err
	}
	a, err := archOf(m.Arch)
	if err != nil {
		return nil, err
	}
	image := kernel.Image
	p := &Plan{
		Arch: m.Arch, Release: m.Release, Purpose: ForCrash,
		Kernel: KernelInfo{Path: kernel.Path, Form: kernel.form(), Banner: image.Banner, FileSize: image.FileSize, ImageSize: image.ImageSize, Modified: kernel.Modified},
	}
	p.Warnings = slices.Clone(opts.Warnings)
	p.LoadsLeft = m.LimitPanic
	if opts.Purpose != "" {
		p.Purpose = opts.Purpose
	}
	if p.Purpose == ForReboot {
		p.LoadsLeft = m.LimitReboot
	}
	chosen, err := choose(a, m, opts)
	if err != nil {
		return nil, err
	}
	p.Method, p.Why, p.instead = chosen.method, chosen.why, chosen.instead
	if err := checkKernel(a, kernel); err != nil {
		return nil, err
	}
	if err := checkConfig(m, kernel, p.Purpose, len(initramfs) > 0, opts); err != nil {
		if !opts.Force {
			return nil, err
		}
		p.warn("%v; it was forced", err)
	}
	if image.Relocations == kimage.RelocationsStripped {
		p.warn("%s needs relocations and has lost them: it will hang without a word, and was forced", cmp.Or(kernel.Path, "the kernel"))
	}
	if len(initramfs) == 0 {
		if !opts.NoInitramfs {
			return nil, &RuleError{Rule: RuleInitramfs, Detail: "there is no initramfs: a panic kernel alone saves nothing"}
		}
		p.warn("there is no initramfs: %s mounts the root filesystem that its command line names, or stops", image.Release)
	}
	if p.Cmdline, err = cmdline(a, m, image, p, opts); err != nil {
		return nil, err
	}
	p.cmdlineWarnings(a)
	l := &layout{arch: a, machine: m, kernel: kernel, initramfs: initramfs, opts: opts}
	switch {
	case p.Purpose == ForReboot:
		err = p.forReboot(l)
	default:
		err = p.forCrash(l)
	}
	if err != nil {
		return nil, err
	}
	if err := p.within(opts.Within); err != nil {
		return nil, err
	}
	p.seal()
	return p, nil
}

// layout is what a plan is made from.
type layout struct {
	arch      *arch
	machine   *host.Machine
	kernel    *Kernel
	initramfs []byte
	opts      *Options
}

// forCrash plans for the crash slot.
func (p *Plan) forCrash(l *layout) error {
	m := l.machine
	if m.LimitPanic > 0 && m.LimitPanic <= 2 {
		p.warn("kernel.kexec_load_limit_panic lets panic kernels be loaded or unloaded %d more times until a restart; a failed load needs one to put the last back", m.LimitPanic)
	}
	if m.Config["CONFIG_RISCV_BOOT_SPINWAIT"] == "y" {
		p.warn("kernel %s was built with CONFIG_RISCV_BOOT_SPINWAIT: when it panics it cannot stop its other CPUs, which go on in the memory that is saved", m.Release)
	}
	var err error
	if p.Regions, err = regions(m); err != nil {
		return err
	}
	tree, err := deviceTree(m, l.opts)
	if err != nil {
		return err
	}
	firmware, err := p.firmware(l, tree)
	if err != nil {
		return err
	}
	p.Room.Working = workingMemory(m, tree, l.kernel.Image.ImageSize, uint64(len(l.initramfs)), l.opts)
	if p.Method == ByFile {
		return p.crashByFile(l, tree, firmware)
	}
	return p.crashByLoad(l, tree, firmware)
}

// firmware is memory that the firmware keeps, which is a fact of this machine,
// whatever tree was given.
func (p *Plan) firmware(l *layout, tree *fdt.Tree) ([]Excluded, error) {
	if l.opts.DTB != nil {
		running, err := deviceTree(l.machine, &Options{})
		if err == nil {
			return firmwareMemory(running)
		}
		p.warn("which memory is the firmware's is taken from the device tree given: %v", err)
	}
	return firmwareMemory(tree)
}

// crashByLoad places everything itself.
func (p *Plan) crashByLoad(l *layout, tree *fdt.Tree, firmware []Excluded) error {
	a, m, opts := l.arch, l.machine, l.opts
	p.Flags = flagOnCrash | a.elfMachine<<16
	p.core(a, m, firmware, opts)
	if err := p.cover(m); err != nil {
		return err
	}
	header, err := p.coreHeader(a)
	if err != nil {
		return err
	}
	headerSum := sha256.Sum256(header)
	// The size of the device tree does not depend on the addresses in it, so it
	// is made twice: first to know how much room it takes.
	anywhere := Segment{Mem: p.Regions[0].Start, MemSize: pageSize, Size: uint64(min(1, len(l.initramfs)))}
	draft, _, err := p.editTree(tree, opts, anywhere, anywhere, headerSum)
	if err != nil {
		return err
	}
	image := l.kernel.Image
	places, err := p.place(a, image, len(l.initramfs), len(draft), len(header), opts)
	if err != nil {
		return err
	}
	blob, edits, err := p.editTree(tree, opts, places.header, places.initramfs, headerSum)
	if err != nil {
		return err
	}
	if len(blob) != len(draft) {
		return fmt.Errorf("device tree of %d bytes became %d", len(draft), len(blob))
	}
	p.DeviceTree = edits
	p.Entry = places.kernel.Mem + l.kernel.entry()
	places.kernel.Data, places.initramfs.Data, places.tree.Data, places.header.Data = l.kernel.data(), l.initramfs, blob, header
	// The device tree comes first: the kernel takes the first segment that
	// begins like one (Linux 7.2, arch/riscv/kernel/machine_kexec.c).
	p.Segments = []Segment{places.tree, places.kernel}
	if len(l.initramfs) > 0 {
		p.Segments = append(p.Segments, places.initramfs)
	}
	p.Segments = append(p.Segments, places.header)
	if opts.Test.OmitDTB {
		p.Segments = p.Segments[1:]
	}
	return p.check(a, m, opts.Test.OmitDTB)
}
