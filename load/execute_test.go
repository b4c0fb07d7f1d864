package load

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// kernel is a kernel as far as a loader sees one: it frees what was loaded
// before it looks at what comes, as Linux does.
type kernel struct {
	loaded  []sys.KexecSegment
	calls   int
	early   error // before anything is freed
	refuse  func(call int, segments []sys.KexecSegment) error
	said    []string
	pretend bool // succeed without loading

	handed handing // by file
	noFile error   // kexec_file_load fails
}

func (k *kernel) file(h *handing) error {
	k.handed = *h
	if k.noFile != nil {
		return os.NewSyscallError("kexec_file_load", k.noFile)
	}
	if h.flags&sys.KexecFileUnload != 0 {
		k.loaded = nil
		return nil
	}
	k.loaded = []sys.KexecSegment{{Data: slices.Clone(h.kernel)}, {Data: slices.Clone(h.initramfs)}}
	return nil
}

func (k *kernel) load(_ uint64, segments []sys.KexecSegment, flags uint64) error {
	k.calls++
	if k.early != nil {
		return os.NewSyscallError("kexec_load", k.early)
	}
	if flags&flagOnCrash == 0 {
		return errors.New("not the crash slot")
	}
	k.loaded = nil
	if k.refuse != nil {
		if err := k.refuse(k.calls, segments); err != nil {
			return os.NewSyscallError("kexec_load", err)
		}
	}
	if k.pretend {
		return nil
	}
	for _, s := range segments {
		s.Data = slices.Clone(s.Data)
		k.loaded = append(k.loaded, s)
	}
	return nil
}

func (k *kernel) New(int) []string { return k.said }
func (k *kernel) Close() error     { return nil }

func (k *kernel) loader(t *testing.T) *loader {
	return &loader{
		dir: filepath.Join(t.TempDir(), "panicroom"), load: k.load, file: k.file,
		loaded: func(Purpose) (bool, error) { return len(k.loaded) > 0, nil },
		log:    func() kernelLog { return k },
	}
}

// small is a plan with the names and sizes of a real one.
func small(word string) *Plan {
	p := &Plan{Arch: "riscv64", Purpose: ForCrash, Method: ByLoad, Entry: 0x1000, Flags: flagOnCrash | 243<<16, Cmdline: word}
	for i, name := range []string{SegmentTree, SegmentKernel, SegmentInitramfs, SegmentHeader} {
		data := []byte(word + " " + name)
		p.Segments = append(p.Segments, Segment{Name: name, Mem: uint64(i+1) << 12, MemSize: pageSize, Size: uint64(len(data)), Data: data})
	}
	return p
}

func segments(p *Plan) []sys.KexecSegment {
	var list []sys.KexecSegment
	for _, s := range p.Segments {
		list = append(list, sys.KexecSegment{Data: s.Data, Mem: s.Mem, MemSize: s.MemSize})
	}
	return list
}

// Without either system call nothing can be in a slot: the hint is not to try the
// other call.
func TestUnloadWithoutKexec(t *testing.T) {
	skipWithoutLocks(t)
	l := (&kernel{}).loader(t)
	l.load = func(uint64, []sys.KexecSegment, uint64) error { return syscall.ENOSYS }
	l.file = func(*handing) error { return syscall.ENOSYS }
	for _, p := range []Purpose{ForCrash, ForReboot} {
		err := l.unload(p)
		rule, ok := errors.AsType[*RuleError](err)
		if !ok || rule.Rule != RuleKexec || !strings.Contains(strings.Join(ui.Hints(err), " "), "CONFIG_KEXEC=y") {
			t.Errorf("unload: %v, hints %q; want the rule %q and the kernel option", err, ui.Hints(err), RuleKexec)
		}
	}
	l.loaded = func(Purpose) (bool, error) { return false, fs.ErrNotExist }
	if s, err := l.current(&host.Machine{NoKexec: true}, nil); err != nil || s.Loaded {
		t.Errorf("status without kexec: %+v, %v", s, err)
	}
	if _, err := l.current(&host.Machine{}, nil); err == nil {
		t.Error("a kernel with kexec that does not say what is loaded has nothing loaded")
	}
}

// Every broken rule comes with what to do, its own or the rule's; but not beside
// the advice of what was found.
func TestRuleRemedies(t *testing.T) {
	for _, r := range []Rule{RuleArchitecture, RuleKexec, RuleCrashkernel, RuleLoadDisabled, RuleLoadLimit, RuleLockdown,
		RuleMethod, RuleImage, RuleInitramfs, RuleCmdline, RuleDeviceTree, RuleRoom, RuleHalf, RuleCoverage, RuleSegments,
		RuleWithin, RuleLoaded, RuleSysrq, RuleShrink} {
		if hints := ui.Hints(&RuleError{Rule: r, Detail: "x"}); len(hints) != 1 {
			t.Errorf("the rule %q has the hints %q", r, hints)
		}
	}
	own := &RuleError{Rule: RuleRoom, Remedy: []string{"a", "b"}}
	found := &RuleError{Rule: RuleImage, Err: ui.Hint(fs.ErrInvalid, "c")}
	if a, b := ui.Hints(own), ui.Hints(found); len(a) != 2 || len(b) != 1 || b[0] != "c" {
		t.Errorf("hints %q and %q", a, b)
	}
}

