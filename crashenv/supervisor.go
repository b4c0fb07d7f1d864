package crashenv

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// supervisor is PID 1 once the system is mounted: it starts the others, waits
// for them no longer than they may take, and ends the machine.
type supervisor struct {
	final  Final
	failed Final // the same, when no target took the dump; "" is final
	// targets are what the worker can be told to try, by the names that people
	// know.
	targets []string
	room    room
	say     *console
}

// room is the machine around the supervisor; tests have another one.
type room interface {
	// Start starts a process of ours.
	Start(role string, env ...string) (child, error)
	// Pet pets the watchdog, if there is one.
	Pet()
	// State is how far the worker has come.
	State() (*state, error)
	// Flush makes everything durable and unmounts the target. It may hang.
	Flush() error
	// End ends the machine. It returns, in bounded time, only if that failed.
	End(Final) error
}

// child is a process of ours.
type child interface {
	// Lines are the words of the child to the supervisor: "begin PHASE
	// MILLISECONDS" and "alive". The channel is closed when the child ends.
	Lines() <-chan string
	// Done is closed at the end of the child.
	Done() <-chan struct{}
	// Failure is why it ended, nil if it has done its work.
	Failure() error
	Kill()
}

const (
	// petEvery is how often the watchdog is petted.
	petEvery = 5 * time.Second
	// firstLimit is the time a child has to begin its first phase.
	firstLimit = 60 * time.Second
	// stall is how long a phase that has said "alive" may be silent.
	stall = 10 * time.Minute
	// workLimit ends a worker that goes from phase to phase for ever.
	workLimit = 24 * time.Hour
)

// run does everything and ends the machine. The plan could not be read if
// planErr is not nil; the log is still worth printing.
func (s *supervisor) run(planErr error) {
	status, text := "failed", ""
	defer func() {
		if r := recover(); r != nil {
			text = fmt.Sprintf("%v: %v", errPanic, r)
		}
		s.finish(status, text)
	}()
	var last attempted
	var saved attempted // the first that has the log
	var attempts []Attempt
	for i := range max(1, len(s.targets)) {
		if planErr != nil {
			s.say.fail("phase plan", planErr)
			last = attempted{err: planErr, st: &state{}, reason: oneLine(planErr.Error())}
			break
		}
		last = s.attempt(i, attempts)
		// A worker that dies or hangs after the commit, in unmounting, takes nothing
		// back from the crash.
		if m := last.st.Manifest; m != nil && (last.err == nil || m.Complete) {
			status, text = "complete", m.Path
			return
		}
		if last.st.LogSaved && saved.st == nil {
			saved = last
		}
		if i+1 < len(s.targets) {
			attempts = append(attempts, Attempt{Target: s.targets[i], Phase: last.phase, Error: last.reason, Seconds: last.took.Round(time.Millisecond).Seconds()})
			s.say.line("note: target %s failed, trying %s: %s", s.targets[i], s.targets[i+1], last.reason)
		}
	}
	text = last.text()
	env := []string{reasonEnv + "=" + last.reason}
	if saved.st != nil {
		status, text = "incomplete", saved.text()
		if last.st.Ended {
			return
		}
		if !last.st.LogSaved {
			env = append(env, logSavedEnv+"=1") // another target has it
		}
	}
	// The worker is dead, or had nowhere to put the log.
	if _, err := s.watch(roleRescuer, env...); err != nil {
		s.say.line("note: the rescuer failed: %v", err)
	}
}

// attempted is what became of a worker.
type attempted struct {
	err    error
	st     *state // never nil, of a worker that was started
	phase  string // that failed
	reason string
	took   time.Duration
}

func (a *attempted) text() string {
	if m := a.st.Manifest; m != nil && !strings.Contains(a.reason, m.Path) {
		return m.Path + ": " + a.reason
	}
	return a.reason
}

