package after

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/saved"
)

// StateDir is where what has been told is noted.
const StateDir = "/var/lib/panicroom"

// Options say what [Run] does. Config and State must be given.
type Options struct {
	Config *config.Config
	// State is a directory; see [StateDir].
	State string
	// DryRun only says what would be done.
	DryRun bool
	// Unpack takes dumps off raw partitions and returns the directories of the
	// crashes that it has made of them, below one of Config.Directories; nil is
	// nothing to unpack.
	Unpack func(context.Context) ([]string, error)
	// Say hears of everything that is done or goes wrong, a line at a time; nil is
	// nobody.
	Say func(line string)
	// Root is "/", where the time of the boot is read; nil is the real one.
	Root fs.FS

	hookLimit time.Duration // 0 is hookLimit
	// wait is a pause between two posts; tests do not.
	wait func(context.Context, time.Duration) error
	// transport is that of the webhook; nil is the default.
	transport http.RoundTripper
	// trust is who may own hooks beside root.
	trust trust
}

// Result is what [Run] has done.
type Result struct {
	// New are the crashes that were told of, the oldest first.
	New []saved.Crash `json:"new"`
	// Removed are those that had to go; not those that could not be removed.
	Removed []saved.Removal `json:"removed"`
	// Problems are what went wrong, for people.
	Problems []string `json:"problems"`
}

// ErrProblems: not all could be done; [Result.Problems] has the words.
var ErrProblems = errors.New("not all could be done")

// runner is one Run.
type runner struct {
	Options
	state  *state
	result Result
	boot   time.Time
	hints  []string        // what to do about problems
	denied error           // a directory that this user may not read
	mute   bool            // what is told cannot be noted
	done   map[string]bool // crashes that are not on their way, whatever it looks like
}

// Run does what is to be done after a crash; nothing if there was none. One thing
// that fails does not stop the others: the error is [ErrProblems] then.
func Run(ctx context.Context, opts Options) (*Result, error) {
	r := &runner{Options: opts, done: map[string]bool{}, result: Result{New: []saved.Crash{}, Removed: []saved.Removal{}, Problems: []string{}}}
	if r.Root == nil {
		r.Root = os.DirFS("/")
	}
	r.hookLimit = cmp.Or(r.hookLimit, hookLimit)
	if r.wait == nil {
		r.wait = wait
	}
	unlock, err := r.open()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if r.boot, err = saved.BootTime(r.Root); err != nil {
		r.problem("%v", err) // everything that is incomplete is left alone
	}
	r.unpack(ctx)
	lists := r.find()
	r.tell()
	if !r.mute {
		r.hooks(ctx)
	}
	for _, dir := range r.Config.Directories() {
		if list, ok := lists[dir]; ok {
			r.retain(dir, list)
		}
	}
	if !r.mute {
		r.webhook(ctx)
	}
	if n := len(r.result.Problems); n > 0 {
		return &r.result, ui.Hint(&problems{n, r.denied}, r.hints...)
	}
	if r.DryRun && len(r.result.New) == 0 {
		r.say("no new crash")
	}
	return &r.result, nil
}

// problems is the [ErrProblems] of a run.
type problems struct {
	many   int
	denied error
}

func (p *problems) Error() string {
	if p.many == 1 {
		return ErrProblems.Error() + ": 1 problem"
	}
	return fmt.Sprintf("%v: %d problems", ErrProblems, p.many)
}

// Unwrap tells besides that it was for want of a permission.
func (p *problems) Unwrap() []error {
	if p.denied == nil {
		return []error{ErrProblems}
	}
	return []error{ErrProblems, p.denied}
}

// hint notes what to do, once.
func (r *runner) hint(text string) {
	if !slices.Contains(r.hints, text) {
		r.hints = append(r.hints, text)
	}
}

func (r *runner) say(format string, args ...any) {
	if r.Say != nil {
		r.Say(fmt.Sprintf(format, args...))
	}
}

func (r *runner) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.result.Problems = append(r.result.Problems, text)
	r.say("%s", text)
}

