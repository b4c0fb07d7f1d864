package block

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Bounds of what is believed of queues. BLK_MQ_MAX_DEPTH is 10240
// (include/linux/blk-mq.h, Linux 6.1 to 7.2); a queue has some hardware queues
// for each CPU at most.
const (
	maxTags       = 10240
	maxHWQueues   = 1 << 16
	maxRequests   = 1 << 15 // of all disks
	maxSlots      = 1 << 18 // tags in use that are looked at
	maxSbitmapMap = maxTags

	// maxLag is how much later than the last tick a request can have been begun
	// and still be believed: 10 minutes, in nanoseconds. Ticks stop when all CPUs
	// but the one that dies are idle and it does not care for time any more.
	maxLag = 600e9
)

// Values of enum mq_rq_state, include/linux/blk-mq.h (Linux 4.18 to 7.2).
const (
	requestIdle     = 0
	requestInFlight = 1
)

// noSector is the sector of requests to the disk as a whole, like flushes.
const noSector = 1<<64 - 1

// requestReader finds requests: from a disk's queue to its hardware queues, from
// each to its tags, of which those in use lead to requests.
//
// A request has a tag from its making to its end. Queues with a scheduler give
// it one of the scheduler's (sched_tags) and, when it goes to the driver, one of
// the hardware queue's (tags); without, the latter does for all. Tags can belong
// to several hardware queues and to the disks of one adapter.
type requestReader struct {
	k     *kernel.Kernel
	names map[int64]string

	queue, hwQueue, tags, sbitmapQueue, sbitmap, word, request *kernel.StructReader

	seen    map[kernel.VirtAddr]bool // struct blk_mq_tags
	byQueue map[kernel.VirtAddr]*queueRequests
	slots   int
	found   int
	errs    []error
}

// queueRequests are the requests of one request_queue.
type queueRequests struct {
	inFlight, queued []Request
	has              map[kernel.VirtAddr]bool
}

var errTooMany = errors.New("more requests than are looked at")

// addRequests adds the requests under way to the disks; now is 0 if the time of
// the crash is not known.
func addRequests(k *kernel.Kernel, disks []Disk, queues []kernel.VirtAddr, now uint64) error {
	r, err := newRequestReader(k)
	if err != nil {
		return fmt.Errorf("requests: %w", err)
	}
	for _, q := range queues {
		r.byQueue[q] = &queueRequests{has: make(map[kernel.VirtAddr]bool)}
	}
	for i, q := range queues {
		err := r.readQueue(q)
		if errors.Is(err, errTooMany) {
			r.errs = append(r.errs, fmt.Errorf("disk %s and those after it: %w", disks[i].Name, err))
			break
		}
		if err != nil {
			r.say(fmt.Errorf("disk %s: %w", disks[i].Name, err))
		}
	}
	r.age(now)
	for i, q := range queues {
		disks[i].InFlight, disks[i].Queued = r.byQueue[q].inFlight, r.byQueue[q].queued
	}
	if err := errors.Join(r.errs...); err != nil {
		return fmt.Errorf("requests: %w", err)
	}
	return nil
}

func newRequestReader(k *kernel.Kernel) (*requestReader, error) {
	r := &requestReader{
		k: k, names: opNames(k),
		seen: make(map[kernel.VirtAddr]bool), byQueue: make(map[kernel.VirtAddr]*queueRequests),
	}
	for _, s := range []struct {
		r       **kernel.StructReader
		name    string
		members []string
	}{
		{&r.queue, "request_queue", []string{"?queue_hw_ctx", "?hctx_table", "nr_hw_queues"}},
		{&r.hwQueue, "blk_mq_hw_ctx", []string{"tags", "sched_tags"}},
		{&r.tags, "blk_mq_tags", []string{"nr_tags", "nr_reserved_tags", "bitmap_tags", "breserved_tags", "rqs", "static_rqs"}},
		{&r.sbitmapQueue, "sbitmap_queue", []string{"sb"}},
		{&r.sbitmap, "sbitmap", []string{"depth", "shift", "map_nr", "map"}},
		{&r.word, "sbitmap_word", []string{"word", "cleared"}},
		{&r.request, "request", []string{"q", "cmd_flags", "tag", "__data_len", "__sector", "start_time_ns", "state"}},
	} {
		var err error
		if *s.r, err = k.Struct(s.name, s.members...); err != nil {
			return nil, err
		}
	}
	if !r.queue.Has("queue_hw_ctx") && !r.queue.Has("hctx_table") {
		return nil, fmt.Errorf("request_queue.hctx_table: %w", kernel.ErrNoInfo)
	}
	return r, nil
}

