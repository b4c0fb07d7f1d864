package load

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
	"github.com/panicroom-kdump/panicroom/internal/host"
)

const (
	mib      = 1 << 20
	hugePage = 2 << 20 // what a riscv64 kernel is aligned to, and ends at
)

// brokenRules goes through what the kernel checks when it loads a panic kernel
// (kernel/kexec.c, kernel/kexec_core.c, arch/riscv/kernel/machine_kexec.c of
// 7.2) and through what the dump must and must not have. It knows the plan and
// the machine, and nothing of how the plan was made. firmware is memory in whole
// pages.
func brokenRules(m *host.Machine, p *Plan, firmware []host.Range) []string {
	var broken []string
	say := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	regions := m.CrashRegions()
	main := regions[len(regions)-1]
	kernel := p.Segment(SegmentKernel)
	if kernel == nil || p.Segment(SegmentTree) == nil || p.Segment(SegmentInitramfs) == nil || p.Segment(SegmentHeader) == nil {
		return []string{"a segment is missing"}
	}
	if p.Entry < main.Start || p.Entry >= main.End || p.Entry%hugePage != 0 || p.Entry != kernel.Mem {
		say("entry %#x; the kernel is at %v, the region %v", p.Entry, kernel.Range(), main)
	}
	if len(p.Segments) > 16 {
		say("%d segments", len(p.Segments))
	}
	var total uint64
	for i, s := range p.Segments {
		switch end := s.Mem + s.MemSize; {
		case s.Mem%4096 != 0 || s.MemSize%4096 != 0:
			say("%s: not whole pages: %v", s.Name, s.Range())
		case end <= s.Mem:
			say("%s: empty or wraps: %v", s.Name, s.Range())
		case s.Mem < main.Start || end > main.End:
			say("%s: %v is outside of %v", s.Name, s.Range(), main)
		case uint64(len(s.Data)) > s.MemSize || s.Size != uint64(len(s.Data)):
			say("%s: %d bytes of data, %d said, %d of memory", s.Name, len(s.Data), s.Size, s.MemSize)
		case s.MemSize > m.MemTotal/2:
			say("%s: more than half of memory", s.Name)
		}
		for _, o := range p.Segments[:i] {
			if s.Mem < o.Mem+o.MemSize && o.Mem < s.Mem+s.MemSize {
				say("%s and %s overlap", s.Name, o.Name)
			}
		}
		// Up to the next boundary everything is the panic kernel's, and what lies
		// below it was lost to kernels before 6.4.
		if s.Name != SegmentKernel && s.Mem < roundUp(kernel.Mem+kernel.MemSize, hugePage) {
			say("%s at %v is in or below the kernel at %v", s.Name, s.Range(), kernel.Range())
		}
		total += s.MemSize
	}
	if total > m.MemTotal/2 {
		say("%d bytes in segments, memory has %d", total, m.MemTotal)
	}
	if main.Size()-total < 2*4096 {
		say("no room for the kernel's two pages: %d of %d bytes", total, main.Size())
	}
	if i := slices.IndexFunc(p.Segments, func(s Segment) bool { return bytes.HasPrefix(s.Data, []byte("\xd0\x0d\xfe\xed")) }); p.Segments[i].Name != SegmentTree {
		say("the kernel takes %s for the device tree", p.Segments[i].Name)
	}
	if tree := p.Segment(SegmentTree); len(tree.Data) > 2*mib {
		say("device tree of %d bytes", len(tree.Data))
	}
	return append(append(broken, brokenDump(m, p, firmware)...), brokenTree(m, p)...)
}

// brokenDump checks the header: RAM without the regions and the firmware's, all
// of it and once.
func brokenDump(m *host.Machine, p *Plan, firmware []host.Range) []string {
	var broken []string
	say := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	f, err := elf.NewFile(bytes.NewReader(p.Segment(SegmentHeader).Data))
	if err != nil {
		return []string{fmt.Sprintf("elfcorehdr: %v", err)}
	}
	image, _ := m.KernelImage()
	var ram []host.Range
	notes := 0
	var size uint64
	for _, ph := range f.Progs {
		r := host.Range{Start: ph.Paddr, End: ph.Paddr + ph.Filesz}
		switch {
		case ph.Type == elf.PT_NOTE:
			notes++
		case r == image:
		default:
			ram = append(ram, r)
			size += r.Size()
		}
	}
	if notes != len(m.CrashNotes)+1 {
		say("%d notes for %d CPUs and vmcoreinfo", notes, len(m.CrashNotes))
	}
	want := host.Subtract(m.SystemRAM(), append(m.CrashRegions(), firmware...))
	got := host.Merge(ram)
	if !slices.Equal(got, want) {
		say("the dump has %v; want %v", got, want)
	}
	for _, r := range got {
		size -= r.Size()
	}
	if size != 0 {
		say("%d bytes are in the dump twice", size)
	}
	return broken
}

