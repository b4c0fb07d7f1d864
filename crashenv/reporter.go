package crashenv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/report"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// reportRequest is what the reporter reads on its standard input.
type reportRequest struct {
	// Input is the path of what to read.
	Input    string         `json:"input"`
	Layout   *kernel.Layout `json:"layout,omitempty"`
	LogLines int            `json:"log_lines,omitempty"`
	Warnings []string       `json:"warnings,omitempty"`
	MemLimit uint64         `json:"mem_limit,omitempty"`
	Die      string         `json:"die,omitempty"`
}

const (
	// maxReport bounds what is taken from the reporter, in bytes per form.
	maxReport = 8 << 20
	// reportWidth is that of the text, in columns.
	reportWidth = 100
	// reportTasks is how many tasks are listed where memory is limited: each takes
	// 1.5 KiB, as it is and as JSON.
	reportTasks = 1000
	// watchEvery is how often the reporter's memory is looked at.
	watchEvery = 200 * time.Millisecond
	// What the reporter writes to, and where it has the dump.
	reportTextFD, reportJSONFD, dumpFD = 3, 4, 5
)

// runReporter has the report made by a process of its own and writes what it
// says, in its two forms; memory is how much of its own it was seen with. That the
// reporter dies, or takes more memory than it may, is an error here and nothing
// worse.
func runReporter(ctx context.Context, dump *os.File, request *reportRequest, text, js io.Writer) (memory uint64, err error) {
	if dump != nil {
		request.Input = fmt.Sprintf("/proc/self/fd/%d", dumpFD)
	}
	question, err := json.Marshal(request)
	if err != nil {
		return 0, err
	}
	complaint := &head{}
	l := &lines{}
	files := []*os.File{
		l.to(func(w io.Writer) error { _, err := w.Write(question); return err }),
		nil,
		l.from(func(r io.Reader) error { return copyLimited(complaint, r) }),
		l.from(func(r io.Reader) error { return copyLimited(text, r) }),
		l.from(func(r io.Reader) error { return copyLimited(js, r) }),
	}
	if dump != nil {
		files = append(files, dump)
	}
	var p *process
	if l.err == nil {
		p, l.err = start(roleReporter, nil, files...)
	}
	l.open() // theirs are closed here, so ours end with the child, or now
	if l.err != nil {
		return 0, errors.Join(l.err, l.wait())
	}
	memory, killed := p.watch(ctx, request.MemLimit)
	copied := l.wait()
	if killed != nil {
		return memory, killed
	}
	if err := p.failure(); err != nil {
		if c := complaint.firstLine(); c != "" {
			return memory, fmt.Errorf("the reporter: %s (%w)", c, err)
		}
		return memory, fmt.Errorf("the reporter: %w", err)
	}
	return memory, copied
}

// reportMemory is what the reporter may take where memory is limited: most of
// what there is now, since what the dump took has been given back.
func reportMemory(limit uint64) uint64 {
	if limit == 0 {
		return 0
	}
	debug.FreeOSMemory()
	return max(limit, availableMemory()/4*3)
}

// lines are pipes to and from a child.
type lines struct {
	err    error
	theirs []*os.File
	ours   []func() error
	done   chan error
}

// to makes a pipe that f writes to and returns the child's end.
func (l *lines) to(f func(io.Writer) error) *os.File {
	return l.add(func(r, w *os.File) (their, our *os.File) { return r, w }, func(our *os.File) error { return f(our) })
}

// from makes a pipe that f reads and returns the child's end.
func (l *lines) from(f func(io.Reader) error) *os.File {
	return l.add(func(r, w *os.File) (their, our *os.File) { return w, r }, func(our *os.File) error { return f(our) })
}

func (l *lines) add(ends func(r, w *os.File) (their, our *os.File), f func(*os.File) error) *os.File {
	r, w, err := os.Pipe()
	if err != nil {
		l.err = errors.Join(l.err, err)
		return nil
	}
	their, our := ends(r, w)
	l.theirs = append(l.theirs, their)
	l.ours = append(l.ours, func() error { defer our.Close(); return f(our) })
	return their
}

// open closes the child's ends here and lets what flows flow.
func (l *lines) open() {
	for _, f := range l.theirs {
		f.Close()
	}
	l.done = make(chan error, len(l.ours))
	for _, f := range l.ours {
		go func() { l.done <- f() }()
	}
}

// wait waits until everything has flowed.
func (l *lines) wait() error {
	var errs []error
	for range l.ours {
		errs = append(errs, <-l.done)
	}
	return errors.Join(errs...)
}

// head keeps the beginning of what is written.
type head struct{ b []byte }

func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), maxRecord-len(h.b))]...)
	return len(p), nil
}

func (h *head) firstLine() string {
	line, _, _ := strings.Cut(string(h.b), "\n")
	return oneLine(line)
}

func copyLimited(w io.Writer, r io.Reader) error {
	n, err := io.Copy(w, io.LimitReader(r, maxReport))
	if err == nil && n == maxReport {
		// The reporter must not be stuck with the rest.
		_, err = io.Copy(io.Discard, r)
		err = errors.Join(err, fmt.Errorf("the report was cut at %d bytes", n))
	}
	return err
}

// watch waits for the end of a child, and kills it when ctx ends or when it
// takes more memory than limit; 0 is no limit. peak is the most that it was seen
// with, the error says why it was killed.
func (c *process) watch(ctx context.Context, limit uint64) (peak uint64, err error) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		var why error
		select {
		case <-c.done:
			return peak, nil
		case <-ctx.Done():
			why = context.Cause(ctx)
		case <-tick.C:
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.p.Pid))
			if err != nil {
				continue
			}
			rss := kilobytes(text, "RssAnon")
			peak = max(peak, rss)
			if limit == 0 || rss <= limit {
				continue
			}
			why = fmt.Errorf("the reporter took %d KiB of memory, more than its %d", rss>>10, limit>>10)
		}
		_ = c.p.Kill()
		<-c.done
		return peak, why
	}
}

// makeReport is the life of the reporter process.
func makeReport(in io.Reader, text, js io.WriteCloser) error {
	setOOMScore(1000)
	var q reportRequest
	if err := json.NewDecoder(in).Decode(&q); err != nil {
		return err
	}
	LimitHeap(q.MemLimit)
	misbehave(context.Background(), q.Die, PhaseReport)
	d, err := vmcore.Open(q.Input)
	if err != nil {
		return err
	}
	defer d.Close()
	k, err := kernel.Open(d, &kernel.Options{Layout: q.Layout})
	if err != nil {
		return err
	}
	opts := &report.Options{LogLines: q.LogLines, Warnings: q.Warnings}
	if q.MemLimit > 0 {
		opts.Tasks = reportTasks
	}
	r, err := report.Make(k, opts)
	if err != nil {
		return err
	}
	return errors.Join(r.WriteText(text, reportWidth), text.Close(), r.WriteJSON(js), js.Close())
}
