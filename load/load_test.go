package load

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/kimage"
)

var update = flag.Bool("update", false, "write the plans of the recorded machines anew")

// flat is a flat riscv64 Image that says which kernel it is.
func flat(release string, imageSize uint64) []byte {
	b := make([]byte, 8<<10)
	le := binary.LittleEndian
	copy(b, "\x6f\x00\x10\x00")
	le.PutUint64(b[0x08:], 0x200000)
	le.PutUint64(b[0x10:], imageSize)
	le.PutUint32(b[0x20:], 2)
	copy(b[0x30:], "RISCV\x00\x00\x00RSC\x05")
	copy(b[0x100:], "Linux version "+release+" (builder@example) #1 SMP\n")
	return b
}

func recorded(t *testing.T, name string) *host.Machine {
	t.Helper()
	m, err := host.Read(os.DirFS(filepath.Join("testdata", "machines", name)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sv57 is the machine that most tests change something of.
const sv57 = "virt-6.12-sv57-2g"

// makeOf is Make with the contents of a kernel's file.
func makeOf(m *host.Machine, kernel, initramfs []byte, opts *Options) (*Plan, error) {
	k, err := NewKernel("", kernel)
	if err != nil {
		return nil, err
	}
	return Make(m, k, initramfs, opts)
}

func plan(t *testing.T, m *host.Machine, opts *Options) *Plan {
	t.Helper()
	p, err := makeOf(m, flat(m.Release, 0x1e6b000), make([]byte, 3<<20), opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The plans of all recorded machines, as a person and as a program sees them, or
// why there is none.
func TestRecordedMachines(t *testing.T) {
	dirs, err := os.ReadDir("testdata/machines")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no recorded machines", err)
	}
	for _, d := range dirs {
		t.Run(d.Name(), func(t *testing.T) {
			m := recorded(t, d.Name())
			// The sizes in memory of Debian's 6.12 and 7.2.
			size := uint64(0x1e6b000)
			if parseVersion(m.Release).atLeast(7, 0) {
				size = 0x2537000
			}
			p, err := makeOf(m, flat(m.Release, size), make([]byte, 3<<20), &Options{Append: "nr_cpus=1", Seed: make([]byte, 128)})
			if err != nil {
				var e *RuleError
				if !errors.As(err, &e) {
					t.Fatal(err)
				}
				golden(t, d.Name()+".txt", fmt.Sprintf("%v\nhint: %s\n", err, strings.Join(e.Hints(), "\nhint: ")))
				return
			}
			golden(t, d.Name()+".txt", p.String())
			b, err := json.MarshalIndent(p, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, d.Name()+".json", string(b)+"\n")
			checkHeader(t, m, p)
			checkTree(t, m, p)
			for _, broken := range brokenRules(m, p, firmwareOf(m)) {
				t.Error(broken)
			}

			// The plan survives its JSON, but for the data.
			again := &Plan{}
			if err := json.Unmarshal(b, again); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(p.String(), again.String()); diff != "" {
				t.Errorf("plan after JSON:\n%s", diff)
			}
		})
	}
}

// golden compares what a plan says with what it said when somebody read it last.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "plans", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; go test ./load -update writes it anew):\n%s", name, diff)
	}
}

// firmwareOf is where the firmware of a recorded machine lies in its RAM. What
// EDK II protects it tells the kernel itself: it is no System RAM.
func firmwareOf(m *host.Machine) []host.Range {
	if ram := m.SystemRAM(); ram[0].Start > 0x80000000 {
		return nil
	}
	return []host.Range{{Start: 0x80000000, End: 0x80080000}}
}

// checkHeader reads the elfcorehdr with somebody else's ELF reader and holds it
// against the machine.
func checkHeader(t *testing.T, m *host.Machine, p *Plan) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(p.Segment(SegmentHeader).Data))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_CORE || f.Machine != elf.EM_RISCV || f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB {
		t.Errorf("header is %v %v", f.FileHeader, f.Machine)
	}
	var notes, ram []host.Range
	offset, _ := m.Number("PAGE_OFFSET")
	for i, ph := range f.Progs {
		if ph.Off != ph.Paddr || ph.Filesz != ph.Memsz || ph.Align != 0 {
			t.Errorf("program header %d: %+v: p_offset must be p_paddr, sizes the same", i, ph.ProgHeader)
		}
		r := host.Range{Start: ph.Paddr, End: ph.Paddr + ph.Filesz}
		switch {
		case ph.Type == elf.PT_NOTE:
			notes = append(notes, r)
		case ph.Vaddr == m.Symbols["_text"]:
			if image, _ := m.KernelImage(); r != image {
				t.Errorf("segment of the kernel image is %v; want %v", r, image)
			}
		default:
			ram = append(ram, r)
			// The first RAM of QEMU's machine is at 0x80000000.
			if want := offset + ph.Paddr - 0x80000000; ph.Vaddr != want {
				t.Errorf("segment %v has p_vaddr %#x; want %#x", r, ph.Vaddr, want)
			}
		}
	}
	if len(notes) != len(m.Possible)+1 {
		t.Errorf("%d notes; want one for each of %d CPUs and vmcoreinfo", len(notes), len(m.Possible))
	}
	// Everything but the reserved memory and the firmware's, and none of it.
	left := append(m.CrashRegions(), firmwareOf(m)...)
	if diff := cmp.Diff(host.Subtract(m.SystemRAM(), left), host.Merge(ram)); diff != "" {
		t.Errorf("memory of the dump (-want +got):\n%s", diff)
	}
	if n := uint64(0); true {
		for _, r := range ram {
			n += r.Size()
		}
		if p.DumpSize() != n {
			t.Errorf("DumpSize() = %d; want %d", p.DumpSize(), n)
		}
	}
}

