package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel/disasm"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
)

// What the text has of lists; all of it is in the other forms.
const (
	textFrames    = 48 // of the stack that crashed
	textOthers    = 12 // frames of another one
	textCPUGroups = 8
	textGroups    = 6 // of blocked tasks
	textChains    = 8
	textCode      = 4 // instructions before the one at fault, and after it
)

// writeCrashed describes the CPU that crashed: stack, code, registers.
func (r *Report) writeCrashed(t *text) {
	c := r.crashedCPU()
	if c != nil && c.Stack != nil && len(c.Stack.Frames) > 0 {
		t.heading(fmt.Sprintf("Stack of CPU %s, which crashed", cpuNumber(c.Number)))
		t.stack(c.Stack, textFrames)
	}
	if r.logSaysMore() {
		t.heading("Backtrace, from the log")
		for _, f := range r.Crash.Backtrace {
			if f.Text == "" {
				f.Text = f.Address
			}
			t.wrap("  ", "      ", printable(f.Text))
		}
	}
	r.writeFault(t)
	if c == nil {
		return
	}
	when, regs := r.crashRegisters(c)
	if when == "" {
		t.heading(fmt.Sprintf("Registers of CPU %s, which crashed", cpuNumber(c.Number)))
		t.wrap("  pc  ", "      ", where(c.PC))
		if c.RA != nil {
			t.wrap("  ra  ", "      ", where(*c.RA))
		}
		t.line("")
	} else {
		t.heading(fmt.Sprintf("Registers of CPU %s, %s", cpuNumber(c.Number), when))
	}
	t.registers(regs)
}

// writeFault writes the code around the instruction at fault.
func (r *Report) writeFault(t *text) {
	if r.Fault == nil || len(r.Fault.Code) == 0 {
		return
	}
	t.heading("Code at the fault")
	code := r.Fault.Code
	at := slices.IndexFunc(code, func(i disasm.Instruction) bool { return i.Fault })
	if at >= 0 {
		code = code[max(0, at-textCode):min(len(code), at+textCode+1)]
	}
	for _, i := range code[:min(len(code), 4*textCode)] {
		mark := "   "
		if i.Fault {
			mark = "-->"
		}
		words := i.Text
		if words == "" {
			words = "?"
		}
		bytes := fmt.Sprintf("%-8s  ", printable(i.Bytes))
		if t.width > 0 && t.width < 64 {
			bytes = "" // the instruction has the room
		}
		t.wrap(fmt.Sprintf("  %s %016x  ", mark, uint64(i.Addr)), "        ", bytes+words)
	}
}

// writeOthers describes the other CPUs, those that did the same together.
func (r *Report) writeOthers(t *text) {
	groups := r.groupCPUs()
	if len(groups) == 0 {
		return
	}
	if r.crashedCPU() == nil {
		t.heading("CPUs")
	} else {
		t.heading("Other CPUs")
	}
	busy := 0
	left := 0
	for i, g := range groups {
		if !g.idle {
			if busy++; busy > textCPUGroups {
				left += len(g.cpus)
				continue
			}
		}
		if i > 0 && groups[i-1].stack != nil {
			t.line("")
		}
		title := g.title()
		if g.stack == nil && g.where != "" {
			title += ", at " + g.where
		}
		t.wrap("  ", "    ", title)
		if g.stack != nil {
			t.stack(g.stack, textOthers)
		}
	}
	if left > 0 {
		t.line(fmt.Sprintf("  and %s that did something else", count(left, "CPU")))
	}
}

