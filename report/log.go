package report

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// readLog goes through the log once: it keeps the tail and understands what it
// says about the crash.
func (r *Report) readLog(k source, lines int) *incident {
	var (
		s      scanner
		tail   = make([]kernel.LogRecord, 0, min(lines, 256))
		oldest int // index in tail once it is full
		failed int
		last   time.Duration
	)
	for rec, err := range k.Log() {
		if err != nil {
			if failed++; failed <= maxErrors {
				r.missing("a part of the log", err)
			}
			if failed > 1000 {
				break
			}
			continue
		}
		r.Log.Records++
		last = max(last, rec.Time)
		if len(rec.Text) > maxLine {
			rec.Text = rec.Text[:maxLine] + " [...]"
		}
		if rec.Facility == 0 {
			// Programs that write to /dev/kmsg do not say why the kernel died.
			for line := range strings.SplitSeq(rec.Text, "\n") {
				s.line(rec.Time, line)
			}
		}
		if len(tail) < lines {
			tail = append(tail, rec)
		} else {
			tail[oldest] = rec
			oldest = (oldest + 1) % lines
		}
	}
	if failed > maxErrors {
		r.missing("parts of the log", fmt.Errorf("%d more", failed-maxErrors))
	}
	if r.Log.Records == 0 && failed == 0 {
		r.missing("the log", fmt.Errorf("it is empty"))
	}
	r.Log.Tail = []string{}
	levels := make([]byte, len(tail))
	for i := range tail {
		rec := tail[(oldest+i)%len(tail)]
		levels[i] = '0' + min(rec.Level, 7)
		r.Log.Tail = append(r.Log.Tail, rec.Line())
		rec.Caller = kernel.Caller{}
		r.Log.short = append(r.Log.short, rec.Line())
	}
	r.Log.Levels = string(levels)

	in := s.incident(last)
	r.Kernel.Taint = in.taint
	r.Kernel.Command = cmp.Or(r.Kernel.Command, s.cmdline)
	r.Machine.Hardware = cmp.Or(r.Machine.Hardware, in.hardware, s.model)
	c := &r.Crash
	c.Kind, c.Reason, c.Cause, c.Where = in.kind, in.reason, in.cause, in.where
	c.Uptime = last.Round(time.Microsecond).Seconds()
	c.Task, c.Backtrace = in.task, in.frames
	if in.kind == KindUnknown && r.Log.Records > 0 {
		r.missing("the reason of the crash", fmt.Errorf("the log has neither a panic nor an oops"))
	}
	return in
}

// incident is one thing that went wrong, as the log tells it.
type incident struct {
	kind     Kind
	reason   string // of panic()
	cause    string
	where    string
	task     *Task
	cpu      int // -1 if unknown
	taint    string
	hardware string
	frames   []Frame
	began    time.Duration
	ended    bool // "---[ end trace"
	tracing  bool // the line before was one of a backtrace
	traced   bool // the backtrace is complete
}

// scanner reads the log line by line and keeps the last incident.
type scanner struct {
	now     *incident
	model   string
	cmdline string
}

// incident is the one that the kernel died of. last is the time of the last
// record: what is not followed by a panic (which crash_kexec() out of an oops
// does not print) and was survived for long is not it.
func (s *scanner) incident(last time.Duration) *incident {
	in := s.now
	if in == nil || in.reason == "" && (in.kind == KindWarning || last-in.began > related) {
		return &incident{kind: KindUnknown, cpu: -1}
	}
	return in
}

// triggers are how incidents begin: a kind for the beginning of a line, or for
// words within it.
var triggers = []struct {
	kind   Kind
	words  string
	within bool
}{
	{KindOops, "Unable to handle kernel ", false},      // riscv, arm64, others
	{KindOops, "BUG: unable to handle ", false},        // x86
	{KindOops, "BUG: kernel NULL pointer ", false},     // x86
	{KindOops, "general protection fault", false},      // x86
	{KindOops, "Internal error: ", false},              // arm64
	{KindOops, "Insufficient stack space to ", false},  // riscv, arm64
	{KindOops, "Oops", false},                          // riscv: "Oops - illegal instruction [#1]"
	{KindBug, "kernel BUG at ", false},                 // all
	{KindBug, "Kernel BUG ", false},                    // riscv: "Kernel BUG [#1]"
	{KindLockup, "watchdog: BUG: soft lockup", false},  // kernel/watchdog.c
	{KindLockup, "watchdog: CPU", false},               // "watchdog: CPU3: Watchdog detected hard LOCKUP"
	{KindLockup, "rcu: INFO: ", false},                 // stalls
	{KindLockup, "blocked for more than ", true},       // hung tasks
	{KindMemory, "invoked oom-killer", true},           // mm/oom_kill.c
	{KindBug, "BUG: ", false},                          // KASAN and others
	{KindWarning, "WARNING: ", false},                  // WARN()
	{KindSysrq, "sysrq: Trigger a crash", false},       // drivers/tty/sysrq.c
	{KindSysrq, "SysRq : Trigger a crash", false},      // before 5.0
	{KindPanic, "Kernel panic - not syncing: ", false}, // kernel/panic.c
	{KindPanic, "Kernel panic - not syncing", false},   // without words
}

