// Package host reads the facts of the machine that a panic kernel shall watch
// over, once, through an fs.FS: what memory it has, where its CPUs leave their
// notes, what the kernel lets us do. The result is plain data; decisions are
// made elsewhere. A recorded machine is a folder of the same files, so a user's
// bug report becomes a test case.
package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// Range is memory from Start up to, not including, End; physical addresses.
type Range struct {
	Start uint64 `json:"start"`
	End   uint64 `json:"end"`
}

// Size is the number of bytes in r.
func (r Range) Size() uint64 { return r.End - r.Start }

func (r Range) String() string { return fmt.Sprintf("%#x-%#x", r.Start, r.End) }

// Note is the buffer in memory that one CPU writes its registers to when the
// kernel dies (/sys/devices/system/cpu/cpuN/crash_notes).
type Note struct {
	CPU  int    `json:"cpu"`
	Addr uint64 `json:"addr"` // physical
	Size uint64 `json:"size"` // bytes
}

// Unlimited is the value of a load limit that is not set, or that the kernel
// is too old to know (before 6.3).
const Unlimited = -1

// Machine is all that is known of a machine. Facts that could not be read are
// zero and named in Unknown.
type Machine struct {
	Arch     string `json:"arch"`    // as in uname -m
	Release  string `json:"release"` // as in uname -r
	Cmdline  string `json:"cmdline"` // of the running kernel
	PageSize uint64 `json:"page_size"`
	MMU      string `json:"mmu,omitempty"` // riscv64: "sv39", "sv48" or "sv57"
	MemTotal uint64 `json:"mem_total"`     // bytes that the kernel manages (MemTotal)

	Iomem []Resource `json:"iomem"`
	FDT   []byte     `json:"-"` // the device tree the kernel was booted with

	Possible   []int  `json:"possible"` // CPUs, numbered as the kernel does, maybe with gaps
	Present    []int  `json:"present"`
	Online     []int  `json:"online"`
	CrashNotes []Note `json:"crash_notes"`

	// VMCoreInfo is the vmcoreinfo note in memory, note header included.
	VMCoreInfo Range `json:"vmcoreinfo"`
	// VMCoreInfoText is what the note says, from /proc/kcore.
	VMCoreInfoText []byte `json:"-"`

	CrashSize    uint64 `json:"crash_size"`   // bytes reserved by crashkernel=
	CrashLoaded  bool   `json:"crash_loaded"` // a panic kernel is in place
	KexecLoaded  bool   `json:"kexec_loaded"` // a kernel to reboot into is in place
	NoKexec      bool   `json:"no_kexec"`     // the kernel has no support for panic kernels
	LoadDisabled bool   `json:"load_disabled"`
	LimitPanic   int    `json:"limit_panic"`  // loads of a panic kernel still allowed, or Unlimited
	LimitReboot  int    `json:"limit_reboot"` // the same for a kernel to reboot into
	Lockdown     string `json:"lockdown"`     // "none", "integrity", "confidentiality" or ""
	NoSysrq      bool   `json:"no_sysrq"`     // no /proc/sysrq-trigger

	// Symbols are addresses of the running kernel: _text, _end, swapper_pg_dir;
	// as far as they are known.
	Symbols map[string]uint64 `json:"symbols,omitempty"`
	// PageTable is the physical address of the kernel's root page table, 0 if
	// unknown.
	PageTable uint64 `json:"page_table"`
	// Vmemmap is the physical memory that holds the kernel's page structs, from
	// the page tables of the running kernel; nil if they could not be read.
	Vmemmap []Range `json:"vmemmap,omitempty"`

	// Config holds the kernel options that matter for loading, as far as the
	// machine has a file with them: "y", "m", a value, or "n".
	Config map[string]string `json:"config,omitempty"`

	Unknown []Unknown `json:"unknown,omitempty"`
}

// Unknown is a fact that could not be read.
type Unknown struct {
	Fact   string `json:"fact"`
	Reason string `json:"reason"`
}

// Options change what Read does. nil is the default.
type Options struct {
	// NoKernelMemory leaves /proc/kcore alone: no vmcoreinfo text and no page
	// tables. Much that a loader verifies stays unverified then.
	NoKernelMemory bool
}

// ErrNotRoot means that the kernel hides facts from this user.
var ErrNotRoot = errors.New("this needs root")

// ErrCorrupt means that a file does not look as the kernel writes it.
var ErrCorrupt = errors.New("unexpected contents")

// notRoot is ErrNotRoot with what was asked for.
type notRoot struct {
	path string
	why  string
}

func (e *notRoot) Error() string { return fmt.Sprintf("/%s: %s: %v", e.path, e.why, ErrNotRoot) }
func (e *notRoot) Unwrap() error { return ErrNotRoot }
func (e *notRoot) Hints() []string {
	return []string{"run the command as root, for example with sudo"}
}

