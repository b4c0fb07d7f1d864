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
	"fmt"

	"github.com/panicroom-kdump/panicroom/internal/host"
)

// Options say what is not a fact of the machine. The zero value is right for a
// machine that shall boot its own kernel.
type Options struct {
	// Cmdline is the panic kernel's whole command line; "" means what
	// [InheritCmdline] keeps of the running kernel's.
	Cmdline string
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
	// WorkingMemory is how much memory the panic kernel and its program need
	// beside what is loaded, in bytes; 0 is [DefaultWorkingMemory].
	WorkingMemory uint64

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

// DefaultWorkingMemory is what the kernel itself and panicroom take of the
// reserved memory beside what is loaded there. Measured with Debian's 7.2.13,
// an image of 37 MiB and a program of 2 MB: 96 MiB are too little, 128 MiB
// leave 50 MiB free when init starts; 32 MiB are the root table of mem_section
// alone.
const DefaultWorkingMemory = 48 << 20

// Make plans the loading of a panic kernel; initramfs is the archive as it
// shall lie in memory. Broken rules come back as [*RuleError].
func Make(m *host.Machine, kernel *Kernel, initramfs []byte, opts *Options) (*Plan, error) {
	if opts == nil {
		opts = &Options{}
	}
	if err := CheckMachine(m); err != nil {
		return nil, err
	}
	a, err := archOf(m.Arch)
	if err != nil {
		return nil, err
	}
	image := kernel.Image
	if err := checkKernel(a, m, kernel); err != nil {
		return nil, err
	}
	if len(initramfs) == 0 {
		return nil, &RuleError{Rule: RuleInitramfs, Detail: "there is no initramfs: a panic kernel alone saves nothing"}
	}
	p := &Plan{
		Arch: m.Arch, Release: m.Release,
		Kernel: KernelInfo{Path: kernel.Path, Banner: image.Banner, FileSize: image.FileSize, ImageSize: image.ImageSize},
		Flags:  flagOnCrash | a.elfMachine<<16,
	}
	if p.Cmdline, err = cmdline(a, m, image, opts); err != nil {
		return nil, err
	}
	p.cmdlineWarnings(a)
	if m.LimitPanic > 0 && m.LimitPanic <= 2 {
		p.warn("kernel.kexec_load_limit_panic lets panic kernels be loaded or unloaded %d more times until a restart; a failed load needs one to put the last back", m.LimitPanic)
	}
	if m.Config["CONFIG_RISCV_BOOT_SPINWAIT"] == "y" {
		p.warn("kernel %s was built with CONFIG_RISCV_BOOT_SPINWAIT: when it panics it cannot stop its other CPUs, which go on in the memory that is saved", m.Release)
	}
	if p.Regions, err = regions(m); err != nil {
		return nil, err
	}
	tree, err := deviceTree(m, opts)
	if err != nil {
		return nil, err
	}
	// The firmware's memory is a fact of this machine, whatever tree was given.
	running := tree
	if opts.DTB != nil {
		if t, err := deviceTree(m, &Options{}); err == nil {
			running = t
		} else {
			p.warn("which memory is the firmware's is taken from the device tree given: %v", err)
		}
	}
	firmware, err := firmwareMemory(running)
	if err != nil {
		return nil, err
	}
	p.core(a, m, firmware, opts)
	if err := p.cover(m); err != nil {
		return nil, err
	}
	header, err := p.coreHeader(a)
	if err != nil {
		return nil, err
	}
	// The size of the device tree does not depend on the addresses in it, so it
	// is made twice: first to know how much room it takes.
	anywhere := Segment{Mem: p.Regions[0].Start, MemSize: pageSize, Size: 1}
	draft, _, err := p.editTree(tree, opts, anywhere, anywhere)
	if err != nil {
		return nil, err
	}
	places, err := p.place(a, image, len(initramfs), len(draft), len(header), opts)
	if err != nil {
		return nil, err
	}
	blob, edits, err := p.editTree(tree, opts, places.header, places.initramfs)
	if err != nil {
		return nil, err
	}
	if len(blob) != len(draft) {
		return nil, fmt.Errorf("device tree of %d bytes became %d", len(draft), len(blob))
	}
	p.DeviceTree = edits
	p.Entry = places.kernel.Mem
	places.kernel.Data, places.initramfs.Data, places.tree.Data, places.header.Data = kernel.Data[:image.FileSize], initramfs, blob, header
	// The device tree comes first: the kernel takes the first segment that
	// begins like one (Linux 7.2, arch/riscv/kernel/machine_kexec.c).
	p.Segments = []Segment{places.tree, places.kernel, places.initramfs, places.header}
	if opts.Test.OmitDTB {
		p.Segments = p.Segments[1:]
	}
	if err := p.check(a, m, opts.Test.OmitDTB); err != nil {
		return nil, err
	}
	return p, nil
}
