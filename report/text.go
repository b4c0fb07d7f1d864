package report

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// WriteJSON writes the report as one indented JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// minWidth is the narrowest text that is tried.
const minWidth = 40

// WriteText writes the report for people, in lines of at most width columns;
// 0 means that lines are as long as they are.
func (r *Report) WriteText(w io.Writer, width int) error {
	if width > 0 {
		width = max(width, minWidth)
	}
	t := &text{w: bufio.NewWriter(w), width: width}
	r.writeHead(t)
	if bt := r.Crash.Backtrace; len(bt) > 0 {
		t.heading("Backtrace, from the log")
		for _, f := range bt {
			if f.Text == "" {
				f.Text = f.Address
			}
			t.wrap("  ", "      ", f.Text)
		}
	}
	r.writeCPUs(t)
	r.writeModules(t)
	if len(r.Log.short) > 0 {
		t.heading(fmt.Sprintf("Log, last %d of %d records", len(r.Log.short), r.Log.Records))
		for _, rec := range r.Log.short {
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

func (r *Report) writeHead(t *text) {
	t.wrap("", "  ", r.Headline())
	t.line("")
	for _, w := range r.Warnings {
		t.fact("warning", w)
	}
	arch := r.Kernel.Arch
	if r.Kernel.Paging != "" {
		arch += ", " + r.Kernel.Paging
	}
	t.fact("kernel", r.Kernel.Release+" ("+arch+")")
	t.fact("", r.Kernel.Version)
	t.fact("taint", strings.TrimPrefix(r.Kernel.Taint, "Tainted: "))
	t.fact("machine", r.Machine.Hardware)
	t.fact("host", r.Machine.Hostname)
	if r.Crash.Time != nil {
		when := r.Crash.Time.UTC().Format("2006-01-02 15:04:05 UTC")
		if r.Crash.Uptime > 0 {
			when += ", " + duration(r.Crash.Uptime) + " after boot"
		}
		t.fact("crashed", when)
	} else if r.Crash.Uptime > 0 {
		t.fact("crashed", duration(r.Crash.Uptime)+" after boot")
	}
	if task := r.Crash.Task; task != nil {
		s := fmt.Sprintf("PID %d", task.PID)
		if task.Comm != "" {
			s = task.Comm + ", " + s
		} else if task.PID == 0 {
			s = "idle, " + s
		}
		if task.UID != nil {
			s += fmt.Sprintf(", UID %d", *task.UID)
		}
		if task.CPU >= 0 {
			s += fmt.Sprintf(", on CPU %d", task.CPU)
			if r.Machine.CPUs > 0 {
				s += fmt.Sprintf(" of %d", r.Machine.CPUs)
			}
		}
		t.fact("task", s)
	}
	t.fact("at", r.Crash.Where)
	t.fact("booted", r.Kernel.Command)
}

// briefCPUs is how many CPUs are described beside the one that crashed.
const briefCPUs = 64

func (r *Report) writeCPUs(t *text) {
	if len(r.CPUs) == 0 {
		return
	}
	others := r.CPUs
	if c := r.CPUs[0]; c.Crashed {
		t.heading(fmt.Sprintf("Registers of CPU %s, which crashed", cpuNumber(c.Number)))
		t.wrap("  pc  ", "      ", where(c.PC))
		if c.RA != nil {
			t.wrap("  ra  ", "      ", where(*c.RA))
		}
		t.line("")
		columns := 3
		if t.width > 0 {
			columns = max(1, (t.width-1)/23)
		}
		for i := 0; i < len(c.Registers); i += columns {
			var b strings.Builder
			for _, reg := range c.Registers[i:min(i+columns, len(c.Registers))] {
				fmt.Fprintf(&b, "  %4s %016s", reg.Name, strings.TrimPrefix(reg.Value, "0x"))
			}
			t.line(b.String())
		}
		others = r.CPUs[1:]
	}
	if len(others) == 0 {
		return
	}
	title := "Other CPUs"
	if len(others) == len(r.CPUs) {
		title = "CPUs"
	}
	t.heading(title)
	for i, c := range others {
		if i == briefCPUs {
			t.line(fmt.Sprintf("  and %d more", len(others)-briefCPUs))
			break
		}
		task := fmt.Sprintf("PID %d", c.PID)
		if c.PID == 0 {
			task = "idle"
		}
		t.wrap(fmt.Sprintf("  %3s  ", cpuNumber(c.Number)), "       ", task+" at "+where(c.PC))
	}
}

func (r *Report) writeModules(t *text) {
	if len(r.Modules) == 0 {
		return
	}
	t.heading(fmt.Sprintf("Modules (%d)", len(r.Modules)))
	names := make([]string, 0, len(r.Modules))
	for _, m := range r.Modules {
		name := m.Name
		if m.State != "" && m.State != "live" {
			name += " (" + m.State + ")"
		}
		names = append(names, name)
	}
	t.wrap("  ", "  ", strings.Join(names, " "))
}

func cpuNumber(n int) string {
	if n < 0 {
		return "?"
	}
	return fmt.Sprint(n)
}

// where is a place in code as far as it is known.
func where(f Frame) string {
	if f.Text == "" {
		return f.Address
	}
	return f.Text
}

// duration says seconds as people do: "7.0 s", "3 min 20 s", "5 days 3 h".
func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 2*day:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%d days %d h", d/day, d%day/time.Hour)
	}
}

// text writes lines of bounded width.
type text struct {
	w     *bufio.Writer
	width int // 0: unbounded
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
		t.wrap(fmt.Sprintf("  %-8s  ", name), "            ", printable(value))
	}
}

// wrap writes s behind first, with later lines behind next, breaking at spaces
// where there are any.
func (t *text) wrap(first, next, s string) {
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