// brokenTree checks what the panic kernel is told.
func brokenTree(m *host.Machine, p *Plan) []string {
	var broken []string
	say := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	tree, err := fdt.Parse(p.Segment(SegmentTree).Data)
	if err != nil {
		return []string{fmt.Sprintf("device tree: %v", err)}
	}
	chosen := tree.Find("/chosen")
	if chosen == nil {
		return []string{"device tree without /chosen"}
	}
	ranges := func(name string) []host.Range {
		v, _ := chosen.Get(name)
		list, err := tree.Root.DecodeRanges(v)
		if err != nil {
			say("%s: %v", name, err)
		}
		var out []host.Range
		for _, r := range list {
			out = append(out, host.Range{Start: r.Address, End: r.Address + r.Size})
		}
		return out
	}
	header, initramfs := p.Segment(SegmentHeader), p.Segment(SegmentInitramfs)
	if got := ranges("linux,elfcorehdr"); len(got) != 1 || got[0] != header.Range() {
		say("linux,elfcorehdr %v; want %v", got, header.Range())
	}
	usable := m.CrashRegions()
	slices.Reverse(usable)
	if got := ranges("linux,usable-memory-range"); !slices.Equal(got, usable) {
		say("linux,usable-memory-range %v; want %v", got, usable)
	}
	start, _ := chosen.Uint("linux,initrd-start")
	end, _ := chosen.Uint("linux,initrd-end")
	if start != initramfs.Mem || end != initramfs.Mem+initramfs.Size {
		say("initramfs %#x-%#x; want %v", start, end, initramfs.Range())
	}
	for _, name := range []string{"kaslr-seed", "linux,kho-fdt", "linux,dmcryptkeys"} {
		if chosen.Has(name) {
			say("%s is still there", name)
		}
	}
	for _, r := range tree.Reserve {
		if r.Address < usable[0].Start || r.Address+r.Size > usable[0].End {
			say("memory reservation %#x of %#x bytes is not of the panic kernel", r.Address, r.Size)
		}
	}
	return broken
}

// placeable tells whether four segments have a place at all: each place of the
// kernel is tried, with all else above it. image is the kernel's, others are the
// rest, all in bytes; free must be left of all that is reserved.
func placeable(main host.Range, reserved, image uint64, others []uint64, free uint64) bool {
	var above uint64
	for _, n := range others {
		above += roundUp(n, 4096)
	}
	for base := roundUp(main.Start, hugePage); base < main.End; base += hugePage {
		floor := base + roundUp(image, hugePage)
		if floor+above > main.End {
			return false
		}
		// Where the kernel's two pages can be: everywhere but in segments.
		if main.Size()-roundUp(image, 4096)-above < 2*4096 {
			return false
		}
		left := reserved - (floor - main.Start) - above
		holes := floor - main.Start - roundUp(image, 4096)
		if holes < 2*4096 {
			left -= min(left, 2*4096-holes)
		}
		if left >= free {
			return true
		}
	}
	return false
}

// world is a made-up machine, and what shall be loaded on it.
type world struct {
	m         *host.Machine
	ram       host.Range   // that the main region is in, which may grow to its end
	main, low host.Range   // reserved; low is empty for one region
	firmware  []host.Range // in whole pages
	image     uint64
	initramfs int
	opts      *Options
}

func (w *world) String() string {
	return fmt.Sprintf("RAM %v\nmain region %v, low region %v, firmware %v\nkernel %d bytes, initramfs %d, MemTotal %d, %d CPUs, unpacked %d, working %d, seed %d",
		w.m.SystemRAM(), w.main, w.low, w.firmware, w.image, w.initramfs, w.m.MemTotal, len(w.m.CrashNotes), w.opts.Unpacked, w.opts.WorkingMemory, len(w.opts.Seed))
}

var zeros = make([]byte, 8*mib)