func TestExecuteKeeps(t *testing.T) {
	skipWithoutLocks(t)
	k := &kernel{}
	l := k.loader(t)
	if _, err := l.kept(); !errors.Is(err, errNoLastGood) {
		t.Errorf("kept before anything was loaded: %v", err)
	}
	for _, word := range []string{"first", "second"} {
		p := small(word)
		if err := l.execute(p); err != nil {
			t.Fatal(err)
		}
		got, err := l.kept()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, got, cmpopts.IgnoreUnexported(Segment{}, Plan{})); diff != "" {
			t.Errorf("last good plan (-want +got):\n%s", diff)
		}
		s, err := l.current(&host.Machine{}, nil)
		if err != nil || !s.Loaded || s.Plan.Cmdline != word {
			t.Errorf("status %+v, %v", s, err)
		}
	}
	// Only the last one is kept, and only its owner can look at it.
	var names []string
	err := filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink == 0 && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		names = append(names, d.Name())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 9 { // the directory, lock, link, plan directory, plan, 4 segments
		t.Errorf("files %q", names)
	}
	if err := l.unload(ForCrash); err != nil || k.loaded != nil {
		t.Errorf("unload: %v", err)
	}
	if _, err := l.kept(); !errors.Is(err, errNoLastGood) {
		t.Errorf("kept after unload: %v", err)
	}
	if s, err := l.current(&host.Machine{}, nil); err != nil || s.Loaded || s.Plan != nil {
		t.Errorf("status after unload %+v, %v", s, err)
	}
}

func TestExecuteRestores(t *testing.T) {
	skipWithoutLocks(t)
	noTree := func(_ int, s []sys.KexecSegment) error {
		if strings.HasPrefix(string(s[0].Data), "bad") {
			return syscall.EINVAL
		}
		return nil
	}
	for _, c := range []struct {
		name   string
		before bool // something of ours is loaded
		alien  bool // something of somebody else
		set    func(*kernel)
		after  Aftermath
		left   string // what is loaded then
	}{
		{name: "nothing before", set: func(k *kernel) { k.refuse = noTree }, after: Nothing},
		{name: "restored", before: true, set: func(k *kernel) { k.refuse = noTree }, after: Restored, left: "good"},
		{name: "refused early", before: true, set: func(k *kernel) { k.early = syscall.EPERM }, after: Untouched, left: "good"},
		{name: "no copy", alien: true, set: func(k *kernel) { k.refuse = noTree }, after: Lost},
		{name: "refuses all", before: true, after: Lost,
			set: func(k *kernel) { k.refuse = func(int, []sys.KexecSegment) error { return syscall.ENOMEM } }},
		{name: "pretends", before: true, set: func(k *kernel) { k.pretend = true }, after: Lost},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := &kernel{said: []string{"Device tree not included in the provided image"}}
			l := k.loader(t)
			if c.before {
				if err := l.execute(small("good")); err != nil {
					t.Fatal(err)
				}
			}
			if c.alien {
				k.loaded = segments(small("alien"))
			}
			c.set(k)
			err := l.execute(small("bad"))
			var e *KernelError
			if !errors.As(err, &e) || !errors.Is(err, ErrKernelRefused) {
				t.Fatalf("execute: %v; want a KernelError", err)
			}
			if e.After != c.after || (e.Restore != nil) != (c.after == Lost) {
				t.Errorf("after %q, %v; want %q", e.After, e.Restore, c.after)
			}
			for _, s := range []string{k.said[0], string(c.after)} {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			var want []sys.KexecSegment
			if c.left != "" {
				want = segments(small(c.left))
			}
			if diff := cmp.Diff(want, k.loaded); diff != "" {
				t.Errorf("loaded (-want +got):\n%s", diff)
			}
			if c.before {
				if p, err := l.kept(); err != nil || p.Cmdline != "good" {
					t.Errorf("last good plan %+v, %v; want the one before", p, err)
				}
			}
		})
	}
}

// A plan that was kept and then damaged is not put back.
func TestKeptIsChecked(t *testing.T) {
	skipWithoutLocks(t)
	for name, damage := range map[string]func(dir string) error{
		"short segment": func(dir string) error { return os.Truncate(filepath.Join(dir, SegmentKernel), 3) },
		"no segment":    func(dir string) error { return os.Remove(filepath.Join(dir, SegmentTree)) },
		"broken plan":   func(dir string) error { return os.WriteFile(filepath.Join(dir, planFile), []byte("{"), 0o600) },
		"foreign name": func(dir string) error {
			p := small("x")
			p.Segments[0].Name = "../../shadow"
			b, err := json.Marshal(p)
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, planFile), b, 0o600)
		},
	} {
		l := (&kernel{}).loader(t)
		if err := l.execute(small("x")); err != nil {
			t.Fatal(err)
		}
		if err := damage(filepath.Join(l.dir, lastGood)); err != nil {
			t.Fatal(err)
		}
		if p, err := l.kept(); err == nil {
			t.Errorf("%s: kept = %+v", name, p)
		}
	}
}

