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
	final Final
	room  room
	say   *console
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
	var workErr error
	if planErr != nil {
		workErr = planErr
		s.say.fail("phase plan", planErr)
	} else {
		workErr = s.watch(roleWorker)
	}
	st, err := s.room.State()
	if err != nil {
		st = &state{}
	}
	// A worker that dies or hangs after the commit, in unmounting, takes nothing
	// back from the crash.
	if st.Manifest != nil && (workErr == nil || st.Manifest.Complete) {
		status, text = "complete", st.Manifest.Path
		return
	}
	reason := st.Reason
	if reason == "" && workErr != nil {
		reason = oneLine(workErr.Error())
	}
	text = reason
	if st.Manifest != nil && !strings.Contains(reason, st.Manifest.Path) {
		text = st.Manifest.Path + ": " + reason
	}
	if st.LogSaved {
		status = "incomplete"
	}
	if st.Ended && st.LogSaved {
		return
	}
	// The worker is dead, or had nowhere to put the log.
	if err := s.watch(roleRescuer, reasonEnv+"="+reason); err != nil {
		s.say.line("note: the rescuer failed: %v", err)
	}
}

// watch runs a child to its end, or kills it when it is late. The error is
// nil when it has done its work.
func (s *supervisor) watch(role string, env ...string) error {
	c, err := s.room.Start(role, env...)
	if err != nil {
		s.say.fail("phase "+role, err)
		return err
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
				phase = name
				late.Reset(limit + Grace)
				silent.Reset(workLimit)
			}
			continue
		case <-pet.C:
			s.room.Pet()
			continue
		case <-c.Done():
			if err := c.Failure(); err != nil {
				return fmt.Errorf("the %s ended in phase %s: %w", role, phase, err)
			}
			return nil
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
		return why
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
	what := map[Final]string{Reboot: "restart", PowerOff: "power off", Halt: "halt"}[s.final]
	s.say.line("end %s: %s; %s", status, text, what)
	if err := s.room.End(s.final); err != nil {
		s.say.line("note: %s: %v", what, err)
	}
}