func checkTree(t *testing.T, m *host.Machine, p *Plan) {
	t.Helper()
	if p.Segments[0].Name != SegmentTree {
		t.Errorf("first segment is %s; the kernel takes the first that looks like a device tree", p.Segments[0].Name)
	}
	tree, err := fdt.Parse(p.Segment(SegmentTree).Data)
	if err != nil {
		t.Fatal(err)
	}
	chosen := tree.Find("/chosen")
	if s, _ := chosen.String("bootargs"); s != p.Cmdline {
		t.Errorf("bootargs %q; want %q", s, p.Cmdline)
	}
	get := func(name string) []fdt.Range {
		v, ok := chosen.Get(name)
		if !ok {
			t.Errorf("/chosen has no %s", name)
		}
		list, err := tree.Root.DecodeRanges(v)
		if err != nil {
			t.Error(err)
		}
		return list
	}
	header, initramfs := p.Segment(SegmentHeader), p.Segment(SegmentInitramfs)
	if diff := cmp.Diff([]fdt.Range{{Address: header.Mem, Size: header.MemSize}}, get("linux,elfcorehdr")); diff != "" {
		t.Errorf("linux,elfcorehdr (-want +got):\n%s", diff)
	}
	var usable []fdt.Range
	regions := m.CrashRegions()
	slices.Reverse(regions) // the main one, which is the higher, first
	for _, r := range regions {
		usable = append(usable, fdt.Range{Address: r.Start, Size: r.Size()})
	}
	if diff := cmp.Diff(usable, get("linux,usable-memory-range")); diff != "" {
		t.Errorf("linux,usable-memory-range (-want +got):\n%s", diff)
	}
	start, _ := chosen.Uint("linux,initrd-start")
	end, _ := chosen.Uint("linux,initrd-end")
	if start != initramfs.Mem || end != initramfs.Mem+initramfs.Size {
		t.Errorf("initramfs %#x-%#x; want %v", start, end, initramfs.Range())
	}
	if v, _ := chosen.Get("rng-seed"); len(v) != 128 {
		t.Errorf("rng-seed of %d bytes", len(v))
	}
	if n := len(tree.Reserve); n != 2 {
		t.Errorf("%d memory reservations", n)
	}
	// What was not ours to change is as it was.
	old, err := fdt.Parse(m.FDT)
	if err != nil {
		t.Fatal(err)
	}
	for _, tr := range []*fdt.Tree{old, tree} {
		tr.Root.RemoveChild(tr.Find("/chosen"))
		tr.Reserve = nil
	}
	a, _ := old.Marshal()
	b, _ := tree.Marshal()
	if !bytes.Equal(a, b) {
		t.Error("the device tree changed outside of /chosen")
	}
}

