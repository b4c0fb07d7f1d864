package mm

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// maxPages bounds what is believed of a number of pages: 2^44 pages are all
// that a physical address of 56 bits can tell.
const maxPages = 1 << 44

// maxMissing bounds the lines of [Summary.Missing].
const maxMissing = 40

// Read sums up what memory was used for, as Linux 6.1 to 7.2 count it. What
// cannot be read is 0 and said in [Summary.Missing]; the error is that there
// are no symbols to begin with.
func Read(k *kernel.Kernel) (*Summary, error) {
	if _, err := k.Lookup("_totalram_pages"); err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	r := &reader{k: k, page: k.Arch().PageSize, s: &Summary{Zones: []Zone{}}}
	r.s.Total = r.pages("total", "_totalram_pages")
	r.readZones()
	r.readHuge()
	r.readCounters()
	r.readBuffers()
	r.readPerCPU()
	r.readSwap()
	r.readCommitted()
	r.readOther()
	return r.s, nil
}

// reader reads one thing after the other and notes what it cannot have.
type reader struct {
	k    *kernel.Kernel
	page uint64
	s    *Summary

	swapCached uint64
	lowMarks   uint64 // of all zones together
	noZones    bool   // zones are not known, or not all
	stacksTwo  bool   // stacks are counted as vmalloc memory, too
}

// missing notes what is not known.
func (r *reader) missing(what string, err error) {
	if len(r.s.Missing) < maxMissing {
		r.s.Missing = append(r.s.Missing, fmt.Sprintf("%s: %v", what, err))
	}
}

// bytes are as many pages. Counters of events on several CPUs can be below
// zero, as for the kernel itself; that is 0.
func (r *reader) bytes(pages int64) (uint64, error) {
	if pages > maxPages || pages < -maxPages {
		return 0, fmt.Errorf("%d pages: %w", pages, kernel.ErrCorrupt)
	}
	return uint64(max(pages, 0)) * r.page, nil
}

// number reads a variable of the kernel: a long, an atomic_long_t or an
// unsigned long.
func (r *reader) number(variable string) (int64, error) {
	addr, err := r.k.Variable(variable)
	if err != nil {
		return 0, err
	}
	n, err := r.k.ReadUint64(addr)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", variable, err)
	}
	return int64(n), nil
}

// short reads a variable of 32 bits.
func (r *reader) short(variable string) (int32, error) {
	addr, err := r.k.Variable(variable)
	if err != nil {
		return 0, err
	}
	n, err := r.k.ReadUint32(addr)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", variable, err)
	}
	return int32(n), nil
}

// pages is what a variable that counts pages comes to.
func (r *reader) pages(what, variable string) uint64 {
	n, err := r.number(variable)
	if err == nil {
		var b uint64
		if b, err = r.bytes(n); err == nil {
			return b
		}
	}
	r.missing(what, err)
	return 0
}

// readPerCPU: pcpu_nr_pages of mm/percpu.c counts one page for each unit.
func (r *reader) readPerCPU() {
	populated, err := r.number("pcpu_nr_populated")
	units, err2 := r.short("pcpu_nr_units")
	if err == nil {
		err = err2
	}
	if err == nil && (populated < 0 || populated > maxPages || units < 0 || units > 1<<16) {
		err = fmt.Errorf("%d pages in each of %d units: %w", populated, units, kernel.ErrCorrupt)
	}
	if err == nil {
		r.s.PerCPU, err = r.bytes(populated * int64(units))
	}
	if err != nil {
		r.missing("per-CPU memory", err)
	}
}

// readOther finds what remains.
func (r *reader) readOther() {
	s := r.s
	used := s.Free + s.Buffers + s.Cached + r.swapCached + s.Anon +
		s.SlabReclaimable + s.SlabUnreclaimable + s.PageTables + s.Vmalloc + s.PerCPU
	if !r.stacksTwo {
		used += s.KernelStacks
	}
	for _, h := range s.Huge {
		used += h.Size * h.Total
	}
	if used < s.Total {
		s.Other = s.Total - used
	}
}