func (r *requestReader) say(err error) {
	if err != nil && len(r.errs) < maxErrors {
		r.errs = append(r.errs, err)
	}
}

// readQueue reads the requests of a queue, and of others that share its tags.
func (r *requestReader) readQueue(at kernel.VirtAddr) error {
	q, err := r.queue.At(at)
	if err != nil {
		return err
	}
	n := q.Uint("nr_hw_queues")
	if n > maxHWQueues {
		return fmt.Errorf("%d hardware queues: %w", n, kernel.ErrCorrupt)
	}
	if n == 0 {
		return nil // not blk-mq
	}
	hw, err := r.hwQueues(q, int(n))
	for _, at := range hw {
		if herr := r.readHWQueue(at); herr != nil {
			return errors.Join(err, herr)
		}
	}
	return err
}

// hwQueues are the addresses of a queue's hardware queues: in an xarray from 5.18
// on, in a plain array before and in 7.2.
func (r *requestReader) hwQueues(q kernel.Object, n int) ([]kernel.VirtAddr, error) {
	var all []kernel.VirtAddr
	if q.Has("hctx_table") {
		for e, err := range r.k.XArray(q.AddrOf("hctx_table")) {
			if err != nil {
				return all, fmt.Errorf("hardware queues: %w", err)
			}
			if e.Index >= uint64(n) || len(all) == n {
				break // what follows was used when there were more
			}
			all = append(all, e.Entry)
		}
		return all, nil
	}
	list := q.Pointer("queue_hw_ctx")
	if list == 0 {
		return nil, nil
	}
	for i := range n {
		at, err := r.k.ReadPointer(list + kernel.VirtAddr(8*i))
		if err != nil {
			return all, fmt.Errorf("hardware queues: %w", err)
		}
		if at != 0 {
			all = append(all, at)
		}
	}
	return all, nil
}

func (r *requestReader) readHWQueue(at kernel.VirtAddr) error {
	hw, err := r.hwQueue.At(at)
	if err != nil {
		return err
	}
	tags, sched := hw.Pointer("tags"), hw.Pointer("sched_tags")
	if err := r.readTags(tags, sched == 0); err != nil {
		return err
	}
	return r.readTags(sched, true)
}

// readTags reads the requests of the tags in use. made tells that requests are
// made for these tags; where a scheduler has its own, those here are only lent
// to the requests that the driver has.
func (r *requestReader) readTags(at kernel.VirtAddr, made bool) error {
	if at == 0 || r.seen[at] {
		return nil
	}
	r.seen[at] = true
	t, err := r.tags.At(at)
	if err != nil {
		return err
	}
	n, reserved := t.Uint("nr_tags"), t.Uint("nr_reserved_tags")
	if n > maxTags || reserved > n {
		return fmt.Errorf("tags %v: %d, %d of them reserved: %w", at, n, reserved, kernel.ErrCorrupt)
	}
	lent, own := t.Pointer("rqs"), t.Pointer("static_rqs")
	for _, part := range []struct {
		bitmap string
		first  uint64
	}{{"breserved_tags", 0}, {"bitmap_tags", reserved}} {
		sb := r.sbitmap.In(r.sbitmapQueue.In(t, part.bitmap, 0), "sb", 0)
		used, err := r.used(sb, n-part.first)
		if err != nil {
			return fmt.Errorf("tags %v: %w", at, err)
		}
		for _, bit := range used {
			if r.slots++; r.slots > maxSlots {
				return errTooMany
			}
			tag := part.first + bit
			var errs [2]error
			errs[0] = r.readSlot(lent, tag, true)
			if made {
				errs[1] = r.readSlot(own, tag, false)
			}
			for _, err := range errs {
				if errors.Is(err, errTooMany) {
					return err
				}
				r.say(err)
			}
		}
	}
	return nil
}

