package report

import (
	"cmp"
	"fmt"
	"slices"
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
				s.line(rec.Time, line, rec.Caller.Kind == 'C')
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
	class    Class
	reason   string // of panic()
	cause    string
	where    string
	source   string // file:line
	task     *Task
	cpu      int // -1 if unknown
	taint    string
	hardware string
	frames   []Frame
	fault    fault
	stuck    *Task // that hung or kept its CPU
	stuckCPU int64 // -1 if unknown
	waited   float64
	// interrupt: its words were printed outside of any task.
	interrupt bool
	told      bool // frames are of the stuck CPU, which was made to tell
	other     bool // what follows is of the stuck CPU, not of the one that tells
	began     time.Duration
	ended     bool // "---[ end trace"
	tracing   bool // the line before was one of a backtrace
	traced    bool // the backtrace is complete
}

func newIncident(at time.Duration, kind Kind, class Class, cause string) *incident {
	return &incident{kind: kind, class: class, cause: cause, cpu: -1, stuckCPU: -1, began: at}
}

// scanner reads the log line by line and keeps the last incidents.
type scanner struct {
	all     []*incident // the latest last
	model   string
	cmdline string
}

// maxIncidents is how many are kept: a panic has its cause among the last ones.
const maxIncidents = 8

// incident is the one that the kernel died of. last is the time of the last
// record: what is not followed by a panic (which crash_kexec() out of an oops
// does not print) and was survived for long is not it.
func (s *scanner) incident(last time.Duration) *incident {
	var best *incident
	for _, in := range slices.Backward(s.all) {
		fatal := in.kind == KindOops || in.kind == KindBug
		switch {
		case in.reason != "":
			return in
		case in.kind == KindWarning || last-in.began > related:
		case best == nil, fatal && best.kind != KindOops && best.kind != KindBug:
			best = in
		}
	}
	if best == nil {
		return newIncident(0, KindUnknown, "", "")
	}
	return best
}

func (s *scanner) add(in *incident) {
	if len(s.all) == maxIncidents {
		s.all = slices.Delete(s.all, 0, 1)
	}
	s.all = append(s.all, in)
}

// line reads one line. interrupt tells that it was printed outside of any task.
func (s *scanner) line(at time.Duration, line string, interrupt bool) {
	line = printable(line)
	if v, ok := strings.CutPrefix(line, "Kernel command line: "); ok && s.cmdline == "" {
		s.cmdline = v
	}
	if v, ok := strings.CutPrefix(line, "Machine model: "); ok && s.model == "" {
		s.model = v
	}
	if t := match(triggers, line); t != nil {
		if t.kind == KindPanic {
			s.panicked(at, strings.TrimPrefix(strings.TrimPrefix(line, "Kernel panic - not syncing"), ": "), interrupt)
		} else {
			s.trigger(at, t, line, interrupt)
		}
	}
	if len(s.all) > 0 {
		s.all[len(s.all)-1].read(line)
	}
}

// trigger begins an incident or goes on with the one at hand.
func (s *scanner) trigger(at time.Duration, t *trigger, line string, interrupt bool) {
	var now *incident
	if len(s.all) > 0 && at-s.all[len(s.all)-1].began <= related {
		now = s.all[len(s.all)-1]
	}
	switch {
	case now != nil && now.reason != "":
		// Trouble on the way down is not the reason.
	case now != nil && !now.ended && now.goesOn(t):
		// More words about the same: "Oops [#1]" after what the fault was.
		if now.class == "" || now.class == ClassBug || now.class == ClassRefcount && t.class != ClassWarning {
			now.class = t.class
		}
		now.facts(t.class, line)
	case t.kind == KindWarning && now != nil && now.kind != KindWarning:
		// A warning right after an oops is not the reason of what follows.
	default:
		now = newIncident(at, t.kind, t.class, line)
		now.facts(t.class, line)
		now.interrupt = interrupt
		s.add(now)
	}
}

// goesOn tells whether the words that t stands for are more of the incident at
// hand.
func (in *incident) goesOn(t *trigger) bool {
	wrong := func(k Kind) bool { return k == KindOops || k == KindBug }
	switch {
	case in.kind == KindSysrq:
		return wrong(t.kind) // sysrq of old kernels reads through a null pointer
	case in.kind == KindLockup:
		return t.kind == KindLockup && t.class == in.class
	case in.kind == KindBug && t.kind == KindWarning:
		return in.source == "" // words before a WARN() instead of a BUG()
	}
	return in.kind == t.kind || wrong(in.kind) && wrong(t.kind)
}

