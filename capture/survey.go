package capture

import (
	"context"
	"errors"
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// survey is what a first look at all page structs says.
type survey struct {
	kept    uint64 // pages that will be saved, zero ones included
	classes [NumClasses]uint64
}

// survey classifies all pages once, for their number and for the checks, and
// settles the level that is worked with. It never fails for what is in old
// memory: a fuller dump is the answer to everything.
func (r *run) survey(ctx context.Context) (*survey, error) {
	if r.kernel == nil {
		return r.everything(errors.New("the dump says nothing about its kernel")), nil
	}
	selector, err := NewSelector(r.kernel)
	if err != nil {
		return r.everything(err), nil
	}
	s := &survey{}
	classes := make([]Class, extentPages)
	for start, n := range r.extents {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("page structs: %w", context.Cause(ctx))
		}
		clear(classes[:n])
		if err := selector.Classify(start, classes[:n]); err != nil {
			return r.everything(err), nil
		}
		for _, c := range classes[:n] {
			s.classes[c]++
		}
	}
	r.check(selector, s)
	for c, n := range s.classes {
		if !Class(c).Dropped(r.res.Used) {
			s.kept += n
		}
	}
	return s, nil
}

// everything is the survey of a dump in which no page is left out, because of
// err they cannot be told apart. Zero pages take no room at any level.
func (r *run) everything(err error) *survey {
	s := &survey{}
	for _, n := range r.extents {
		s.kept += uint64(n)
	}
	r.blind = true
	r.res.Checks = append(r.res.Checks, Check{"page structs", false, err.Error()})
	r.lower(r.opts.Level&LevelZero, "pages cannot be told apart")
	return s
}

// lower makes the dump fuller, and says why.
func (r *run) lower(level int, why string) {
	r.res.Used = level
	r.res.Why = why
}

// check looks at what must be true of the classes of any kernel. When it is
// not, they are not believed.
func (r *run) check(selector *Selector, s *survey) {
	level := r.res.Used
	tables := r.checkTables(selector, level)
	r.res.Checks = append(r.res.Checks, tables)
	if !tables.OK {
		r.lower(level&LevelZero, "page tables of the kernel would have been left out")
		return
	}
	notes := checkNotes(r.kernel, r.dump.PageSize(), level, selector.Classify)
	r.res.Checks = append(r.res.Checks, notes)
	if !notes.OK {
		r.lower(level&LevelZero, "registers of CPUs or vmcoreinfo would have been left out")
		return
	}
	if level&LevelFree == 0 {
		return
	}
	free := checkFree(r.kernel, s.classes[ClassFree])
	r.res.Checks = append(r.res.Checks, free)
	if !free.OK {
		r.lower(level&^LevelFree, "the number of free pages is not the kernel's")
	}
}

// checkTables finds out whether a page table of the kernel would be left out:
// no reader opens such a dump, and a class that has page tables in it is wrong
// elsewhere too.
func (r *run) checkTables(selector *Selector, level int) Check {
	c := Check{Name: "kernel page tables kept", OK: true}
	var tables, lost, broken uint64
	for pfn, err := range r.kernel.PageTables() {
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

// checkFree compares the number of pages that the page structs call free with
// the kernel's own count, vm_zone_stat[NR_FREE_PAGES] of mm/vmstat.c. The count
// runs behind: each CPU keeps up to 125 pages per zone to itself
// (calculate_normal_threshold, Linux 7.2).
func checkFree(k *kernel.Kernel, free uint64) Check {
	c := Check{Name: "free pages", OK: true}
	count, err := freePages(k)
	if err != nil {
		c.Detail = fmt.Sprintf("%d pages are free; the kernel's count is not known: %v", free, err)
		return c
	}
	cpus := 1
	if all, err := k.CPUs(); err == nil {
		cpus = max(len(all), 1)
	}
	const zones = 4
	slack := uint64(cpus) * zones * 125
	c.Detail = fmt.Sprintf("%d pages are free, the kernel counts %d, which may be %d off", free, count, slack)
	// Fewer is harmless: more is saved than need be.
	c.OK = free <= count+slack
	return c
}

// freePages reads the kernel's count of free pages.
func freePages(k *kernel.Kernel) (uint64, error) {
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
	if err != nil {
		return 0, err
	}
	// It may run below zero by what CPUs keep.
	return uint64(max(int64(n), 0)), nil
}