func TestTreeEdits(t *testing.T) {
	m := recorded(t, sv57)
	tree, err := fdt.Parse(m.FDT)
	if err != nil {
		t.Fatal(err)
	}
	chosen := tree.Ensure("/chosen")
	for _, s := range stale {
		chosen.Set(s.name, []byte{1, 2, 3, 4})
	}
	chosen.SetU64("linux,uefi-system-table", 0xfff56d20)
	reserved := tree.Ensure("/reserved-memory")
	pool := reserved.AddChild("linux,cma")
	pool.SetU64("size", 64<<20)
	firmware := reserved.AddChild("optee@90000100")
	firmware.Set("no-map", nil)
	v, _ := reserved.EncodeRanges(fdt.Range{Address: 0x90000100, Size: 0x1000})
	firmware.Set("reg", v)
	off := reserved.AddChild("off@a0000000")
	off.Set("no-map", nil)
	off.SetString("status", "disabled")
	v, _ = reserved.EncodeRanges(fdt.Range{Address: 0xa0000000, Size: 0x1000})
	off.Set("reg", v)
	shared := reserved.AddChild("framebuffer@b0000000") // memory like any other
	v, _ = reserved.EncodeRanges(fdt.Range{Address: 0xb0000000, Size: 0x1000})
	shared.Set("reg", v)
	tree.Reserve = []fdt.Range{{Address: 0x88200000, Size: 0x1000}}
	if m.FDT, err = tree.Marshal(); err != nil {
		t.Fatal(err)
	}
	p := plan(t, m, nil)
	got, err := fdt.Parse(p.Segment(SegmentTree).Data)
	if err != nil {
		t.Fatal(err)
	}
	chosen = got.Find("/chosen")
	for _, s := range stale {
		if v, ok := chosen.Get(s.name); ok && bytes.Equal(v, []byte{1, 2, 3, 4}) {
			t.Errorf("%s is still there", s.name)
		}
	}
	if v, _ := chosen.Uint("linux,uefi-system-table"); v != 0xfff56d20 {
		t.Error("the way to the EFI tables is gone")
	}
	if got.Find("/reserved-memory/linux,cma") != nil {
		t.Error("a memory pool without a place is still there")
	}
	if got.Find("/reserved-memory/optee@90000100") == nil || got.Find("/reserved-memory/framebuffer@b0000000") == nil {
		t.Error("memory with a place is gone")
	}
	for _, r := range got.Reserve {
		if r.Address == 0x88200000 {
			t.Error("the running kernel's reservation is still there")
		}
	}
	var left []host.Range
	for _, e := range p.Excluded {
		left = append(left, e.Range)
	}
	// Whole pages, and neither disabled nor shared memory.
	want := []host.Range{{Start: 0xf3c00000, End: 0xfbc00000}, {Start: 0x80000000, End: 0x80080000}, {Start: 0x90000000, End: 0x90002000}}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
}

