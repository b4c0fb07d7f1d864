package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/internal/vm"
)

// teller makes a story of what happens: a line with the time for each step,
// and on a terminal a status below that counts the seconds. In a log file the
// same lines stand without the status.
type teller struct {
	w        io.Writer
	start    time.Time
	now      func() time.Time
	terminal bool
	width    int
	verbose  bool
	tick     *time.Ticker
	stop     chan struct{}

	mu      sync.Mutex
	what    string    // status
	since   time.Time // of the status
	drawn   int       // columns of the status on the screen
	kernels int       // that have started
	dead    bool      // the first kernel has panicked
}

func newTeller(w io.Writer, terminal bool, width int, verbose bool) *teller {
	t := &teller{w: w, start: time.Now(), now: time.Now, terminal: terminal, width: width, verbose: verbose, stop: make(chan struct{})}
	if terminal {
		t.tick = time.NewTicker(time.Second / 4)
		go func() {
			for {
				select {
				case <-t.tick.C:
					t.mu.Lock()
					t.draw()
					t.mu.Unlock()
				case <-t.stop:
					return
				}
			}
		}()
	}
	return t
}

// close ends the status for good.
func (t *teller) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tick != nil {
		t.tick.Stop()
		close(t.stop)
		t.tick = nil
	}
	t.wipe()
	t.what = ""
}

// line prints one line of the story.
func (t *teller) line(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.print(fmt.Sprintf(format, args...))
}

// status says what is waited for.
func (t *teller) status(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.setStatus(fmt.Sprintf(format, args...))
}

func (t *teller) setStatus(what string) {
	t.what, t.since = what, t.now()
	t.draw()
}

func (t *teller) print(text string) {
	t.wipe()
	fmt.Fprintf(t.w, "%s  %s\n", t.clock(), text)
	t.draw()
}

func (t *teller) clock() string { return fmt.Sprintf("%6.1f s", t.now().Sub(t.start).Seconds()) }

func (t *teller) draw() {
	if !t.terminal || t.what == "" {
		return
	}
	s := fmt.Sprintf("%s  ... %s, %.0f s", t.clock(), t.what, t.now().Sub(t.since).Seconds())
	if t.width > 1 && len(s) >= t.width {
		s = s[:t.width-1]
	}
	fmt.Fprintf(t.w, "\r%s%s", s, strings.Repeat(" ", max(0, t.drawn-len(s))))
	t.drawn = len(s)
}

func (t *teller) wipe() {
	if t.drawn > 0 {
		fmt.Fprintf(t.w, "\r%s\r", strings.Repeat(" ", t.drawn))
		t.drawn = 0
	}
}

// event tells what the guest says.
func (t *teller) event(e script.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e.Kind {
	case script.Facts:
		f := e.Facts
		t.print(fmt.Sprintf("the kernel is up: Linux %s, %s, %s, %s, %s of them kept for the panic kernel",
			f.Release, harts(f.CPUs), f.MMU, ui.Bytes(f.TotalKiB<<10+f.Crash), ui.Bytes(f.Crash)))
	case script.Begin:
		if strings.HasPrefix(e.Text, "panicroom ") {
			t.print("# " + e.Text)
		}
		t.setStatus(e.Text)
	case script.Stdout, script.Stderr:
		for line := range strings.Lines(e.Text) {
			t.wipe()
			fmt.Fprintf(t.w, "%10s%s\n", "", strings.TrimRight(line, "\n"))
		}
	case script.End:
		if e.Exit != 0 || e.Text != "" {
			t.print(fmt.Sprintf("exit %d %s", e.Exit, e.Text))
		}
		t.setStatus("next step")
	}
}

func harts(n int) string {
	if n == 1 {
		return "1 hart"
	}
	return fmt.Sprintf("%d harts", n)
}

var (
	kernelStarts = regexp.MustCompile(`Linux version (\S+)`)
	kernelPanics = regexp.MustCompile(`Kernel panic - not syncing: (.*)`)
	// What the crash half of panicroom says (package crashenv): its clock, the
	// kind of the line, the rest.
	ours  = regexp.MustCompile(`panicroom: \[ *([0-9.]+)\] (\w+):? ?(.*)`)
	ended = regexp.MustCompile(`reboot: (.*)`)
)

// console tells what matters of the console.
func (t *teller) console(l vm.Line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.verbose {
		which := "firmware"
		switch {
		case t.dead && t.kernels > 1:
			which = "panic kernel"
		case t.kernels > 0:
			which = "kernel"
		}
		fmt.Fprintf(t.w, "%s  %12s | %s\n", t.clock(), which, l.Text)
	}
	if m := kernelStarts.FindStringSubmatch(l.Text); m != nil {
		t.kernels++
		if t.kernels == 1 {
			t.print("firmware done, Linux " + m[1] + " starts")
			t.setStatus("the kernel boots")
		} else {
			t.print("the panic kernel starts: Linux " + m[1])
			t.setStatus("the panic kernel boots")
		}
		return
	}
	if m := kernelPanics.FindStringSubmatch(l.Text); m != nil && !t.dead {
		t.dead = true
		t.print("Kernel panic - not syncing: " + m[1])
		t.setStatus("the dying kernel jumps into the panic room")
		return
	}
	if m := ours.FindStringSubmatch(l.Text); m != nil && t.kernels > 1 {
		kind, text := m[2], m[3]
		switch {
		case kind == "begin":
			t.setStatus("panic room: " + text)
		case kind == "progress" && t.terminal:
			t.setStatus("panic room: " + text) // redrawn in place
		case kind == "phase", kind == "progress":
			t.print("panic room: " + text)
		default:
			t.print("panic room: " + kind + ": " + text)
		}
		return
	}
	if m := ended.FindStringSubmatch(l.Text); m != nil {
		t.print("end of the machine: " + m[1])
		t.setStatus("the end")
	}
}