// plan makes the plan with the main region ending at end.
func (w *world) plan(t *testing.T, end uint64) (*Plan, error) {
	t.Helper()
	m := *w.m
	main := host.Range{Start: w.main.Start, End: end}
	m.Iomem = append(slices.Clone(m.Iomem), host.Resource{Range: main, Name: "Crash kernel", Depth: 1})
	m.CrashSize = main.Size() + w.low.Size()
	p, err := makeOf(&m, flat(m.Release, w.image), zeros[:w.initramfs], w.opts)
	if err == nil {
		for _, b := range brokenRules(&m, p, w.firmware) {
			t.Error(b)
		}
	}
	if t.Failed() {
		t.Fatalf("%v\nend %#x\n%v", w, end, p)
	}
	return p, err
}

// random makes a world. Its first 64 MiB are the running kernel's.
func random(t *testing.T, r *rand.Rand) *world {
	t.Helper()
	pages := func(low, high int) uint64 { return uint64(low+r.IntN(high-low+1)) * 4096 }
	w := &world{opts: &Options{WorkingMemory: 1, Unpacked: 1}}
	at := []uint64{0, 0x40000000, 0x80000000, 0x1000000000}[r.IntN(4)]
	anchor := host.Range{Start: at, End: at + 64*mib}
	var ram []host.Range
	for range 1 + r.IntN(8) {
		end := at + pages(96*mib/4096, 1024*mib/4096)
		ram = append(ram, host.Range{Start: at, End: end})
		at = end + pages(0, 2)*uint64(r.IntN(2)) + pages(0, 1<<18)*uint64(r.IntN(2))
	}
	// The main region has at least 16 MiB of its RAM to be in.
	inside := func(in host.Range, align uint64) host.Range {
		if in.Start == anchor.Start {
			in.Start = anchor.End
		}
		start := roundUp(in.Start+pages(0, int((in.Size()-16*mib)/4096)), align)
		return host.Range{Start: start, End: min(in.End, start+pages(1, 256*mib/4096))}
	}
	i := r.IntN(len(ram))
	w.ram = ram[i]
	align := uint64(hugePage)
	if r.IntN(4) == 0 {
		align = 4096 // no kernel reserves so, today
	}
	w.main = inside(w.ram, align)
	if i > 0 && r.IntN(3) == 0 {
		w.low = inside(ram[r.IntN(i)], hugePage)
	}

	tree := fdt.New()
	tree.Root.SetU32("#address-cells", 2)
	tree.Root.SetU32("#size-cells", 2)
	chosen := tree.Ensure("/chosen")
	for _, name := range []string{"kaslr-seed", "linux,initrd-start", "linux,kho-fdt", "linux,dmcryptkeys", "linux,usable-memory-range"} {
		if r.IntN(2) == 0 {
			chosen.SetU64(name, r.Uint64())
		}
	}
	tree.Root.Set("large", make([]byte, r.IntN([]int{100, 20000, 20000, 20000, 2*mib - 8192}[r.IntN(5)])))
	tree.Reserve = []fdt.Range{{Address: w.main.Start, Size: 4096}}
	w.reserve(tree, anchor, ram, r)
	m := &host.Machine{
		Arch: "riscv64", Release: "6.12.1", Cmdline: "console=ttyS0 crashkernel=1M", PageSize: 4096, MMU: "sv48",
		LimitPanic: host.Unlimited, Symbols: map[string]uint64{"_text": 0xffffffff80002000}, Config: map[string]string{},
		PageTable:  anchor.Start + 32*mib,
		VMCoreInfo: host.Range{Start: anchor.Start + 40*mib, End: anchor.Start + 40*mib + 4132},
		Vmemmap:    []host.Range{{Start: anchor.Start + 48*mib, End: anchor.Start + 50*mib}},
	}
	for i := range []int{1, 2, 40, 150}[r.IntN(4)] {
		m.Possible = append(m.Possible, i)
		m.CrashNotes = append(m.CrashNotes, host.Note{CPU: i, Addr: anchor.Start + 41*mib + uint64(i)*512, Size: 408})
	}
	for _, r := range ram {
		m.MemTotal += r.Size()
		m.Iomem = append(m.Iomem, host.Resource{Range: r, Name: "System RAM"})
	}
	m.Iomem = append(m.Iomem,
		host.Resource{Range: host.Range{Start: anchor.Start + 0x2000, End: anchor.Start + 30*mib}, Name: "Kernel image", Depth: 1},
		host.Resource{Range: m.Vmemmap[0], Name: "Reserved", Depth: 1})
	if w.low.Size() > 0 {
		m.Iomem = append(m.Iomem, host.Resource{Range: w.low, Name: "Crash kernel", Depth: 1})
	}
	var err error
	if m.FDT, err = tree.Marshal(); err != nil {
		t.Fatal(err)
	}
	w.m = m

	w.image = uint64(12*1024 + r.IntN([]int{4 * mib, 64 * mib}[r.IntN(2)]))
	if r.IntN(4) == 0 { // no gap behind it for the kernel's pages, or of one
		w.image = roundUp(w.image, hugePage) - pages(0, 1)
	}
	w.initramfs = 1 + r.IntN([]int{4096, 256 * 1024}[r.IntN(2)])
	if r.IntN(4) == 0 {
		m.MemTotal = 2*(w.image+uint64(w.initramfs)) - mib + pages(0, 1024)
	}
	if r.IntN(2) == 0 {
		w.opts.WorkingMemory, w.opts.Unpacked = pages(1, 4096), uint64(r.IntN(8*mib))
	}
	w.opts.Seed = make([]byte, r.IntN(256))
	return w
}

