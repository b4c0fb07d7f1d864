package load

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// StateDir is where the last good plan is kept until the machine restarts.
const StateDir = "/run/panicroom"

// KernelError is the kernel's refusal of a plan.
type KernelError struct {
	Method  Method   // the system call that was made
	Err     error    // of the system call
	Meaning string   // of what the kernel said, or of its errno, as far as it is known
	Remedy  []string // what to do
	Log     []string // what the kernel said meanwhile
	After   Aftermath
	// Restore is why the last good panic kernel could not be put back, if
	// After is Lost.
	Restore error
}

// Aftermath is what is in place after a refusal.
type Aftermath string

// What is in place after a refusal.
const (
	Nothing   Aftermath = "nothing was loaded before, and nothing is now"
	Untouched Aftermath = "what was loaded before is still in place"
	Restored  Aftermath = "what was loaded before was put back"
	Gone      Aftermath = "what was loaded before is gone: reboot(2) goes through the firmware"
	Lost      Aftermath = "what was loaded before is gone: a crash now leaves no dump"
)

func (e *KernelError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %v", ErrKernelRefused, e.Err)
	if e.Meaning != "" {
		fmt.Fprintf(&b, " (%s)", e.Meaning)
	}
	if len(e.Log) > 0 {
		fmt.Fprintf(&b, "; it said: %s", strings.Join(e.Log, " / "))
	}
	fmt.Fprintf(&b, "; %s", e.After)
	if e.Restore != nil {
		fmt.Fprintf(&b, " (%v)", e.Restore)
	}
	return b.String()
}

// Is makes every KernelError an [ErrKernelRefused].
func (e *KernelError) Is(target error) bool { return target == ErrKernelRefused }

func (e *KernelError) Unwrap() error { return e.Err }

// Hints says what to do.
func (e *KernelError) Hints() []string {
	h := slices.Clone(e.Remedy)
	if e.After == Lost {
		h = append(h, "load a panic kernel that is known to work: panicroom load")
	}
	return h
}

// loader is what Execute and Unload do it with; tests put their own kernel in.
type loader struct {
	dir    string // the state directory
	load   func(entry uint64, segments []sys.KexecSegment, flags uint64) error
	file   func(*handing) error
	loaded func(Purpose) (bool, error)
	log    func() kernelLog
}

type kernelLog interface {
	New(limit int) []string
	Close() error
}

func machine() *loader {
	return &loader{
		dir: StateDir, load: sys.KexecLoad, file: handOver,
		loaded: func(p Purpose) (bool, error) { return Loaded(os.DirFS("/"), p) },
		log: func() kernelLog {
			l, err := sys.OpenKernelLog()
			if err != nil {
				return nil // the log is a courtesy
			}
			return l
		},
	}
}

// Loaded tells whether a kernel is in a slot, by the machine's /sys in root.
func Loaded(root fs.FS, p Purpose) (bool, error) {
	now, before := "sys/kernel/kexec/crash_loaded", "sys/kernel/kexec_crash_loaded" // since 7.0, and till then
	if p == ForReboot {
		now, before = "sys/kernel/kexec/loaded", "sys/kernel/kexec_loaded"
	}
	b, err := fs.ReadFile(root, now)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = fs.ReadFile(root, before)
	}
	if err != nil {
		return false, err
	}
	return string(bytes.TrimSpace(b)) == "1", nil
}

// Execute loads the kernel of a plan and keeps the plan of a panic kernel as the
// last good one; that it could not be kept is only one more of the plan's
// warnings. If the kernel refuses, the last good one before is put back, and the
// error is a [*KernelError] that says so.
func Execute(p *Plan) error { return machine().execute(p) }

// Unload empties a slot.
func Unload(p Purpose) error { return machine().unload(p) }

