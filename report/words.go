package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/mm"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
)

// taintLines has a line for each reason to believe the kernel less, with the modules
// that brought it.
func (r *Report) taintLines() []string {
	reasons := r.Kernel.Taints
	if len(reasons) == 0 && strings.HasPrefix(r.Kernel.Taint, "Tainted: ") {
		// Memory did not tell; the log has the letters. G says that all modules
		// are free.
		for _, t := range kernel.Taints(math.MaxUint64) {
			if t.Letter != '?' && strings.IndexByte(r.Kernel.Taint[len("Tainted: "):], t.Letter) >= 0 {
				reasons = append(reasons, Taint{string(t.Letter), t.Meaning})
			}
		}
	}
	var lines []string
	for _, t := range reasons {
		line := printable(t.Letter + "  " + t.Meaning)
		var names []string
		for _, m := range r.Modules {
			if strings.Contains(m.Taints, t.Letter) {
				names = append(names, printable(m.Name))
			}
		}
		if len(names) > 0 {
			line += ": " + some(names, 8)
		}
		lines = append(lines, line)
	}
	return lines
}

// moduleTaints are what the letters of a module's taints say of it.
var moduleTaints = map[rune]string{
	'P': "proprietary",
	'F': "loaded by force",
	'C': "from staging",
	'O': "from outside the kernel's tree",
	'E': "unsigned",
	'K': "patches the kernel while it runs",
	'N': "a test",
}

// some are the first n names, and how many more there are.
func some(names []string, n int) string {
	if len(names) <= n+1 {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:n], ", ") + fmt.Sprintf(" and %d more", len(names)-n)
}

// count is a number with the word for it: "1 task", "3 tasks".
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}

// taskStates are what the letters of task states mean.
var taskStates = []struct {
	letter, words string
}{
	{"R", "running"},
	{"D", "blocked"},
	{"S", "sleeping"},
	{"I", "idle"},
	{"T", "stopped"},
	{"t", "traced"},
	{"Z", "zombie"},
	{"X", "dead"},
	{"P", "parked"},
}

// loadWords are how many tasks were in which state.
func loadWords(l *sched.Load) string {
	var parts []string
	for _, s := range taskStates {
		if n := l.States[s.letter]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s.words))
		}
	}
	s := count(l.Tasks, "task")
	if len(parts) > 0 {
		s += ": " + strings.Join(parts, ", ")
	}
	return s
}

// refText names a task: "dd (345)".
func refText(r sched.Ref) string {
	comm := printable(r.Comm)
	switch {
	case comm == "" && r.PID == 0:
		comm = "idle"
	case comm == "":
		return fmt.Sprintf("PID %d", r.PID)
	}
	return fmt.Sprintf("%s (%d)", comm, r.PID)
}

func refNames(refs []sched.Ref) []string {
	names := make([]string, len(refs))
	for i, r := range refs {
		names[i] = refText(r)
	}
	return names
}

// frameText is "function+0x12/0x34 [module]", or the address if nothing better
// is known.
func frameText(f stack.Frame) string {
	if f.Function == "" {
		s := f.PC.String()
		if f.Module != "" {
			s += " [" + printable(f.Module) + "]"
		}
		return s
	}
	s := fmt.Sprintf("%s+%#x/%#x", printable(f.Function), f.Offset, f.Size)
	if f.Module != "" {
		s += " [" + printable(f.Module) + "]"
	}
	return s
}

// frameNote is what else there is to say about a frame: how it came to run, and
// why it is in doubt.
func frameNote(f stack.Frame) string {
	var notes []string
	if f.Tail != "" {
		notes = append(notes, "called as "+printable(f.Tail)+", which went on here")
	}
	if f.Doubt != "" {
		notes = append(notes, printable(f.Doubt))
	}
	return strings.Join(notes, "; ")
}

// repeated is how many frames at the beginning are the same, as of a function that
// calls itself.
func repeated(frames []stack.Frame) int {
	n := 1
	for n < len(frames) && !frames[n].Interrupted && frameText(frames[n]) == frameText(frames[0]) && frameNote(frames[n]) == frameNote(frames[0]) {
		n++
	}
	return n
}

// interruptText is what came where a frame was interrupted: "load page fault,
// address 0x10".
func interruptText(f stack.Frame) string {
	s := "exception or interrupt"
	if f.Regs == nil {
		return s
	}
	if f.Regs.Cause != "" {
		s = printable(f.Regs.Cause)
	}
	// Address 0 is one, and the most common of all.
	if f.Regs.BadAddr != 0 || strings.Contains(f.Regs.Cause, "fault") {
		s += ", address " + f.Regs.BadAddr.String()
	}
	if f.Regs.User {
		s += ", from user space"
	}
	return s
}