// related is how long after its cause a panic still belongs to it.
const related = 10 * time.Second

func (s *scanner) line(at time.Duration, line string) {
	line = printable(line)
	if v, ok := strings.CutPrefix(line, "Kernel command line: "); ok && s.cmdline == "" {
		s.cmdline = v
	}
	if v, ok := strings.CutPrefix(line, "Machine model: "); ok && s.model == "" {
		s.model = v
	}
	for _, t := range triggers {
		if strings.HasPrefix(line, t.words) || t.within && strings.Contains(line, t.words) {
			s.trigger(at, t.kind, line)
			break
		}
	}
	if s.now != nil {
		s.now.read(line)
	}
}

// trigger begins an incident or goes on with the one at hand.
func (s *scanner) trigger(at time.Duration, kind Kind, line string) {
	now := s.now
	near := now != nil && at-now.began <= related
	switch {
	case kind == KindPanic:
		reason := strings.TrimPrefix(strings.TrimPrefix(line, "Kernel panic - not syncing"), ": ")
		if !near || now.reason != "" || now.kind == KindWarning && !strings.Contains(reason, "panic_on_warn") {
			now = &incident{kind: KindPanic, cpu: -1, began: at}
		}
		now.reason = reason
		switch {
		case strings.HasPrefix(reason, "sysrq triggered"):
			now.kind = KindSysrq
		case strings.HasPrefix(reason, "Out of memory"), strings.Contains(reason, "out of memory"):
			now.kind = KindMemory
		case strings.Contains(reason, "LOCKUP"), strings.Contains(reason, "lockup"), strings.HasPrefix(reason, "hung_task"):
			now.kind = KindLockup
		}
		// What follows is panic()'s own backtrace; that of the cause is better.
		now.ended = false
		now.tracing = false
		s.now = now
	case near && !now.ended && now.reason == "" && (kind != KindSysrq) && (now.kind != KindWarning || kind == KindWarning):
		// More words about the same: "Oops [#1]" after what the fault was.
		// Sysrq's own fault of old kernels stays sysrq's.
	case near && now.reason != "":
		// Trouble on the way down is not the reason.
	case kind == KindWarning && near && now.kind != KindWarning:
		// Nor is a warning right after an oops the reason of what follows.
	default:
		s.now = &incident{kind: kind, cause: line, cpu: -1, began: at}
	}
}

// read takes from a line what it says about the incident.
func (in *incident) read(line string) {
	if in.ended {
		return
	}
	if f, ok := parseFrame(line); ok {
		if !in.traced && len(in.frames) < maxFrames {
			in.frames = append(in.frames, f)
			in.tracing = true
		}
		return
	}
	if in.tracing && !strings.HasPrefix(strings.TrimSpace(line), "<") {
		// "<IRQ>" and "<TASK>" stand between frames.
		in.tracing, in.traced = false, true
	}
	switch {
	case strings.HasPrefix(line, "---[ end "):
		in.ended = true
	case strings.HasPrefix(line, "CPU: "):
		in.readTask(line)
	case strings.HasPrefix(line, "Hardware name: "):
		in.hardware = strings.TrimPrefix(line, "Hardware name: ")
	case in.where != "":
	case strings.HasPrefix(line, "epc : "): // riscv
		in.where = symbolIn(strings.TrimPrefix(line, "epc : "))
	case strings.HasPrefix(line, "pc : "): // arm64
		in.where = symbolIn(strings.TrimPrefix(line, "pc : "))
	case strings.HasPrefix(line, "RIP: 0010:"): // x86
		in.where = symbolIn(strings.TrimPrefix(line, "RIP: 0010:"))
	}
}