// used are the bits that are set in a bitmap of at most limit bits: struct
// sbitmap, include/linux/sbitmap.h (Linux 5.0 to 7.2), whose words keep those
// that were cleared lately apart.
func (r *requestReader) used(sb kernel.Object, limit uint64) ([]uint64, error) {
	depth, shift, words := sb.Uint("depth"), sb.Uint("shift"), sb.Uint("map_nr")
	if depth == 0 {
		return nil, nil
	}
	if depth > limit || shift > 6 || words > maxSbitmapMap || words<<shift < depth {
		return nil, fmt.Errorf("bitmap of %d bits in %d words of %d: %w", depth, words, uint64(1)<<min(shift, 63), kernel.ErrCorrupt)
	}
	var all []uint64
	for i := range (depth + 1<<shift - 1) >> shift {
		w, err := r.word.At(sb.Pointer("map") + kernel.VirtAddr(i*r.word.Size()))
		if err != nil {
			return nil, err
		}
		for set := w.Uint("word") &^ w.Uint("cleared"); set != 0; set &= set - 1 {
			bit := uint64(bits.TrailingZeros64(set))
			if n := i<<shift + bit; bit < 1<<shift && n < depth {
				all = append(all, n)
			}
		}
	}
	return all, nil
}

// readSlot reads the request of a tag out of an array of pointers to requests.
// Those that were lent a tag are in flight, or were once and have left their
// address behind.
func (r *requestReader) readSlot(array kernel.VirtAddr, tag uint64, lent bool) error {
	if array == 0 {
		return nil
	}
	at, err := r.k.ReadPointer(array + kernel.VirtAddr(8*tag))
	if err != nil || at == 0 {
		return err
	}
	o, err := r.request.At(at)
	if err != nil {
		return err
	}
	q := r.byQueue[o.Pointer("q")]
	state := o.Uint("state")
	switch {
	case q == nil || q.has[at]:
		return nil
	case lent && (state != requestInFlight || o.Uint("tag") != tag):
		return nil
	case !lent && state != requestIdle && state != requestInFlight:
		return nil // answered
	}
	if r.found++; r.found > maxRequests {
		return errTooMany
	}
	q.has[at] = true
	req := Request{
		Addr: at, Op: opName(r.names, o.Uint("cmd_flags")),
		Sector: o.Uint("__sector"), Bytes: o.Uint("__data_len"),
		Age: o.Uint("start_time_ns"), // until age has seen them all
	}
	if req.Sector == noSector {
		req.Sector = 0
	}
	if state == requestInFlight {
		q.inFlight = append(q.inFlight, req)
	} else {
		q.queued = append(q.queued, req)
	}
	return nil
}

// age turns the times at which requests were begun into ages. The crash was not
// before the youngest of them.
func (r *requestReader) age(now uint64) {
	if now == 0 {
		r.eachList(func(l []Request) {
			for i := range l {
				l[i].Age = 0
			}
		})
		return
	}
	crash := now
	r.eachList(func(l []Request) {
		for _, q := range l {
			if q.Age > crash && q.Age-now < maxLag {
				crash = q.Age
			}
		}
	})
	r.eachList(func(l []Request) {
		for i, q := range l {
			l[i].Age = 0
			if q.Age > 0 && q.Age <= crash {
				l[i].Age = crash - q.Age
			}
		}
		slices.SortStableFunc(l, func(a, b Request) int { return cmp.Or(cmp.Compare(b.Age, a.Age), cmp.Compare(a.Sector, b.Sector)) })
	})
}

func (r *requestReader) eachList(f func([]Request)) {
	for _, q := range r.byQueue {
		f(q.inFlight)
		f(q.queued)
	}
}
