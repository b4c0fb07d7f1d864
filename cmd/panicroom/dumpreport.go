package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/internal/dumpline"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// pageCounts are pages as makedumpfile divides them: each is counted once, by
// the first reason to leave it out.
type pageCounts struct {
	original                         uint64 // pages of memory
	zero, cache, private, user, free uint64
	poison, offline                  uint64
}

// countPages counts the pages that are left out at a level; the level that was
// used, or in a fuller dump the one that was asked for.
func countPages(res *capture.Result, level int) pageCounts {
	n := pageCounts{original: res.Pages.Total}
	for class := range capture.Class(capture.NumClasses) {
		if !class.Dropped(level) {
			continue
		}
		count := res.Classes[class.String()]
		switch class {
		case capture.ClassCache:
			n.cache = count
		case capture.ClassCachePrivate:
			n.private = count
		case capture.ClassUser:
			n.user = count
		case capture.ClassFree, capture.ClassUnaccepted:
			n.free += count
		case capture.ClassPoison:
			n.poison = count
		case capture.ClassOffline:
			n.offline = count
		}
	}
	if res.Pages.Untouchable == 0 {
		// Classes were not believed, and nothing was left out for them.
		n.poison, n.offline = 0, 0
	}
	if level&capture.LevelZero != 0 {
		n.zero = res.Pages.Zero
	}
	return n
}

func (n *pageCounts) excluded() uint64 {
	return n.zero + n.cache + n.private + n.user + n.free + n.poison + n.offline
}

// report prints what --show-stats asks for, line for line as scripts know it
// (print_report of makedumpfile 1.7.8), but for its caches and extensions.
func (m *makedumpfile) report(d *vmcore.Dump, res *capture.Result) {
	n := countPages(res, res.Used)
	excluded, elf := n.excluded(), res.Pages.Total-res.Pages.Saved
	row := func(name string, count uint64) { m.say(dumpline.Report, "%s: 0x%016x\n", name, count) }
	m.say(dumpline.Report, "\n")
	row("Original pages  ", n.original)
	row("  Excluded pages   ", excluded)
	if m.line.ELF {
		row("     in ELF format ", elf)
	}
	row("    Pages filled with zero  ", n.zero)
	row("    Non-private cache pages ", n.cache)
	row("    Private cache pages     ", n.private)
	row("    User process data pages ", n.user)
	row("    Free pages              ", n.free)
	row("    Hwpoison pages          ", n.poison)
	row("    Offline pages           ", n.offline)
	row("  Remaining pages  ", n.original-min(n.original, excluded))
	if m.line.ELF {
		row("     in ELF format ", n.original-elf)
		excluded = elf
	}
	if n.original > 0 {
		m.say(dumpline.Report, "  (The number of pages is reduced to %d%%.)\n", (n.original-min(n.original, excluded))*100/n.original)
	}
	row("Memory Hole     ", uint64(d.MaxPFN())-min(uint64(d.MaxPFN()), n.original))
	m.say(dumpline.Report, "--------------------------------------------------\n")
	row("Total pages     ", uint64(d.MaxPFN()))
	m.say(dumpline.Report, "Write bytes     : %d\n\n", res.Bytes)
}

// memUsage counts the pages of the running machine.
func (m *makedumpfile) memUsage(ctx context.Context) error {
	d, err := openLive(m.root, m.line.Core)
	if err != nil {
		return err
	}
	defer d.Close()
	k, err := kernel.Open(d, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", m.line.Core, err)
	}
	// All the work of a dump, but for the dump: which pages are zero only
	// reading them tells.
	res, err := capture.Run(ctx, d, k, nowhere{}, capture.Options{Level: capture.LevelAll, Compression: vmcore.CompressionNone, Threads: m.line.Threads})
	if err != nil {
		return err
	}
	if res.Classes == nil {
		return fmt.Errorf("%s: %s", m.line.Core, res.Why)
	}
	// A count that is a little off, in a machine that goes on running, says
	// nothing against the classes.
	n := countPages(res, capture.LevelAll)
	m.say(dumpline.Common, "\nTYPE\t\tPAGES\t\t\tEXCLUDABLE\tDESCRIPTION\n"+
		"----------------------------------------------------------------------\n")
	for _, row := range []struct {
		name  string
		count uint64
		can   string
		what  string
	}{
		{"ZERO\t", n.zero, "yes", "Pages filled with zero"},
		{"NON_PRI_CACHE", n.cache, "yes", "Cache pages without private flag"},
		{"PRI_CACHE", n.private, "yes", "Cache pages with private flag"},
		{"USER\t", n.user, "yes", "User process pages"},
		{"FREE\t", n.free, "yes", "Free pages"},
		{"KERN_DATA", n.original - min(n.original, n.excluded()), "no", "Dumpable kernel data"},
	} {
		m.say(dumpline.Common, "%s\t%-16d\t%s\t\t%s\n", row.name, row.count, row.can, row.what)
	}
	m.say(dumpline.Common, "\npage size:\t\t%-16d\nTotal pages on system:\t%-16d\nTotal size on system:\t%-16d Byte\n\n",
		d.PageSize(), n.original, n.original*d.PageSize())
	return nil
}

// dumpProgress draws how far a dump is, as makedumpfile does.
type dumpProgress struct {
	w           io.Writer // nil draws nothing
	what        string
	redraw      bool // in place
	every       time.Duration
	start, last time.Time
	drawn       int
}

func (m *makedumpfile) progress(what string) *dumpProgress {
	p := &dumpProgress{what: what, every: 5 * time.Second, start: time.Now()}
	p.last = p.start
	if m.line.Messages&dumpline.Progress != 0 {
		p.w = m.stderr
	}
	if f, ok := m.stderr.(*os.File); ok {
		if _, p.redraw = sys.TerminalWidth(f); p.redraw {
			p.every = time.Second
		}
	}
	return p
}

func (p *dumpProgress) update(done, total uint64) {
	now := time.Now()
	if total == 0 || now.Sub(p.last) < p.every {
		return
	}
	p.last = now
	eta := ""
	if share := float64(done) / float64(total); share > 0 {
		left := now.Sub(p.start).Seconds() * (1 - share) / share
		eta = "eta: " + time.Duration(left*float64(time.Second)).Truncate(time.Second).String()
	}
	p.draw(1000*done/total, eta)
}

// draw prints how many thousandths are done.
func (p *dumpProgress) draw(permille uint64, eta string) {
	if p.w == nil {
		return
	}
	line := fmt.Sprintf("%-50s: [%3d.%d %%] %c  %16s", p.what, permille/10, permille%10, `/|\-`[p.drawn%4], eta)
	p.drawn++
	if p.redraw {
		fmt.Fprintf(p.w, "\r%s", line)
	} else {
		fmt.Fprintln(p.w, line)
	}
}

// done draws the end.
func (p *dumpProgress) done(whole bool) {
	if whole {
		p.draw(1000, "")
	}
	if p.w != nil && p.redraw {
		fmt.Fprintln(p.w)
	}
}