// stackKey is equal for stacks that read the same.
func stackKey(s *stack.Stack) string {
	if s == nil {
		return ""
	}
	var b strings.Builder
	for _, f := range s.Frames {
		if f.Interrupted {
			b.WriteString(interruptText(f))
			b.WriteByte('\n')
			if f.Regs != nil && f.Regs.User {
				break // which program it was is another question
			}
		}
		b.WriteString(frameText(f))
		b.WriteByte('\n')
	}
	return b.String()
}

// cpuGroup is CPUs that did the same.
type cpuGroup struct {
	cpus  []*CPU
	idle  bool
	where string
	stack *stack.Stack
}

// crashedCPU is the CPU that crashed, or nil.
func (r *Report) crashedCPU() *CPU {
	for i := range r.CPUs {
		if r.CPUs[i].Crashed {
			return &r.CPUs[i]
		}
	}
	return nil
}

// groupCPUs puts the CPUs that did not crash together by what they did; idle
// ones come last.
func (r *Report) groupCPUs() []*cpuGroup {
	var groups []*cpuGroup
	byKey := map[string]*cpuGroup{}
	for i := range r.CPUs {
		c := &r.CPUs[i]
		if c.Crashed {
			continue
		}
		g := &cpuGroup{where: where(c.PC), idle: idleCPU(c)}
		key := "idle"
		if !g.idle {
			if g.stack = c.Stack; c.Stack != nil && len(c.Stack.Frames) == 0 {
				g.stack = nil
			}
			key = "at " + g.where + "\n" + stackKey(g.stack)
		}
		if old := byKey[key]; old != nil {
			if old.where != g.where {
				old.where = "" // idle in more than one way
			}
			g = old
		} else {
			byKey[key] = g
			groups = append(groups, g)
		}
		g.cpus = append(g.cpus, c)
	}
	slices.SortStableFunc(groups, func(a, b *cpuGroup) int {
		switch {
		case a.idle == b.idle:
			return 0
		case a.idle:
			return 1
		default:
			return -1
		}
	})
	return groups
}

// idleCPU tells whether a CPU had nothing to do: its idle task ran, and no handler of
// an interrupt. What the crash itself interrupts is where the stack begins.
func idleCPU(c *CPU) bool {
	if c.PID != 0 {
		return false
	}
	if c.Stack != nil {
		for i, f := range c.Stack.Frames {
			if f.Interrupted && i > 0 {
				return false
			}
		}
	}
	return true
}

// tasks are the tasks that ran on the CPUs of a group.
func (g *cpuGroup) tasks() []string {
	var names []string
	for _, c := range g.cpus {
		names = append(names, refText(sched.Ref{PID: int32(c.PID), Comm: c.Comm}))
	}
	return names
}

// title is "CPUs 1-3, 5: dd (12), dd (13)".
func (g *cpuGroup) title() string {
	s := "CPU "
	if len(g.cpus) > 1 {
		s = "CPUs "
	}
	s += cpuList(g.cpus)
	if g.idle {
		return s + ": idle"
	}
	return s + ": " + some(g.tasks(), 6)
}

// cpuList is the numbers of CPUs, in ranges: "0-2, 5".
func cpuList(cpus []*CPU) string {
	var numbers []int
	unknown := 0
	for _, c := range cpus {
		if c.Number < 0 {
			unknown++
		} else {
			numbers = append(numbers, c.Number)
		}
	}
	slices.Sort(numbers)
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] <= numbers[j]+1 {
			j++
		}
		s := strconv.Itoa(numbers[i])
		if numbers[j] > numbers[i] {
			s += "-" + strconv.Itoa(numbers[j])
		}
		parts = append(parts, s)
		i = j + 1
	}
	switch {
	case unknown == 1:
		parts = append(parts, "?")
	case unknown > 1:
		parts = append(parts, fmt.Sprintf("%d of unknown number", unknown))
	}
	return strings.Join(parts, ", ")
}

// logSaysMore tells whether the backtrace in the log is longer than what is known
// from memory.
func (r *Report) logSaysMore() bool {
	c := r.crashedCPU()
	if c == nil || c.Stack == nil || len(c.Stack.Frames) == 0 {
		return len(r.Crash.Backtrace) > 0
	}
	known := 0
	for _, f := range c.Stack.Frames {
		if f.Function != "" && f.Doubt == "" {
			known++
		}
	}
	return c.Stack.Broken != "" && len(r.Crash.Backtrace) > known
}

// crashRegisters are those that tell most about the crash, and when they were
// read: at the fault, if the stack has kept them.
func (r *Report) crashRegisters(c *CPU) (when string, regs []Register) {
	if r.Fault != nil && c.Stack != nil {
		for _, f := range c.Stack.Frames {
			if f.Interrupted && f.Regs != nil && f.PC == r.Fault.PC && len(f.Regs.Registers) > 0 {
				for _, reg := range f.Regs.Registers {
					regs = append(regs, Register{reg.Name, fmt.Sprintf("%#x", reg.Value)})
				}
				return "at the fault", regs
			}
		}
	}
	return "", c.Registers
}