func TestRules(t *testing.T) {
	const imageSize = 0x1e6b000
	whole := flat("6.12.107+deb13-riscv64", imageSize)
	for _, c := range []struct {
		name      string
		change    func(*host.Machine)
		kernel    []byte // whole
		initramfs int    // 3 MiB
		opts      Options
		rule      Rule
		says      []string // in the message
		hint      string   // in a hint
	}{
		{name: "no crashkernel", rule: RuleCrashkernel, says: []string{"crashkernel= is not on"}, hint: "crashkernel=136M",
			change: func(m *host.Machine) { m.CrashSize, m.Cmdline, m.Iomem = 0, "console=ttyS0", noCrash(m) }},
		{name: "crashkernel not given", rule: RuleCrashkernel, says: []string{"did not reserve", "crashkernel=4G"}, hint: "dmesg",
			change: func(m *host.Machine) { m.CrashSize, m.Cmdline, m.Iomem = 0, "a crashkernel=4G b", noCrash(m) }},
		{name: "no line in iomem", rule: RuleCrashkernel, says: []string{"/proc/iomem"},
			change: func(m *host.Machine) { m.Iomem = noCrash(m) }},
		{name: "sizes differ", rule: RuleCrashkernel, change: func(m *host.Machine) { m.CrashSize-- }},
		{name: "three regions", rule: RuleCrashkernel, change: func(m *host.Machine) {
			for i := range uint64(2) {
				m.Iomem = append(m.Iomem, host.Resource{Range: host.Range{Start: 0x90000000 + i<<20, End: 0x90001000 + i<<20}, Name: "Crash kernel"})
			}
		}},
		{name: "disabled", rule: RuleLoadDisabled, change: func(m *host.Machine) { m.LoadDisabled = true }, hint: "sysctl"},
		{name: "limit", rule: RuleLoadLimit, change: func(m *host.Machine) { m.LimitPanic = 0 }, hint: "restart"},
		{name: "lockdown", rule: RuleLockdown, change: func(m *host.Machine) { m.Lockdown = "integrity" }, says: []string{"integrity"}},
		{name: "no support", rule: RuleKexec, change: func(m *host.Machine) { m.NoKexec = true }},
		{name: "no system call", rule: RuleMethod, change: func(m *host.Machine) { m.Config["CONFIG_KEXEC"] = "n" }},
		{name: "other machine", rule: RuleArchitecture, change: func(m *host.Machine) { m.Arch = "s390x" }, says: []string{"s390x"}},
		{name: "truncated image", rule: RuleImage, kernel: whole[:40]},
		{name: "random bytes", rule: RuleImage, kernel: bytes.Repeat([]byte("x1"), 4000)},
		{name: "no image", rule: RuleImage, kernel: []byte{}},
		{name: "no initramfs", rule: RuleInitramfs, initramfs: -1},
		{name: "initramfs larger than the region", rule: RuleRoom, initramfs: 120 << 20, hint: "crashkernel=616M",
			says: []string{"128 MiB", "initramfs 120 MiB", "kernel 30.4 MiB", "152 MiB"}},
		{name: "no room to work", rule: RuleRoom, initramfs: 20 << 20, says: []string{"60 MiB more when unpacked", "55.5 MiB to work with"}, hint: "crashkernel=184M"},
		{name: "no /proc/vmcore", rule: RuleImage, change: func(m *host.Machine) { m.Config["CONFIG_PROC_VMCORE"] = "n" },
			says: []string{"CONFIG_PROC_VMCORE"}, hint: "--kernel"},
		{name: "no crash dumps", rule: RuleImage, change: func(m *host.Machine) { m.Config["CONFIG_CRASH_DUMP"] = "n" }, hint: "--kernel"},
		{name: "long command line", rule: RuleCmdline, opts: Options{Cmdline: new(strings.Repeat("x", 1024))}, says: []string{"1024 bytes", "reads 1023"}, hint: "by 1 bytes"},
		{name: "crashkernel for the panic kernel", rule: RuleCmdline, opts: Options{Append: "crashkernel=64M"}},
		{name: "crashkernel in a word", rule: RuleCmdline, opts: Options{Append: "x.crashkernel=64M"}},
		{name: "two headers", rule: RuleCmdline, opts: Options{Append: "elfcorehdr=0x1000"}},
		{name: "line end", rule: RuleCmdline, opts: Options{Append: "a\nb"}},
		{name: "no device tree", rule: RuleDeviceTree, change: func(m *host.Machine) { m.FDT = nil }, hint: "--dtb"},
		{name: "broken device tree", rule: RuleDeviceTree, opts: Options{DTB: []byte("\xd0\x0d\xfe\xedxxxx")}},
		{name: "large device tree", rule: RuleDeviceTree, opts: Options{Seed: make([]byte, 2<<20)}, says: []string{"2097152"}},
		{name: "more than half", rule: RuleHalf, change: func(m *host.Machine) { m.MemTotal = 64 << 20 }},
		{name: "page tables outside", rule: RuleCoverage, change: func(m *host.Machine) { m.PageTable = 0xf3c00000 }, says: []string{"swapper_pg_dir"}},
		{name: "page structs outside", rule: RuleCoverage, says: []string{"vmemmap", "0x80000000-0x80080000"},
			change: func(m *host.Machine) {
				m.Vmemmap = append(m.Vmemmap, host.Range{Start: 0x80000000, End: 0x80200000})
			}},
		{name: "notes outside", rule: RuleCoverage, says: []string{"crash notes"},
			change: func(m *host.Machine) { m.CrashNotes[1].Addr = 0x1000 }},
		{name: "no notes", rule: RuleCoverage, change: func(m *host.Machine) { m.CrashNotes = nil }},
		{name: "vmcoreinfo outside", rule: RuleCoverage, change: func(m *host.Machine) { m.VMCoreInfo = host.Range{Start: 0x1000, End: 0x2024} }},
		// What kexec-tools 2.0.32 did: reserved children cut out of memory.
		{name: "nested lines cut out", rule: RuleCoverage, change: func(m *host.Machine) {
			var out []host.Resource
			for _, r := range m.Iomem {
				if r.Name != "System RAM" {
					out = append(out, r)
				}
			}
			var holes []host.Range
			for _, r := range m.Iomem {
				if r.Name == "Reserved" {
					holes = append(holes, r.Range)
				}
			}
			for _, r := range host.Subtract(m.SystemRAM(), holes) {
				out = append(out, host.Resource{Range: r, Name: "System RAM"})
			}
			m.Iomem = out
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := recorded(t, sv57)
			if c.change != nil {
				c.change(m)
			}
			if c.kernel == nil {
				c.kernel = whole
			}
			if c.initramfs == 0 {
				c.initramfs = 3 << 20
			}
			p, err := makeOf(m, c.kernel, make([]byte, max(0, c.initramfs)), &c.opts)
			var e *RuleError
			if !errors.As(err, &e) || !errors.Is(err, ErrRefused) || p != nil {
				t.Fatalf("Make = %v, %v; want a RuleError", p, err)
			}
			if e.Rule != c.rule {
				t.Errorf("rule %q; want %q: %v", e.Rule, c.rule, err)
			}
			for _, s := range append(c.says, string(c.rule)) {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			if hints := strings.Join(e.Hints(), "\n"); !strings.Contains(hints, c.hint) {
				t.Errorf("hints %q do not say %q", hints, c.hint)
			}
		})
	}
}

func noCrash(m *host.Machine) []host.Resource {
	return slices.DeleteFunc(slices.Clone(m.Iomem), func(r host.Resource) bool { return r.Name == "Crash kernel" })
}

// A wrong image is refused with what was recognised and the file's name.
func TestImageErrors(t *testing.T) {
	arm := flat("6.12", 1<<20)
	copy(arm[0x30:], "\x00\x00\x00\x00\x00\x00\x00\x00ARM\x64")
	_, err := NewKernel("/boot/vmlinuz", arm)
	if !errors.Is(err, kimage.ErrWrongMachine) || !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "/boot/vmlinuz") {
		t.Errorf("NewKernel of an arm64 Image: %v; want ErrWrongMachine with the path", err)
	}
}

