package capture

import (
	"context"
	"errors"
	"fmt"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// ErrNoRoom: pages were left out because the target has no room for them. What
// a report needs was given the room first.
var ErrNoRoom = errors.New("no room for all pages")

// roomMargin is what headers, bitmaps and other files may take while the
// dump is written, in bytes.
const roomMargin = 1 << 20

// room shares out what the target has left, when that may be too little. Pages
// are written in ascending order, and what matters most lies anywhere: what
// other pages may take is what the ones for triage, further on, cannot need.
type room struct {
	free  uint64   // bytes that the file may take
	used  uint64   // that it takes; holes do not count
	first *pageSet // that come first
	ahead uint64   // pages of them that may still come
	each  uint64   // bytes that one of them takes, about, and rather more
	left  uint64   // pages left out
}

// newRoom is nil when a dump of the pages that were counted fits in any case,
// or when nothing is known of its size or of its pages.
func (r *run) newRoom(ctx context.Context, w vmcore.Writer, kept uint64) *room {
	size := r.dump.PageSize()
	if r.opts.Room == 0 || r.kernel == nil || len(r.opts.Parts) > 0 || r.opts.Format == FormatRaw || kept <= r.opts.Room/size {
		return nil
	}
	o := &room{free: r.opts.Room, used: w.Size(), first: r.triage}
	if o.first == nil {
		// Half of what matters is better than nothing of it.
		o.first, _ = triagePages(ctx, r.kernel, size)
	}
	for start, n := range r.extents {
		o.ahead += uint64(n)
		o.first.without(start, n, func(int) { o.ahead-- })
	}
	o.each = r.sample(w, o.first, o.ahead)
	return o
}

// samples is how many pages are compressed to see what others will take.
const samples = 512

// sample estimates what a page of the set takes in the file, from some that lie
// all over it: their mean and a quarter more, at most a page.
func (r *run) sample(w vmcore.Writer, set *pageSet, pages uint64) uint64 {
	size := r.dump.PageSize()
	stride := pages/samples + 1
	e := w.NewExtent(samples)
	page := make([]byte, size)
	n := uint64(0)
	for _, run := range set.runs {
		for pfn := run.start; pfn < run.end && e.Pages() < samples; pfn++ {
			if n++; n%stride != 0 {
				continue
			}
			if _, err := r.dump.ReadPhys(page, vmcore.PhysAddr(pfn)*vmcore.PhysAddr(size)); err != nil {
				continue // it is not memory, or it takes nothing
			}
			if err := e.Add(pfn, page); err != nil {
				return size
			}
		}
	}
	if e.Pages() == 0 {
		return size
	}
	mean := uint64(e.Size()) / uint64(e.Pages())
	return min(mean+mean/4+1, size)
}

// fit takes pages out of a job for which there is no room.
func (o *room) fit(j *job) {
	other := make(map[vmcore.PFN]bool)
	o.first.without(j.start, j.n, func(i int) { other[j.start+vmcore.PFN(i)] = true })
	o.ahead -= min(o.ahead, uint64(j.n-len(other)))
	if o.used+uint64(j.extent.Size())+o.ahead*o.each+roomMargin > o.free {
		j.extent.Keep(func(pfn vmcore.PFN, zero bool) bool {
			if zero || !other[pfn] {
				return true
			}
			j.classes[pfn-j.start] = ClassNoRoom
			o.left++
			return false
		})
	}
	o.used += uint64(j.extent.Size())
}

// err says what was left out, in the end.
func (o *room) err() error {
	if o == nil || o.left == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d were left out, of what a report does not need", ErrNoRoom, o.left)
}
