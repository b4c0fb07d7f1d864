package crashenv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// console writes the lines that doc.go describes. It is safe for concurrent
// use.
type console struct {
	mu     sync.Mutex
	w      io.Writer
	prefix string        // of each line for the kernel, "" when w is no kmsg
	booted time.Duration // uptime of the kernel at start
	start  time.Time
}

// maxRecord is how much a record of /dev/kmsg takes: PRINTKRB_RECORD_MAX is
// 1024 bytes, and a line on the console is cut there as well
// (kernel/printk/internal.h, Linux 7.2).
const maxRecord = 900

// openConsole opens /dev/kmsg, or standard error where there is none.
func openConsole() *console {
	c := &console{w: os.Stderr, start: time.Now(), booted: uptime()}
	if f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		// Level alert: printed even with "quiet" on the command line.
		c.w, c.prefix = f, "<1>"
	}
	return c
}

// uptime reads /proc/uptime, "12.34 45.67".
func uptime() time.Duration {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0
	}
	first, _, _ := bytes.Cut(text, []byte(" "))
	s, err := strconv.ParseFloat(string(first), 64)
	if err != nil {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}

// line writes one line. Each is one write, which is one record of the kernel's
// log.
func (c *console) line(format string, args ...any) {
	text := oneLine(fmt.Sprintf(format, args...))
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.booted + time.Since(c.start)
	line := fmt.Sprintf("panicroom: [%.3f] %s", at.Seconds(), text)
	if len(line) > maxRecord {
		line = strings.ToValidUTF8(line[:maxRecord-3], "") + "..."
	}
	// Nobody could be told that the console is broken.
	_, _ = io.WriteString(c.w, c.prefix+line+"\n")
}

// fail says an error, and its hints.
func (c *console) fail(what string, err error) {
	c.line("%s: FAILED: %v", what, err)
	for _, h := range ui.Hints(err) {
		c.line("hint: %s", h)
	}
}

// events writes what happens as lines.
func (c *console) events() Events {
	var progress *ui.Progress
	var of string
	return Events{
		Begin: func(phase string, _ time.Duration) { c.line("begin %s", phase) },
		End: func(r PhaseResult) {
			progress = nil
			if r.Error != "" {
				err := r.err
				if err == nil {
					err = errors.New(r.Error)
				}
				c.fail("phase "+r.Name, err)
				return
			}
			text := r.Text
			if text == "" {
				text = "done"
			}
			c.line("phase %s: %s, %s", r.Name, text, ui.Seconds(time.Duration(r.Seconds*float64(time.Second))))
		},
		Progress: func(phase string, done, total uint64, more string) {
			if progress == nil || of != phase {
				of = phase
				progress = ui.NewProgress(lineWriter{c}, "progress "+phase, ui.ProgressOptions{Style: ui.Lines})
			}
			progress.Update(done, total, more)
		},
		Panic: func(line string) { c.line("panic: %s", line) },
		Note:  func(text string) { c.line("note: %s", text) },
	}
}

// lineWriter makes a line of each write.
type lineWriter struct{ c *console }

func (w lineWriter) Write(p []byte) (int, error) {
	w.c.line("%s", strings.TrimRight(string(p), "\n"))
	return len(p), nil
}
