package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
)

// Paper has of long lists what is worth the paper.
const (
	printedTasks = 15  // by memory, beside those that ran or were blocked
	printedLog   = 120 // records of the log
)

// tasks writes the table of all tasks.
func (p *page) tasks(r *Report) {
	p.raw("<p class=\"controls\"><input type=\"search\" id=\"find-tasks\" placeholder=\"Search tasks: name, PID\" aria-label=\"Search tasks\" autocomplete=\"off\" spellcheck=\"false\"> ",
		"<select id=\"which-tasks\" aria-label=\"Which tasks\"><option value=\"\">all</option><option value=\"R\">running</option><option value=\"D\">blocked</option>",
		"<option value=\"user\">of user space</option><option value=\"kernel\">of the kernel</option></select> <output id=\"count-tasks\"></output></p>\n")
	group := map[int32]int{}
	for i, g := range r.Blocked {
		for _, t := range g.Tasks {
			group[t.PID] = i
		}
	}
	top := r.topTasks(printedTasks)
	p.table("table-tasks", "sort brief tasks", column{"PID", true}, column{"Process", true}, column{"Parent", true}, column{"Name", false}, column{"State", false}, column{"CPU", true},
		column{"UID", true}, column{"Memory", true}, column{"Address space", true}, column{"User time", true}, column{"Kernel time", true}, column{"Waited", true})
	printed := 0
	for i := range r.Tasks {
		t := &r.Tasks[i]
		var class []string
		if t.OnCPU || t.Blocked() || slices.Contains(top, t) {
			class = append(class, "key")
			printed++
		}
		if t.Kernel {
			class = append(class, "kernel")
		}
		p.raw("<tr")
		if len(class) > 0 {
			p.raw(" class=\"", strings.Join(class, " "), "\"")
		}
		p.raw(">").number(uint64(uint32(t.PID)), fmt.Sprint(t.PID)).number(uint64(uint32(t.TGID)), fmt.Sprint(t.TGID)).number(uint64(uint32(t.PPID)), fmt.Sprint(t.PPID))
		name := t.Comm
		if t.Kernel {
			name = "[" + name + "]"
		}
		p.raw("<td class=\"c\">")
		if i, ok := group[t.PID]; ok {
			p.raw("<a href=\"#blocked-", fmt.Sprint(i), "\">").text(name).raw("</a>")
		} else {
			p.text(name)
		}
		p.raw("</td><td class=\"s-").raw(stateClass(t.State)).raw("\">").text(stateText(t)).raw("</td>")
		p.number(uint64(max(t.CPU, 0)), cpuNumber(t.CPU)).number(uint64(t.UID), fmt.Sprint(t.UID))
		p.number(t.RSS, memoryOf(t, t.RSS)).number(t.Size, memoryOf(t, t.Size))
		p.number(t.UserTime, seconds(t.UserTime)).number(t.SystemTime, seconds(t.SystemTime)).number(t.Idle, seconds(t.Idle)).raw("</tr>\n")
	}
	p.endTable()
	p.raw("<p class=\"paper\">").text(fmt.Sprintf("%d of %d tasks: those that ran, were blocked, or had most memory.", printed, len(r.Tasks))).raw("</p>\n")
}

// stateClass is the class of a state's colour: its letter, if it is one.
func stateClass(s string) string {
	if len(s) == 1 && (s[0] >= 'A' && s[0] <= 'Z' || s[0] >= 'a' && s[0] <= 'z') {
		return s
	}
	return "other"
}

func stateText(t *sched.Task) string {
	s := t.State
	for _, known := range taskStates {
		if known.letter == t.State {
			s += " " + known.words
		}
	}
	if t.OnCPU {
		s += ", on its CPU"
	}
	return s
}

// memoryOf is a size, or nothing for tasks that have no memory of their own.
func memoryOf(t *sched.Task, bytes uint64) string {
	if bytes == 0 && t.Kernel {
		return ""
	}
	return ui.Bytes(bytes)
}

// seconds is a time in nanoseconds, as a number that can be compared at a glance.
func seconds(ns uint64) string { return fmt.Sprintf("%.2f s", float64(ns)/1e9) }

// chunkLines is how many records of the log are laid out together: browsers leave
// out what is not on the screen.
const chunkLines = 250

// log writes the log.
func (p *page) log(r *Report) {
	lines := r.Log.lines()
	p.raw("<p class=\"controls\"><input type=\"search\" id=\"find-log\" placeholder=\"Search the log\" aria-label=\"Search the log\" autocomplete=\"off\" spellcheck=\"false\"> ",
		"<select id=\"level-log\" aria-label=\"Level\"><option value=\"9\">all levels</option><option value=\"5\">notices and worse</option><option value=\"4\">warnings and worse</option><option value=\"3\">errors and worse</option></select> ",
		"<label><input type=\"checkbox\" id=\"only-log\" checked> only matching lines</label> ",
		"<button id=\"prev-log\">Previous</button> <button id=\"next-log\">Next</button> <output id=\"count-log\"></output></p>\n")
	if len(lines) < r.Log.Records {
		p.raw("<p class=\"screen\">").text(fmt.Sprintf("The last %d of %d records.", len(lines), r.Log.Records)).raw("</p>\n")
	}
	if r.Log.Records > printedLog {
		p.raw("<p class=\"paper\">").text(fmt.Sprintf("The last %d of %d records.", min(printedLog, len(lines)), r.Log.Records)).raw("</p>\n")
	}
	p.raw("<div class=\"log\" id=\"lines\" tabindex=\"0\" role=\"region\" aria-label=\"The log\">\n")
	from := 0
	for from < len(lines) {
		// What is printed begins with a chunk of its own.
		to := min(len(lines), from+chunkLines)
		old := from < len(lines)-printedLog
		if old {
			to = min(to, len(lines)-printedLog)
			p.raw("<div class=\"old\">\n")
		} else {
			p.raw("<div>\n")
		}
		for i := from; i < to; i++ {
			level := byte(noLevel)
			if i < len(r.Log.Levels) && r.Log.Levels[i] >= '0' && r.Log.Levels[i] <= '7' {
				level = r.Log.Levels[i]
			}
			p.raw("<p class=\"l", string(level), "\">")
			for j, s := range strings.Split(lines[i], "\n") {
				if j > 0 {
					p.raw("\n")
				}
				p.text(s)
			}
			p.raw("</p>\n")
		}
		p.raw("</div>\n")
		from = to
	}
	p.raw("</div>\n")
}

// noLevel is the level of a record whose level is not known.
const noLevel = '8'
