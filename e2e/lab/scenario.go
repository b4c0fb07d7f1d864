package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/vm"
)

// Scenario is one machine and what happens in it. Zero values mean what the
// comments say.
type Scenario struct {
	// Name names the run; its files go to Dir, OUT/e2e/NAME if that is "".
	// Runs in one directory replace each other.
	Name   string
	Dir    string
	Kernel *Kernel // must be given
	// Firmware starts the kernel; the zero value is OpenSBI.
	Firmware Firmware
	CPUs     int // 1
	MemMiB   int // 1024
	// SV is the paging mode of the first kernel: 39, 48 or 57; 0 leaves it to
	// machine and kernel. A kernel that comes up in another one is an error.
	SV int
	// Nodes is the number of memory nodes, 1 if it is 0.
	Nodes int
	// KASLRSeed, if not 0, is what a kernel with RANDOMIZE_BASE chooses its
	// virtual address by; without it that is the one it was linked for.
	KASLRSeed uint64
	// Crashkernel is the value of crashkernel=, like "128M" or "256M,high"; ""
	// gives no such option.
	Crashkernel string
	Cmdline     string // more options for the first kernel
	Extra       []string

	// Modules are loaded beside those that every guest needs, and Beside lie in
	// its directory of modules only.
	Modules []string
	Beside  []string

	// Disk is mounted at /var/crash in the guest; nil is no disk.
	Disk *Disk
	// Stuck is one more disk, which does not answer; nil is none.
	Stuck *StuckDisk
	// Programs go to /usr/bin of the guest: paths on this machine. PanicRoom
	// builds the one under test.
	Programs []string
	// Files are more files of the guest, path → path on this machine, and Roots
	// directories that are laid over its root.
	Files map[string]string
	Roots []string
	Steps []script.Step
	// Stock, if not nil, puts the stock tools into the guest, and an initramfs
	// for their crash kernel at StockInitrd.
	Stock *Stock

	// Next are the steps of a kernel that the first one starts by kexec; an
	// initramfs that plays them lies at NextInitrd. It has the same programs.
	Next []script.Step

	// KeepRAM keeps the machine's memory as it was at the end in Outcome.RAM:
	// outside the crash kernel's own memory that is the dead kernel's.
	KeepRAM bool
	Limit   time.Duration // of wall time; 20 minutes: a busy machine is slow
	// OnStart is given the machine, to do things to it while it runs.
	OnStart func(*vm.Machine)
	// OnEvent sees the guest's events and OnLine the console, as they come, in
	// different goroutines.
	OnEvent func(script.Event)
	OnLine  func(vm.Line)
}

// DiskSerial is the serial of the disk of a scenario.
const DiskSerial = "crash"

// NextInitrd is where the guest has the initramfs that plays Scenario.Next.
const NextInitrd = "/next-initrd"

// CrashDir is where the guest has the disk.
const CrashDir = "/var/crash"

// Outcome is what came of a scenario.
type Outcome struct {
	Scenario *Scenario
	Dir      string // of the run's files
	Lines    []vm.Line
	Facts    *script.Machine // nil if the guest did not come up
	Results  []Result        // of the steps that began
	Broken   string          // what the guest itself failed of
	Finished bool            // all steps were done and nothing crashed
	Exit     vm.Exit

	Disk string // image
	// DiskClean tells, once the disk's files were asked for, that the
	// filesystem was unmounted before the machine ended.
	DiskClean bool
	RAM       string // file, with KeepRAM

	files string // directory of what was on the disk, once extracted
}

// Result is what a step did.
type Result struct {
	Name   string
	Ended  bool // false: the machine crashed in it
	Exit   int
	Text   string // what failed, of steps that are no program
	Stdout string
	Stderr string
	Took   time.Duration // of the guest's clock
}

// Step returns the result of the step with that name.
func (o *Outcome) Step(name string) (Result, bool) {
	for _, r := range o.Results {
		if r.Name == name {
			return r, true
		}
	}
	return Result{}, false
}