func (l *loader) execute(p *Plan) error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	before, err := l.loaded(p.Purpose)
	if err != nil {
		return fmt.Errorf("is a %s loaded: %w", p.Purpose.kernel(), err)
	}
	log := l.log()
	if log != nil {
		defer log.Close()
	}
	err = l.put(p)
	if err == nil {
		if p.Purpose != ForCrash {
			return nil
		}
		p.Loaded = time.Now()
		if err := l.keep(p); err != nil {
			p.warn("the panic kernel is loaded; there is no copy of it to put back if another load fails: %v", err)
		}
		return nil
	}
	e := &KernelError{Method: p.Method, Err: err}
	if log != nil {
		e.Log = kexecLines(log.New(50))
	}
	why := explain(p.Method, err, e.Log)
	e.Meaning, e.Remedy = why.meaning, why.remedy
	if p.instead != nil {
		// Not to the call that cannot be used.
		e.Meaning, e.Remedy = e.Meaning+"; "+p.Why, p.instead.remedy
	}
	now, err := l.loaded(p.Purpose)
	switch {
	case !before:
		e.After = Nothing
	case err == nil && now:
		e.After = Untouched
	case p.Purpose != ForCrash:
		e.After = Gone
	default:
		e.After = Restored
		last, err := l.kept()
		if err == nil {
			err = l.put(last)
		}
		if err != nil {
			e.After, e.Restore = Lost, err
		}
	}
	if errors.Is(e.Err, syscall.EPERM) && os.Geteuid() != 0 {
		return fmt.Errorf("%w: %w", e, ErrNotRoot)
	}
	return e
}

// put makes the system call and sees that it did what it said.
func (l *loader) put(p *Plan) error {
	if err := l.call(p); err != nil {
		return err
	}
	now, err := l.loaded(p.Purpose)
	if err == nil && !now {
		err = fmt.Errorf("%s succeeded, and yet no %s is in place", p.Method.Call(), p.Purpose.kernel())
	}
	return err
}

func (l *loader) call(p *Plan) error {
	if p.Method == ByLoad {
		var segments []sys.KexecSegment
		for _, s := range p.Segments {
			segments = append(segments, sys.KexecSegment{Data: s.Data, Mem: s.Mem, MemSize: s.MemSize})
		}
		return l.load(p.Entry, segments, p.Flags)
	}
	a, err := archOf(p.Arch)
	if err != nil {
		return err
	}
	kernel := p.Segment(SegmentKernel)
	if kernel == nil {
		return errors.New("the plan has no kernel")
	}
	h := &handing{
		header: wrap(a, kernel.Size, p.Kernel.ImageSize, p.Entry), kernel: kernel.Data, store: kernel.store,
		cmdline: p.Cmdline, flags: int(p.Flags),
	}
	if s := p.Segment(SegmentInitramfs); s != nil {
		h.initramfs = s.Data
	}
	return l.file(h)
}

func (l *loader) unload(p Purpose) error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	by, flags := ByLoad, uint64(0)
	if p == ForCrash {
		flags = flagOnCrash
	}
	err = l.load(0, nil, flags)
	if errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) {
		// Not built in, or locked down: the other call empties slots as well.
		if e := l.file(&handing{flags: unloadFlags(p)}); e == nil || errors.Is(err, syscall.ENOSYS) {
			by, err = ByFile, e
		}
	}
	if err != nil {
		if errors.Is(err, syscall.EPERM) && os.Geteuid() != 0 {
			return fmt.Errorf("unload: %w: %w", err, ErrNotRoot)
		}
		if errors.Is(err, syscall.ENOSYS) {
			return noKexec(p) // neither call is there: no slot can be full
		}
		why := explain(by, err, nil)
		return fmt.Errorf("unload: %w", &KernelError{Method: by, Err: err, Meaning: why.meaning, Remedy: why.remedy, After: Untouched})
	}
	if p != ForCrash {
		return nil
	}
	return l.forget()
}

func unloadFlags(p Purpose) int {
	if p == ForCrash {
		return sys.KexecFileUnload | sys.KexecFileOnCrash
	}
	return sys.KexecFileUnload
}
