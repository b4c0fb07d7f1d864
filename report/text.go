package report

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// WriteJSON writes the report as one indented JSON object: docs/report.md.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// minWidth is the narrowest text that is tried.
const minWidth = 40

// WriteText writes the report for people, in lines of at most width columns;
// 0 means that lines are as long as they are. It begins with the answer, and has of
// long lists only what is worth a look; the rest is in the other forms.
func (r *Report) WriteText(w io.Writer, width int) error {
	if width > 0 {
		width = max(width, minWidth)
	}
	t := &text{w: bufio.NewWriter(w), width: width}
	r.writeHead(t)
	r.writeCrashed(t)
	r.writeOthers(t)
	r.writeBlocked(t)
	r.writeChains(t)
	r.writeMemory(t)
	r.writeIO(t)
	r.writeRunQueues(t)
	r.writeMounts(t)
	r.writeNet(t)
	r.writeModules(t)
	if lines := r.Log.lines(); len(lines) > 0 {
		t.heading(fmt.Sprintf("Log, last %d of %d records", len(lines), r.Log.Records))
		for _, rec := range lines {
			for line := range strings.SplitSeq(rec, "\n") {
				t.wrap("  ", "    ", printable(line))
			}
		}
	}
	if len(r.Missing) > 0 {
		t.heading("Not in this report")
		for _, m := range r.Missing {
			t.wrap("  ", "    ", printable(m))
		}
	}
	return t.w.Flush()
}

// Headline is what happened in one line.
func (r *Report) Headline() string {
	c := &r.Crash
	switch {
	case c.Kind == KindUnknown:
		return "The kernel died, and the dump does not say why"
	case c.Reason == "":
		return c.Cause
	case c.Cause == "" || c.Kind == KindSysrq:
		return "Kernel panic: " + c.Reason
	default:
		return c.Cause + " (panic: " + c.Reason + ")"
	}
}

// writeHead writes the answer: what, where, who, when; and then on what.
func (r *Report) writeHead(t *text) {
	t.wrap("", "  ", printable(r.Headline()))
	t.line("")
	for _, w := range r.Warnings {
		t.fact("warning", w)
	}
	t.fact("meaning", r.meaning())
	if !strings.Contains(r.Headline(), r.Crash.Source) {
		t.fact("source", printable(r.Crash.Source))
	}
	t.fact("at", r.Crash.Where)
	t.fact("stuck", r.stuck())
	t.fact("task", r.who())
	t.fact("crashed", r.when())
	if s := r.Signature; s != nil {
		t.fact("signature", s.ID)
	}
	if t.facts > 0 {
		t.line("")
	}
	r.writeMachine(t)
}

// writeMachine writes which kernel ran, and on what.
func (r *Report) writeMachine(t *text) {
	arch := r.Kernel.Arch
	if r.Kernel.Paging != "" {
		arch += ", " + r.Kernel.Paging
	}
	t.fact("kernel", r.Kernel.Release+" ("+arch+")")
	t.fact("", r.Kernel.Version)
	taint := strings.TrimPrefix(r.Kernel.Taint, "Tainted: ")
	if taint == "" && len(r.Kernel.Taints) > 0 {
		taint = "yes"
	}
	t.fact("taint", taint)
	for _, line := range r.taintLines() {
		t.wrap("             ", "                ", line)
	}
	t.fact("machine", r.Machine.Hardware)
	t.fact("host", r.Machine.Hostname)
	t.fact("booted", r.Kernel.Command)
	if l := r.Load; l != nil {
		t.fact("load", fmt.Sprintf("%.2f %.2f %.2f; %s", l.Averages[0], l.Averages[1], l.Averages[2], loadWords(l)))
	}
}

// text writes lines of bounded width.
type text struct {
	w     *bufio.Writer
	width int // 0: unbounded
	facts int // that were written
}

func (t *text) line(s string) {
	t.w.WriteString(s)
	t.w.WriteByte('\n')
}

func (t *text) heading(s string) {
	t.line("")
	t.wrap("", "  ", s)
	t.line("")
}

// fact writes a name and its value, nothing if there is no value.
func (t *text) fact(name, value string) {
	if value != "" {
		t.facts++
		t.wrap(fmt.Sprintf("  %-9s  ", name), "             ", printable(value))
	}
}

// wrap writes s behind first, with later lines behind next, breaking at spaces
// where there are any. Whatever s has, it does no harm to a terminal.
func (t *text) wrap(first, next, s string) {
	s = printable(s)
	for indent := first; ; indent = next {
		room := t.width - len(indent)
		if t.width == 0 || len(s) <= room {
			t.line(strings.TrimRight(indent+s, " "))
			return
		}
		cut := strings.LastIndexByte(s[:room+1], ' ')
		// A break near the beginning of the line makes it ragged: then words
		// are cut.
		if cut < room/2 {
			cut = room
		}
		t.line(indent + strings.TrimRight(s[:cut], " "))
		s = strings.TrimLeft(s[cut:], " ")
		if s == "" {
			return
		}
	}
}
