package load

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// withFile is a recorded machine as if its kernel had kexec_file_load.
func withFile(t *testing.T) *host.Machine {
	m := recorded(t, sv57)
	m.Config = map[string]string{"CONFIG_KEXEC": "y", "CONFIG_KEXEC_FILE": "y"}
	return m
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*host.Machine)
		opts Options
		want Method
		rule Rule
		says string
	}{
		{name: "both", want: ByLoad, says: "firmware"},
		{name: "unknown configuration", set: func(m *host.Machine) { m.Config = nil }, want: ByLoad},
		{name: "asked for file", opts: Options{Method: ByFile}, want: ByFile, says: "asked for"},
		{name: "asked for load", opts: Options{Method: ByLoad}, want: ByLoad, says: "asked for"},
		{name: "no kexec_load", set: func(m *host.Machine) { m.Config["CONFIG_KEXEC"] = "n" }, want: ByFile, says: "without CONFIG_KEXEC"},
		{name: "locked down", set: func(m *host.Machine) { m.Lockdown = "integrity" }, want: ByFile, says: "locked down (integrity)"},
		{name: "locked down, no file", set: func(m *host.Machine) { m.Lockdown = "integrity"; m.Config["CONFIG_KEXEC_FILE"] = "n" },
			rule: RuleLockdown, says: "neither"},
		{name: "locked down, load", set: func(m *host.Machine) { m.Lockdown = "integrity" }, opts: Options{Method: ByLoad}, rule: RuleLockdown},
		{name: "neither", set: func(m *host.Machine) { m.Config = map[string]string{"CONFIG_KEXEC": "n", "CONFIG_KEXEC_FILE": "n"} },
			rule: RuleMethod, says: "neither"},
		{name: "file without", set: func(m *host.Machine) { m.Config["CONFIG_KEXEC_FILE"] = "n" }, opts: Options{Method: ByFile},
			rule: RuleMethod, says: "without CONFIG_KEXEC_FILE"},
		{name: "file on an old kernel", set: func(m *host.Machine) { m.Release = "5.15.0" }, opts: Options{Method: ByFile}, rule: RuleMethod, says: "since Linux 5.19"},
		{name: "file with a tree", opts: Options{Method: ByFile, DTB: []byte{1}}, rule: RuleMethod, says: "device tree"},
		{name: "file with two regions", set: twoRegions, opts: Options{Method: ByFile}, rule: RuleMethod, says: "two reserved regions"},
		{name: "file with two regions, 7.2", set: func(m *host.Machine) { twoRegions(m); m.Release = "7.2.13" }, opts: Options{Method: ByFile}, want: ByFile},
		{name: "load with two regions", set: twoRegions, want: ByLoad},
	} {
		m := withFile(t)
		if c.set != nil {
			c.set(m)
		}
		var got Method
		var why string
		chosen, err := choose(riscv64(), m, &c.opts)
		if err == nil {
			got, why = chosen.method, chosen.why
		}
		var e *RuleError
		switch {
		case c.rule == "" && (err != nil || got != c.want || why == "" || !strings.Contains(why, c.says)):
			t.Errorf("%s: %q, %q, %v; want %q that says %q", c.name, got, why, err, c.want, c.says)
		case c.rule != "" && (!errors.As(err, &e) || e.Rule != c.rule || len(e.Remedy) == 0 || !strings.Contains(e.Detail, c.says)):
			t.Errorf("%s: %q, %v; want rule %q that says %q", c.name, got, err, c.rule, c.says)
		}
	}
}

// twoRegions is what crashkernel=…,high makes.
func twoRegions(m *host.Machine) {
	r := host.Resource{Name: "Crash kernel", Range: host.Range{Start: 0x90000000, End: 0x98000000}, Depth: 1}
	m.Iomem = append(m.Iomem, r)
	m.CrashSize += r.Size()
}

