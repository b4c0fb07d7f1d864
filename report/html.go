package report

import (
	"bufio"
	"crypto/sha256"
	_ "embed" // the page's style and script
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"os"
	"path/filepath"
	"strings"
)

//go:embed page/style.css
var pageStyle string

//go:embed page/script.js
var pageScript string

// WriteHTML writes the report as one page that needs nothing else: no other file,
// no network. It has all that the report has, and can be read without its script,
// which searches, sorts and folds. Nothing of what a dump holds can become a part of
// the page's structure, and the page's policy allows its own style and script only.
func (r *Report) WriteHTML(w io.Writer) error {
	p := &page{w: bufio.NewWriterSize(w, 64<<10)}
	title := r.Headline()
	if r.Machine.Hostname != "" {
		title = r.Machine.Hostname + ": " + title
	}
	p.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
	p.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '", pageHash(pageStyle),
		"'; script-src '", pageHash(pageScript), "'; base-uri 'none'; form-action 'none'\">\n")
	p.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n")
	p.raw("<meta name=\"color-scheme\" content=\"light dark\">\n<title>").text(title).raw("</title>\n")
	p.raw("<style>", pageStyle, "</style>\n</head>\n<body>\n")

	sections := r.sections()
	p.answer(r)
	p.raw("<nav aria-label=\"Contents\"><ul>\n")
	for _, s := range sections {
		p.raw("<li><a href=\"#", s.id, "\">", s.short)
		if s.count > 0 {
			p.raw(" <small>", fmt.Sprint(s.count), "</small>")
		}
		p.raw("</a></li>\n")
	}
	p.raw("</ul><p class=\"controls\"><button id=\"unfold\">Unfold</button> <button id=\"fold\">Fold</button></p></nav>\n<main>\n")
	for _, s := range sections {
		p.raw("<section id=\"", s.id, "\">\n<h2>").text(s.title).raw("</h2>\n")
		s.write(p)
		p.raw("</section>\n")
	}
	p.raw("</main>\n<script>", pageScript, "</script>\n</body>\n</html>\n")
	return p.w.Flush()
}

// pageHash is how a policy names what it allows.
func pageHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// section is a part of the page.
type section struct {
	id, short, title string
	count            int // of what it lists, for the contents; 0 is not shown
	write            func(*page)
}

// sections are those that have something in them, in the order of the text.
func (r *Report) sections() []section {
	var all []section
	add := func(there bool, s section) {
		if there {
			all = append(all, s)
		}
	}
	crashed := r.crashedCPU()
	title := "The log's backtrace"
	if crashed != nil {
		title = "CPU " + cpuNumber(crashed.Number) + ", which crashed"
	}
	add(crashed != nil || r.Fault != nil || len(r.Crash.Backtrace) > 0, section{"crash", "Crash", title, 0, func(p *page) { p.crashed(r, crashed) }})
	others := r.groupCPUs()
	add(len(others) > 0, section{"cpus", "CPUs", "Other CPUs", len(r.CPUs), func(p *page) { p.cpus(others) }})
	blocked := 0
	for _, g := range r.Blocked {
		blocked += len(g.Tasks)
	}
	add(blocked > 0, section{"blocked", "Blocked", "Blocked tasks", blocked, func(p *page) { p.blocked(r) }})
	add(len(r.Chains)+len(r.Locks) > 0, section{"locks", "Locks", "Who blocks whom", len(r.Locks), func(p *page) { p.locks(r) }})
	add(r.Memory != nil || len(r.Slabs) > 0, section{"memory", "Memory", "Memory", 0, func(p *page) { p.memory(r) }})
	add(len(r.Disks) > 0, section{"disks", "Disks", "Disks and I/O under way", r.requests(), func(p *page) { p.disks(r) }})
	add(len(r.Tasks) > 0, section{"tasks", "Tasks", "Tasks", len(r.Tasks), func(p *page) { p.tasks(r) }})
	add(len(r.RunQueues) > 0, section{"queues", "Run queues", "Run queues", 0, func(p *page) { p.queues(r) }})
	add(len(r.Modules) > 0, section{"modules", "Modules", "Modules", len(r.Modules), func(p *page) { p.modules(r) }})
	add(len(r.Mounts) > 0, section{"mounts", "Mounts", "Mounts", len(r.Mounts), func(p *page) { p.mounts(r) }})
	add(len(r.Net) > 0, section{"net", "Network", "Network interfaces", len(r.Net), func(p *page) { p.net(r) }})
	add(len(r.Log.Tail) > 0, section{"log", "Log", "Log", len(r.Log.Tail), func(p *page) { p.log(r) }})
	add(len(r.Missing) > 0, section{"missing", "Missing", "Not in this report", len(r.Missing), func(p *page) { p.list(r.Missing) }})
	return all
}