// reserve makes children of /reserved-memory: the firmware's, anywhere but where
// the kernels are, and others.
func (w *world) reserve(tree *fdt.Tree, anchor host.Range, ram []host.Range, r *rand.Rand) {
	reserved := tree.Ensure("/reserved-memory")
	pool := reserved.AddChild("pool")
	pool.SetU64("size", 64*mib)
	taken := []host.Range{anchor, w.low, {Start: w.main.Start, End: w.ram.End}}
	for i := range r.IntN(5) {
		in := ram[r.IntN(len(ram))]
		start := in.Start - min(in.Start, 8192) + r.Uint64N(in.Size())
		bytes := host.Range{Start: start, End: start + 1 + r.Uint64N(4*mib)}
		pages := host.Range{Start: start &^ 4095, End: roundUp(bytes.End, 4096)}
		if slices.ContainsFunc(taken, func(t host.Range) bool { return pages.Start < t.End && t.Start < pages.End }) {
			continue
		}
		kind := []string{"tee", "mmode_resv", "framebuffer"}[r.IntN(3)]
		n := reserved.AddChild(fmt.Sprintf("%s%d@%x", kind, i, start))
		v, _ := reserved.EncodeRanges(fdt.Range{Address: start, Size: bytes.Size()})
		n.Set("reg", v)
		switch kind {
		case "tee":
			n.Set("no-map", nil)
			w.firmware = append(w.firmware, pages)
		case "mmode_resv":
			w.firmware = append(w.firmware, pages)
		}
	}
}

// ruleOf is the rule that an error names, "" if it is nil.
func ruleOf(t *testing.T, err error) Rule {
	t.Helper()
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*RuleError](err)
	if !ok {
		t.Fatalf("error %v; want a RuleError", err)
	}
	return e.Rule
}

// No plan on any machine breaks a rule, and whatever has a place is placed: for
// each of many made-up machines the smallest main region is found, in which
// there must be a place, and in one smaller by a page none.
func TestPlacement(t *testing.T) {
	cases := uint64(100)
	if testing.Short() {
		cases = 40
	}
	borders := 0
	for seed := range cases {
		w := random(t, rand.New(rand.NewPCG(seed, 3)))
		_, err := w.plan(t, w.main.End)
		switch rule := ruleOf(t, err); rule {
		case "", RuleRoom:
		case RuleHalf:
			half := w.m.MemTotal / 2
			w.m.MemTotal = 1 << 40
			p, err := w.plan(t, w.main.End)
			if err != nil {
				t.Fatalf("seed %d: with more memory: %v\n%v", seed, err, w)
			}
			var total uint64
			for _, s := range p.Segments {
				total += s.MemSize
			}
			if total <= half {
				t.Fatalf("seed %d: refused for more than half of memory: %d of %d bytes\n%v", seed, total, 2*half, w)
			}
		default:
			t.Fatalf("seed %d: %v\n%v", seed, err, w)
		}
		w.m.MemTotal = 1 << 40
		if w.border(t, seed) {
			borders++
		}
	}
	if borders < int(cases)/2 {
		t.Errorf("the smallest region was found of %d machines; want at least half of %d", borders, cases)
	}
}