// A plan by file is what the kernel is given and nothing that it decides.
func TestMakeByFile(t *testing.T) {
	m := withFile(t)
	p := plan(t, m, &Options{Method: ByFile, Append: "nr_cpus=1"})
	if p.Flags != sys.KexecFileOnCrash || len(p.Segments) != 2 || p.Segments[0].Name != SegmentKernel || p.Segments[1].Name != SegmentInitramfs {
		t.Fatalf("flags %#x, segments %+v", p.Flags, p.Segments)
	}
	for _, s := range p.Segments {
		if s.Mem != 0 || s.Size != uint64(len(s.Data)) || len(s.SHA256) != 64 {
			t.Errorf("segment %s at %#x of %d bytes, digest %q", s.Name, s.Mem, s.Size, s.SHA256)
		}
	}
	// The kernel's header has the firmware's memory: the plan must not say that
	// it has not, and must say that it has.
	for _, e := range p.Excluded {
		if strings.Contains(e.Why, "firmware") {
			t.Errorf("%v is left out: %s", e.Range, e.Why)
		}
	}
	if !slices.ContainsFunc(p.Warnings, func(s string) bool { return strings.Contains(s, "mmode_resv0") }) {
		t.Errorf("warnings %q say nothing of the firmware", p.Warnings)
	}

	// It loads, is kept, and is put back by the same call.
	skipWithoutLocks(t)
	k := &kernel{}
	l := k.loader(t)
	if err := l.execute(p); err != nil {
		t.Fatal(err)
	}
	first := k.handed
	checkWrapped(t, &first, p)
	k.noFile = syscall.ENOEXEC
	if err := l.execute(p); !errors.Is(err, syscall.ENOEXEC) || !errors.Is(err, ErrKernelRefused) {
		t.Fatalf("execute: %v", err)
	}
	k.noFile = nil
	again, err := l.kept()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.put(again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, k.handed, cmp.AllowUnexported(handing{}), cmpopts.IgnoreTypes(&store{})); diff != "" {
		t.Errorf("what is handed over again (-first +again):\n%s", diff)
	}
	// Without kexec_load it is unloaded by file.
	k.early = syscall.ENOSYS
	if err := l.unload(ForCrash); err != nil || k.handed.flags != sys.KexecFileUnload|sys.KexecFileOnCrash || k.loaded != nil {
		t.Errorf("unload: %v, flags %#x", err, k.handed.flags)
	}
}

// checkWrapped reads what is handed over with somebody else's ELF reader.
func checkWrapped(t *testing.T, h *handing, p *Plan) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(append(slices.Clone(h.header), h.kernel...)))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_EXEC || f.Machine != elf.EM_RISCV || f.Class != elf.ELFCLASS64 || len(f.Progs) != 1 || f.Entry != 0xffffffff80000000 {
		t.Fatalf("%+v with %d segments", f.FileHeader, len(f.Progs))
	}
	ph := f.Progs[0]
	if ph.Type != elf.PT_LOAD || ph.Paddr != 0 || ph.Vaddr != 0xffffffff80000000 || ph.Memsz < p.Kernel.ImageSize || ph.Memsz%(2<<20) != 0 {
		t.Errorf("segment %+v", ph.ProgHeader)
	}
	data, err := io.ReadAll(ph.Open())
	if err != nil || !bytes.Equal(data, h.kernel) {
		t.Errorf("the segment has %d bytes of the kernel's %d, %v", len(data), len(h.kernel), err)
	}
	if h.cmdline != p.Cmdline {
		t.Errorf("command line %q", h.cmdline)
	}
}

// The kernel lies in a store and is handed over without a copy.
func TestStore(t *testing.T) {
	s := &store{}
	data, err := s.alloc(10)
	if err != nil {
		t.Fatal(err)
	}
	if s.file == nil {
		if runtime.GOOS == "linux" {
			t.Fatal("no file in memory, and Linux has them")
		}
		t.Skip("only Linux has files in memory")
	}
	copy(data, "a kernel..")
	h := &handing{header: bytes.Repeat([]byte("h"), wrapSize), kernel: data, store: s}
	f := s.takes(h)
	if f == nil {
		t.Fatal("the store does not know its kernel")
	}
	got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil || string(got) != string(h.header)+"a kernel.." {
		t.Errorf("the file has %q, %v", got, err)
	}
	if s.takes(&handing{header: h.header, kernel: slices.Clone(data)}) != nil {
		t.Error("the store takes another kernel for its own")
	}
	if err := s.Close(); err != nil || s.takes(h) != nil {
		t.Errorf("closed: %v", err)
	}
	if (*store)(nil).takes(h) != nil {
		t.Error("no store takes a kernel")
	}
}

