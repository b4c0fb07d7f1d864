package capture

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// survey is what a first look at all page structs says.
type survey struct {
	kept    uint64 // pages that will be saved, zero ones included
	classes [NumClasses]uint64
	runs    int // of kept pages, within extents
}

// merge adds what another look saw.
func (s *survey) merge(o *survey) {
	s.kept += o.kept
	s.runs += o.runs
	for c, n := range o.classes {
		s.classes[c] += n
	}
}

// add counts what will be saved of an extent. It changes the classes.
func (r *run) add(s *survey, start vmcore.PFN, classes []Class) {
	r.keepOrDrop(start, classes)
	pages, runs := count(classes)
	s.kept += pages
	s.runs += runs
}

// survey classifies all pages once, for their number and for the checks, and
// settles the level that is worked with. It never fails for what is in old
// memory: a fuller dump is the answer to everything.
func (r *run) survey(ctx context.Context) (*survey, error) {
	if err := r.dump.NotesErr(); err != nil {
		r.res.Checks = append(r.res.Checks, Check{"notes of the dump", false, err.Error()})
	}
	if r.kernel == nil {
		return r.unknown(errors.New("the dump says nothing about its kernel")), nil
	}
	selector, err := NewSelector(r.kernel)
	if err != nil {
		return r.unknown(err), nil
	}
	r.findTriage(ctx)
	s, err := r.look(ctx, selector)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("page structs: %w", context.Cause(ctx))
	} else if err != nil {
		return r.unknown(err), nil
	}
	r.res.Classes = map[string]uint64{}
	for c, n := range s.classes {
		if n > 0 {
			r.res.Classes[Class(c).String()] = n
		}
	}
	r.res.Structs = selector.Stats()
	if lists, asked := selector.checkFreeLists(); asked {
		r.res.Checks = append(r.res.Checks, lists)
	}
	r.selector = selector
	if why := r.check(ctx, selector, s); why != "" {
		return r.everything(why), nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("page structs: %w", context.Cause(ctx))
	}
	if r.res.Used != r.opts.Level {
		// Fuller than was counted, by no more than all pages of classes that
		// are kept now.
		for c, n := range s.classes {
			if Class(c).Dropped(r.opts.Level) && !Class(c).Dropped(r.res.Used) {
				s.kept += n
			}
		}
	}
	return s, nil
}

// stripe is how many extents in a row one worker looks at: their struct pages lie
// together.
const stripe = 32

// look classifies all pages, with as many workers as there are threads, each with
// every so manieth stripe. The selector has the statistics of all of them.
func (r *run) look(ctx context.Context, selector *Selector) (*survey, error) {
	extents := 0
	for range r.extents {
		extents++
	}
	if !r.dump.Live() {
		r.alike = newAlike(extents)
	}
	shares := make([]share, min(r.res.Threads, extents/stripe+1))
	var others sync.WaitGroup
	for i := range shares {
		shares[i] = share{run: r, selector: selector, first: i, of: len(shares)}
		if i > 0 {
			shares[i].selector = selector.fork()
			others.Go(func() { shares[i].look(ctx) })
		}
	}
	shares[0].look(ctx) // it tells of progress
	others.Wait()
	s := shares[0].survey
	err := shares[0].err
	for _, o := range shares[1:] {
		s.merge(&o.survey)
		selector.stats.merge(o.selector.stats)
		err = errors.Join(err, o.err)
	}
	return &s, err
}

// share is what one worker looks at in a survey: each of-th stripe, from number
// first on.
type share struct {
	run       *run
	selector  *Selector
	first, of int
	survey    survey
	err       error
}

