package ui

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Style is how a [Progress] draws.
type Style int

const (
	// Lines prints a line now and then: for pipes, log files and the console of
	// the crash kernel, where a serial line is slow and redrawing is litter.
	Lines Style = iota
	// Redraw rewrites one line in place: for terminals.
	Redraw
)

// ProgressOptions change a [Progress]; the zero value draws lines.
type ProgressOptions struct {
	Style Style
	// Every is the least time between two drawings; 0 means 5 s for Lines and
	// 200 ms for Redraw.
	Every time.Duration
	// Width is the terminal's width in columns for Redraw; 0 means 80.
	Width int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Progress shows how far a long work is: bytes done, total, rate and the time
// that is left. It is not safe for concurrent use.
type Progress struct {
	w     io.Writer
	what  string
	opts  ProgressOptions
	start time.Time
	last  time.Time
	drawn int // columns of the line on the screen, Redraw only

	preparing bool // what was told last had no total yet
}

// NewProgress starts a progress line for the work named what, like "saving".
func NewProgress(w io.Writer, what string, opts ProgressOptions) *Progress {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Every == 0 {
		opts.Every = 5 * time.Second
		if opts.Style == Redraw {
			opts.Every = 200 * time.Millisecond
		}
	}
	if opts.Width == 0 {
		opts.Width = 80
	}
	p := &Progress{w: w, what: what, opts: opts, start: opts.Now()}
	p.last = p.start
	return p
}

// Update tells that done of total bytes are finished; extra, if not empty,
// stands at the end of the line. It draws only when enough time has passed. As
// long as total is 0 the work is still being prepared: the time that this takes
// says nothing of the rate.
func (p *Progress) Update(done, total uint64, extra string) {
	now := p.opts.Now()
	if p.preparing && total > 0 {
		p.start = now
	}
	p.preparing = total == 0 && done == 0
	if now.Sub(p.last) < p.opts.Every {
		return
	}
	p.last = now
	p.draw(p.line(done, total, extra, now), false)
}

// Done draws the last state for good.
func (p *Progress) Done(done, total uint64, extra string) {
	p.draw(p.line(done, total, extra, p.opts.Now()), true)
}

func (p *Progress) line(done, total uint64, extra string, now time.Time) string {
	elapsed := now.Sub(p.start)
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", p.what)
	switch {
	case total > 0:
		fmt.Fprintf(&b, "%3.0f%%  %s of %s", 100*float64(done)/float64(total), Bytes(done), Bytes(total))
	case done == 0 && extra != "":
		b.WriteString(extra)
		return b.String()
	default:
		b.WriteString(Bytes(done))
	}
	if s := elapsed.Seconds(); s > 0 && done > 0 {
		rate := float64(done) / s
		fmt.Fprintf(&b, ", %s/s", Bytes(uint64(rate)))
		if done < total {
			fmt.Fprintf(&b, ", %s left", Seconds(time.Duration(float64(total-done)/rate*float64(time.Second))))
		} else {
			fmt.Fprintf(&b, ", %s", Seconds(elapsed))
		}
	}
	if extra != "" {
		b.WriteString(", " + extra)
	}
	return b.String()
}

func (p *Progress) draw(line string, last bool) {
	if p.opts.Style == Lines {
		fmt.Fprintln(p.w, line)
		return
	}
	if most := p.opts.Width - 1; len(line) > most {
		// What comes last matters least, and half of it says nothing.
		if line = line[:most]; strings.Contains(line, ", ") {
			line = line[:strings.LastIndex(line, ", ")]
		}
	}
	pad := max(0, p.drawn-len(line))
	fmt.Fprintf(p.w, "\r%s%s", line, strings.Repeat(" ", pad))
	p.drawn = len(line)
	if last {
		fmt.Fprintln(p.w)
	}
}