// Where a machine is described by ACPI tables, the panic kernel needs more.
func TestACPINeedsMore(t *testing.T) {
	m := recorded(t, "virt-6.12-acpi-2g")
	p := plan(t, m, nil)
	needed := p.Room.Reserved - p.Room.Free + p.Room.Working
	for _, c := range []struct {
		size    uint64
		refused bool
	}{{needed, false}, {needed - pageSize, true}} {
		i := slices.IndexFunc(m.Iomem, func(r host.Resource) bool { return r.Name == "Crash kernel" })
		m.Iomem[i].End = m.Iomem[i].Start + c.size
		m.CrashSize = c.size
		_, err := makeOf(m, flat(m.Release, 0x1e6b000), make([]byte, 3<<20), nil)
		if (err != nil) != c.refused || err != nil && !strings.Contains(err.Error(), "84.5 MiB to work with") {
			t.Errorf("%d bytes reserved: %v; want a refusal that says 84.5 MiB: %v", c.size, err, c.refused)
		}
	}
}

// The largest initramfs that fits is loaded, the next page is refused.
func TestRoomIsUsed(t *testing.T) {
	m := recorded(t, sv57)
	kernel := flat(m.Release, 0x1e6b000)
	opts := &Options{Unpacked: 1, WorkingMemory: 1}
	zeros := make([]byte, 128<<20)
	fits := func(pages int) *Plan {
		p, err := makeOf(m, kernel, zeros[:pages*pageSize], opts)
		if err != nil && !errors.Is(err, ErrRefused) {
			t.Fatal(err)
		}
		return p
	}
	low, high := 1, 128<<20/pageSize
	for low < high-1 {
		if mid := (low + high) / 2; fits(mid) != nil {
			low = mid
		} else {
			high = mid
		}
	}
	p := fits(low)
	gap := p.Segment(SegmentInitramfs).Mem - (p.Entry + 0x2000000)
	if gap < spare || gap > spare+2*pageSize {
		t.Errorf("%d bytes are left between kernel and initramfs; want about %d", gap, spare)
	}
}