// border finds the smallest main region of a world that is accepted and holds it
// against what has a place. It is false if none is large enough.
func (w *world) border(t *testing.T, seed uint64) bool {
	t.Helper()
	p, err := w.plan(t, w.ram.End)
	if err != nil {
		if rule := ruleOf(t, err); rule != RuleRoom {
			t.Fatalf("seed %d: %v\n%v", seed, err, w)
		}
		return false
	}
	low, high := w.main.Start, w.ram.End // low is too small, high is not
	for high-low > 4096 {
		mid := (low + (high-low)/2) &^ 4095
		q, err := w.plan(t, mid)
		switch rule := ruleOf(t, err); rule {
		case "":
			p, high = q, mid
		case RuleRoom:
			low = mid
		default:
			t.Fatalf("seed %d: main region up to %#x: %v\n%v", seed, mid, err, w)
		}
	}
	var others []uint64
	for _, s := range p.Segments {
		if s.Name != SegmentKernel {
			others = append(others, s.Size)
		}
	}
	free := roundUp(w.opts.Unpacked, 4096) + w.opts.WorkingMemory
	fits := func(end uint64) bool {
		main := host.Range{Start: w.main.Start, End: end}
		return placeable(main, main.Size()+w.low.Size(), w.image, others, free)
	}
	if !fits(high) || fits(low) {
		t.Fatalf("seed %d: accepted with the main region up to %#x, where a place is there: %v; refused up to %#x, where one is there: %v\n%v\n%v",
			seed, high, fits(high), low, fits(low), w, p)
	}
	return true
}

// A kernel to reboot into is placed in the pieces of memory that are free once
// nobody runs, whenever they have a place for it, and nowhere else.
func TestRebootPlacement(t *testing.T) {
	placed, none := 0, 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 4))
		pages := func(n int) uint64 { return uint64(1+r.IntN(n)) * 4096 }
		m := *recorded(t, sv57)
		m.MemTotal = 1 << 40
		tree := fdt.New()
		tree.Root.SetU32("#address-cells", 2)
		tree.Root.SetU32("#size-cells", 2)
		reserved := tree.Ensure("/reserved-memory")
		ram := host.Range{Start: 0x80000000}
		at := ram.Start + pages(1000)
		var nested []host.Resource
		var taken []host.Range
		for i := range 1 + r.IntN(9) {
			at += pages([]int{100, 2500}[r.IntN(2)])
			hole := host.Range{Start: at, End: at + pages(600)}
			at = hole.End
			taken = append(taken, hole)
			switch r.IntN(3) {
			case 0:
				nested = append(nested, host.Resource{Range: hole, Name: "Reserved", Depth: 1})
			case 1:
				nested = append(nested, host.Resource{Range: hole, Name: "Crash kernel", Depth: 1})
			default:
				n := reserved.AddChild(fmt.Sprintf("tee%d@%x", i, hole.Start))
				v, _ := reserved.EncodeRanges(fdt.Range{Address: hole.Start, Size: hole.Size()})
				n.Set("reg", v)
				n.Set("no-map", nil)
			}
		}
		ram.End = at + pages(2000)
		m.Iomem = append([]host.Resource{{Range: ram, Name: "System RAM"}}, nested...)
		tree.Root.Set("large", make([]byte, r.IntN([]int{100, mib}[r.IntN(2)])))
		var err error
		if m.FDT, err = tree.Marshal(); err != nil {
			t.Fatal(err)
		}
		image := uint64(12*1024 + r.IntN(6*mib))
		initramfs := zeros[:1+r.IntN(4*mib)]
		free := host.Subtract([]host.Range{ram}, taken)
		try := func(m *host.Machine) (*Plan, error) {
			return makeOf(m, flat(m.Release, image), initramfs, &Options{Purpose: ForReboot})
		}
		describe := func() string {
			return fmt.Sprintf("seed %d: free %v, kernel %#x, initramfs %#x", seed, free, image, len(initramfs))
		}

		// On a machine with much more memory everything has a place, and says how
		// large it is.
		large := m
		large.Iomem = append(slices.Clone(m.Iomem), host.Resource{Range: host.Range{Start: 1 << 40, End: 1<<40 + 1<<30}, Name: "System RAM"})
		sizes, err := try(&large)
		if err != nil {
			t.Fatalf("%s: with more memory: %v", describe(), err)
		}
		want := anyPlace(free, image, sizes.Segment(SegmentTree).MemSize, sizes.Segment(SegmentInitramfs).MemSize)
		p, err := try(&m)
		if rule := ruleOf(t, err); want != (rule == "") || !want && rule != RuleRoom {
			t.Fatalf("%s, device tree %#x: %v; is there a place: %v", describe(), sizes.Segment(SegmentTree).MemSize, err, want)
		}
		if err != nil {
			none++
			continue
		}
		placed++
		kernel := p.Segment(SegmentKernel)
		for i, s := range p.Segments {
			if outside := host.Subtract([]host.Range{s.Range()}, free); len(outside) > 0 || s.Mem%4096 != 0 || s.MemSize%4096 != 0 {
				t.Errorf("%s: segment %s at %v", describe(), s.Name, s.Range())
			}
			if s.Name != SegmentKernel && s.Mem < roundUp(kernel.Mem+kernel.MemSize, hugePage) {
				t.Errorf("%s: %s at %v, in or below the kernel at %v", describe(), s.Name, s.Range(), kernel.Range())
			}
			for _, o := range p.Segments[:i] {
				if s.Mem < o.Mem+o.MemSize && o.Mem < s.Mem+s.MemSize {
					t.Errorf("%s: %s and %s overlap", describe(), s.Name, o.Name)
				}
			}
		}
		if kernel.Mem%hugePage != 0 || p.Segments[0].Name != SegmentTree {
			t.Errorf("%s: kernel at %#x, first segment %s", describe(), kernel.Mem, p.Segments[0].Name)
		}
	}
	if placed < 50 || none < 50 {
		t.Errorf("%d kernels were placed and %d had no place; want some of both", placed, none)
	}
}

