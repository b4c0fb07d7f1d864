package report

import (
	"fmt"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
)

// crashed writes what is known of the CPU that crashed; c may be nil.
func (p *page) crashed(r *Report, c *CPU) {
	if c != nil && c.Stack != nil && len(c.Stack.Frames) > 0 {
		p.open(true, "", "Stack")
		var fault kernel.VirtAddr
		if r.Fault != nil {
			fault = r.Fault.PC
		}
		p.stack(c.Stack, fault)
		p.close()
	}
	if f := r.Fault; f != nil && len(f.Code) > 0 {
		p.open(true, "", "Code at the fault")
		p.raw("<div class=\"scroll code\"><table class=\"asm\"><tbody>\n")
		for _, i := range f.Code {
			words := i.Text
			if words == "" {
				words = "?"
			}
			if i.Fault {
				p.raw("<tr class=\"fault\"><td>&rarr;</td>")
			} else {
				p.raw("<tr><td></td>")
			}
			p.cell(i.Addr.String()).cell(i.Bytes).cell(words).raw("</tr>\n")
		}
		p.raw("</tbody></table></div>\n")
		p.close()
	}
	if c != nil {
		when, regs := r.crashRegisters(c)
		if len(regs) > 0 {
			p.open(true, "", strings.TrimSpace("Registers "+when))
			if when == "" {
				p.raw("<p class=\"c\">pc ").text(where(c.PC))
				if c.RA != nil {
					p.raw("<br>ra ").text(where(*c.RA))
				}
				p.raw("</p>\n")
			}
			p.registers(regs)
			p.close()
		}
	}
	if len(r.Crash.Backtrace) > 0 {
		p.open(r.logSaysMore(), "", "Backtrace, from the log")
		p.raw("<ol class=\"stack\">\n")
		for _, f := range r.Crash.Backtrace {
			p.raw("<li>")
			p.function(where(f), f.Address)
			p.raw("</li>\n")
		}
		p.raw("</ol>\n")
		p.close()
	}
}

// stack writes all frames of a stack; what came at the address fault stands out.
func (p *page) stack(s *stack.Stack, fault kernel.VirtAddr) {
	p.raw("<ol class=\"stack\">\n")
	for i := 0; i < len(s.Frames); {
		f := s.Frames[i]
		if f.Interrupted {
			class := "came"
			if fault != 0 && f.PC == fault {
				class = "came bad"
			}
			p.raw("<li class=\"", class, "\">").text(interruptText(f))
			if f.Regs != nil && len(f.Regs.Registers) > 0 {
				p.open(false, "", "registers")
				var regs []Register
				for _, reg := range f.Regs.Registers {
					regs = append(regs, Register{reg.Name, kernel.VirtAddr(reg.Value).String()})
				}
				p.registers(regs)
				p.close()
			}
			p.raw("</li>\n")
		}
		if f.Doubt != "" {
			p.raw("<li class=\"doubt\">? ")
		} else {
			p.raw("<li>")
		}
		p.function(frameText(f), f.PC.String())
		if note := frameNote(f); note != "" {
			p.raw(" ").element("i", "", note)
		}
		n := repeated(s.Frames[i:])
		if n > 1 {
			p.raw(" ").element("i", "", fmt.Sprintf("%d times", n))
		}
		p.raw("</li>\n")
		i += n
	}
	if s.Broken != "" {
		p.raw("<li class=\"came\">ends here: ").text(s.Broken).raw("</li>\n")
	}
	p.raw("</ol>\n")
}

// function writes a place in code, its name so that it stands out.
func (p *page) function(s, address string) {
	name, rest, ok := strings.Cut(s, "+")
	p.element("b", "", name)
	if ok {
		p.element("span", "", "+"+rest)
	}
	if address != "" && address != s {
		p.raw(" ").element("small", "", address)
	}
}

func (p *page) registers(regs []Register) {
	p.raw("<ul class=\"regs\">\n")
	for _, reg := range regs {
		p.raw("<li>").element("b", "", reg.Name).raw(" ").text(fmt.Sprintf("%016s", strings.TrimPrefix(reg.Value, "0x"))).raw("</li>\n")
	}
	p.raw("</ul>\n")
}

// cpus writes what the other CPUs did.
func (p *page) cpus(groups []*cpuGroup) {
	for _, g := range groups {
		title := g.title()
		if g.stack == nil && g.where != "" {
			title += ", at " + g.where
		}
		p.open(!g.idle, "", title)
		if g.stack != nil {
			p.stack(g.stack, 0)
		}
		if len(g.cpus) > 1 {
			class := ""
			if g.idle {
				class = "idle"
			}
			p.table("", class, column{"CPU", true}, column{"Task", false}, column{"At", false})
			for _, c := range g.cpus {
				p.raw("<tr>").number(uint64(max(c.Number, 0)), cpuNumber(c.Number)).cell(refText(sched.Ref{PID: int32(c.PID), Comm: c.Comm})).code(where(c.PC)).raw("</tr>\n")
			}
			p.endTable()
		}
		p.close()
	}
}

// unfoldedGroups is how many groups of blocked tasks are unfolded at first.
const unfoldedGroups = 3

// blocked writes the blocked tasks.
func (p *page) blocked(r *Report) {
	for i := range r.Blocked {
		g := &r.Blocked[i]
		p.open(i < unfoldedGroups, fmt.Sprintf("blocked-%d", i), g.title())
		p.stack(&g.Stack, 0)
		if len(g.Tasks) > 1 {
			p.raw("<p class=\"names\">").text(strings.Join(refNames(g.Tasks), ", ")).raw("</p>\n")
		}
		p.close()
	}
}

// locks writes who blocks whom, and which locks that is about.
func (p *page) locks(r *Report) {
	if len(r.Chains) > 0 {
		p.raw("<ul>\n")
		for i := range r.Chains {
			class := ""
			if r.Chains[i].Deadlock {
				class = "bad"
			}
			p.element("li", class, r.chainText(i)).raw("\n")
		}
		p.raw("</ul>\n")
	}
	if len(r.Locks) == 0 {
		return
	}
	p.table("table-locks", "sort", column{"Lock", false}, column{"Address", false}, column{"Held by", false}, column{"Waiting", true}, column{"Who waits", false})
	for _, l := range r.Locks {
		holder := "not known"
		switch {
		case l.Owner != nil:
			holder = refText(*l.Owner)
		case l.Readers > 0:
			holder = count(int(min(l.Readers, 1<<30)), "reader")
		}
		name := l.Kind
		if l.Name != "" {
			name += " " + l.Name
		}
		p.raw("<tr>").cell(name).code(l.Addr.String()).cell(holder).number(uint64(len(l.Waiters)), fmt.Sprint(len(l.Waiters))).cell(some(refNames(l.Waiters), 12)).raw("</tr>\n")
	}
	p.endTable()
}
