package crashenv

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// reasonEnv tells the rescuer why it is needed, logSavedEnv that a target has the
// log.
const (
	reasonEnv   = "PANICROOM_REASON"
	logSavedEnv = "PANICROOM_LOG_SAVED"
)

// rescue is the life of the rescuer process: what can still be done when the
// worker has failed.
func rescue() error {
	setOOMScore(0)
	say := openConsole()
	plan, err := loadPlan(planFile)
	if err != nil {
		// Without a plan the log is still there.
		plan = &Plan{Deadlines: DefaultDeadlines()}
	}
	w := &words{w: os.NewFile(wordsFD, "words")}
	events := say.events()
	begin := events.Begin
	events.Begin = func(phase string, _ time.Duration) { w.begin(phase, plan.Deadlines.of(phase)); begin(phase, 0) }
	p := phases{deadlines: plan.Deadlines, events: events}
	err = p.run(context.Background(), PhaseRescue, func(ctx context.Context) (string, error) {
		var errs []error
		var did []string
		st, err := readState(stateFile)
		if err != nil {
			st = &state{}
		}
		if !st.LogSaved && os.Getenv(logSavedEnv) == "" {
			dir := st.Crash
			if st.Ended {
				dir = "" // the worker has tried, and said why not
			}
			n, err := printLog(ctx, say, plan, dir)
			did = append(did, fmt.Sprintf("printed the last %d lines of the log", n))
			errs = append(errs, err)
		}
		if st.Crash != "" && st.Manifest != nil && !st.Ended {
			did = append(did, "noted the reason in "+st.Manifest.Path)
			errs = append(errs, noteReason(st, os.Getenv(reasonEnv)))
		}
		return strings.Join(did, ", "), errors.Join(errs...)
	})
	// Maybe the worker has failed because something wrote into the panic room,
	// and has not come to say so.
	if st, serr := readState(stateFile); serr != nil || st.Manifest == nil || st.Manifest.Integrity == nil {
		loaded := inspector{root: os.DirFS("/"), plan: plan}
		if serr == nil {
			loaded.early = st.Early
		}
		_ = p.run(context.Background(), PhaseIntegrity, func(ctx context.Context) (string, error) {
			return loaded.integrity(ctx, func([]Verified) {})
		})
	}
	return err
}

// noteReason writes the manifest that the worker did not come to write, into
// the space of its draft.
func noteReason(st *state, reason string) error {
	m := st.Manifest
	m.Complete = false
	m.Reasons = append(m.Reasons, reason)
	for _, name := range []string{LogFile, DumpFile, RawFile, ReportFile, ReportJSONFile} {
		if info, err := os.Stat(filepath.Join(st.Crash, name)); err == nil {
			m.file(name).Size = info.Size()
		}
	}
	f, err := os.OpenFile(filepath.Join(st.Crash, ManifestFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(writeManifest(f, m, false), f.Close())
}

// maxPrinted bounds how much of the log goes to the console, in lines: a
// serial line carries about a hundred a second, and the end is what counts.
const maxPrinted = 1000

// printLog prints the tail of the dead kernel's log, and then tries to save all
// of it in the directory of a crash, if there is one.
func printLog(ctx context.Context, say *console, plan *Plan, dir string) (int, error) {
	dead, err := openDead(&SaveOptions{Input: plan.input(), Layout: plan.Layout})
	if err != nil {
		return 0, err
	}
	defer dead.Close()
	var t tail
	_, err = dead.SaveLog(&t)
	lines := t.lines()
	for i, line := range lines {
		if ctx.Err() != nil {
			return i, context.Cause(ctx)
		}
		say.line("log: %s", line)
	}
	if dir != "" && len(lines) > 0 {
		err = errors.Join(err, saveLog(dead, filepath.Join(dir, LogFile)))
	}
	return len(lines), err
}

func saveLog(dead deadKernel, name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	b := bufio.NewWriter(f)
	_, err = dead.SaveLog(b)
	return errors.Join(err, b.Flush(), f.Sync(), f.Close())
}

// tail keeps the last maxPrinted lines of what is written.
type tail struct {
	ring    [maxPrinted]string
	n       int // lines so far
	partial []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.partial = append(t.partial, p...)
	for {
		line, rest, ok := bytes.Cut(t.partial, []byte("\n"))
		if !ok {
			t.partial = t.partial[max(0, len(t.partial)-maxRecord):]
			return len(p), nil
		}
		t.ring[t.n%maxPrinted] = string(line[:min(len(line), maxRecord)])
		t.n++
		t.partial = rest
	}
}

func (t *tail) lines() []string {
	var all []string
	for i := max(0, t.n-maxPrinted); i < t.n; i++ {
		all = append(all, t.ring[i%maxPrinted])
	}
	return all
}
