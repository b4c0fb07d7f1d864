package crashenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// worker does the work in the panic room.
type worker struct {
	plan     *Plan
	say      *console
	words    *words
	state    state
	attempts []Attempt // in vain, before this one
	phases   phases
	loaded   inspector
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
	if w.state.Target, w.attempts, err = turn(os.Getenv, len(plan.Targets)); err != nil {
		return err
	}
	// What another worker has left is not about this one, but for the modules that it
	// has loaded.
	if w.state.Target > 0 {
		if before, err := readState(stateFile); err == nil {
			w.loaded.early, w.state.Early = before.Early, before.Early
		} else {
			w.say.line("note: %v", err)
		}
	}
	if err := w.state.write(stateFile); err != nil {
		w.say.line("note: %v", err)
	}
	err = w.run(context.Background())
	w.state.Ended = true
	if err != nil {
		w.state.Reason = brief(err)
		if failed, ok := errors.AsType[*PhaseError](err); ok {
			w.state.Phase = failed.Phase
		}
	}
	if serr := w.state.write(stateFile); serr != nil {
		w.say.line("note: %v", serr)
	}
	return err
}

func (w *worker) run(ctx context.Context) error {
	t := &w.plan.Targets[w.state.Target]
	if limit := t.deadline(); limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, &TargetLateError{t.Path, limit})
		defer cancel()
	}
	events := w.events()
	w.phases = phases{deadlines: w.plan.Deadlines, events: events}
	if w.plan.Test != nil {
		w.phases.die = w.plan.Test.Die
	}
	tgt, err := w.openTarget(ctx, w.state.Target)
	if err != nil {
		return err
	}
	limit := memLimit(w.plan.MemLimit, availableMemory())
	LimitHeap(limit)
	opts := SaveOptions{
		Input: w.plan.input(), Target: tgt,
		Level: w.plan.Level, Form: w.plan.Form, MemLimit: limit, Layout: w.plan.Layout, LogLines: w.plan.LogLines,
		Deadlines: w.plan.Deadlines, Host: &w.plan.Host, Events: events,
		before: w.phases.results, supervised: true, die: w.phases.die, loaded: &w.loaded, attempts: w.attempts,
		saved: func(m *Manifest, at string, log bool) {
			if !tgt.local {
				at = ""
			}
			w.saved(m, at, log)
		},
	}
	opts.Raw = w.plan.Test != nil && w.plan.Test.Raw
	_, err = Save(ctx, opts)
	// The target may have no time left, and yet is left in order.
	uerr := w.phases.run(context.WithoutCancel(ctx), PhaseUnmount, func(context.Context) (string, error) { return "", tgt.close(err != nil) })
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

// modules loads modules of the plan, one after the other: loading several at
// once costs memory. Their files are deleted as they are loaded; those that
// another target has needed, too, are gone.
func (w *worker) modules(ctx context.Context, names []string) (string, error) {
	var errs []error
	loaded, all := 0, 0
	text := ""
	for _, m := range w.plan.Modules {
		if !slices.Contains(names, m.Name) {
			continue
		}
		all++
		if ctx.Err() != nil {
			errs = append(errs, context.Cause(ctx))
			break
		}
		if w.state.Target > 0 && isLoaded(m.Name) {
			loaded++
			continue
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
	w.state.Early = w.loaded.early
	if err := w.state.write(stateFile); err != nil {
		w.say.line("note: %v", err)
	}
	return fmt.Sprintf("%d of %d loaded%s", loaded, all, text), errors.Join(errs...)
}

// isLoaded tells whether a module is.
func isLoaded(name string) bool {
	_, err := os.Stat(path.Join("/sys/module", strings.ReplaceAll(name, "-", "_"), "initstate"))
	return err == nil
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

// availableMemory is MemAvailable, 0 if unknown.
func availableMemory() uint64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	return kilobytes(text, "MemAvailable")
}