// writeBlocked writes which tasks nothing could wake but what they waited for.
func (r *Report) writeBlocked(t *text) {
	if len(r.Blocked) == 0 {
		return
	}
	tasks := 0
	for _, g := range r.Blocked {
		tasks += len(g.Tasks)
	}
	t.heading(fmt.Sprintf("Blocked tasks (%d)", tasks))
	for i := range r.Blocked {
		g := &r.Blocked[i]
		if i == textGroups {
			rest := 0
			for _, g := range r.Blocked[i:] {
				rest += len(g.Tasks)
			}
			t.line(fmt.Sprintf("  and %s elsewhere", count(rest, "task")))
			break
		}
		if i > 0 {
			t.line("")
		}
		t.wrap("  ", "    ", g.title())
		t.stack(&g.Stack, textOthers)
	}
}

// title is who is in the group: "3 tasks, for 2 min 3 s: a (1), b (2), c (3)".
func (g *Group) title() string {
	s := some(refNames(g.Tasks), 6)
	if n := len(g.Tasks); n > 1 {
		s = fmt.Sprintf("%d tasks: %s", n, s)
	}
	if g.Longest > 0 {
		s += ", for " + since(g.Longest)
		if len(g.Tasks) > 1 {
			s += " at most"
		}
	}
	return s
}

// writeChains writes who blocks whom.
func (r *Report) writeChains(t *text) {
	if len(r.Chains) == 0 {
		return
	}
	t.heading("Who blocks whom")
	for i := range r.Chains {
		if i == textChains {
			t.line(fmt.Sprintf("  and %d more", len(r.Chains)-i))
			break
		}
		t.wrap("  ", "    ", r.chainText(i))
	}
}

// chainText is one chain as a sentence.
func (r *Report) chainText(n int) string {
	c := &r.Chains[n]
	var b strings.Builder
	if c.Deadlock {
		b.WriteString("Deadlock: ")
	}
	for i, task := range c.Tasks {
		if i > 0 {
			b.WriteString(" held by ")
		}
		b.WriteString(refText(task))
		if i < len(c.Locks) {
			if i > 0 {
				b.WriteString(", which")
			}
			b.WriteString(" waits for ")
			b.WriteString(r.lockText(i, n))
		}
	}
	return b.String()
}

// lockText names the lock that task i of a chain waits for.
func (r *Report) lockText(i, chain int) string {
	addr := r.Chains[chain].Locks[i]
	for _, l := range r.Locks {
		if l.Addr != addr {
			continue
		}
		name := printable(l.Kind)
		if l.Name != "" {
			name += " " + printable(l.Name)
		} else {
			name += " " + addr.String()
		}
		return name
	}
	return "lock " + addr.String()
}

// stack writes the first frames of a stack.
func (t *text) stack(s *stack.Stack, most int) {
	lines := 0
	for i := 0; i < len(s.Frames); {
		if lines++; lines > most {
			t.line(fmt.Sprintf("    and %d more", len(s.Frames)-i))
			return
		}
		f := s.Frames[i]
		if f.Interrupted {
			t.wrap("    -- ", "       ", interruptText(f))
		}
		line := frameText(f)
		if note := frameNote(f); note != "" {
			line += "  (" + note + ")"
		}
		n := repeated(s.Frames[i:])
		if n > 1 {
			line += fmt.Sprintf("  (%d times)", n)
		}
		mark := "    "
		if f.Doubt != "" {
			mark = "  ? "
		}
		t.wrap(mark, "        ", line)
		i += n
	}
	if s.Broken != "" {
		t.wrap("    -- ", "       ", "ends here: "+s.Broken)
	}
}

// registers writes registers in columns.
func (t *text) registers(regs []Register) {
	longest := 4
	for _, reg := range regs {
		longest = min(max(longest, len(reg.Name)), 8)
	}
	columns := 3
	if t.width > 0 {
		columns = max(1, t.width/(2+longest+1+16))
	}
	for i := 0; i < len(regs); i += columns {
		var b strings.Builder
		for _, reg := range regs[i:min(i+columns, len(regs))] {
			fmt.Fprintf(&b, "  %*.*s %016.16s", longest, longest, printable(reg.Name), printable(strings.TrimPrefix(reg.Value, "0x")))
		}
		t.line(b.String())
	}
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
	return printable(f.Text)
}
