package crashenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// The phases of the crash half, in their order. Those from PhaseOpen to
// PhaseCommit are also those of [Save].
const (
	PhaseMounts    = "mounts"    // /proc, /sys, /dev, /run
	PhaseModules   = "modules"   // of the target's disk and filesystem, or network device
	PhaseNetwork   = "network"   // sets up the way to another machine
	PhaseDevice    = "device"    // waits for the filesystem by UUID
	PhaseTarget    = "target"    // mounts it, or connects
	PhaseOpen      = "open"      // looks into the dead kernel, makes the crash's directory
	PhaseLog       = "log"       // saves the dead kernel's log
	PhaseIntegrity = "integrity" // compares the panic room with what was loaded
	PhaseDump      = "dump"      // saves its memory
	PhaseRaw       = "raw"       // a literal copy, for tests
	PhaseReport    = "report"    // reads the dump and says what happened
	PhaseHash      = "hash"      // reads everything back from the disk
	PhaseCommit    = "commit"    // the manifest and the final name
	PhaseUnmount   = "unmount"
	PhaseRescue    = "rescue" // only after a failure
)

// Deadlines say how long phases may take, in seconds by phase; a phase that is
// missing has that of [DefaultDeadlines], and nil is no deadline for any. A
// phase that is late is asked to end, and what has been saved stays; in the
// crash environment its process is killed when it does not end within [Grace].
type Deadlines map[string]float64

// Grace is the time between asking a phase to end and killing its process,
// and that which the end of the machine may take at most per step.
const Grace = 20 * time.Second

// DefaultDeadlines returns the deadlines of a Plan that says nothing else.
// They are generous: they exist so that no hang is for ever.
func DefaultDeadlines() Deadlines {
	return Deadlines{
		PhaseMounts:    30,
		PhaseModules:   120,
		PhaseNetwork:   120, // switches that look for loops first take 30 to 50 s
		PhaseDevice:    60,  // spinning disks behind slow controllers
		PhaseTarget:    300, // replays the journal
		PhaseOpen:      60,
		PhaseLog:       60,
		PhaseIntegrity: 60,
		PhaseDump:      4 * 3600,
		PhaseRaw:       4 * 3600,
		PhaseReport:    180,
		PhaseHash:      3600,
		PhaseCommit:    120,
		PhaseUnmount:   120,
		PhaseRescue:    180,
	}
}

// of is the deadline of a phase, 0 for none.
func (d Deadlines) of(phase string) time.Duration {
	if d == nil {
		return 0
	}
	s, ok := d[phase]
	if !ok || s <= 0 {
		s = DefaultDeadlines()[phase]
	}
	return time.Duration(s * float64(time.Second))
}

// LateError is the error of a phase that was not done in time.
type LateError struct {
	Phase string
	Limit time.Duration
}

func (e *LateError) Error() string {
	return fmt.Sprintf("phase %s was not done within its %s", e.Phase, e.Limit)
}

// Is makes the error context.DeadlineExceeded.
func (e *LateError) Is(target error) bool { return target == context.DeadlineExceeded }

// PhaseError is the error of a phase.
type PhaseError struct {
	Phase string
	Err   error
}

func (e *PhaseError) Error() string { return e.Phase + ": " + e.Err.Error() }
func (e *PhaseError) Unwrap() error { return e.Err }

// PhaseResult is how a phase went.
type PhaseResult struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Text    string  `json:"text,omitempty"`  // what it did, for people
	Error   string  `json:"error,omitempty"` // why it failed
	err     error
}

// Events hear how far the work is. Any may be nil; they are called from one
// goroutine at a time.
type Events struct {
	Begin    func(phase string, deadline time.Duration)
	End      func(PhaseResult)
	Progress func(phase string, done, total uint64, more string) // bytes, and what else there is to say
	Panic    func(line string)                                   // of the dead kernel's log, that says why
	Note     func(text string)
}

func (e *Events) begin(phase string, deadline time.Duration) {
	if e.Begin != nil {
		e.Begin(phase, deadline)
	}
}

func (e *Events) end(r PhaseResult) {
	if e.End != nil {
		e.End(r)
	}
}

func (e *Events) progress(phase string, done, total uint64, more string) {
	if e.Progress != nil {
		e.Progress(phase, done, total, more)
	}
}

func (e *Events) panicked(line string) {
	if e.Panic != nil {
		e.Panic(line)
	}
}

func (e *Events) note(format string, args ...any) {
	if e.Note != nil {
		e.Note(fmt.Sprintf(format, args...))
	}
}

// phases runs phases one after the other, each with its deadline, and keeps
// their results.
type phases struct {
	deadlines Deadlines
	events    Events
	results   []PhaseResult
	// die is Test.Die.
	die string
}

// errPanic marks a panic of our own code, caught at the border of a phase.
var errPanic = errors.New("panic in panicroom")

// run runs one phase. f returns a text for people; its context ends with the
// phase's deadline.
func (p *phases) run(ctx context.Context, name string, f func(context.Context) (string, error)) error {
	limit := p.deadlines.of(name)
	told := limit
	// Whoever kills us is to know when we end anyhow.
	if end, ok := ctx.Deadline(); ok {
		if left := max(time.Until(end), time.Millisecond); limit == 0 || left < limit {
			told = left
		}
	}
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, &LateError{name, limit})
		defer cancel()
	}
	p.events.begin(name, told)
	start := time.Now()
	text, err := p.guarded(ctx, name, f)
	r := PhaseResult{Name: name, Seconds: time.Since(start).Round(time.Millisecond).Seconds(), Text: text, err: err}
	if err != nil {
		r.Error = oneLine(err.Error())
	}
	p.results = append(p.results, r)
	p.events.end(r)
	if err != nil {
		return &PhaseError{name, err}
	}
	return nil
}

// guarded turns a panic into an error, and says late instead of canceled.
func (p *phases) guarded(ctx context.Context, name string, f func(context.Context) (string, error)) (text string, err error) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(os.Stderr, "panic: %v\n%s", r, debug.Stack())
			err = fmt.Errorf("%w: %v", errPanic, r)
		}
		if err != nil && ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}()
	if name != PhaseReport { // there the reporter does it
		misbehave(ctx, p.die, name)
	}
	return f(ctx)
}

// misbehave does what a test wants to see survived in a phase; see Test.Die.
func misbehave(ctx context.Context, die, name string) {
	phase, how, ok := strings.Cut(die, ":")
	if !ok || phase != name {
		return
	}
	switch how {
	case "panic":
		panic("a test wants it")
	case "exit":
		os.Exit(99)
	case "hang":
		for { // a goroutine that waits for nothing would be found out
			time.Sleep(time.Hour)
		}
	case "memory":
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = byte(i)
			}
			all = append(all, b)
			runtime.KeepAlive(all)
		}
	case "late":
		<-ctx.Done()
	}
}

// brief is an error's text as one line, in which nothing stands twice: when a
// line is cut, everything that was on its way says so.
func brief(err error) string {
	var parts []string
	for part := range strings.SplitSeq(oneLine(err.Error()), "; ") {
		if !slices.ContainsFunc(parts, func(p string) bool { return strings.HasSuffix(p, part) }) {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "; ")
}

// oneLine makes a text fit for one line of a console.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