// anyPlace tries the kernel in each place and the two others in each pair of
// pieces above it.
func anyPlace(free []host.Range, image, a, b uint64) bool {
	for _, piece := range free {
		for base := roundUp(piece.Start, hugePage); base+roundUp(image, hugePage) <= piece.End; base += hugePage {
			above := host.Subtract(free, []host.Range{{Start: 0, End: base + roundUp(image, hugePage)}})
			for i, x := range above {
				for j, y := range above {
					if i != j && x.Size() >= a && y.Size() >= b || i == j && x.Size() >= a+b {
						return true
					}
				}
			}
		}
	}
	return false
}

// A region that just holds everything is too small when any one segment is
// larger by what it grows in, and the refusal has the numbers.
func TestRegionTooSmall(t *testing.T) {
	base := func() *world {
		m := recorded(t, sv57)
		crash := m.CrashRegions()[0]
		m.Iomem = noCrash(m)
		return &world{
			m: m, main: crash, ram: crash, image: 0x1e6b000, initramfs: 3 * mib,
			firmware: []host.Range{{Start: 0x80000000, End: 0x80080000}},
			opts:     &Options{Unpacked: 1, WorkingMemory: 1, Seed: make([]byte, 64)},
		}
	}
	// smallest is the end of the smallest main region that is accepted.
	smallest := func(t *testing.T, w *world) uint64 {
		low, high := w.main.Start, w.main.End
		for high-low > 4096 {
			mid := (low + (high-low)/2) &^ 4095
			if _, err := w.plan(t, mid); err == nil {
				high = mid
			} else {
				low = mid
			}
		}
		return high
	}
	for _, c := range []struct {
		segment string
		grow    func(*world)
		by      uint64
	}{
		{SegmentKernel, func(w *world) { w.image = roundUp(w.image, hugePage) + 1 }, hugePage},
		{SegmentInitramfs, func(w *world) { w.initramfs++ }, 4096},
		{SegmentTree, func(w *world) { w.opts.Seed = make([]byte, 64+4096) }, 4096},
		{SegmentHeader, func(w *world) {
			for range 4096 / phdrSize {
				w.m.CrashNotes = append(w.m.CrashNotes, w.m.CrashNotes[0])
			}
		}, 4096},
	} {
		t.Run(c.segment, func(t *testing.T) {
			w := base()
			end := smallest(t, w)
			c.grow(w)
			// Everything that is a page too small for one is too small for all.
			for at := end; at < end+c.by; at += max(4096, c.by/8) {
				_, err := w.plan(t, at)
				if ruleOf(t, err) != RuleRoom {
					t.Fatalf("region up to %#x: %v; want a refusal by the rule room", at, err)
				}
				for _, says := range []string{"are needed", "kernel 3", "initramfs 3 MiB"} {
					if !strings.Contains(err.Error(), says) {
						t.Errorf("%q does not say %q", err, says)
					}
				}
				if e, _ := errors.AsType[*RuleError](err); !strings.Contains(strings.Join(e.Hints(), " "), "crashkernel=128M") {
					t.Errorf("hints %q do not say how much to reserve", e.Hints())
				}
			}
			if _, err := w.plan(t, end+c.by); err != nil {
				t.Errorf("region larger by %d bytes: %v", c.by, err)
			}
		})
	}
}

