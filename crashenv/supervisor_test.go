package crashenv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// TestMain lets the test binary play the roles that it is started in.
func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		Init()
	}
	os.Exit(m.Run())
}

func testConsole() (*console, *bytes.Buffer) {
	var b bytes.Buffer
	return &console{w: &b, start: time.Now()}, &b
}

// testRoom is a machine whose children are functions.
type testRoom struct {
	worker, rescuer func(c *testChild)
	st              *state
	flush           func() error
	started         []string // roles, the rescuer with its reason
	petted          time.Time
	gap             time.Duration // longest time without the watchdog being petted
	end             Final
}

func (r *testRoom) Start(role string, env ...string) (child, error) {
	r.started = append(r.started, strings.Join(append([]string{role}, env...), " "))
	f := r.worker
	if role == roleRescuer {
		f = r.rescuer
	}
	if f == nil {
		return nil, errors.New("cannot fork")
	}
	c := &testChild{lines: make(chan string), done: make(chan struct{}), killed: make(chan struct{})}
	go func() {
		f(c)
		close(c.lines)
		close(c.done)
	}()
	return c, nil
}

func (r *testRoom) Pet() {
	if now := time.Now(); r.petted.IsZero() {
		r.petted = now
	} else {
		r.gap, r.petted = max(r.gap, now.Sub(r.petted)), now
	}
}

func (r *testRoom) State() (*state, error) {
	if r.st == nil {
		return nil, os.ErrNotExist
	}
	return r.st, nil
}

func (r *testRoom) Flush() error {
	if r.flush != nil {
		return r.flush()
	}
	return nil
}

func (r *testRoom) End(f Final) error {
	if !r.petted.IsZero() {
		r.Pet()
	}
	r.end = f
	return nil
}

type testChild struct {
	lines   chan string
	done    chan struct{}
	killed  chan struct{}
	failure error
}

func (c *testChild) Lines() <-chan string  { return c.lines }
func (c *testChild) Done() <-chan struct{} { return c.done }
func (c *testChild) Failure() error        { return c.failure }
func (c *testChild) Kill()                 { close(c.killed) }

// begin is a phase that goes on for a while.
func (c *testChild) begin(phase string, limit, takes time.Duration) {
	c.lines <- fmt.Sprintf("begin %s %d", phase, limit.Milliseconds())
	pass(takes)
}

// hang waits to be killed.
func (c *testChild) hang() { <-c.killed; c.failure = errors.New("signal: killed") }