// taskText is "dd, PID 345, UID 0, on CPU 1".
func taskText(t *Task) string {
	s := fmt.Sprintf("PID %d", t.PID)
	if t.Comm != "" {
		s = printable(t.Comm) + ", " + s
	} else if t.PID == 0 {
		s = "idle, " + s
	}
	if t.UID != nil {
		s += fmt.Sprintf(", UID %d", *t.UID)
	}
	if t.CPU >= 0 {
		s += fmt.Sprintf(", on CPU %d", t.CPU)
	}
	return s
}

// who is the task that ran on the CPU that crashed.
func (r *Report) who() string {
	task := r.Crash.Task
	if task == nil {
		return ""
	}
	s := taskText(task)
	if task.CPU >= 0 && r.Machine.CPUs > 0 {
		s += fmt.Sprintf(" of %d", r.Machine.CPUs)
	}
	if r.Crash.InInterrupt {
		s += ", in an interrupt"
	}
	return s
}

// stuck is the task that did not get on, of a lockup that another one found.
func (r *Report) stuck() string {
	s := r.Crash.Stuck
	if s == nil || s.PID < 0 || r.Crash.Task != nil && s.PID == r.Crash.Task.PID {
		return ""
	}
	words := taskText(s)
	if r.Crash.Waited > 0 {
		words += ", for " + duration(r.Crash.Waited)
	}
	return words
}

// when is the time of the crash.
func (r *Report) when() string {
	up := ""
	if r.Crash.Uptime > 0 {
		up = duration(r.Crash.Uptime) + " after boot"
	}
	if r.Crash.Time == nil {
		return up
	}
	if r.Crash.Time.Year() < 1980 {
		return strings.TrimSpace(up + " (the clock was not set)")
	}
	s := r.Crash.Time.UTC().Format("2006-01-02 15:04:05 UTC")
	if up != "" {
		s += ", " + up
	}
	return s
}

// duration says seconds as people do: "7.0 s", "3 min 20 s", "5 days 3 h".
func duration(seconds float64) string {
	d := time.Duration(min(seconds, 9e9) * float64(time.Second)) // as far as it counts
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

// since is a duration in nanoseconds.
func since(ns uint64) string { return duration(float64(ns) / 1e9) }

// topTasks are the n processes with most memory, one task of each.
func (r *Report) topTasks(n int) []*sched.Task {
	var top []*sched.Task
	for i := range r.Tasks {
		if r.Tasks[i].RSS > 0 {
			top = append(top, &r.Tasks[i])
		}
	}
	slices.SortStableFunc(top, func(a, b *sched.Task) int { return cmp.Compare(b.RSS, a.RSS) })
	// Threads share their memory.
	seen := map[kernel.VirtAddr]bool{}
	top = slices.DeleteFunc(top, func(t *sched.Task) bool {
		twice := t.MM != 0 && seen[t.MM]
		seen[t.MM] = true
		return twice
	})
	return top[:min(n, len(top))]
}

// use is a part of memory and what it was used for.
type use struct {
	name, key string // key is the class of its colour on the page
	bytes     uint64
}

// memoryUses divides the memory by what it was used for. The sum is the total, as
// far as the kernel's counters agree.
func memoryUses(m *mm.Summary) []use {
	shmem := min(m.Shmem, m.Cached)
	var huge uint64
	for _, h := range m.Huge {
		if h.Total < 1<<40 && h.Size < 1<<40 {
			huge += h.Total * h.Size
		}
	}
	// Stacks are mapped with vmalloc and counted there, too (CONFIG_VMAP_STACK).
	vmalloc := m.Vmalloc - min(m.Vmalloc, m.KernelStacks)
	uses := []use{
		{"programs", "anon", m.Anon},
		{"files", "cache", m.Cached - shmem + m.Buffers},
		{"shared memory", "shmem", shmem},
		{"slab", "slab", m.SlabReclaimable + m.SlabUnreclaimable},
		{"stacks and page tables", "tables", m.KernelStacks + m.PageTables},
		{"vmalloc", "vmalloc", vmalloc},
		{"per CPU", "percpu", m.PerCPU},
		{"huge pages", "huge", huge},
		{"other", "other", m.Other},
		{"free", "free", m.Free},
	}
	return slices.DeleteFunc(uses, func(u use) bool { return u.bytes == 0 })
}

// lines are the records of the tail as they are read best: without callers, if they
// are known without.
func (l *Log) lines() []string {
	if len(l.short) == len(l.Tail) {
		return l.short
	}
	return l.Tail
}