// requests is how many requests disks had not answered.
func (r *Report) requests() int {
	n := 0
	for i := range r.Disks {
		n += len(r.Disks[i].InFlight) + len(r.Disks[i].Queued)
	}
	return n
}

// page writes HTML. What comes from a dump goes through text only.
type page struct{ w *bufio.Writer }

// raw writes markup: constants, and what can be nothing but a number.
func (p *page) raw(parts ...string) *page {
	for _, s := range parts {
		p.w.WriteString(s)
	}
	return p
}

// text writes words that may hold anything.
func (p *page) text(s string) *page {
	p.w.WriteString(escape(s))
	return p
}

// escape makes text of anything: nothing in it is markup, in an attribute neither,
// and there are no characters that could hide what the others say.
func escape(s string) string { return html.EscapeString(printable(s)) }

// element writes text in an element, with a class if there is one.
func (p *page) element(tag, class, s string) *page {
	p.raw("<", tag)
	if class != "" {
		p.raw(" class=\"", class, "\"")
	}
	return p.raw(">").text(s).raw("</", tag, ">")
}

// list writes lines as a list.
func (p *page) list(lines []string) {
	p.raw("<ul>\n")
	for _, s := range lines {
		p.element("li", "", s).raw("\n")
	}
	p.raw("</ul>\n")
}

// open begins something that can be folded.
func (p *page) open(open bool, id, summary string) {
	p.raw("<details")
	if id != "" {
		p.raw(" id=\"", id, "\"")
	}
	if open {
		p.raw(" open")
	}
	p.raw("><summary>").text(summary).raw("</summary>\n")
}

func (p *page) close() { p.raw("</details>\n") }

// column is a column of a table.
type column struct {
	name    string
	numbers bool // to the right, and the largest first
}

// table begins a table; its rows follow, and endTable.
func (p *page) table(id, class string, columns ...column) {
	p.raw("<div class=\"scroll\"><table")
	if id != "" {
		p.raw(" id=\"", id, "\"")
	}
	if class != "" {
		p.raw(" class=\"", class, "\"")
	}
	p.raw(">\n<thead><tr>")
	for _, c := range columns {
		if c.numbers {
			p.raw("<th scope=\"col\" class=\"n\">")
		} else {
			p.raw("<th scope=\"col\">")
		}
		p.text(c.name).raw("</th>")
	}
	p.raw("</tr></thead>\n<tbody>\n")
}

func (p *page) endTable() { p.raw("</tbody></table></div>\n") }

// cell writes a cell of words.
func (p *page) cell(s string) *page { return p.raw("<td>").text(s).raw("</td>") }

// code writes a cell of names out of a program.
func (p *page) code(s string) *page { return p.raw("<td class=\"c\">").text(s).raw("</td>") }

// number writes a cell of a quantity, which is sorted by its value.
func (p *page) number(value uint64, s string) *page {
	p.raw("<td class=\"n\"")
	if plain := fmt.Sprint(value); s != plain {
		p.raw(" data-v=\"", plain, "\"")
	}
	return p.raw(">").text(s).raw("</td>")
}