func TestTwoRegions(t *testing.T) {
	m := recorded(t, "virt-7.2-sv48-8g-high")
	p := plan(t, m, nil)
	for _, s := range p.Segments {
		if s.Mem < 0x26fc00000 || s.Mem+s.MemSize > 0x27fc00000 {
			t.Errorf("segment %s at %#x is outside of the main region", s.Name, s.Mem)
		}
	}
	if p.Room.Reserved != 384<<20 {
		t.Errorf("%d bytes are reserved; want 384 MiB", p.Room.Reserved)
	}
}

func TestSparseCPUs(t *testing.T) {
	m := recorded(t, sv57)
	m.Possible = []int{0, 1, 4, 9}
	m.CrashNotes = append(m.CrashNotes, host.Note{CPU: 4, Addr: 0xfde03600, Size: 408}, host.Note{CPU: 9, Addr: 0xfde23600, Size: 408})
	p := plan(t, m, nil)
	var cpus []int
	for _, n := range p.Notes {
		cpus = append(cpus, n.CPU)
	}
	if diff := cmp.Diff([]int{0, 1, 4, 9, -1}, cpus); diff != "" {
		t.Errorf("notes of CPUs (-want +got):\n%s", diff)
	}
	if len(p.Warnings) != 0 {
		t.Errorf("warnings %q", p.Warnings)
	}
	m.CrashNotes = m.CrashNotes[:3]
	if p := plan(t, m, nil); len(p.Warnings) != 1 {
		t.Errorf("warnings %q; want one about the CPU without notes", p.Warnings)
	}
}

// Without /proc/kcore the plan stands, says what was not verified, and finds
// the linear map by the kernel's version.
func TestWithoutKernelMemory(t *testing.T) {
	for _, name := range []string{sv57, "virt-7.2-sv48-8g-high", "virt-6.12-sv39-1g"} {
		m, err := host.Read(os.DirFS(filepath.Join("testdata", "machines", name)), &host.Options{NoKernelMemory: true})
		if err != nil {
			t.Fatal(err)
		}
		p := plan(t, m, nil)
		var open []string
		for _, c := range p.Checks {
			if !c.OK {
				open = append(open, c.Name)
			}
		}
		if diff := cmp.Diff([]string{"root page table (swapper_pg_dir)", "page structs (vmemmap)"}, open); diff != "" {
			t.Errorf("%s: not verified (-want +got):\n%s", name, diff)
		}
		want := plan(t, recorded(t, name), nil).Memory[1:] // the first is the kernel image
		if diff := cmp.Diff(want, p.Memory); diff != "" {
			t.Errorf("%s: memory (-with kcore +without):\n%s", name, diff)
		}
		m.Release = "6.8.0"
		if p := plan(t, m, nil); p.Memory[0].Virt != 0 || len(p.Warnings) == 0 {
			t.Errorf("%s: p_vaddr %#x of a kernel whose map is not known; want 0 and a warning", name, p.Memory[0].Virt)
		}
	}
}