// readTask understands dump_stack_print_info, lib/dump_stack.c (Linux 7.2):
// "CPU: 1 UID: 0 PID: 1 Comm: init Kdump: loaded Not tainted 6.12.107 #1 ...";
// UID is there since 6.12.
func (in *incident) readTask(line string) {
	t := Task{CPU: -1, PID: -1}
	rest := line
	number := func(key string) (int64, bool) {
		v, ok := strings.CutPrefix(rest, key)
		if !ok {
			return 0, false
		}
		digits, after, _ := strings.Cut(v, " ")
		n, err := strconv.ParseInt(digits, 10, 32)
		if err != nil {
			return 0, false
		}
		rest = after
		return n, true
	}
	if n, ok := number("CPU: "); ok {
		t.CPU = int(n)
	}
	if n, ok := number("UID: "); ok {
		t.UID = &n
	}
	n, ok := number("PID: ")
	if !ok {
		return
	}
	t.PID = n
	if comm, ok := strings.CutPrefix(rest, "Comm: "); ok {
		end := len(comm)
		for _, mark := range []string{" Kdump: ", " Not tainted", " Tainted: "} {
			if i := strings.Index(comm, mark); i >= 0 {
				end = min(end, i)
			}
		}
		t.Comm = comm[:end]
		rest = comm[end:]
	}
	if in.task == nil {
		// The first is that of the cause.
		in.task, in.cpu, in.taint = &t, t.CPU, taint(rest)
	}
}

// taint is "Not tainted" or "Tainted: [G]=FIRMWARE_WORKAROUND" out of what
// follows the task's name.
func taint(s string) string {
	s = strings.TrimPrefix(s, " Kdump: loaded")
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "Not tainted") {
		return "Not tainted"
	}
	if !strings.HasPrefix(s, "Tainted: ") {
		return ""
	}
	// Flags are single letters until the release, which begins with a digit.
	words := strings.Fields(s)
	end := 1
	for end < len(words) && (words[end][0] < '0' || words[end][0] > '9') {
		end++
	}
	return strings.Join(words[:end], " ")
}

// parseFrame understands a line of a backtrace: " func+0x12/0x34 [module]",
// before it on riscv the address as "[<ffffffff80006f7c>] ", and on x86 "? " for
// what is not certain.
func parseFrame(line string) (f Frame, ok bool) {
	text := strings.TrimLeft(line, " ")
	if v, ok := strings.CutPrefix(text, "[<"); ok {
		digits, after, ok := strings.Cut(v, ">] ")
		addr, valid := parseHex(digits)
		if !ok || !valid {
			return Frame{}, false
		}
		f.Address = fmt.Sprintf("%#x", addr)
		text = strings.TrimLeft(after, " ")
		if text == digits || text == "0x"+digits {
			// An address without a symbol.
			return f, true
		}
	} else if text == line {
		return Frame{}, false // frames are indented
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(text, "? "), "+0x")
	off, size, ok := strings.Cut(rest, "/0x")
	if !ok || name == "" || strings.ContainsAny(name, " :") {
		return Frame{}, false
	}
	if end := strings.IndexByte(size, ' '); end >= 0 {
		size = size[:end]
	}
	if _, valid := parseHex(off); !valid {
		return Frame{}, false
	}
	if _, valid := parseHex(size); !valid {
		return Frame{}, false
	}
	f.Text = text
	return f, true
}

// symbolIn is "func+0x12/0x34 [module]" at the beginning of s, or "".
func symbolIn(s string) string {
	if _, ok := parseFrame(" " + s); !ok {
		return ""
	}
	words := strings.Fields(s)
	if len(words) > 1 && strings.HasPrefix(words[1], "[") {
		return words[0] + " " + words[1]
	}
	return words[0]
}

// atStart reports whether a frame's text has the offset 0.
func atStart(text string) bool { return strings.Contains(text, "+0x0/") }

// caller is the first frame that is neither of printing a backtrace nor of
// panicking.
func caller(frames []Frame) string {
	for _, f := range frames {
		name, _, _ := strings.Cut(f.Text, "+")
		switch name {
		case "dump_backtrace", "show_stack", "dump_stack_lvl", "dump_stack", "panic", "vpanic", "walk_stackframe", "":
		default:
			return f.Text
		}
	}
	return ""
}

func parseHex(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 16, 64)
	return n, err == nil
}