// Run runs the scenario to the end of its machine. The error tells that the
// machine did not come as far as the scenario's first step, or was stopped;
// whether the steps did what they should is in the Outcome. Both can be
// returned. The files of the run stay; see [Outcome.Clean].
func (s *Scenario) Run(ctx context.Context) (*Outcome, error) {
	if s.Name == "" || s.Kernel == nil {
		return nil, errors.New("scenario without a name or a kernel")
	}
	o := &Outcome{Scenario: s, Dir: s.Dir}
	if o.Dir == "" {
		out, err := OutDir()
		if err != nil {
			return nil, err
		}
		o.Dir = filepath.Join(out, "e2e", s.Name)
	}
	if err := os.RemoveAll(o.Dir); err != nil {
		return nil, err
	}
	// Memory of a kernel is in here.
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	config, err := s.config(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
	}
	events := &events{outcome: o, see: s.OnEvent}
	log, err := os.Create(filepath.Join(o.Dir, "events.json"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	events.log = log
	config.Ports = []vm.Port{{Name: script.Port, W: events}}
	m, err := vm.Start(ctx, *config)
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
	}
	if s.OnStart != nil {
		s.OnStart(m)
	}
	o.Exit, err = m.Wait()
	for _, f := range append([]string{"initramfs", "next-initrd"}, firmwareFiles...) {
		os.Remove(filepath.Join(o.Dir, f))
	}
	o.Lines = m.Lines()
	switch {
	case err != nil:
	case events.err != nil:
		err = events.err
	case o.Broken != "":
		err = fmt.Errorf("guest: %s", o.Broken)
	case o.Facts == nil:
		err = errors.New("the guest did not come up")
	case s.SV != 0 && o.Facts.MMU != "sv"+strconv.Itoa(s.SV):
		err = fmt.Errorf("the kernel came up in %s; want sv%d", o.Facts.MMU, s.SV)
	case s.Nodes > 1 && o.Facts.Nodes != s.Nodes:
		err = fmt.Errorf("the kernel sees %d memory nodes; want %d", o.Facts.Nodes, s.Nodes)
	}
	if err != nil {
		return o, fmt.Errorf("scenario %s (files in %s): %w", s.Name, o.Dir, err)
	}
	return o, nil
}

// beginLimit is how long the first kernel's first line may take. With OpenSBI
// it is there after 3 s on two idle cores, and was after 17 s on busy ones; a
// machine of 4 harts with QEMU 7.2 has once stood still before it for good, and
// nobody knows why. U-Boot and EDK II have a disk to read first.
func (s *Scenario) beginLimit() time.Duration {
	if s.Firmware == OpenSBI {
		return 3 * time.Minute
	}
	return 8 * time.Minute
}

// config makes the machine and its files.
func (s *Scenario) config(ctx context.Context, o *Outcome) (*vm.Config, error) {
	guest, err := Build(ctx, "e2e/guest", s.Kernel.GoArch())
	if err != nil {
		return nil, err
	}
	c := &vm.Config{
		CPUs: max(1, s.CPUs), MemMiB: s.MemMiB,
		Kernel: s.Kernel.ImagePath(), Initrd: filepath.Join(o.Dir, "initramfs"),
		Console: filepath.Join(o.Dir, "console.log"), OnLine: s.OnLine,
		Limit: s.Limit, Extra: s.Extra,
		Begin: kernelStarts, BeginLimit: s.beginLimit(), Registers: filepath.Join(o.Dir, "registers.txt"),
	}
	if c.MemMiB == 0 {
		c.MemMiB = 1024
	}
	if c.Limit == 0 {
		c.Limit = 20 * time.Minute
	}
	// A kernel that panics with nothing to start instead ends the machine.
	cmdline := []string{"console=ttyS0", "panic=-1"}
	if s.Crashkernel != "" {
		cmdline = append(cmdline, "crashkernel="+s.Crashkernel)
	}
	switch s.SV {
	case 0, 57:
	case 48:
		cmdline = append(cmdline, "no5lvl")
	case 39:
		cmdline = append(cmdline, "no4lvl")
	default:
		return nil, fmt.Errorf("sv%d is no paging mode", s.SV)
	}
	if s.SV != 0 || s.Nodes > 1 || s.KASLRSeed != 0 {
		dtb, err := vm.DeviceTree(ctx, *c)
		if err != nil {
			return nil, err
		}
		if dtb, err = editDTB(dtb, s.SV, s.Nodes, s.KASLRSeed); err != nil {
			return nil, err
		}
		c.DTB = filepath.Join(o.Dir, "machine.dtb")
		if err := os.WriteFile(c.DTB, dtb, 0o600); err != nil {
			return nil, err
		}
	}
	if s.Cmdline != "" {
		cmdline = append(cmdline, s.Cmdline)
	}
	c.Cmdline = strings.Join(cmdline, " ")
	if s.KeepRAM {
		o.RAM = filepath.Join(o.Dir, "ram")
		c.RAM = o.RAM
	}

	root := newInitramfs()
	root.files["/init"] = guest
	play := &script.Script{Steps: s.Steps}
	if play.Modules, err = s.modules(root); err != nil {
		return nil, err
	}
	root.files[s.Kernel.Image] = s.Kernel.ImagePath()
	indexes, err := filepath.Glob(filepath.Join(s.Kernel.ModulesDir(), "modules.*"))
	if err != nil {
		return nil, err
	}
	for _, f := range indexes {
		root.files[filepath.Join(s.Kernel.Modules, filepath.Base(f))] = f
	}
	s.programs(root, s.Programs)
	for _, r := range s.Roots {
		if err := root.tree(r, nil); err != nil {
			return nil, err
		}
	}
	maps.Copy(root.files, s.Files)
	if s.Disk != nil {
		o.Disk = filepath.Join(o.Dir, "disk.img")
		if err := s.Disk.make(ctx, o.Disk); err != nil {
			return nil, err
		}
		c.Disks = []vm.Disk{{Path: o.Disk, Serial: DiskSerial, ReadOnly: s.Disk.ReadOnly}}
		play.Mounts = []script.Mount{{Serial: DiskSerial, Target: CrashDir, Type: s.Disk.filesystem(), ReadOnly: s.Disk.ReadOnly}}
	}
	if s.Stuck != nil {
		c.Extra = append(slices.Clone(c.Extra), s.Stuck.args()...)
	}
	if s.Stock != nil {
		if err := s.stock(o, root, guest, play); err != nil {
			return nil, err
		}
	}
	if s.Next != nil {
		if err := s.next(o, root, play); err != nil {
			return nil, err
		}
	}
	if err := root.script(play); err != nil {
		return nil, err
	}
	if err := root.save(c.Initrd); err != nil {
		return nil, err
	}
	return c, s.start(ctx, o, c)
}

// modules puts the modules that any guest needs into root and returns their
// paths there, in the order of loading.
func (s *Scenario) modules(root *initramfs) ([]string, error) {
	put := func(names []string) (paths []string, err error) {
		modules, err := s.Kernel.moduleFiles(names...)
		for _, m := range modules {
			at := filepath.Join(s.Kernel.Modules, m)
			root.files[at] = filepath.Join(s.Kernel.ModulesDir(), m)
			paths = append(paths, at)
		}
		return paths, err
	}
	if _, err := put(s.Beside); err != nil {
		return nil, err
	}
	names := []string{"virtio_mmio", "virtio_pci", "virtio_blk", "virtio_console", "ext4"}
	if s.Disk != nil && s.Disk.filesystem() != "ext4" {
		names = append(names, FilesystemModules(s.Disk.filesystem())...)
	}
	return put(append(names, s.Modules...))
}

// programs puts programs into root; their names end in the architecture they
// were built for.
func (s *Scenario) programs(root *initramfs, paths []string) {
	for _, p := range paths {
		root.files["/usr/bin/"+strings.TrimSuffix(filepath.Base(p), "-"+s.Kernel.GoArch())] = p
	}
}

// next puts an initramfs into root that is the same but for the steps.
func (s *Scenario) next(o *Outcome, root *initramfs, first *script.Script) error {
	next := newInitramfs()
	maps.Copy(next.files, root.files)
	maps.Copy(next.links, root.links)
	play := *first
	play.Steps = s.Next
	if err := next.script(&play); err != nil {
		return err
	}
	path := filepath.Join(o.Dir, "next-initrd")
	root.files[NextInitrd] = path
	return next.save(path)
}

// stock puts the stock tools into root, and the initramfs of their crash kernel.
func (s *Scenario) stock(o *Outcome, root *initramfs, guest string, first *script.Script) error {
	tools, err := s.Stock.files()
	if err != nil {
		return err
	}
	crash := newInitramfs()
	maps.Copy(root.files, tools)
	maps.Copy(crash.files, tools)
	crash.files["/init"] = guest
	s.programs(crash, s.Stock.Programs)
	play := &script.Script{Steps: s.Stock.Steps, Mounts: first.Mounts, Prefix: stockPrefix}
	if play.Modules, err = s.modules(crash); err != nil {
		return err
	}
	if err := crash.script(play); err != nil {
		return err
	}
	path := filepath.Join(o.Dir, "crash-initrd")
	root.files[StockInitrd] = path
	return crash.save(path)
}

// events takes apart what the guest says on its port.
type events struct {
	outcome *Outcome
	see     func(script.Event)
	log     *os.File

	mu    sync.Mutex
	rest  []byte
	begin float64
	err   error
}

func (e *events) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rest = append(e.rest, p...)
	for {
		i := bytes.IndexByte(e.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		e.line(e.rest[:i+1])
		e.rest = slices.Clone(e.rest[i+1:])
	}
}

func (e *events) line(line []byte) {
	if _, err := e.log.Write(line); err != nil && e.err == nil {
		e.err = err
	}
	var ev script.Event
	if err := json.Unmarshal(line, &ev); err != nil {
		if e.err == nil {
			e.err = fmt.Errorf("guest said %q: %w", line, err)
		}
		return
	}
	e.outcome.take(ev, &e.begin)
	if e.see != nil {
		e.see(ev)
	}
}

// take adds an event to the outcome; began is the uptime at the last begin.
func (o *Outcome) take(ev script.Event, began *float64) {
	last := func() *Result {
		if len(o.Results) == 0 {
			o.Results = append(o.Results, Result{})
		}
		return &o.Results[len(o.Results)-1]
	}
	switch ev.Kind {
	case script.Facts:
		o.Facts = ev.Facts
	case script.Begin:
		o.Results = append(o.Results, Result{Name: ev.Text})
		*began = ev.Uptime
	case script.Stdout:
		last().Stdout += ev.Text
	case script.Stderr:
		last().Stderr += ev.Text
	case script.End:
		r := last()
		r.Ended, r.Exit, r.Text = true, ev.Exit, ev.Text
		r.Took = time.Duration((ev.Uptime - *began) * float64(time.Second))
	case script.Broken:
		o.Broken = ev.Text
	case script.Finish:
		o.Finished = true
	}
}