func (w *share) look(ctx context.Context) {
	r := w.run
	classes := make([]Class, extentPages(r.dump.PageSize()))
	looked, told, index := uint64(0), uint64(0), -1
	for start, n := range r.extents {
		index++
		if r.opts.Progress != nil && w.first == 0 && looked >= told {
			r.opts.Progress(Progress{Looked: looked, Memory: r.memory})
			told = looked + 2*stripe*extentBytes
		}
		looked += uint64(n) * r.dump.PageSize()
		if index/stripe%w.of != w.first {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		clear(classes[:n])
		if w.err = w.selector.Classify(start, classes[:n]); w.err != nil {
			return
		}
		r.markOther(start, classes[:n])
		for _, c := range classes[:n] {
			w.survey.classes[c]++
		}
		r.alike.note(index, classes[:n])
		r.add(&w.survey, start, classes[:n])
	}
}

// findTriage finds what LevelOther keeps. When something of it is not found,
// all that is the kernel's is kept.
func (r *run) findTriage(ctx context.Context) {
	if r.opts.Level&LevelOther == 0 {
		return
	}
	set, err := triagePages(ctx, r.kernel, r.dump.PageSize())
	c := Check{"memory for triage", err == nil, fmt.Sprintf("it lies in %d places", len(set.runs))}
	if err != nil {
		c.Detail = err.Error()
		r.lower(r.opts.Level&^LevelOther, "what a report needs was not found whole")
	} else {
		r.triage = set
	}
	r.res.Checks = append(r.res.Checks, c)
}

// markOther tells apart what is the kernel's and what of it a report needs.
func (r *run) markOther(start vmcore.PFN, classes []Class) {
	if r.triage == nil {
		return
	}
	r.triage.without(start, len(classes), func(i int) {
		if classes[i] == ClassKeep {
			classes[i] = ClassOther
		}
	})
}

// unknown is the survey of a dump when pages cannot be told apart because of
// err.
func (r *run) unknown(err error) *survey {
	r.res.Checks = append(r.res.Checks, Check{"page structs", false, err.Error()})
	return r.everything("pages cannot be told apart")
}

// everything is the survey of a dump in which no page is left out for its
// class, not even as one that must not be touched: the classes are not
// believed. Zero pages take no room at any level.
func (r *run) everything(why string) *survey {
	r.blind, r.alike = true, nil
	r.lower(r.opts.Level&LevelZero, why)
	s := &survey{}
	classes := make([]Class, extentPages(r.dump.PageSize()))
	for start, n := range r.extents {
		clear(classes)
		r.add(s, start, classes[:n])
	}
	return s
}

// lower makes the dump fuller, and says why.
func (r *run) lower(level int, why string) {
	r.res.Used = level
	r.res.Why = why
}

// check looks at what must be true of the classes of any kernel. When they are
// not to be believed at all, it says why; it lowers the level when one class
// is not.
func (r *run) check(ctx context.Context, selector *Selector, s *survey) (why string) {
	level := r.res.Used
	tables := r.checkTables(ctx, selector, level)
	r.res.Checks = append(r.res.Checks, tables)
	if !tables.OK {
		return "page tables of the kernel would have been left out"
	}
	notes := checkNotes(r.kernel, r.dump.PageSize(), level, selector.Classify)
	r.res.Checks = append(r.res.Checks, notes)
	if !notes.OK {
		return "registers of CPUs or vmcoreinfo would have been left out"
	}
	if level&LevelFree == 0 {
		return ""
	}
	free := checkFree(r.kernel, s.classes[ClassFree])
	r.res.Checks = append(r.res.Checks, free)
	if !free.OK {
		r.lower(level&^LevelFree, "the number of free pages is not the kernel's")
	}
	return ""
}

// checkTables finds out whether a page table of the kernel would be left out:
// no reader opens such a dump, and a class that has page tables in it is wrong
// elsewhere too.
func (r *run) checkTables(ctx context.Context, selector *Selector, level int) Check {
	c := Check{Name: "kernel page tables kept"}
	var tables, lost, broken uint64
	for pfn, err := range r.kernel.PageTables() {
		if ctx.Err() != nil {
			break // damaged tables may go on for minutes
		}
		if err != nil {
			broken++
			continue
		}
		tables++
		var class [1]Class
		if err := selector.Classify(pfn, class[:]); err != nil || class[0].Dropped(level) {
			lost++
		}
	}
	c.OK = lost == 0 && tables > 0
	c.Detail = fmt.Sprintf("%d page tables, %d would be left out, %d unreadable", tables, lost, broken)
	return c
}

// counterThreshold is how far one CPU's share of a zone's counter may be off:
// calculate_normal_threshold in mm/vmstat.c (Linux 7.2).
const counterThreshold = 125

// checkFree compares the number of pages that the page structs call free with
// the kernel's own count.
func checkFree(k *kernel.Kernel, free uint64) Check {
	c := Check{Name: "free pages", OK: true}
	count, slack, err := countFree(k)
	if err != nil {
		c.Detail = fmt.Sprintf("%d pages are free; the kernel's count is not known: %v", free, err)
		return c
	}
	c.Detail = fmt.Sprintf("%d pages are free, the kernel counts %d, which may be %d off", free, count, slack)
	// Fewer is harmless: more is saved than need be.
	c.OK = free <= count+slack
	return c
}

// countFree is the number of free pages as the kernel counted it, and by how
// much that may be off: the sum over its zones or, where those are not found,
// the one over all of memory.
func countFree(k *kernel.Kernel) (count, slack uint64, err error) {
	cpus := uint64(1)
	if all, err := k.CPUs(); err == nil {
		cpus = max(uint64(len(all)), 1)
	}
	var sum int64
	for zone, zerr := range k.Zones() {
		if err = zerr; err != nil {
			break
		}
		sum += zone.Free
		if zone.FreeExact {
			// The counter changes under the zone's lock: one CPU at most was
			// stopped between its own share and the zone's.
			slack += counterThreshold
		} else {
			slack += counterThreshold * cpus
		}
	}
	if err != nil {
		const zones = 4
		slack = counterThreshold * cpus * zones
		var serr error
		if sum, serr = globalFree(k); serr != nil {
			return 0, 0, errors.Join(err, serr)
		}
	}
	// It may run below zero by what CPUs keep.
	return uint64(max(sum, 0)), slack, nil
}

// globalFree is vm_zone_stat[NR_FREE_PAGES] of mm/vmstat.c (Linux 7.2).
func globalFree(k *kernel.Kernel) (int64, error) {
	const symbol = "vm_zone_stat"
	index, ok := k.Info().Number("NR_FREE_PAGES")
	if !ok || index < 0 || index > 100 {
		return 0, fmt.Errorf("%w: NUMBER(NR_FREE_PAGES)", kernel.ErrNoInfo)
	}
	symbols, err := k.Lookup(symbol)
	if err != nil {
		return 0, err
	}
	at, ok := symbols[symbol]
	if !ok {
		return 0, fmt.Errorf("symbol %s: %w", symbol, kernel.ErrNotFound)
	}
	n, err := k.ReadUint64(at + kernel.VirtAddr(index)*8)
	return int64(n), err
}
