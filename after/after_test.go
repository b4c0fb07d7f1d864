package after

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// boot is when the machine of these tests was booted.
var boot = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// machine is one with a directory of crashes.
type machine struct {
	t     *testing.T
	crash string
	hooks string
	opts  Options
	said  []string
	mu    sync.Mutex
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, crash: t.TempDir(), hooks: t.TempDir()}
	c := config.Default()
	c.Targets = []config.Target{config.Directory(m.crash)}
	c.Keep = config.Keep{}
	c.Notify.Hooks = m.hooks
	m.opts = Options{
		Config: c, State: filepath.Join(t.TempDir(), "lib"),
		Root: fstest.MapFS{"proc/stat": {Data: fmt.Appendf(nil, "btime %d\n", boot.Unix())}},
		Say: func(line string) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.said = append(m.said, line)
		},
		trust: trust{uint32(os.Geteuid()), uint32(os.Getegid())},
		wait:  func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
	return m
}

// put saves a crash that many minutes before the machine was booted.
func (m *machine) put(name string, minutes int, reasons ...string) string {
	m.t.Helper()
	path := filepath.Join(m.crash, name)
	when := boot.Add(time.Duration(-minutes) * time.Minute)
	base, incomplete := strings.CutSuffix(name, "-incomplete")
	text, err := json.Marshal(map[string]any{
		"version": 1, "name": base, "complete": !incomplete, "reasons": reasons,
		"crash": map[string]any{"time": when, "release": "6.12.107", "panic": "Kernel panic - not syncing: test"},
		"host":  map[string]any{"name": "board"},
		"tool":  map[string]any{"version": "v1", "go": "go1.26"},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		m.t.Fatal(err)
	}
	for file, content := range map[string][]byte{"manifest.json": text, "vmcore": make([]byte, 1<<20)} {
		if err := os.WriteFile(filepath.Join(path, file), content, 0o600); err != nil {
			m.t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(path, file), when, when); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := os.Chtimes(path, when, when); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// hook makes a hook of a shell script.
func (m *machine) hook(name, script string, mode fs.FileMode) string {
	m.t.Helper()
	path := filepath.Join(m.hooks, name)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // umask
		m.t.Fatal(err)
	}
	return path
}

// run is a boot; it returns what was said and the error.
func (m *machine) run() (string, error) {
	m.t.Helper()
	m.said = nil
	_, err := Run(m.t.Context(), m.opts)
	return strings.Join(m.said, "\n"), err
}

// runs is a boot that is to say this.
func (m *machine) runs(want ...string) {
	m.t.Helper()
	said, err := m.run()
	if err != nil || said != strings.Join(want, "\n") {
		m.t.Errorf("said %q, %v; want %q", said, err, want)
	}
}

// left are the names in the directory of crashes.
func (m *machine) left() (all []string) {
	entries, err := os.ReadDir(m.crash)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestRun(t *testing.T) {
	m := newMachine(t)
	m.runs()
	newer, older := m.put("newer", 10), m.put("older", 20)
	half := m.put("half-incomplete", 15, "the disk was full")
	m.put("busy-incomplete", -5)
	m.runs(
		"crash of 2026-11-25T11:40:00Z, Linux 6.12.107: Kernel panic - not syncing: test; saved in "+older,
		"crash of 2026-11-25T11:45:00Z, Linux 6.12.107: Kernel panic - not syncing: test; saved in part in "+half+": the disk was full",
		"crash of 2026-11-25T11:50:00Z, Linux 6.12.107: Kernel panic - not syncing: test; saved in "+newer,
	)
	m.runs()
	again := m.put("again", 1)
	m.runs("crash of 2026-11-25T11:59:00Z, Linux 6.12.107: Kernel panic - not syncing: test; saved in " + again)
	m.runs()
}

// Two at a time tell each crash once.
func TestRunConcurrently(t *testing.T) {
	m := newMachine(t)
	for i := range 5 {
		m.put(fmt.Sprint("c", i), 10+i)
	}
	m.hook("hook", "#!/bin/sh\necho called with $1\n", 0o700)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := Run(t.Context(), m.opts); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(m.said) != 10 {
		t.Errorf("said %q; want 5 crashes and 5 calls", m.said)
	}
}

func TestHooks(t *testing.T) {
	m := newMachine(t)
	crash := m.put("crash", 10)
	m.hook("20-env", "#!/bin/sh\necho \"$PANICROOM_TIME $PANICROOM_KERNEL $PANICROOM_HOST $PANICROOM_COMPLETE\"\necho \"$PANICROOM_TITLE\"\n[ \"$PANICROOM_CRASH\" = \"$1\" ] && pwd\necho \"secret=$SECRET\"\n", 0o700)
	t.Setenv("SECRET", "hunter2")
	m.hook("10-fails", "#!/bin/sh\necho to stderr >&2\nexit 3\n", 0o750)
	m.hook("30-writable", "#!/bin/sh\necho never\n", 0o777)
	m.hook("40-no-interpreter", "echo never\n", 0o700)
	m.hook("50-killed", "#!/bin/sh\nkill -9 $$\n", 0o700)
	m.hook("README", "#!/bin/sh\necho never\n", 0o600)
	m.hook("60-old~", "#!/bin/sh\necho never\n", 0o700)
	m.hook("60-old.dpkg-dist", "#!/bin/sh\necho never\n", 0o700)
	m.hook(".hidden", "#!/bin/sh\necho never\n", 0o700)
	if err := os.Mkdir(filepath.Join(m.hooks, "70-dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	if err := os.WriteFile(filepath.Join(elsewhere, "real"), []byte("#!/bin/sh\necho linked\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(elsewhere, "real"), filepath.Join(m.hooks, "80-linked")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("absent", filepath.Join(m.hooks, "90-dangling")); err != nil {
		t.Fatal(err)
	}
	said, err := m.run()
	if !errors.Is(err, ErrProblems) || err.Error() != "not all could be done: 5 problems" {
		t.Errorf("Run: %v", err)
	}
	want := []string{
		"crash of 2026-11-25T11:50:00Z, Linux 6.12.107: Kernel panic - not syncing: test; saved in " + crash,
		"hook 30-writable is not run: everybody may write to " + filepath.Join(m.hooks, "30-writable") + " (mode 0777)",
		"hook 90-dangling is not run: lstat " + filepath.Join(m.hooks, "absent") + ": no such file or directory",
		"hook 10-fails: to stderr",
		"hook 10-fails: exit status 3",
		"hook 20-env: 2026-11-25T11:50:00Z 6.12.107 board yes",
		"hook 20-env: Kernel panic - not syncing: test",
		"hook 20-env: /",
		"hook 20-env: secret=",
		"hook 40-no-interpreter: fork/exec " + filepath.Join(m.hooks, "40-no-interpreter") + ": exec format error; a script begins with a line like #!/bin/sh",
		"hook 50-killed: signal: killed",
		"hook 80-linked: linked",
	}
	if said != strings.Join(want, "\n") {
		t.Errorf("said\n%s\nwant\n%s", said, strings.Join(want, "\n"))
	}
	m.runs() // none of them again
}

// Hooks can be tried before there is a crash.
func TestDryRunWithoutCrash(t *testing.T) {
	m := newMachine(t)
	m.hook("10-good", "#!/bin/sh\n", 0o700)
	m.hook("20-forgotten", "#!/bin/sh\n", 0o600)
	m.opts.DryRun = true
	want := "hook 20-forgotten is not called: nobody may execute it (mode 0600)\nhook 10-good would be called for a new crash\nno new crash"
	if said, err := m.run(); err != nil || said != want {
		t.Errorf("said\n%s\n%v; want\n%s", said, err, want)
	}
	m.hook("30-writable", "#!/bin/sh\n", 0o777)
	if _, err := m.run(); !errors.Is(err, ErrProblems) || err.Error() != "not all could be done: 1 problem" || len(ui.Hints(err)) != 1 || !strings.Contains(ui.Hints(err)[0], "chmod go-w") {
		t.Errorf("Run: %v, hints %q", err, ui.Hints(err))
	}
}

// A directory that somebody else may write to makes all its programs unsafe.
func TestHooksDirectoryUnsafe(t *testing.T) {
	m := newMachine(t)
	m.put("crash", 10)
	m.hook("hook", "#!/bin/sh\necho never\n", 0o700)
	if err := os.Chmod(m.hooks, 0o777); err != nil {
		t.Fatal(err)
	}
	if said, err := m.run(); !errors.Is(err, ErrProblems) || !strings.HasSuffix(said, "hook hook is not run: everybody may write to "+m.hooks+" (mode 0777)") {
		t.Errorf("said %q, %v", said, err)
	}
}

func TestTrust(t *testing.T) {
	root := trust{}
	for what, c := range map[string]struct {
		uid, gid uint32
		mode     fs.FileMode
		ok       bool
	}{
		"root's":                     {0, 0, 0o755, true},
		"root's group may write":     {0, 0, 0o775, true},
		"a user's":                   {1000, 0, 0o700, false},
		"a group may write":          {0, 100, 0o775, false},
		"a group may read":           {0, 100, 0o755, true},
		"everybody may write":        {0, 0, 0o757, false},
		"everybody, but sticky":      {0, 0, 0o777 | fs.ModeDir | fs.ModeSticky, true},
		"everybody, a sticky file":   {0, 0, 0o777 | fs.ModeSticky, false},
		"everybody, and a directory": {0, 0, 0o777 | fs.ModeDir, false},
	} {
		if err := root.permits("x", c.uid, c.gid, c.mode); (err == nil) != c.ok {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := root.check("x", ownerless{}); err == nil {
		t.Error("a file of nobody is trusted")
	}
	dir := t.TempDir()
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if _, err := (trust{uint32(os.Geteuid()), uint32(os.Getegid())}).program(filepath.Join(dir, "loop")); err == nil {
		t.Error("a link to itself is a program")
	}
}

// ownerless is of a filesystem that knows no owners.
type ownerless struct{ fs.FileInfo }

func (ownerless) Sys() any { return nil }

// A hook that does not end is killed, and what it has started too; the next runs.
func TestHookDeadline(t *testing.T) {
	m := newMachine(t)
	m.put("crash", 10)
	m.hook("10-hangs", "#!/bin/sh\necho begun\nsleep 1000\n", 0o700)
	m.hook("20-next", "#!/bin/sh\necho next\n", 0o700)
	m.opts.hookLimit = 2 * time.Second
	start := time.Now()
	said, err := m.run()
	if !errors.Is(err, ErrProblems) || !strings.HasSuffix(said, "hook 10-hangs: begun\nhook 10-hangs: killed: it was not done after 2s\nhook 20-next: next") {
		t.Errorf("said %q, %v", said, err)
	}
	if took := time.Since(start); took > 60*time.Second {
		t.Errorf("took %s", took)
	}
}

// What a hook leaves running does not hold the others up.
func TestHookLeavesSomethingBehind(t *testing.T) {
	m := newMachine(t)
	m.put("crash", 10)
	m.hook("10-leaves", "#!/bin/sh\nsleep 1000 &\necho $! >$0.pid\necho done\n", 0o700)
	said, err := m.run()
	if err != nil || !strings.HasSuffix(said, "hook 10-leaves: done") {
		t.Errorf("said %q, %v", said, err)
	}
	text, err := os.ReadFile(filepath.Join(m.hooks, "10-leaves.pid"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		t.Errorf("it was ended: %v", err)
	}
}

func TestHookSaysTooMuch(t *testing.T) {
	m := newMachine(t)
	m.put("crash", 10)
	m.hook("10-loud", "#!/bin/sh\ni=0\nwhile [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done\nprintf '\\033[2J end'\n", 0o700)
	said, err := m.run()
	if err != nil || len(said) > 3*maxOutput || !strings.HasSuffix(said, "hook 10-loud: says more than 65536 bytes") || strings.Contains(said, "\033") {
		t.Errorf("%d bytes, %v: %q", len(said), err, said[max(0, len(said)-200):])
	}
}

func TestCanceled(t *testing.T) {
	m := newMachine(t)
	m.put("crash", 10)
	m.hook("10-hangs", "#!/bin/sh\necho begun\nsleep 1000\n", 0o700)
	ctx, cancel := context.WithCancel(t.Context())
	m.opts.Say = func(line string) {
		if line == "hook 10-hangs: begun" {
			cancel()
		}
	}
	res, err := Run(ctx, m.opts)
	if !errors.Is(err, ErrProblems) || len(res.Problems) != 1 || res.Problems[0] != "hook 10-hangs: killed: panicroom was told to end" {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestRetention(t *testing.T) {
	m := newMachine(t)
	m.opts.Config.Keep = config.Keep{Count: 2}
	for i, name := range []string{"d", "c", "b", "a"} {
		m.put(name, 10+i)
	}
	m.put("busy-incomplete", -5)
	if err := os.Mkdir(filepath.Join(m.crash, "stranger"), 0o700); err != nil {
		t.Fatal(err)
	}
	m.hook("hook", "#!/bin/sh\n[ -e \"$1/vmcore\" ] && echo there\n", 0o700)
	said, err := m.run()
	if err != nil || strings.Count(said, "hook hook: there") != 4 || strings.Count(said, "removed ") != 3 {
		t.Errorf("said %q, %v", said, err)
	}
	if want := []string{"busy-incomplete", "d", "stranger"}; !slices.Equal(m.left(), want) {
		t.Errorf("%q are left; want %q", m.left(), want)
	}
	// The clock of a machine without one is behind: the crash is the newest.
	m.put("z", 50000)
	if said, err := m.run(); err != nil || !strings.Contains(said, "removed "+filepath.Join(m.crash, "d")) {
		t.Errorf("said %q, %v", said, err)
	}
}

func TestUnpack(t *testing.T) {
	m := newMachine(t)
	m.opts.Unpack = func(context.Context) ([]string, error) {
		// Written just now, and nevertheless not on its way.
		return []string{m.put("unpacked-incomplete", -1, "the disk was full")}, errors.New("the second is damaged")
	}
	said, err := m.run()
	path := filepath.Join(m.crash, "unpacked-incomplete")
	want := "a dump was unpacked into " + path + "\na partition with a dump: the second is damaged\ncrash of 2026-11-25T12:01:00Z, Linux 6.12.107: Kernel panic - not syncing: test; saved in part in " + path + ": the disk was full"
	if !errors.Is(err, ErrProblems) || said != want {
		t.Errorf("said %q, %v; want %q", said, err, want)
	}
}

func TestDryRun(t *testing.T) {
	m := newMachine(t)
	a, b := m.put("a", 20), m.put("b", 10)
	m.opts.Config.Keep = config.Keep{Count: 1}
	m.opts.Config.Notify.Webhook = "https://example.org/hook"
	m.hook("hook", "#!/bin/sh\necho never\n", 0o700)
	m.opts.DryRun = true
	m.opts.Unpack = func(context.Context) ([]string, error) { t.Error("unpacked"); return nil, nil }
	for range 2 {
		said, err := m.run()
		for _, want := range []string{"hook hook would be called with " + a + "\n", "hook hook would be called with " + b + "\n", a + " would be removed (1 MiB): there are 2, 1 stay\n", "the webhook would get 2 descriptions"} {
			if err != nil || !strings.Contains(said, want) {
				t.Errorf("said %q, %v; want %q", said, err, want)
			}
		}
	}
	if !slices.Equal(m.left(), []string{"a", "b"}) {
		t.Errorf("%q are left", m.left())
	}
	if _, err := os.Stat(m.opts.State); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state was written: %v", err)
	}
}

// When nothing can be noted, no hook may run: it would at each boot.
func TestStateCannotBeWritten(t *testing.T) {
	m := newMachine(t)
	m.put("crash", 10)
	m.hook("hook", "#!/bin/sh\necho never\n", 0o700)
	if err := os.MkdirAll(filepath.Join(m.opts.State, stateFile, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if said, err := m.run(); err == nil || strings.Contains(said, "never") {
		t.Errorf("said %q, %v", said, err)
	}
	// The same when it becomes so on the way.
	if err := os.RemoveAll(m.opts.State); err != nil {
		t.Fatal(err)
	}
	m.opts.Unpack = func(context.Context) ([]string, error) {
		return nil, os.MkdirAll(filepath.Join(m.opts.State, stateFile, "in the way"), 0o700)
	}
	said, err := m.run()
	if !errors.Is(err, ErrProblems) || strings.Contains(said, "never") || !strings.Contains(said, "what was told cannot be noted") || !strings.Contains(said, "crash of ") {
		t.Errorf("said %q, %v", said, err)
	}
}

func TestStateDamaged(t *testing.T) {
	m := newMachine(t)
	m.put("crash", 10)
	if _, err := m.run(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"{", "{}", `{"version":2}`, strings.Repeat(" ", maxState+1)} {
		if err := os.WriteFile(filepath.Join(m.opts.State, stateFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		said, err := m.run()
		if !errors.Is(err, ErrProblems) || !strings.HasPrefix(said, "what was told before is not known: ") || !strings.Contains(said, "\ncrash of ") {
			t.Errorf("%.20q: said %q, %v", text, said, err)
		}
		m.runs()
	}
	entries, err := os.ReadDir(m.opts.State)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v are left; want the state and the lock", entries, err)
	}
}

// What is gone for now is remembered, but not without bound.
func TestStateForgets(t *testing.T) {
	m := newMachine(t)
	s := &state{Version: stateVersion, Crashes: map[string]*told{}}
	there := m.put("there", 10)
	s.Crashes[there] = &told{}
	for i := range maxTold + 10 {
		s.Crashes[fmt.Sprintf("/absent/%d", i)] = &told{Time: boot.Add(time.Duration(i) * time.Second)}
	}
	s.forget()
	if len(s.Crashes) != maxTold || s.Crashes[there] == nil || s.Crashes["/absent/10"] != nil || s.Crashes["/absent/11"] == nil {
		t.Errorf("%d are remembered", len(s.Crashes))
	}
}

func TestWithoutBootTime(t *testing.T) {
	m := newMachine(t)
	m.opts.Root = fstest.MapFS{}
	m.put("half-incomplete", 10)
	if said, err := m.run(); !errors.Is(err, ErrProblems) || strings.Contains(said, "crash of") {
		t.Errorf("said %q, %v", said, err)
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1,"crashes":{"/var/crash/x":{"time":"2026-11-25T12:00:00Z","webhook":"pending","tries":2},"/y":null}}`))
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseState("x", text)
		if err != nil {
			if !errors.Is(err, errState) {
				t.Error(err)
			}
			return
		}
		for path, told := range s.Crashes {
			if told == nil {
				t.Errorf("%q is nil", path)
			}
		}
		s.forget()
	})
}