func TestTestOptions(t *testing.T) {
	m := recorded(t, sv57)
	p := plan(t, m, &Options{Test: TestOptions{IncludeFirmware: true}})
	if p.Memory[1].Start != 0x80000000 {
		t.Errorf("memory begins at %#x; want the firmware's at 0x80000000", p.Memory[1].Start)
	}
	// A tree that was given does not know this machine's firmware.
	tree, err := fdt.Parse(m.FDT)
	if err != nil {
		t.Fatal(err)
	}
	tree.Root.RemoveChild(tree.Find("/reserved-memory"))
	blob, err := tree.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if p = plan(t, m, &Options{DTB: blob}); p.Memory[1].Start == 0x80000000 {
		t.Error("with a device tree given, the firmware's memory is in the dump")
	}
	p = plan(t, m, &Options{Test: TestOptions{OmitDTB: true}})
	if p.Segment(SegmentTree) != nil || len(p.Segments) != 3 {
		t.Errorf("segments %+v; want none of the device tree", p.Segments)
	}
}

// Make gives the same plan for the same facts.
func TestPure(t *testing.T) {
	m := recorded(t, sv57)
	a, b := plan(t, m, nil), plan(t, m, nil)
	if !reflect.DeepEqual(a, b) {
		t.Errorf("two plans for the same facts:\n%v\n%v", a, b)
	}
	if diff := cmp.Diff(recorded(t, sv57), m); diff != "" {
		t.Errorf("Make changed the machine (-was +is):\n%s", diff)
	}
}

func TestInheritCmdline(t *testing.T) {
	for in, want := range map[string]string{
		"BOOT_IMAGE=/vmlinuz root=UUID=1 ro quiet console=ttyS0,115200 earlycon=sbi crashkernel=256M,high": "console=ttyS0,115200 earlycon=sbi",
		`dyndbg="file a b" crashkernel="1G" x`:     `dyndbg="file a b" x`,
		"panic-on-warn panic=5 panicle -- single":  "panicle",
		"sysctl.vm.nr_hugepages=64 sysctlx":        "sysctlx",
		"rd.luks.uuid=1 systemd.unit=a ftrace=x y": "y",
		"": "",
	} {
		if got := InheritCmdline(in); got != want {
			t.Errorf("InheritCmdline(%q) = %q; want %q", in, got, want)
		}
	}
	for _, d := range dropped {
		if d.because == "" {
			t.Errorf("%s is dropped without a reason", d.name)
		}
	}
}

func TestCmdlineLength(t *testing.T) {
	m := recorded(t, "virt-7.2-sv48-8g-high")
	for release, limit := range map[string]int{"6.12.107": 1023, "7.2.13+deb14-riscv64": 2047, "": 1023} {
		kernel := flat(release, 0x1e6b000)
		if _, err := makeOf(m, kernel, []byte{1}, &Options{Cmdline: new(strings.Repeat("x", limit))}); err != nil {
			t.Errorf("%q: %d bytes: %v", release, limit, err)
		}
		if _, err := makeOf(m, kernel, []byte{1}, &Options{Cmdline: new(strings.Repeat("x", limit+1))}); !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %d bytes: %v; want ErrRefused", release, limit+1, err)
		}
	}
}

func TestTraps(t *testing.T) {
	m := recorded(t, sv57)
	if p := plan(t, m, &Options{Append: "x=no4lvl"}); len(p.Warnings) != 1 {
		t.Errorf("warnings %q; want one about no4lvl", p.Warnings)
	}
	if p := plan(t, m, &Options{Append: "no4lvl nokaslr"}); len(p.Warnings) != 0 {
		t.Errorf("warnings %q", p.Warnings)
	}
}

func FuzzInheritCmdline(f *testing.F) {
	f.Add("BOOT_IMAGE=/vmlinuz root=UUID=1 ro quiet console=ttyS0 crashkernel=256M,high")
	f.Add(`a="b c" -- d`)
	f.Fuzz(func(t *testing.T, s string) {
		got := InheritCmdline(s)
		if again := InheritCmdline(got); again != got {
			t.Errorf("InheritCmdline(%q) = %q, and of that %q", s, got, again)
		}
		for _, w := range words(got) {
			if strings.HasPrefix(w, "crashkernel=") {
				t.Errorf("InheritCmdline(%q) = %q", s, got)
			}
		}
	})
}