// panicked takes panic()'s words, and finds what led there.
func (s *scanner) panicked(at time.Duration, reason string, interrupt bool) {
	p := match(panics, reason)
	if p == nil {
		p = &trigger{class: ClassOther}
	}
	var in *incident
	for i, c := range slices.Backward(s.all) {
		limit := related
		if p.kind == KindLockup || p.kind == KindMemory {
			limit = patient
		}
		if at-c.began <= limit && c.reason == "" && p.follows(c) {
			in = c
			s.all = slices.Delete(s.all, i, i+1)
			break
		}
		if c.reason != "" {
			return // a panic within a panic
		}
	}
	if in == nil {
		in = newIncident(at, cmp.Or(p.kind, KindPanic), "", "")
		if p.class == ClassException {
			in.kind = KindOops
		}
	}
	if in.class == "" || p.class == ClassTooMany || p.class == ClassOOMNoVictim {
		in.class = p.class
	}
	in.reason, in.interrupt = reason, interrupt
	// What follows is panic()'s own backtrace; that of the cause is better.
	in.ended, in.tracing = false, false
	s.add(in)
}

// follows tells whether such a panic comes of the incident.
func (t *trigger) follows(in *incident) bool {
	switch {
	case t.kind == "": // of anything that is no panic by itself
		return in.kind == KindOops || in.kind == KindBug
	case t.kind == KindLockup:
		return in.kind == KindLockup && in.class == t.class
	case t.kind == KindWarning:
		return in.kind == KindWarning || in.kind == KindBug
	}
	return in.kind == t.kind
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
	case strings.HasPrefix(line, "NMI backtrace for cpu "): // lib/nmi_backtrace.c
		in.backtraceOf(number(strings.TrimPrefix(line, "NMI backtrace for cpu "), -1))
	case in.class == ClassRCUStall && in.stuckCPU < 0 && strings.HasPrefix(line, "rcu: "):
		in.stalled(strings.TrimSpace(strings.TrimPrefix(line, "rcu: ")))
	case in.class == ClassOOM && strings.HasPrefix(line, "memory: usage "): // mm/memcontrol.c
		in.class = ClassOOMCgroup
	default:
		in.readRegisters(line)
	}
}

// backtraceOf: a CPU was made to tell where it is.
func (in *incident) backtraceOf(cpu int64) {
	in.other = in.kind == KindLockup && (in.stuckCPU < 0 || cpu == in.stuckCPU)
	if in.other {
		in.stuckCPU, in.frames, in.where = cpu, nil, ""
		in.traced, in.told = false, true
	}
}

// stalled takes the first CPU or task out of what is said of a stall:
// "1-....: (2099 ticks this GP) idle=..." or "Tasks blocked on level-0 rcu_node
// (CPUs 0-1): P67", kernel/rcu/tree_stall.h (Linux 7.2).
func (in *incident) stalled(text string) {
	if cpu, _, ok := strings.Cut(text, "-"); ok && cpu != "" && strings.Trim(cpu, "0123456789") == "" {
		in.stuckCPU = number(cpu, -1)
	} else if _, pid, ok := strings.Cut(text, "): P"); ok && in.stuck == nil && strings.HasPrefix(text, "Tasks blocked ") {
		in.stuck = &Task{PID: number(pid, -1), CPU: -1}
	}
}

// readRegisters takes the function at fault and what an exception says of
// itself.
func (in *incident) readRegisters(line string) {
	where := ""
	switch {
	case strings.HasPrefix(line, "epc : "): // riscv
		where = strings.TrimPrefix(line, "epc : ")
		if in.fault.pc == 0 && !in.fault.hasPC {
			in.fault.pc, in.fault.hasPC = leadingHex(where)
		}
	case strings.HasPrefix(line, "pc : "): // arm64
		where = strings.TrimPrefix(line, "pc : ")
	case strings.HasPrefix(line, "RIP: 0010:"): // x86
		where = strings.TrimPrefix(line, "RIP: 0010:")
	case strings.HasPrefix(line, " ra : ") && in.fault.caller == "": // riscv
		in.fault.caller = symbolIn(strings.TrimPrefix(line, " ra : "))
	case strings.HasPrefix(line, "lr : ") && in.fault.caller == "": // arm64
		in.fault.caller = symbolIn(strings.TrimPrefix(line, "lr : "))
	case strings.HasPrefix(line, "status: "): // riscv
		in.fault.readStatus(line)
	case strings.HasPrefix(line, "#PF: "): // x86
		in.fault.readPF(line)
	}
	if in.where == "" {
		in.where = symbolIn(where)
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
	if in.other && (in.stuck == nil || in.stuck.PID == t.PID) {
		in.stuck, in.other = &t, false
		return
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
		case "dump_backtrace", "show_stack", "dump_stack_lvl", "dump_stack", "panic", "vpanic", "walk_stackframe", "dump_header", "":
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