// attempt has a worker try a target, after others in vain.
func (s *supervisor) attempt(n int, before []Attempt) attempted {
	start := time.Now()
	var a attempted
	a.phase, a.err = s.watch(roleWorker, turnEnv(n, before)...)
	a.took = time.Since(start)
	var err error
	if a.st, err = s.room.State(); err != nil || a.st.Target != n {
		a.st = &state{}
	}
	if a.st.Phase != "" {
		a.phase = a.st.Phase
	}
	if a.reason = a.st.Reason; a.reason == "" && a.err != nil {
		a.reason = oneLine(a.err.Error())
	}
	return a
}

// watch runs a child to its end, or kills it when it is late. The error is
// nil when it has done its work; phase is the last that it began, "" for none.
func (s *supervisor) watch(role string, env ...string) (begun string, err error) {
	c, err := s.room.Start(role, env...)
	if err != nil {
		s.say.fail("phase "+role, err)
		return "", err
	}
	phase := "start of the " + role
	late := time.NewTimer(firstLimit)
	defer late.Stop()
	silent := time.NewTimer(workLimit)
	defer silent.Stop()
	work := time.NewTimer(workLimit)
	defer work.Stop()
	pet := time.NewTicker(petEvery)
	defer pet.Stop()
	s.room.Pet()
	lines := c.Lines()
	for {
		var why error
		select {
		case line, ok := <-lines:
			if !ok {
				lines = nil // Done follows
				continue
			}
			if line == "alive" {
				silent.Reset(stall)
				continue
			}
			if name, limit, ok := parseBegin(line); ok {
				phase, begun = name, name
				late.Reset(limit + Grace)
				silent.Reset(workLimit)
			}
			continue
		case <-pet.C:
			s.room.Pet()
			continue
		case <-c.Done():
			if err := c.Failure(); err != nil {
				return begun, fmt.Errorf("the %s ended in phase %s: %w", role, phase, err)
			}
			return begun, nil
		case <-late.C:
			why = fmt.Errorf("the %s hung in phase %s and was killed", role, phase)
		case <-silent.C:
			why = fmt.Errorf("the %s made no progress in phase %s for %s and was killed", role, phase, stall)
		case <-work.C:
			why = fmt.Errorf("the %s was killed after %s", role, workLimit)
		}
		s.say.line("note: %v", why)
		c.Kill()
		// A process in the middle of I/O that never ends cannot be killed.
		if within(func() error { <-c.Done(); return nil }, s.room.Pet) != nil {
			why = fmt.Errorf("%w, but it is stuck in the kernel", why)
		}
		return begun, why
	}
}

func parseBegin(line string) (phase string, limit time.Duration, ok bool) {
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != "begin" {
		return "", 0, false
	}
	ms, err := strconv.ParseUint(f[2], 10, 32)
	return f[1], time.Duration(ms) * time.Millisecond, err == nil
}

// errHung is the error of what the end of the machine cannot wait for.
var errHung = errors.New("it hangs")

// within runs f, and goes on without it when it takes longer than Grace.
// Meanwhile it calls pet, which may be nil.
func within(f func() error, pet func()) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("%w: %v", errPanic, r)
			}
		}()
		done <- f()
	}()
	late := time.NewTimer(Grace)
	defer late.Stop()
	tick := time.NewTicker(petEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			if pet != nil {
				pet()
			}
		case <-late.C:
			return errHung
		}
	}
}

// finish ends the machine.
func (s *supervisor) finish(status, text string) {
	if err := within(s.room.Flush, s.room.Pet); err != nil {
		s.say.line("note: writing out and unmounting the target: %v", err)
	}
	final := s.final
	if status != "complete" && s.failed != "" {
		final = s.failed
	}
	what := map[Final]string{Reboot: "restart", PowerOff: "power off", Halt: "halt"}[final]
	s.say.line("end %s: %s; %s", status, text, what)
	if err := s.room.End(final); err != nil {
		s.say.line("note: %s: %v", what, err)
	}
}