// Read reads the facts of the machine whose files fsys has: os.DirFS("/") for
// this one, the folder of a recorded one. What every loader needs must be
// there, or an error comes back, wrapping [ErrNotRoot] if only root may see it;
// other gaps are listed in Machine.Unknown.
func Read(fsys fs.FS, opts *Options) (*Machine, error) {
	if opts == nil {
		opts = &Options{}
	}
	return (&reader{fsys: fsys}).read(opts)
}

// Sizes that no real file comes near, so that a recorded machine cannot make
// us allocate without end.
const (
	maxSmall  = 64 << 10
	maxIomem  = 8 << 20
	maxFDT    = 4 << 20
	maxConfig = 4 << 20
)

// reader reads files of a machine. kept, if not nil, is told what each file
// said, for recording.
type reader struct {
	fsys fs.FS
	kept func(name string, data []byte)
	core func(*kcore)
}

// file reads a whole file of at most limit bytes.
func (r *reader) file(name string, limit int64) ([]byte, error) {
	f, err := r.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("/%s: more than %d bytes: %w", name, limit, ErrCorrupt)
	}
	if r.kept != nil {
		r.kept(name, b)
	}
	return b, nil
}

// text reads a small file without the white space around it.
func (r *reader) text(name string) (string, error) {
	b, err := r.file(name, maxSmall)
	return string(bytes.TrimSpace(b)), err
}

func (r *reader) number(name string, base int) (uint64, error) {
	s, err := r.text(name)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseUint(s, base, 64)
	if err != nil {
		return 0, fmt.Errorf("/%s: %q: %w", name, s, ErrCorrupt)
	}
	return v, nil
}

func (r *reader) read(opts *Options) (*Machine, error) {
	m := &Machine{Symbols: map[string]uint64{}}
	for _, part := range []func(*Machine) error{r.identity, r.memory, r.kexec, r.cpus,
		func(m *Machine) error { return r.kernelMemory(m, opts) }} {
		if err := part(m); err != nil {
			var denied *fs.PathError
			if errors.Is(err, fs.ErrPermission) && errors.As(err, &denied) {
				err = &notRoot{denied.Path, "permission denied"}
			}
			return nil, fmt.Errorf("facts of the machine: %w", err)
		}
	}
	r.config(m)
	if m.PageSize == 0 {
		m.PageSize = 4096 // all that riscv64 and amd64 have
	}
	return m, nil
}

// unknown notes a fact that could not be read and can be done without.
func (m *Machine) unknown(fact string, err error) {
	reason := err.Error()
	if errors.Is(err, fs.ErrNotExist) {
		reason = "not there"
	}
	m.Unknown = append(m.Unknown, Unknown{Fact: fact, Reason: reason})
}

// identity reads what the machine is.
func (r *reader) identity(m *Machine) error {
	var err error
	if m.Release, err = r.text("proc/sys/kernel/osrelease"); err != nil {
		return err
	}
	if m.Cmdline, err = r.text("proc/cmdline"); err != nil {
		return err
	}
	cpuinfo, err := r.file("proc/cpuinfo", maxIomem)
	if err != nil {
		return err
	}
	m.MMU = cpuinfoField(cpuinfo, "mmu")
	// kernel.arch is there since 6.1.
	if m.Arch, err = r.text("proc/sys/kernel/arch"); err != nil {
		if strings.HasPrefix(cpuinfoField(cpuinfo, "isa"), "rv64") {
			m.Arch = "riscv64"
		} else {
			m.unknown("architecture", err)
		}
	}
	meminfo, err := r.file("proc/meminfo", maxSmall)
	if err != nil {
		return err
	}
	kib, ok := strings.CutSuffix(cpuinfoField(meminfo, "MemTotal"), " kB")
	n, err := strconv.ParseUint(kib, 10, 54)
	if !ok || err != nil {
		return fmt.Errorf("/proc/meminfo: no MemTotal: %w", ErrCorrupt)
	}
	m.MemTotal = n << 10
	return nil
}

// cpuinfoField is the first value of key in lines "key : value".
func cpuinfoField(b []byte, key string) string {
	for line := range bytes.Lines(b) {
		k, v, ok := bytes.Cut(line, []byte(":"))
		if ok && string(bytes.TrimSpace(k)) == key {
			return string(bytes.TrimSpace(v))
		}
	}
	return ""
}

// memory reads what memory there is, and the device tree.
func (r *reader) memory(m *Machine) error {
	b, err := r.file("proc/iomem", maxIomem)
	if err != nil {
		return err
	}
	if m.Iomem, err = ParseIomem(b); err != nil {
		return fmt.Errorf("/proc/iomem: %w", err)
	}
	if hidden(m.Iomem) {
		return &notRoot{"proc/iomem", "the kernel shows no addresses"}
	}
	if m.FDT, err = r.file("sys/firmware/fdt", maxFDT); errors.Is(err, fs.ErrNotExist) {
		// The kernel hides the blob when something changed it after the start.
		if m.FDT, err = r.unflattened(); errors.Is(err, fs.ErrNotExist) {
			m.unknown("device tree (/sys/firmware/fdt)", err)
			err = nil
		}
	}
	return err
}

