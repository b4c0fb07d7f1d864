package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/vm"
)

// SystemRun says what machine a system shall run on.
type SystemRun struct {
	// Name names the run; its files go to OUT/e2e/NAME. Runs with one name replace
	// each other.
	Name   string
	CPUs   int // 2
	MemMiB int // 1024
	// Files are put on the disk first: path in the system → path on this machine. The
	// directories must be there.
	Files  map[string]string
	Limit  time.Duration // of wall time, all boots together; an hour
	OnLine func(vm.Line)
}

// Live is a system that runs, for as long as its machine does not power off: a
// restart is one more boot. Steps are given to it one by one.
type Live struct {
	*vm.Machine
	System *System
	Dir    string // of the run's files
	Image  string // of the disk
	// Boots are what the system said of itself, at each boot that came as far.
	Boots []*script.Machine
	// Results of all steps, for people; see [Live.Story].
	Results []Result

	mu     sync.Mutex
	port   io.Writer
	events chan script.Event
	ready  bool // the agent waits for a step
}

// Boot starts a copy of the system. [vm.Machine.Wait] must be called in the end.
func (s *System) Boot(ctx context.Context, run SystemRun) (*Live, error) {
	out, err := OutDir()
	if err != nil {
		return nil, err
	}
	l := &Live{System: s, Dir: filepath.Join(out, "e2e", run.Name), events: make(chan script.Event, 1024)}
	if err := os.RemoveAll(l.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return nil, err
	}
	l.Image = filepath.Join(l.Dir, "disk.img")
	if text, err := exec.CommandContext(ctx, "cp", "--sparse=always", "--reflink=auto", s.Image, l.Image).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("copy of %s: %w: %s", s.Image, err, text)
	}
	guest, err := Build(ctx, "e2e/guest", "riscv64")
	if err != nil {
		return nil, err
	}
	files := maps.Clone(run.Files)
	if files == nil {
		files = map[string]string{}
	}
	// The image can be older than the agent.
	files["/usr/local/sbin/lab-agent"] = guest
	if err := putFiles(ctx, l.Image, files); err != nil {
		return nil, err
	}
	uBoot, err := fetchUBoot(ctx)
	if err != nil {
		return nil, err
	}
	c := vm.Config{
		CPUs: max(run.CPUs, 1), MemMiB: run.MemMiB, Kernel: uBoot, Restarts: true, Limit: run.Limit,
		Console: filepath.Join(l.Dir, "console.log"), OnLine: run.OnLine,
		Disks: []vm.Disk{{Path: l.Image, Serial: systemSerial}},
		Ports: []vm.Port{{Name: script.Port, Talk: l.talk}},
		Begin: kernelStarts, BeginLimit: 8 * time.Minute, Registers: filepath.Join(l.Dir, "registers.txt"),
	}
	if run.CPUs == 0 {
		c.CPUs = 2
	}
	if c.MemMiB == 0 {
		c.MemMiB = 1024
	}
	if c.Limit == 0 {
		c.Limit = time.Hour
	}
	l.Machine, err = vm.Start(ctx, c)
	return l, err
}

// putFiles writes files into the partition of an image, with debugfs: nothing here
// needs root.
func putFiles(ctx context.Context, image string, files map[string]string) error {
	debugfs, err := program("debugfs", "e2fsprogs")
	if err != nil {
		return err
	}
	var script strings.Builder
	for _, to := range slices.Sorted(maps.Keys(files)) {
		from := files[to]
		if strings.ContainsAny(to+from, " \"\n") {
			return fmt.Errorf("name %q or %q cannot be given to debugfs", to, from)
		}
		info, err := os.Stat(from)
		if err != nil {
			return err
		}
		fmt.Fprintf(&script, "rm %s\nwrite %s %s\nsif %s mode 0%o\nsif %s uid 0\nsif %s gid 0\n", to, from, to, to, 0o100000|info.Mode().Perm(), to, to)
	}
	c := exec.CommandContext(ctx, debugfs, "-w", "-f", "-", fmt.Sprintf("%s?offset=%d", image, partitionStart))
	c.Stdin = strings.NewReader(script.String())
	text, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("debugfs: %w: %s", err, text)
	}
	// Its exit code tells nothing of the single commands.
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "Could not allocate") || strings.Contains(line, "write: ") || strings.Contains(line, "sif: ") && !strings.HasPrefix(line, "debugfs:") {
			return fmt.Errorf("debugfs: %s", line)
		}
	}
	return nil
}

// talk takes what the agents of all boots say.
func (l *Live) talk(port io.ReadWriter) {
	l.mu.Lock()
	l.port = port
	l.mu.Unlock()
	defer close(l.events)
	lines := bufio.NewReader(port)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var e script.Event
		// A crash cuts a line: the next one is whole again.
		if json.Unmarshal(line, &e) == nil {
			l.events <- e
		}
	}
}

// next is the next event.
func (l *Live) next(ctx context.Context) (script.Event, error) {
	select {
	case e, ok := <-l.events:
		if !ok {
			_, err := l.Wait()
			return e, errors.Join(vm.ErrEnded, err)
		}
		if e.Kind == script.Facts {
			l.Boots = append(l.Boots, e.Facts)
			l.ready = true
		}
		return e, nil
	case <-ctx.Done():
		return script.Event{}, context.Cause(ctx)
	}
}

// Up waits until the system has booted, the first time or again.
func (l *Live) Up(ctx context.Context) (*script.Machine, error) {
	for {
		e, err := l.next(ctx)
		if err != nil {
			return nil, fmt.Errorf("waiting for boot %d: %w", len(l.Boots)+1, err)
		}
		if e.Kind == script.Facts {
			return e.Facts, nil
		}
	}
}

// Do has the system play a step. A result that has not ended is of a step in which
// the machine went down; it is not up again then.
func (l *Live) Do(ctx context.Context, step script.Step) (Result, error) {
	if !l.ready {
		return Result{}, fmt.Errorf("step %q: the system is not up", step.Name)
	}
	text, err := json.Marshal(step)
	if err != nil {
		return Result{}, err
	}
	l.mu.Lock()
	_, err = l.port.Write(append(text, '\n'))
	l.mu.Unlock()
	if err != nil {
		return Result{}, err
	}
	r := Result{Name: step.Name}
	defer func() { l.Results = append(l.Results, r) }()
	began := time.Now()
	for {
		e, err := l.next(ctx)
		if err != nil {
			return r, fmt.Errorf("step %q: %w", step.Name, err)
		}
		switch e.Kind {
		case script.Stdout:
			r.Stdout += e.Text
		case script.Stderr:
			r.Stderr += e.Text
		case script.End:
			r.Ended, r.Exit, r.Text, r.Took = true, e.Exit, e.Text, time.Since(began)
			return r, nil
		case script.Facts: // the agent of another boot
			r.Took = time.Since(began)
			return r, nil
		}
	}
}

// Run has the system run a program, which shall succeed.
func (l *Live) Run(ctx context.Context, args ...string) (Result, error) {
	r, err := l.Do(ctx, Run(args...))
	if err == nil && (!r.Ended || r.Exit != 0) {
		err = fmt.Errorf("%s: exit %d %s\n%s%s", r.Name, r.Exit, r.Text, r.Stdout, r.Stderr)
	}
	return r, err
}

// Story is the run for people.
func (l *Live) Story() string {
	o := &Outcome{Dir: l.Dir, Results: l.Results, Lines: l.Lines()}
	return o.Story()
}

// Clean removes the large files of the run.
func (l *Live) Clean() error { return os.Remove(l.Image) }