// facts are a recorded machine whose memory map and device tree can be damaged.
type facts struct {
	machine *host.Machine
	iomem   []byte
}

func recordedFacts(t testing.TB, name string) facts {
	dir := os.DirFS(filepath.Join("testdata", "machines", name))
	m, err := host.Read(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	iomem, err := fs.ReadFile(dir, "proc/iomem")
	if err != nil {
		t.Fatal(err)
	}
	return facts{m, iomem}
}

// make tells whether there is a plan; it must not break a rule. imagePages is
// the kernel's size in memory; given is whether the tree is one that the user
// gives or the machine's own.
func (f facts) make(t *testing.T, iomem, tree []byte, cmdline string, imagePages uint16, initramfs uint32, given bool) bool {
	t.Helper()
	m := *f.machine
	var err error
	if m.Iomem, err = host.ParseIomem(iomem); err != nil {
		return false
	}
	m.CrashSize = 0
	for _, r := range m.CrashRegions() {
		m.CrashSize += r.Size()
	}
	m.Cmdline = cmdline
	opts := &Options{Seed: zeros[:64]}
	if given {
		opts.DTB = tree
	} else {
		m.FDT = tree
	}
	kernel := flat("6.12.1", max(8<<10, uint64(imagePages)*4096))
	p, err := makeOf(&m, kernel, zeros[:initramfs%uint32(len(zeros))], opts)
	if err != nil {
		if p != nil {
			t.Errorf("a plan and the error %v", err)
		}
		return false
	}
	var firmware []host.Range
	for _, e := range p.Excluded {
		firmware = append(firmware, e.Range)
	}
	for _, b := range brokenRules(&m, p, firmware) {
		t.Error(b)
	}
	if t.Failed() {
		t.Log(p)
	}
	return true
}

var damageable = []string{sv57, "virt-6.12-8g-high", "virt-6.12-acpi-2g", "virt-6.12-uboot-2g"}

// Single bits of a machine's memory map and device tree are wrong: there is a
// plan that breaks no rule, or an error.
func TestDamagedFacts(t *testing.T) {
	plans := 0
	for i, name := range damageable {
		f := recordedFacts(t, name)
		r := rand.New(rand.NewPCG(uint64(i), 5))
		for range 500 {
			iomem, tree := bytes.Clone(f.iomem), bytes.Clone(f.machine.FDT)
			for range 1 + r.IntN(3) {
				b := iomem
				if r.IntN(2) == 0 {
					b = tree
				}
				b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			}
			if f.make(t, iomem, tree, f.machine.Cmdline, 30*256, 64<<10, r.IntN(2) == 0) {
				plans++
			}
		}
	}
	if plans < 100 || plans > 1900 {
		t.Errorf("%d of 2000 damaged machines got a plan; want some of both", plans)
	}
}

// Whatever a machine says of its memory and in its device tree, Make gives a plan
// that breaks no rule, or an error.
func FuzzMake(f *testing.F) {
	base := map[string]facts{}
	for _, name := range damageable {
		r := recordedFacts(f, name)
		base[name] = r
		f.Add(name, r.iomem, r.machine.FDT, r.machine.Cmdline, uint16(30*256), uint32(1<<20), false)
		f.Add(name, r.iomem, r.machine.FDT, "", uint16(1), uint32(1), true)
	}
	f.Fuzz(func(t *testing.T, name string, iomem, tree []byte, cmdline string, image uint16, initramfs uint32, given bool) {
		from, ok := base[name]
		if !ok {
			from = base[sv57]
		}
		from.make(t, iomem, tree, cmdline, image, initramfs, given)
	})
}