// skipWithoutLocks: a system without flock has no panic kernels either.
func skipWithoutLocks(t *testing.T) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := sys.LockFile(f); errors.Is(err, sys.ErrNotSupportedOnOS) {
		t.Skip(err)
	}
}

func TestExplain(t *testing.T) {
	for _, by := range []Method{ByLoad, ByFile} {
		for _, errno := range []syscall.Errno{syscall.EPERM, syscall.EACCES, syscall.EINVAL, syscall.EADDRNOTAVAIL, syscall.EBUSY, syscall.ENOMEM, syscall.ENOSYS, syscall.EFAULT} {
			if e := explain(by, os.NewSyscallError(by.Call(), errno), nil); e.meaning == "" || len(e.remedy) == 0 {
				t.Errorf("%s: %v is explained with %+v", by, errno, e)
			}
		}
		if e := explain(by, syscall.EPIPE, nil); e.meaning != "" || len(e.remedy) == 0 {
			t.Errorf("EPIPE is explained with %+v", e)
		}
	}
	// What the kernels say, as they say it; the first three stand in the seed's
	// log and in reference lists of stable kernels.
	for line, want := range map[string]string{
		"kexec_image: Unknown rela relocation: 19":                                                            "R_RISCV_CALL_PLT",
		"kexec_image: Unknown rela relocation: 20":                                                            "R_RISCV_GOT_HI20",
		"kexec_image: Unknown rela relocation: 2":                                                             "R_RISCV_64",
		"kexec_image: Unknown rela relocation: 57":                                                            "purgatory",
		"kexec_image: Error loading purgatory ret=-8":                                                         "purgatory",
		"Lockdown: kexec: kexec of unsigned images is restricted; see man kernel_lockdown.7":                  "locked down",
		"impossible to appraise a kernel image without a file descriptor; try using kexec_file_load syscall.": "integrity policy",
		"kexec_core: Could not allocate control_code_buffer":                                                  "no free page",
		"kexec_file: Appending elfcorehdr=<addr> exceeds cmdline size":                                        "too long",
		"Device tree not included in the provided image":                                                      "device tree",
		"kexec_image: Error add DTB kbuf ret=-99":                                                             "no hole",
		"kexec_image: Not an ELF executable.":                                                                 "ELF",
	} {
		if e := explain(ByFile, syscall.ENOEXEC, []string{"unrelated", line, "kexec_image: Error loading purgatory ret=-8"}); !strings.Contains(e.meaning, want) || len(e.remedy) == 0 {
			t.Errorf("%q means %+v; want %q", line, e, want)
		}
		if got := kexecLines([]string{"usb 1-1: new device", line}); len(got) != 1 {
			t.Errorf("of %q and another line %q are kept", line, got)
		}
	}
}

func TestCheckCrash(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for _, c := range []struct {
		name string
		fsys fstest.MapFS
		rule Rule
	}{
		{"ready", fstest.MapFS{"proc/sysrq-trigger": file(""), "sys/kernel/kexec_crash_loaded": file("1\n")}, ""},
		{"ready, 7.x", fstest.MapFS{"proc/sysrq-trigger": file(""), "sys/kernel/kexec/crash_loaded": file("1\n")}, ""},
		{"not loaded", fstest.MapFS{"proc/sysrq-trigger": file(""), "sys/kernel/kexec_crash_loaded": file("0\n")}, RuleLoaded},
		{"no kexec", fstest.MapFS{"proc/sysrq-trigger": file("")}, RuleKexec},
		{"no sysrq", fstest.MapFS{"sys/kernel/kexec_crash_loaded": file("1\n")}, RuleSysrq},
	} {
		err := checkCrash(c.fsys)
		var e *RuleError
		switch {
		case c.rule == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.rule != "" && (!errors.As(err, &e) || e.Rule != c.rule):
			t.Errorf("%s: %v; want rule %q", c.name, err, c.rule)
		}
	}
}

// A plan that cannot be kept is loaded all the same, with a warning.
func TestExecuteCannotKeep(t *testing.T) {
	skipWithoutLocks(t)
	k := &kernel{}
	l := k.loader(t)
	if err := os.MkdirAll(filepath.Join(l.dir, lastGood, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := small("x")
	if err := l.execute(p); err != nil || len(k.loaded) == 0 {
		t.Fatalf("execute: %v", err)
	}
	if len(p.Warnings) != 1 {
		t.Errorf("warnings %q; want one", p.Warnings)
	}
}