// Another call is tried only for refusals that it does not share and that have
// cost nothing.
func TestOtherwise(t *testing.T) {
	p := &Plan{Method: ByLoad, Purpose: ForCrash}
	for _, c := range []struct {
		err  error
		opts Options
		plan *Plan
		want Method
	}{
		{err: &KernelError{Err: syscall.ENOSYS}, want: ByFile},
		{err: fmt.Errorf("load: %w", &KernelError{Err: os.NewSyscallError("kexec_load", syscall.EACCES)}), want: ByFile},
		{err: &KernelError{Err: syscall.EPERM, Log: []string{"Lockdown: panicroom: kexec of unsigned images is restricted"}}, want: ByFile},
		{err: &KernelError{Err: syscall.EPERM}},
		{err: &KernelError{Err: syscall.EINVAL}},
		{err: &KernelError{Err: syscall.ENOSYS}, opts: Options{Method: ByLoad}},
		{err: &KernelError{Err: syscall.ENOSYS}, opts: Options{DTB: []byte{1}}},
		{err: &KernelError{Err: syscall.ENOSYS}, plan: &Plan{Method: ByFile}},
		{err: &KernelError{Err: syscall.ENOSYS, After: Lost}},
		{err: &RuleError{}},
	} {
		if c.plan == nil {
			c.plan = p
		}
		if got, why, ok := c.plan.Otherwise(c.err, &c.opts); got != c.want || ok != (c.want != "") || ok && why == "" {
			t.Errorf("Otherwise(%v, %+v) = %q, %q, %v; want %q", c.err, c.opts, got, why, ok, c.want)
		}
	}
}

func TestMakeForReboot(t *testing.T) {
	m := recorded(t, sv57)
	m.Cmdline = "BOOT_IMAGE=/vmlinux root=/dev/vda1 crashkernel=128M quiet"
	initramfs := make([]byte, 3<<20)
	p := plan(t, m, &Options{Purpose: ForReboot, Append: "debug"})
	if p.Flags != 243<<16 || p.Cmdline != "root=/dev/vda1 crashkernel=128M quiet debug" || len(p.Segments) != 3 || len(p.Regions) != 0 {
		t.Errorf("flags %#x, command line %q, %d segments, regions %v", p.Flags, p.Cmdline, len(p.Segments), p.Regions)
	}
	kernel, ramdisk, dtb := p.Segment(SegmentKernel), p.Segment(SegmentInitramfs), p.Segment(SegmentTree)
	// OpenSBI has the first 512 KiB.
	if kernel.Mem != 0x80200000 || p.Entry != kernel.Mem {
		t.Errorf("kernel at %#x, entry %#x; want the lowest boundary behind the firmware", kernel.Mem, p.Entry)
	}
	crash := m.CrashRegions()[0]
	for _, s := range p.Segments {
		if r := s.Range(); r.End > crash.Start && r.Start < crash.End {
			t.Errorf("segment %s at %v is in the panic room %v", s.Name, r, crash)
		}
		if s.Name != SegmentKernel && s.Mem < kernel.Mem+roundUp(kernel.MemSize, 2<<20) {
			t.Errorf("segment %s at %#x is in the kernel's way", s.Name, s.Mem)
		}
	}
	tree, err := fdt.Parse(dtb.Data)
	if err != nil {
		t.Fatal(err)
	}
	chosen := tree.Find("/chosen")
	start, _ := chosen.Uint("linux,initrd-start")
	end, _ := chosen.Uint("linux,initrd-end")
	args, _ := chosen.String("bootargs")
	if start != ramdisk.Mem || end != start+uint64(len(initramfs)) || args != p.Cmdline {
		t.Errorf("initramfs %#x-%#x, bootargs %q", start, end, args)
	}
	for _, name := range []string{"linux,elfcorehdr", "linux,usable-memory-range"} {
		if chosen.Has(name) {
			t.Errorf("the next kernel would be a panic kernel: /chosen has %s", name)
		}
	}

	// Nothing of the reservation or the limit of panic kernels matters.
	m.CrashSize, m.NoKexec, m.LimitPanic = 0, true, 0
	plan(t, m, &Options{Purpose: ForReboot})
	m.LimitReboot = 0
	var e *RuleError
	if _, err := makeOf(m, flat(m.Release, 0x1e6b000), initramfs, &Options{Purpose: ForReboot}); !errors.As(err, &e) || e.Rule != RuleLoadLimit {
		t.Errorf("with no load left: %v", err)
	}
	m.LimitReboot = host.Unlimited
	m.Config = map[string]string{"CONFIG_KEXEC": "n", "CONFIG_KEXEC_FILE": "y"}
	if p := plan(t, m, &Options{Purpose: ForReboot}); p.Method != ByFile || p.Flags != 0 || len(p.Segments) != 2 {
		t.Errorf("by file: %s, flags %#x, %d segments", p.Method, p.Flags, len(p.Segments))
	}
}

