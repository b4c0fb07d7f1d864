package crashenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/device"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/target"
)

// worker does the work in the panic room.
type worker struct {
	plan   *Plan
	say    *console
	words  *words
	state  state
	phases phases
	loaded inspector
}

// work is the life of the worker process. Its error has been said already.
func work() error {
	plan, err := loadPlan(planFile)
	if err != nil {
		return err
	}
	setOOMScore(0)
	w := &worker{plan: plan, say: openConsole(), words: &words{w: os.NewFile(wordsFD, "words")},
		loaded: inspector{root: os.DirFS("/"), plan: plan}}
	err = w.run(context.Background())
	w.state.Ended = true
	if err != nil {
		w.state.Reason = oneLine(err.Error())
	}
	if serr := w.state.write(stateFile); serr != nil {
		w.say.line("note: %v", serr)
	}
	return err
}

func (w *worker) run(ctx context.Context) error {
	events := w.events()
	w.phases = phases{deadlines: w.plan.Deadlines, events: events}
	if w.plan.Test != nil {
		w.phases.die = w.plan.Test.Die
	}
	var found device.Found
	// A module that does not load may not be needed; the device tells.
	_ = w.phases.run(ctx, PhaseModules, w.modules)
	if err := w.phases.run(ctx, PhaseDevice, func(ctx context.Context) (text string, err error) {
		found, err = w.wait(ctx)
		return fmt.Sprintf("%s is %s", found.Device, found.Filesystem), err
	}); err != nil {
		return err
	}
	var tgt *target.Directory
	if err := w.phases.run(ctx, PhaseTarget, func(context.Context) (text string, err error) {
		tgt, err = w.mount(found)
		return "mounted " + w.plan.Target.Path, err
	}); err != nil {
		return err
	}
	limit := memLimit(w.plan.MemLimit, availableMemory())
	LimitHeap(limit)
	opts := SaveOptions{
		Input: w.plan.input(), Target: tgt,
		Level: w.plan.Level, Form: w.plan.Form, MemLimit: limit, Layout: w.plan.Layout, LogLines: w.plan.LogLines,
		Deadlines: w.plan.Deadlines, Host: &w.plan.Host, Events: events,
		before: w.phases.results, supervised: true, die: w.phases.die, saved: w.saved, loaded: &w.loaded,
	}
	opts.Raw = w.plan.Test != nil && w.plan.Test.Raw
	_, err := Save(ctx, opts)
	uerr := w.phases.run(ctx, PhaseUnmount, func(context.Context) (string, error) {
		return "", errors.Join(tgt.Close(), sys.Unmount(mountPoint))
	})
	if err != nil {
		return err
	}
	return uerr
}

// events says everything on the console and to the supervisor.
func (w *worker) events() Events {
	e := w.say.events()
	begin, progress := e.Begin, e.Progress
	e.Begin = func(phase string, limit time.Duration) {
		w.words.begin(phase, limit)
		begin(phase, limit)
	}
	e.Progress = func(phase string, done, total uint64, more string) {
		w.words.progress()
		progress(phase, done, total, more)
	}
	return e
}

// saved leaves word of how far the crash is.
func (w *worker) saved(m *Manifest, at string, log bool) {
	w.state.Manifest, w.state.Crash, w.state.LogSaved = m, at, log
	if err := w.state.write(stateFile); err != nil {
		w.say.line("note: %v", err)
	}
}

// modules loads the modules of the plan, one after the other: loading several
// at once costs memory. Their files are deleted as they are loaded.
func (w *worker) modules(ctx context.Context) (string, error) {
	var errs []error
	loaded := 0
	text := ""
	for _, m := range w.plan.Modules {
		if ctx.Err() != nil {
			errs = append(errs, context.Cause(ctx))
			break
		}
		// A damaged module may be the last thing this kernel sees.
		if v := w.loaded.before(m.File); v.Result == Mismatch {
			w.say.line("note: %s is %v: %s", v.What, ErrMismatch, v.Detail)
		}
		switch err := loadModule(m); {
		case err == nil:
			loaded++
		case m.Optional:
			text += ", not " + m.Name
		default:
			errs = append(errs, err)
		}
	}
	return fmt.Sprintf("%d of %d loaded%s", loaded, len(w.plan.Modules), text), errors.Join(errs...)
}

func loadModule(m Module) error {
	f, err := os.Open(m.File)
	if err != nil {
		return fmt.Errorf("module %s: %w", m.Name, err)
	}
	defer f.Close()
	err = sys.FinitModule(f, m.Params, m.Compressed)
	if err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("module %s: %w", m.Name, err)
	}
	return os.Remove(m.File)
}

// wait waits for the target's filesystem.
func (w *worker) wait(ctx context.Context) (device.Found, error) {
	src, err := device.System()
	if err != nil {
		return device.Found{}, err
	}
	return device.Wait(ctx, src, w.plan.Target.UUID)
}

// mount mounts the target's filesystem and opens the directory.
func (w *worker) mount(found device.Found) (*target.Directory, error) {
	t := w.plan.Target
	if err := os.MkdirAll(mountPoint, 0o700); err != nil {
		return nil, err
	}
	if ro, err := os.ReadFile(path.Join("/sys/class/block", strings.ReplaceAll(strings.TrimPrefix(found.Device, "/dev/"), "/", "!"), "ro")); err == nil && strings.TrimSpace(string(ro)) == "1" {
		return nil, &target.ReadOnlyError{Target: t.Path + " (" + found.Device + ")"}
	}
	// Nothing on the target may be executed or taken for a device. The
	// filesystem is never checked or repaired here; its journal is replayed by
	// the kernel.
	err := sys.Mount(found.Device, mountPoint, t.Type, sys.MountNoSuid|sys.MountNoDev|sys.MountNoExec, t.Options)
	switch {
	case errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES):
		return nil, &target.ReadOnlyError{Target: t.Path + " (" + found.Device + ")", Err: err}
	case err != nil:
		return nil, fmt.Errorf("%s as %s: %w", found.Device, t.Type, err)
	}
	return target.NewDirectoryAs(path.Join(mountPoint, t.Dir), t.Path)
}

// availableMemory is MemAvailable, 0 if unknown.
func availableMemory() uint64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	return kilobytes(text, "MemAvailable")
}
