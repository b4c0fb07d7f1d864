package load

import (
	"fmt"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/seal"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// deviceTree reads the device tree that the panic kernel's one is made from.
func deviceTree(m *host.Machine, opts *Options) (*fdt.Tree, error) {
	blob, from := opts.DTB, "the device tree given"
	if blob == nil {
		blob, from = m.FDT, "/sys/firmware/fdt"
	}
	if len(blob) == 0 {
		return nil, &RuleError{Rule: RuleDeviceTree,
			Detail: "the machine shows no device tree (/sys/firmware/fdt): the kernel hides it when something changed it after the start",
			Remedy: []string{"see why: dmesg | grep -i fdt", "give one: panicroom load --dtb FILE"}}
	}
	t, err := fdt.Parse(blob)
	if err != nil {
		return nil, &RuleError{Rule: RuleDeviceTree, Detail: fmt.Sprintf("%s: %v", from, err), Err: err}
	}
	return t, nil
}

// firmwareMemory returns memory that a kernel must not touch: children of
// /reserved-memory that say so (no-map), and those that OpenSBI before 1.2
// forgot to mark but protects all the same (mmode_resvN, its older name
// mmode_pmpN).
func firmwareMemory(t *fdt.Tree) ([]Excluded, error) {
	reserved := t.Find("/reserved-memory")
	if reserved == nil {
		return nil, nil
	}
	var list []Excluded
	for _, n := range reserved.Children() {
		sbi := strings.HasPrefix(n.Name(), "mmode_resv") || strings.HasPrefix(n.Name(), "mmode_pmp")
		if !sbi && !n.Has("no-map") || disabled(n) {
			continue
		}
		regs, err := n.Regs()
		if err != nil {
			return nil, &RuleError{Rule: RuleDeviceTree, Detail: err.Error(), Err: err}
		}
		for _, r := range regs {
			if r.Address+r.Size < r.Address {
				return nil, &RuleError{Rule: RuleDeviceTree, Detail: fmt.Sprintf("%s: %#x bytes at %#x", n.Path(), r.Size, r.Address)}
			}
			// Of a page that is partly the firmware's nothing can be read.
			list = append(list, Excluded{
				Range: host.Range{Start: r.Address &^ (pageSize - 1), End: roundUp(r.Address+r.Size, pageSize)},
				Why:   fmt.Sprintf("the firmware's (%s)", n.Path())})
		}
	}
	return list, nil
}

// disabled tells whether the kernel passes a node over (drivers/of/fdt.c,
// of_fdt_device_is_available).
func disabled(n *fdt.Node) bool {
	s, ok := n.String("status")
	return ok && s != "okay" && s != "ok"
}

// stale are properties of /chosen that belong to the running kernel
// (drivers/of/kexec.c removes the same).
var stale = []struct{ name, because string }{
	{"linux,elfcorehdr", "of an earlier crash"},
	{"linux,usable-memory-range", "of an earlier crash"},
	{"linux,initrd-start", "the running kernel's initramfs"},
	{"linux,initrd-end", "the running kernel's initramfs"},
	{"kaslr-seed", "used up"},
	{"rng-seed", "used up"},
	{"linux,kho-fdt", "state handed over to the running kernel"},
	{"linux,kho-scratch", "state handed over to the running kernel"},
	{"linux,ima-kexec-buffer", "state handed over to the running kernel"},
	{"linux,dmcryptkeys", "keys of an earlier crash"},
	{"linux,booted-from-kexec", "of an earlier kexec"},
	{"linux,tpm-kexec-buffer", "state handed over to the running kernel"},
}

// treeEditor is a device tree that becomes another kernel's, with what was done
// to it.
type treeEditor struct {
	*fdt.Tree
	chosen *fdt.Node
	edits  []string
}

func (t *treeEditor) say(format string, args ...any) {
	t.edits = append(t.edits, fmt.Sprintf(format, args...))
}

// forNext begins with a copy of base without what is stale in it.
func forNext(base *fdt.Tree) *treeEditor {
	t := &treeEditor{Tree: base.Clone()}
	t.chosen = t.Ensure("/chosen")
	for _, s := range stale {
		if t.chosen.Remove(s.name) {
			t.say("/chosen: removed %s: %s", s.name, s.because)
		}
	}
	return t
}

// start sets what any kernel starts with.
func (t *treeEditor) start(cmdline string, initramfs Segment, seed []byte) {
	t.chosen.SetString("bootargs", cmdline)
	t.say("/chosen: bootargs")
	if initramfs.Size > 0 {
		end := initramfs.Mem + initramfs.Size
		t.chosen.SetU64("linux,initrd-start", initramfs.Mem)
		t.chosen.SetU64("linux,initrd-end", end)
		t.say("/chosen: linux,initrd-start %#x, linux,initrd-end %#x", initramfs.Mem, end)
		t.Reserve = append(t.Reserve, fdt.Range{Address: initramfs.Mem, Size: initramfs.MemSize})
		t.say("memory reservation of the initramfs")
	}
	if len(seed) > 0 {
		t.chosen.Set("rng-seed", seed)
		t.say("/chosen: rng-seed of %d bytes", len(seed))
	}
}

// finish makes the blob.
func (t *treeEditor) finish() (blob []byte, edits []string, err error) {
	if blob, err = t.Marshal(); err != nil {
		return nil, nil, &RuleError{Rule: RuleDeviceTree, Detail: err.Error(), Err: err}
	}
	return blob, t.edits, nil
}

// editTree makes the panic kernel's device tree. The EFI properties stay: they
// are the only way to the ACPI tables and the runtime services.
func (p *Plan) editTree(base *fdt.Tree, opts *Options, header, initramfs Segment, headerSum [32]byte) (blob []byte, edits []string, err error) {
	t := forNext(base)
	say := t.say
	if n := len(t.Reserve); n > 0 {
		say("removed %d memory reservations of the running kernel", n)
	}
	t.Reserve = nil
	if reserved := t.Find("/reserved-memory"); reserved != nil {
		for _, n := range reserved.Children() {
			// A node without a place of its own would get one in the reserved
			// memory, as much as it had in the whole machine.
			if n.Has("size") && !n.Has("reg") {
				reserved.RemoveChild(n)
				say("removed /reserved-memory/%s: it would take %s of the reserved memory", n.Name(), dynamicSize(n))
			}
		}
	}

	t.start(p.Cmdline, initramfs, opts.Seed)
	set := func(name string, list ...host.Range) {
		regs := make([]fdt.Range, len(list))
		for i, r := range list {
			regs[i] = fdt.Range{Address: r.Start, Size: r.Size()}
		}
		var v []byte
		if v, err = t.Root.EncodeRanges(regs...); err == nil {
			t.chosen.Set(name, v)
			say("/chosen: %s %v", name, list)
		}
	}
	// Both in the root's cells (drivers/of/fdt.c). The range of the low region
	// must be the last.
	if set("linux,elfcorehdr", header.Range()); err == nil {
		set("linux,usable-memory-range", p.Regions...)
	}
	if err != nil {
		return nil, nil, &RuleError{Rule: RuleDeviceTree, Detail: err.Error(), Err: err}
	}
	// As the kernel's own loader does; some versions let a driver's memory land
	// on the header otherwise (fixed in 6.12.64).
	t.Reserve = append(t.Reserve, fdt.Range{Address: header.Mem, Size: header.MemSize})
	say("memory reservation of the header")
	if err := seal.Apply(t.Tree, headerSum, opts.Environment); err != nil {
		return nil, nil, &RuleError{Rule: RuleDeviceTree, Detail: err.Error(), Err: err}
	}
	say("/chosen: digests of what is loaded")

	return t.finish()
}

func dynamicSize(n *fdt.Node) string {
	if v, ok := n.Uint("size"); ok {
		return ui.Bytes(v)
	}
	return "some"
}