// kexec reads what the kernel says about panic kernels.
func (r *reader) kexec(m *Machine) error {
	// Since 7.0 the files live in a directory; the old names are links
	// (Documentation/ABI/testing/sysfs-kernel-kexec-kdump).
	var err error
	if m.CrashSize, err = r.first(10, "sys/kernel/kexec/crash_size", "sys/kernel/kexec_crash_size"); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		m.NoKexec = true
		m.unknown("crash kernel support (/sys/kernel/kexec_crash_size)", err)
	} else {
		loaded, err := r.first(10, "sys/kernel/kexec/crash_loaded", "sys/kernel/kexec_crash_loaded")
		if err != nil {
			return err
		}
		m.CrashLoaded = loaded != 0
	}
	if loaded, err := r.first(10, "sys/kernel/kexec/loaded", "sys/kernel/kexec_loaded"); err == nil {
		m.KexecLoaded = loaded != 0
	}
	if v, err := r.number("proc/sys/kernel/kexec_load_disabled", 10); err == nil {
		m.LoadDisabled = v != 0
	} else {
		m.unknown("kernel.kexec_load_disabled", err)
	}
	for _, l := range []struct {
		name  string
		limit *int
	}{{"kexec_load_limit_panic", &m.LimitPanic}, {"kexec_load_limit_reboot", &m.LimitReboot}} {
		*l.limit = Unlimited
		if s, err := r.text("proc/sys/kernel/" + l.name); err == nil {
			if *l.limit, err = strconv.Atoi(s); err != nil {
				return fmt.Errorf("/proc/sys/kernel/%s: %q: %w", l.name, s, ErrCorrupt)
			}
		}
	}
	// The mode in force stands in brackets: "none [integrity] confidentiality".
	if s, err := r.text("sys/kernel/security/lockdown"); err == nil {
		_, s, _ = strings.Cut(s, "[")
		m.Lockdown, _, _ = strings.Cut(s, "]")
	} else if !errors.Is(err, fs.ErrNotExist) {
		m.unknown("lockdown (/sys/kernel/security/lockdown)", err)
	}
	_, err = fs.Stat(r.fsys, "proc/sysrq-trigger")
	m.NoSysrq = errors.Is(err, fs.ErrNotExist)
	if err == nil && r.kept != nil {
		r.kept("proc/sysrq-trigger", nil)
	}
	return nil
}

// first reads the number in the first of several files that exists.
func (r *reader) first(base int, names ...string) (uint64, error) {
	var err error
	for _, name := range names {
		var v uint64
		if v, err = r.number(name, base); !errors.Is(err, fs.ErrNotExist) {
			return v, err
		}
	}
	return 0, err
}

// cpus reads which CPUs there can be and where each leaves its notes.
func (r *reader) cpus(m *Machine) error {
	for _, l := range []struct {
		name string
		list *[]int
	}{{"possible", &m.Possible}, {"present", &m.Present}, {"online", &m.Online}} {
		name := "sys/devices/system/cpu/" + l.name
		s, err := r.text(name)
		if err != nil {
			return err
		}
		if *l.list, err = ParseCPUList(s); err != nil {
			return fmt.Errorf("/%s: %w", name, err)
		}
	}
	if m.NoKexec {
		return nil
	}
	// A CPU that can be plugged in later has its notes already, and numbers may
	// have gaps, so every possible one is asked for by its number.
	for _, cpu := range m.Possible {
		dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d/", cpu)
		addr, err := r.number(dir+"crash_notes", 16)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			m.unknown(fmt.Sprintf("crash notes of CPU %d", cpu), err)
			continue
		case err != nil:
			return err
		}
		size, err := r.number(dir+"crash_notes_size", 10)
		if err != nil {
			return err
		}
		m.CrashNotes = append(m.CrashNotes, Note{CPU: cpu, Addr: addr, Size: size})
	}
	// "ADDRESS SIZE", both hexadecimal, kernel/ksysfs.c.
	s, err := r.text("sys/kernel/vmcoreinfo")
	if err != nil {
		return err
	}
	a, n, ok := strings.Cut(s, " ")
	addr, err1 := strconv.ParseUint(strings.TrimPrefix(a, "0x"), 16, 64)
	size, err2 := strconv.ParseUint(strings.TrimPrefix(n, "0x"), 16, 32)
	if !ok || err1 != nil || err2 != nil || addr+size < addr {
		return fmt.Errorf("/sys/kernel/vmcoreinfo: %q: %w", s, ErrCorrupt)
	}
	m.VMCoreInfo = Range{Start: addr, End: addr + size}
	return nil
}
