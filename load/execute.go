package load

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// StateDir is where the last good plan is kept until the machine restarts.
const StateDir = "/run/panicroom"

// KernelError is the kernel's refusal of a plan.
type KernelError struct {
	Err     error    // of the system call
	Meaning string   // of its errno, as far as it is known
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
	h := []string{"see what the kernel says: dmesg | tail"}
	if e.After == Lost {
		h = append(h, "load a panic kernel that is known to work: panicroom load")
	}
	return h
}

// meaning explains an errno of kexec_load, by the place in Linux 7.2 that
// returns it and as measured with 6.12 and 7.2.
func meaning(err error) string {
	switch {
	case errors.Is(err, syscall.EPERM):
		return "not root, kernel.kexec_load_disabled, kernel.kexec_load_limit_panic used up, or lockdown"
	case errors.Is(err, syscall.EACCES):
		return "a security module forbids images that come without a file"
	case errors.Is(err, syscall.EINVAL):
		return "no device tree among the segments, segments that overlap, a foreign architecture or an unknown flag"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "a segment or the entry is outside of the reserved memory or not at a page boundary"
	case errors.Is(err, syscall.EBUSY):
		return "somebody else is loading a kernel at this moment"
	case errors.Is(err, syscall.ENOMEM):
		return "no room is left in the reserved memory for the kernel's own pages"
	case errors.Is(err, syscall.ENOSYS):
		return "the kernel was built without CONFIG_KEXEC"
	case errors.Is(err, syscall.EFAULT):
		return "the data could not be read"
	}
	return ""
}

// loader is what Execute and Unload do it with; tests put their own kernel in.
type loader struct {
	dir    string // the state directory
	load   func(entry uint64, segments []sys.KexecSegment, flags uint64) error
	loaded func() (bool, error)
	log    func() kernelLog
}

type kernelLog interface {
	New(limit int) []string
	Close() error
}

func machine() *loader {
	return &loader{
		dir: StateDir, load: sys.KexecLoad,
		loaded: func() (bool, error) { return crashLoaded(os.DirFS("/")) },
		log: func() kernelLog {
			l, err := sys.OpenKernelLog()
			if err != nil {
				return nil // the log is a courtesy
			}
			return l
		},
	}
}

// crashLoaded tells whether a panic kernel is in place.
func crashLoaded(root fs.FS) (bool, error) {
	b, err := fs.ReadFile(root, "sys/kernel/kexec/crash_loaded") // 7.0 and later
	if errors.Is(err, fs.ErrNotExist) {
		b, err = fs.ReadFile(root, "sys/kernel/kexec_crash_loaded")
	}
	if err != nil {
		return false, err
	}
	return string(bytes.TrimSpace(b)) == "1", nil
}

// Execute loads the panic kernel of a plan and keeps the plan as the last good
// one; that it could not be kept is only one more of the plan's warnings. If
// the kernel refuses, the last good one before is put back, and the error is a
// [*KernelError] that says so.
func Execute(p *Plan) error { return machine().execute(p) }

// Unload removes the panic kernel.
func Unload() error { return machine().unload() }

func (l *loader) execute(p *Plan) error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	before, err := l.loaded()
	if err != nil {
		return fmt.Errorf("is a panic kernel loaded: %w", err)
	}
	log := l.log()
	if log != nil {
		defer log.Close()
	}
	err = l.put(p)
	if err == nil {
		if err := l.keep(p); err != nil {
			p.warn("the panic kernel is loaded; there is no copy of it to put back if another load fails: %v", err)
		}
		return nil
	}
	e := &KernelError{Err: err, Meaning: meaning(err)}
	if log != nil {
		e.Log = log.New(20)
	}
	now, err := l.loaded()
	switch {
	case !before:
		e.After = Nothing
	case err == nil && now:
		e.After = Untouched
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
	var segments []sys.KexecSegment
	for _, s := range p.Segments {
		segments = append(segments, sys.KexecSegment{Data: s.Data, Mem: s.Mem, MemSize: s.MemSize})
	}
	if err := l.load(p.Entry, segments, p.Flags); err != nil {
		return err
	}
	now, err := l.loaded()
	if err == nil && !now {
		err = errors.New("kexec_load succeeded, and yet no panic kernel is in place")
	}
	return err
}

func (l *loader) unload() error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.load(0, nil, flagOnCrash); err != nil {
		if errors.Is(err, syscall.EPERM) && os.Geteuid() != 0 {
			return fmt.Errorf("unload: %w: %w", err, ErrNotRoot)
		}
		return fmt.Errorf("unload: %w", &KernelError{Err: err, Meaning: meaning(err), After: Untouched})
	}
	return l.forget()
}
