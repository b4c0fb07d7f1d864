package crashenv

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// Where things are in the crash environment.
const (
	planFile   = "/plan.json"
	initFile   = "/init"
	moduleDir  = "/modules"
	mountPoint = "/target"
)

// IsInit tells whether this process is part of the crash environment: PID 1 of
// the panic kernel, or one of the processes that the environment, or [Save],
// has started. main must then call [Init] before anything else.
func IsInit() bool {
	if os.Getenv(roleEnv) != "" {
		return true
	}
	if os.Getpid() != 1 {
		return false
	}
	_, err := os.Stat(planFile)
	return err == nil
}

// Init does the part of this process in the crash environment and never
// returns.
func Init() {
	var err error
	switch role := os.Getenv(roleEnv); role {
	case roleWorker:
		err = work() // and says its error itself, as the rescuer does
	case roleReporter:
		if err = makeReport(os.Stdin, os.NewFile(reportTextFD, "text"), os.NewFile(reportJSONFD, "json")); err != nil {
			fmt.Fprintln(os.Stderr, oneLine(err.Error()))
		}
	case roleRescuer:
		err = rescue()
	case "":
		supervise()
	default:
		err = fmt.Errorf("%s: unknown role %q", roleEnv, role)
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// supervise is the life of PID 1.
func supervise() {
	// A signal that nobody expects must not end PID 1; the kernel panics then.
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(os.Stderr, "panic: %v\n%s", r, debug.Stack())
			_ = (&machine{}).End(Reboot)
		}
	}()
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	mountErr := mountSystem()
	notTuned := tune()
	say := openConsole()
	say.line("begin %s", PhaseMounts)
	if notTuned != nil {
		say.line("note: %v", notTuned)
	}
	setOOMScore(-1000)
	if mountErr != nil {
		say.fail("phase "+PhaseMounts, mountErr)
	} else {
		say.line("phase %s: done, %.3f s", PhaseMounts, (uptime() - say.booted).Seconds())
	}
	plan, err := loadPlan(planFile)
	s := &supervisor{final: Reboot, room: &machine{}, say: say}
	if err == nil {
		s.final, s.failed = plan.Final, plan.Failed
		s.room = &machine{watchdog: plan.Watchdog, targets: len(plan.Targets)}
		for _, t := range plan.Targets {
			s.targets = append(s.targets, t.Path)
		}
	}
	s.run(err)
	// Only when nothing could end the machine: the death of PID 1 is a panic,
	// which panic= of the command line turns into a restart.
}

func loadPlan(file string) (*Plan, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return ParsePlan(text)
}

// mountSystem mounts what every Linux program expects.
func mountSystem() error {
	var errs []error
	for _, m := range []struct{ source, dir, fstype, data string }{
		{"proc", "/proc", "proc", ""},
		{"sysfs", "/sys", "sysfs", ""},
		{"devtmpfs", "/dev", "devtmpfs", "mode=0755"},
		{"tmpfs", "/run", "tmpfs", "mode=0700"},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		err := sys.Mount(m.source, m.dir, m.fstype, sys.MountNoSuid, m.data)
		if err != nil && !errors.Is(err, syscall.EBUSY) {
			errs = append(errs, fmt.Errorf("%s: %w", m.dir, err))
		}
	}
	return errors.Join(errs...)
}

// tune turns knobs of the panic kernel that need no place on its command line.
func tune() error {
	var errs []error
	for _, knob := range []struct{ file, value, why string }{
		{"/proc/sys/kernel/printk_devkmsg", "on", "none of our lines may be dropped for coming too fast"},
		{"/sys/module/printk/parameters/time", "N", "our lines have a clock of their own"},
		{"/proc/sys/vm/dirty_background_bytes", "4194304", "writing to the disk begins early"},
		{"/proc/sys/vm/dirty_bytes", "16777216", "data on its way to the disk must not fill the panic room"},
	} {
		// printk_devkmsg takes nothing without a newline.
		if err := os.WriteFile(knob.file, []byte(knob.value+"\n"), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// machine is the real room.
type machine struct {
	watchdog bool     // wanted
	dog      *os.File // open
	targets  int      // that may be mounted
}

func (m *machine) Start(role string, env ...string) (child, error) { return startChild(role, env...) }

func (m *machine) State() (*state, error) { return readState(stateFile) }

// watchdogTimeout is in seconds; petEvery is much shorter.
const watchdogTimeout = 60

// Pet opens the watchdog as soon as it is there: its driver may be a module.
func (m *machine) Pet() {
	if !m.watchdog {
		return
	}
	if m.dog == nil {
		f, err := os.OpenFile("/dev/watchdog0", os.O_WRONLY, 0)
		if err != nil {
			return
		}
		m.dog = f
		// Not every driver can change it.
		_, _ = sys.SetWatchdogTimeout(f, watchdogTimeout)
	}
	_ = sys.KeepWatchdogAlive(m.dog)
}

func (m *machine) Flush() error {
	sys.Sync()
	var errs []error
	for i := range m.targets {
		err := sys.Unmount(mountedAt(i))
		if !errors.Is(err, syscall.EINVAL) && !errors.Is(err, os.ErrNotExist) { // not mounted
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (m *machine) End(f Final) error {
	return end(f, sys.Reboot, func(key string) error {
		f, err := os.OpenFile("/proc/sysrq-trigger", os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString(key)
		return err
	})
}

// end ends the machine by one way after the other; it returns only if none is
// left. reboot(2) shuts devices down first and can wait for a disk that never
// answers; and as long as one of our threads waits there, the exit of PID 1 is
// no panic either (kernel/exit.c, do_exit). Sysrq b asks no device; where o does
// not turn the machine off, a restart is better than a machine that hangs.
func end(f Final, reboot func(sys.RebootCommand) error, sysrq func(key string) error) error {
	command, keys := sys.RebootRestart, []string{"b"}
	switch f {
	case PowerOff:
		command, keys = sys.RebootPowerOff, []string{"o", "b"}
	case Halt:
		command, keys = sys.RebootHalt, nil
	}
	// Nobody pets the watchdog any more: it is one more way.
	err := within(func() error { return reboot(command) }, nil)
	for _, key := range keys {
		if kerr := within(func() error { return sysrq(key) }, nil); kerr != nil {
			err = errors.Join(err, fmt.Errorf("sysrq %s: %w", key, kerr))
		} else if key == "o" {
			time.Sleep(Grace) // a worker of the kernel does it
		}
	}
	return err
}

// spoken is a child and what it says on a pipe.
type spoken struct {
	*process
	lines chan string
}

// wordsFD is where children have the pipe to the supervisor.
const wordsFD = 3

func startChild(role string, env ...string) (child, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	p, err := start(role, env, nil, nil, nil, w)
	if err != nil {
		r.Close()
		return nil, err
	}
	c := &spoken{p, make(chan string)}
	go func() {
		defer close(c.lines)
		defer r.Close()
		readLines(r, c.lines, p.done)
	}()
	return c, nil
}

func (c *spoken) Lines() <-chan string  { return c.lines }
func (c *spoken) Done() <-chan struct{} { return c.done }
func (c *spoken) Failure() error        { return c.failure() }
func (c *spoken) Kill()                 { _ = c.p.Kill() }