func TestSupervisor(t *testing.T) {
	saved := func(log bool) *state {
		return &state{LogSaved: log, Manifest: &Manifest{Path: "/var/crash/X-incomplete"}}
	}
	ended := func(reason string, log bool) *state {
		s := saved(log)
		s.Ended, s.Reason = true, reason
		return s
	}
	for _, c := range []struct {
		name    string
		room    testRoom
		planErr error
		started []string // roles with what their environment says
		end     string   // begin of the text after "end "
		takes   time.Duration
		notes   []string
	}{
		{
			name: "all is well",
			room: testRoom{
				st: &state{LogSaved: true, Ended: true, Manifest: &Manifest{Path: "/var/crash/X", Complete: true}},
				worker: func(c *testChild) {
					c.begin("log", time.Minute, time.Second)
					c.begin("dump", time.Hour, 59*time.Minute)
				},
			},
			started: []string{"worker"}, end: "complete: /var/crash/X; power off", takes: 59*time.Minute + time.Second,
		},
		{
			name: "all is well, and then unmounting hangs",
			room: testRoom{
				st:     &state{LogSaved: true, Manifest: &Manifest{Path: "/var/crash/X", Complete: true}},
				worker: func(c *testChild) { c.begin("unmount", time.Minute, 0); c.hang() },
			},
			started: []string{"worker"}, end: "complete: /var/crash/X; power off", takes: time.Minute + Grace,
			notes: []string{"the worker hung in phase unmount and was killed"},
		},
		{
			name: "the dump is incomplete",
			room: testRoom{
				st: ended("dump: no space left", true),
				worker: func(c *testChild) {
					c.begin("dump", time.Hour, time.Second)
					c.failure = errors.New("exit status 1")
				},
			},
			started: []string{"worker"}, end: "incomplete: /var/crash/X-incomplete: dump: no space left; power off", takes: time.Second,
		},
		{
			name: "the target is missing",
			room: testRoom{
				st:      &state{Ended: true, Reason: "device: no filesystem"},
				worker:  func(c *testChild) { c.failure = errors.New("exit status 1") },
				rescuer: func(c *testChild) { c.begin("rescue", time.Minute, time.Second) },
			},
			started: []string{"worker", "rescuer " + reasonEnv + "=device: no filesystem"},
			end:     "failed: device: no filesystem; power off", takes: time.Second,
		},
		{
			name: "the worker is killed by the kernel",
			room: testRoom{
				st: saved(true),
				worker: func(c *testChild) {
					c.begin("dump", time.Hour, time.Second)
					c.failure = errors.New("it ended with signal: killed")
				},
				rescuer: func(c *testChild) {},
			},
			started: []string{"worker", "rescuer " + reasonEnv + "=the worker ended in phase dump: it ended with signal: killed"},
			end:     "incomplete: /var/crash/X-incomplete: the worker ended in phase dump: it ended with signal: killed; power off",
			takes:   time.Second,
		},
		{
			name: "the worker hangs",
			room: testRoom{
				st:      saved(true),
				worker:  func(c *testChild) { c.begin("dump", time.Hour, 0); c.hang() },
				rescuer: func(c *testChild) {},
			},
			started: []string{"worker", "rescuer " + reasonEnv + "=the worker hung in phase dump and was killed"},
			end:     "incomplete: /var/crash/X-incomplete: the worker hung in phase dump and was killed; power off",
			takes:   time.Hour + Grace,
		},
		{
			name: "the worker never begins",
			room: testRoom{
				worker:  func(c *testChild) { c.hang() },
				rescuer: func(c *testChild) {},
			},
			started: []string{"worker", "rescuer " + reasonEnv + "=the worker hung in phase start of the worker and was killed"},
			end:     "failed: the worker hung in phase start of the worker and was killed; power off", takes: firstLimit,
		},
		{
			name: "the worker is stuck in the kernel",
			room: testRoom{
				st:      saved(true),
				worker:  func(c *testChild) { c.begin("dump", time.Minute, 0); <-c.killed; pass(time.Hour) },
				rescuer: func(c *testChild) {},
			},
			started: []string{"worker", "rescuer " + reasonEnv + "=the worker hung in phase dump and was killed, but it is stuck in the kernel"},
			end:     "incomplete: ", takes: time.Minute + 2*Grace,
		},
		{
			name: "the worker makes no progress",
			room: testRoom{
				st: saved(true),
				worker: func(c *testChild) {
					c.begin("dump", 4*time.Hour, time.Minute)
					for range 30 {
						c.lines <- "alive"
						pass(time.Minute)
					}
					c.hang()
				},
				rescuer: func(c *testChild) {},
			},
			started: []string{"worker", "rescuer " + reasonEnv + "=the worker made no progress in phase dump for 10m0s and was killed"},
			end:     "incomplete: ", takes: 30*time.Minute + stall, // the last "alive" came after 30 minutes
		},
		{
			name: "the worker is busy for ever",
			room: testRoom{
				st: saved(true),
				worker: func(c *testChild) {
					for {
						// Never at the same instant as the end of the day.
						select {
						case <-time.After(7 * time.Second):
							c.lines <- "begin log 60000"
						case <-c.killed:
							return
						}
					}
				},
				rescuer: func(c *testChild) {},
			},
			started: []string{"worker", "rescuer " + reasonEnv + "=the worker was killed after 24h0m0s"},
			end:     "incomplete: ", takes: workLimit,
		},
		{
			name:    "no process can be started",
			room:    testRoom{},
			started: []string{"worker", "rescuer " + reasonEnv + "=cannot fork"},
			end:     "failed: cannot fork; power off",
			notes:   []string{"the rescuer failed: cannot fork"},
		},
		{
			name:    "there is no plan",
			room:    testRoom{rescuer: func(c *testChild) {}},
			planErr: ErrPlan,
			started: []string{"rescuer " + reasonEnv + "=plan is not valid"},
			end:     "failed: plan is not valid; power off",
		},
		{
			name: "the rescuer hangs and so does the disk",
			room: testRoom{
				worker:  func(c *testChild) { c.failure = errors.New("exit status 99") },
				rescuer: func(c *testChild) { c.begin("rescue", 3*time.Minute, 0); c.hang() },
				flush:   func() error { pass(time.Hour); return nil },
			},
			started: []string{"worker", "rescuer " + reasonEnv + "=the worker ended in phase start of the worker: exit status 99"},
			end:     "failed: the worker ended in phase start of the worker: exit status 99; power off",
			takes:   3*time.Minute + 2*Grace,
			notes:   []string{"the rescuer failed: the rescuer hung in phase rescue and was killed", "unmounting the target: it hangs"},
		},
		{
			name:    "we panic",
			room:    testRoom{st: &state{Ended: true, LogSaved: true}, worker: func(c *testChild) {}, flush: func() error { panic("in flush") }},
			started: []string{"worker"}, end: "incomplete: ",
			notes: []string{"panic in panicroom: in flush"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				say, out := testConsole()
				start := time.Now()
				s := &supervisor{final: PowerOff, room: &c.room, say: say}
				s.run(c.planErr)
				if c.room.end != PowerOff {
					t.Errorf("the machine ended with %q; want %q", c.room.end, PowerOff)
				}
				if got := time.Since(start); got != c.takes {
					t.Errorf("it took %v; want %v", got, c.takes)
				}
				if !slices.Equal(c.room.started, c.started) {
					t.Errorf("started %q; want %q", c.room.started, c.started)
				}
				if c.room.gap > 2*petEvery {
					t.Errorf("nobody petted the watchdog for %v", c.room.gap)
				}
				lines := strings.Split(strings.TrimSpace(out.String()), "\n")
				last := lines[len(lines)-1]
				if _, text, _ := strings.Cut(last, "] end "); !strings.HasPrefix(text, c.end) {
					t.Errorf("last line %q; want \"end %s\"", last, c.end)
				}
				for _, n := range c.notes {
					if !strings.Contains(out.String(), n) {
						t.Errorf("no note %q in:\n%s", n, out)
					}
				}
				pass(2 * time.Hour) // whatever was left behind comes to its end
			})
		})
	}
}