// open takes the lock and reads the state.
func (r *runner) open() (unlock func(), err error) {
	if r.DryRun {
		r.state, err = readState(r.State)
		return func() {}, err
	}
	if err := os.MkdirAll(r.State, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(r.State, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := sys.LockFile(lock); err != nil {
		lock.Close()
		return nil, err
	}
	if r.state, err = readState(r.State); errors.Is(err, errState) {
		r.problem("%v; all crashes are told of again", err)
		r.state, err = &state{Version: stateVersion, Crashes: map[string]*told{}}, nil
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return func() { lock.Close() }, nil
}

// note makes the state durable.
func (r *runner) note() bool {
	if r.DryRun {
		return true
	}
	if err := r.state.write(r.State); err != nil {
		r.problem("what was told cannot be noted: %v", err)
		return false
	}
	return true
}

func (r *runner) unpack(ctx context.Context) {
	if r.Unpack == nil || r.DryRun {
		return
	}
	dirs, err := r.Unpack(ctx)
	for _, dir := range dirs {
		r.done[filepath.Clean(dir)] = true
		r.say("a dump was unpacked into %s", dir)
	}
	if err != nil {
		r.problem("a partition with a dump: %v", err)
	}
}

// find lists the crashes of all directories, and finds those that are new.
func (r *runner) find() map[string][]saved.Crash {
	lists := map[string][]saved.Crash{}
	for _, dir := range r.Config.Directories() {
		if !r.DryRun {
			if err := saved.Sweep(dir); err != nil {
				r.problem("what is left of a removed crash: %v", err)
			}
		}
		list, err := saved.List(dir)
		if err != nil {
			r.problem("saved crashes: %v", err)
			if errors.Is(err, fs.ErrPermission) {
				r.denied = err
			}
			continue
		}
		for i := range list {
			c := &list[i]
			if _, known := r.state.Crashes[c.Path]; known || c.Busy(r.boot) && !r.done[c.Path] {
				continue
			}
			c.Fresh = true
			r.result.New = append(r.result.New, *c)
		}
		lists[dir] = list
	}
	slices.SortStableFunc(r.result.New, func(a, b saved.Crash) int { return a.Time.Compare(b.Time) })
	return lists
}

// tell says a line of each new crash, and notes that.
func (r *runner) tell() {
	for _, c := range r.result.New {
		r.say("%s", Line(&c))
		t := &told{Time: time.Now().UTC().Truncate(time.Second)}
		if r.Config.Notify.Webhook != "" {
			t.Webhook = webhookPending
		}
		r.state.Crashes[c.Path] = t
	}
	// Without a note, hooks and webhook would be called again at each boot.
	r.mute = len(r.result.New) > 0 && !r.note()
}

// Line says in one line what happened and where the dump is.
func Line(c *saved.Crash) string {
	what := cmp.Or(c.Title, "the kernel died")
	if c.Kernel != "" {
		what = "Linux " + c.Kernel + ": " + what
	}
	where := "saved in " + c.Path
	if !c.Complete {
		where = fmt.Sprintf("saved in part in %s: %s", c.Path, c.Why())
	}
	return fmt.Sprintf("crash of %s, %s; %s", c.Time.UTC().Format(time.RFC3339), what, where)
}

// retain takes away what has to go.
func (r *runner) retain(dir string, list []saved.Crash) {
	var free uint64
	if r.Config.Keep.Free > 0 {
		info, err := sys.StatFS(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return
		} else if err != nil {
			r.problem("free space: %v", err)
			return
		}
		free = info.Available
	}
	for _, gone := range saved.Surplus(list, r.Config.Keep, free, r.boot) {
		if r.DryRun {
			r.say("%s would be removed (%s): %s", gone.Crash.Path, ui.Bytes(gone.Crash.Size), gone.Why)
		} else if err := saved.Remove(dir, gone.Crash.Name); err != nil {
			r.problem("%s cannot be removed: %v", gone.Crash.Path, err)
			continue
		} else {
			r.say("removed %s (%s): %s", gone.Crash.Path, ui.Bytes(gone.Crash.Size), gone.Why)
		}
		r.result.Removed = append(r.result.Removed, gone)
	}
}