func TestParseVersion(t *testing.T) {
	for in, want := range map[string]version{
		"6.12.107+deb13-riscv64": {6, 12}, "7.2.13": {7, 2}, "6.1-rc3": {6, 1}, "7": {}, "": {}, "x.y": {}, "6.": {},
	} {
		if got := parseVersion(in); got != want {
			t.Errorf("parseVersion(%q) = %v; want %v", in, got, want)
		}
	}
}

func TestLimitWarning(t *testing.T) {
	m := recorded(t, sv57)
	for limit, want := range map[int]int{host.Unlimited: 0, 1: 1, 2: 1, 3: 0} {
		m.LimitPanic = limit
		if p := plan(t, m, nil); len(p.Warnings) != want {
			t.Errorf("limit %d: warnings %q; want %d", limit, p.Warnings, want)
		}
	}
}

func TestWithout(t *testing.T) {
	const running = `BOOT_IMAGE=/boot/vmlinuz root=/dev/vda1 ro crashkernel=256M,high crashkernel=64M,low dyndbg="file a.c +p crashkernel=x" notcrashkernel=1 crashkernel_is=2`
	for _, c := range []struct {
		line  string
		names []string
		want  string
	}{
		{running, []string{"BOOT_IMAGE", "crashkernel"}, `root=/dev/vda1 ro dyndbg="file a.c +p crashkernel=x" notcrashkernel=1 crashkernel_is=2`},
		{running, nil, running},
		{"", []string{"a"}, ""},
		{" a  b=1 \t c\n", []string{"b"}, "a c"},
		{`"BOOT_IMAGE=/a b" c`, []string{"BOOT_IMAGE"}, "c"},
		{`c a="b crashkernel=1`, []string{"crashkernel"}, `c a="b crashkernel=1`}, // the kernel takes the rest, too
		{"crashkernel", []string{"crashkernel"}, ""},
	} {
		if got := Without(c.line, c.names...); got != c.want {
			t.Errorf("Without(%q, %q) = %q; want %q", c.line, c.names, got, c.want)
		}
	}
}

// Bounds of whoever calls are kept or the load is refused; nothing moves.
func TestWithin(t *testing.T) {
	m := recorded(t, sv57)
	free := plan(t, m, nil)
	region := free.Regions[0]
	lowest, highest := region.End, region.Start
	for _, s := range free.Segments {
		lowest, highest = min(lowest, s.Mem), max(highest, s.Mem+s.MemSize)
	}
	m.Config["CONFIG_KEXEC_FILE"] = "y"
	m.Release = "7.2.0" // takes an Image by kexec_file_load
	for _, c := range []struct {
		what    string
		method  Method
		purpose Purpose
		within  host.Range
		ok      bool
	}{
		{"all that is used", ByLoad, ForCrash, host.Range{Start: lowest, End: highest}, true},
		{"a byte less below", ByLoad, ForCrash, host.Range{Start: lowest + 1, End: highest}, false},
		{"a byte less above", ByLoad, ForCrash, host.Range{Start: lowest, End: highest - 1}, false},
		{"everything", ByLoad, ForReboot, host.Range{Start: 0, End: 1<<64 - 1}, true},
		{"too low", ByLoad, ForReboot, host.Range{Start: 0, End: 0x80000000}, false},
		{"the region", ByFile, ForCrash, region, true},
		{"less than the region", ByFile, ForCrash, host.Range{Start: region.Start, End: region.End - 1}, false},
		{"where the kernel wants", ByFile, ForReboot, host.Range{Start: 0, End: 1<<64 - 1}, false},
	} {
		p, err := makeOf(m, flat(m.Release, 0x1e6b000), make([]byte, 3<<20), &Options{Method: c.method, Purpose: c.purpose, Within: &c.within})
		var rule *RuleError
		switch {
		case c.ok && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.ok && c.method == ByLoad && c.purpose == ForCrash && p.Segments[0].Mem != free.Segments[0].Mem:
			t.Errorf("%s: the bounds have moved %v to %#x", c.what, free.Segments[0].Range(), p.Segments[0].Mem)
		case !c.ok && (!errors.As(err, &rule) || rule.Rule != RuleWithin):
			t.Errorf("%s: %v; want the rule %q", c.what, err, RuleWithin)
		}
	}
}