func FuzzParseBegin(f *testing.F) {
	f.Add("begin dump 60000")
	f.Add("begin dump -1")
	f.Add("alive")
	f.Fuzz(func(t *testing.T, line string) {
		if phase, limit, ok := parseBegin(line); ok && (phase == "" || limit < 0) {
			t.Errorf("parseBegin(%q) = %q, %v", line, phase, limit)
		}
	})
}

// pass lets time pass on the clock of a test's bubble, which takes none.
func pass(d time.Duration) { <-time.After(d) }

// A reboot that waits for a dead disk for ever is not the end: sysrq is.
func TestEnd(t *testing.T) {
	for _, c := range []struct {
		final  Final
		reboot error // nil hangs
		keys   string
		takes  time.Duration
	}{
		{Reboot, nil, "b", Grace},
		{Reboot, errors.New("not permitted"), "b", 0},
		{PowerOff, nil, "ob", 2 * Grace},
		{PowerOff, errors.New("not permitted"), "ob", Grace},
		{Halt, errors.New("not permitted"), "", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			released := make(chan struct{})
			defer close(released)
			var keys string
			start := time.Now()
			err := end(c.final, func(sys.RebootCommand) error {
				if c.reboot == nil {
					<-released
				}
				return c.reboot
			}, func(key string) error { keys += key; return nil })
			if took := time.Since(start); keys != c.keys || took != c.takes || err == nil {
				t.Errorf("end(%s) pressed %q in %v, %v; want %q in %v and an error", c.final, keys, took, err, c.keys, c.takes)
			}
		})
	}
}