func TestStale(t *testing.T) {
	m := recorded(t, sv57)
	p := plan(t, m, nil)
	if s := p.Stale(m); s != nil {
		t.Errorf("a new plan is stale: %q", s)
	}
	for says, change := range map[string]func(*host.Machine){
		"6.12.0-other":            func(m *host.Machine) { m.Release = "6.12.0-other" },
		"the reserved memory was": func(m *host.Machine) { shrink(m) },
		"of memory came": func(m *host.Machine) {
			m.Iomem = append(m.Iomem, host.Resource{Name: "System RAM", Range: host.Range{Start: 1 << 40, End: 1<<40 + 128<<20}})
		},
		"of memory went":            func(m *host.Machine) { lastRAM(m).End -= 16 << 20 },
		"CPU 0 leaves its register": func(m *host.Machine) { m.CrashNotes[0].Addr += 0x1000 },
		"vmcoreinfo is at":          func(m *host.Machine) { m.VMCoreInfo.Start += 0x1000 },
	} {
		m := recorded(t, sv57)
		change(m)
		if s := p.Stale(m); len(s) == 0 || !strings.Contains(strings.Join(s, "\n"), says) {
			t.Errorf("stale %q; want %q", s, says)
		}
	}
	// CPUs that went offline change nothing.
	m = recorded(t, sv57)
	m.Online = m.Online[:1]
	if s := p.Stale(m); s != nil {
		t.Errorf("without a CPU the plan is stale: %q", s)
	}
}

func shrink(m *host.Machine) {
	for i := range m.Iomem {
		if m.Iomem[i].Name == "Crash kernel" {
			m.Iomem[i].End -= 32 << 20
			m.CrashSize -= 32 << 20
		}
	}
}

func lastRAM(m *host.Machine) *host.Range {
	var last *host.Range
	for i := range m.Iomem {
		if m.Iomem[i].Name == "System RAM" {
			last = &m.Iomem[i].Range
		}
	}
	return last
}

// One changed byte of what lies in the reserved memory is found.
func TestHeld(t *testing.T) {
	m := recorded(t, sv57)
	p := plan(t, m, nil)
	memory := map[uint64][]byte{}
	for _, s := range p.Segments {
		memory[s.Mem] = slices.Clone(s.Data)
	}
	section := func(r host.Range) io.Reader {
		b, ok := memory[r.Start]
		if !ok {
			return iotest.ErrReader(errors.New("not mapped"))
		}
		return bytes.NewReader(b[:min(r.Size(), uint64(len(b)))])
	}
	states := func() (list []HeldState) {
		for _, h := range p.Held(section) {
			if (h.State == Intact) != (h.Detail == "") {
				t.Errorf("%+v", h)
			}
			list = append(list, h.State)
		}
		return list
	}
	if diff := cmp.Diff([]HeldState{Intact, Intact, Intact, Intact}, states()); diff != "" {
		t.Errorf("untouched: %s", diff)
	}
	kernel, tree, header := p.Segment(SegmentKernel), p.Segment(SegmentTree), p.Segment(SegmentHeader)
	memory[kernel.Mem][kernel.Size-1] ^= 1
	memory[tree.Mem] = memory[tree.Mem][:10]
	delete(memory, header.Mem)
	if diff := cmp.Diff([]HeldState{Unseen, Damaged, Intact, Unseen}, states()); diff != "" {
		t.Errorf("touched: %s", diff)
	}
	if s := (&Status{Loaded: true, Held: p.Held(section)}); s.Armed() {
		t.Error("armed with a damaged kernel")
	}
	for _, h := range p.Held(nil) {
		if h.State != Unseen {
			t.Errorf("nothing can be read: %+v", h)
		}
	}
}