// answer writes what is to be known first.
func (p *page) answer(r *Report) {
	p.raw("<header>\n<p class=\"kind\"><span class=\"k\">").text(kindWords(r.Crash.Kind)).raw("</span>")
	switch r.Crash.Class {
	case "", ClassRequest, ClassOther, ClassWarning, ClassBug, ClassOOM: // the kind says it
	default:
		p.text(string(r.Crash.Class)).raw(" &middot; ")
	}
	if r.Machine.Hostname != "" {
		p.raw(" ").element("b", "", r.Machine.Hostname)
	}
	p.raw(" ").text(r.Kernel.Release).raw("</p>\n")
	p.element("h1", "", r.Headline()).raw("\n")
	for _, w := range r.Warnings {
		p.element("p", "warning", w).raw("\n")
	}
	if m := r.meaning(); m != "" {
		p.element("p", "meaning", m).raw("\n")
	}
	p.raw("<dl>\n")
	p.fact("At", r.Crash.Where, true)
	p.fact("Source", r.Crash.Source, true)
	p.fact("Stuck", r.stuck(), false)
	p.fact("Task", r.who(), false)
	p.fact("Crashed", r.when(), false)
	if s := r.Signature; s != nil {
		p.raw("<dt>Signature</dt><dd><code>").text(s.ID).raw("</code> <small>").text(strings.TrimSuffix(s.Kind+": "+strings.Join(s.Frames, " < "), ": ")).raw("</small></dd>\n")
	}
	arch := r.Kernel.Arch
	if r.Kernel.Paging != "" {
		arch += ", " + r.Kernel.Paging
	}
	p.fact("Kernel", r.Kernel.Release+" ("+arch+") "+r.Kernel.Version, false)
	p.fact("Build ID", r.Kernel.BuildID, true)
	if r.Kernel.Taint != "" || len(r.Kernel.Taints) > 0 {
		p.raw("<dt>Taint</dt><dd>").text(strings.TrimPrefix(r.Kernel.Taint, "Tainted: "))
		if lines := r.taintLines(); len(lines) > 0 {
			p.list(lines)
		}
		p.raw("</dd>\n")
	}
	p.fact("Machine", r.Machine.Hardware, false)
	if l := r.Load; l != nil {
		p.fact("Load", fmt.Sprintf("%.2f %.2f %.2f; %s", l.Averages[0], l.Averages[1], l.Averages[2], loadWords(l)), false)
	}
	p.fact("Booted with", r.Kernel.Command, true)
	p.raw("</dl>\n</header>\n")
}

// fact writes a name and its value, nothing if there is no value.
func (p *page) fact(name, value string, code bool) {
	if value == "" {
		return
	}
	p.raw("<dt>").text(name).raw("</dt><dd>")
	if code {
		p.element("code", "", value)
	} else {
		p.text(value)
	}
	p.raw("</dd>\n")
}

// kindWords are what kinds are called.
func kindWords(k Kind) string {
	switch k {
	case KindSysrq:
		return "Crash on request"
	case KindPanic:
		return "Panic"
	case KindOops:
		return "Oops"
	case KindBug:
		return "BUG"
	case KindLockup:
		return "Lockup"
	case KindMemory:
		return "Out of memory"
	case KindWarning:
		return "Warning"
	case KindUnknown, "":
		return "Crash"
	}
	return string(k)
}

// SaveHTML writes the report as a page into a file that only its owner can read:
// dumps hold secrets. The file is whole or not there; one that was there before is
// replaced then. Into what is no regular file, a pipe for example, the page is just
// written.
func (r *Report) SaveHTML(name string) (err error) {
	if st, err := os.Stat(name); err == nil {
		if !st.Mode().IsRegular() {
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			return errors.Join(r.WriteHTML(f), f.Close())
		}
		// A link stays, and leads to the new page.
		if target, err := filepath.EvalSymlinks(name); err == nil {
			name = target
		}
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err := errors.Join(r.WriteHTML(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
