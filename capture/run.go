package capture

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Run saves the memory of a dead machine to out, in the format that opts ask
// for.
//
// k may be nil when the dump says too little about its kernel; then nothing can
// be told about pages, and all of them are saved but those that are zero.
//
// With an error there may be a Result as well: then out holds a valid dump that
// is marked incomplete and has everything that was saved before the error.
func Run(ctx context.Context, d *vmcore.Dump, k *kernel.Kernel, out File, opts Options) (*Result, error) {
	if !ValidLevel(opts.Level) {
		return nil, fmt.Errorf("dump level %d is not in 0 to %d", opts.Level, LevelAll)
	}
	if d.MaxPFN() > vmcore.MaxKdumpPFN {
		// Before anything counts pages that only damaged headers know.
		return nil, fmt.Errorf("memory up to page frame %#x: %w: a dump can have %#x page frames",
			uint64(d.MaxPFN()), vmcore.ErrUnsupported, uint64(vmcore.MaxKdumpPFN))
	}
	if opts.Format == "" {
		opts.Format = FormatKdump
	}
	r := &run{
		dump: d, kernel: k, opts: opts,
		res: &Result{Format: string(opts.Format), Level: opts.Level, Used: opts.Level},
	}
	if opts.Format == FormatKdump {
		r.res.Compression = opts.Compression.String()
	}
	r.res.Threads = opts.threads(d.PageSize())
	r.filtered = filtered(d)
	for _, n := range r.extents {
		r.memory += uint64(n) * d.PageSize()
	}

	start := time.Now()
	survey, err := r.survey(ctx)
	if err != nil {
		return nil, err
	}
	r.res.Survey = Seconds(time.Since(start))

	start = time.Now()
	w, err := r.newWriter(out, survey)
	if err != nil {
		return nil, err
	}
	r.room = r.newRoom(ctx, w, survey.kept)
	err = errors.Join(r.save(ctx, w, survey.kept), r.room.err())
	if err == nil && d.Incomplete() {
		err = errors.New("what was saved is incomplete itself")
	}
	r.res.Complete = err == nil
	if err != nil {
		r.res.Reason = err.Error()
	}
	// Whatever happened, what is in the file shall be readable.
	if ferr := w.Finish(r.res.Complete); ferr != nil {
		err = errors.Join(err, ferr)
		if opts.WriteOnce {
			return nil, err // its header comes last
		}
		// It opened before, and says that it is incomplete.
		r.res.Complete, r.res.Reason = false, err.Error()
	}
	r.res.Bytes = int64(w.Size())
	r.res.Pages.Saved = w.Pages()
	for _, f := range append([]File{out}, opts.Parts...) {
		if serr := f.Sync(); serr != nil {
			r.res.Complete = false
			err = errors.Join(err, fmt.Errorf("dump: %w", serr))
			r.res.Reason = err.Error()
		}
	}
	r.res.Save = Seconds(time.Since(start))
	return r.res, err
}

// header is what the file says of itself.
func header(d *vmcore.Dump, k *kernel.Kernel, level int) vmcore.KdumpHeader {
	h := vmcore.KdumpHeader{
		ByteOrder: d.ByteOrder(),
		PageSize:  d.PageSize(),
		DumpLevel: level & LevelAll,
		Notes:     d.Notes(),
	}
	h.Utsname.Machine = d.Machine().String()
	if was := d.KdumpHeader(); was != nil {
		// What was left out before is left out still.
		h.DumpLevel |= was.DumpLevel
		h.Utsname, h.PhysBase, h.Timestamp = was.Utsname, was.PhysBase, was.Timestamp
	}
	if k == nil {
		return h
	}
	if u, err := k.Utsname(); err == nil {
		h.Utsname = vmcore.Utsname(u)
	} else if release, ok := k.Info().String("OSRELEASE"); ok {
		h.Utsname.Release = release
	}
	// Readers find the architecture by this name alone; the dead kernel's
	// memory is not asked for it.
	h.Utsname.Machine = d.Machine().String()
	if base, ok := k.Info().Number("phys_ram_base"); ok {
		h.PhysBase = uint64(base)
	}
	if t, ok := k.Info().CrashTime(); ok {
		h.Timestamp = uint64(t.Unix())
	}
	return h
}

// run is one saving of a dump.
type run struct {
	dump   *vmcore.Dump
	kernel *kernel.Kernel
	opts   Options
	res    *Result
	// selector is what found the classes of the survey; nil when blind.
	selector *Selector
	// blind: pages cannot be told apart, all are saved.
	blind bool
	// triage has the pages that LevelOther keeps; nil: it is not asked for.
	triage *pageSet
	room   *room // nil: there is enough, or nobody knows
	// alike are the extents that the survey found to be of one class.
	alike alike
	// filtered: what is saved does not have all pages of the machine.
	filtered bool
	memory   uint64 // bytes in extents
}

// sparePages is room for pages that the survey did not count: a page of struct
// pages that was readable then and is not now turns 64 pages into kept ones,
// and shall not end the dump. It costs a hole of 96 KiB in the file.
const sparePages = 4096

// extents yields the memory of the machine in pieces of at most extentBytes,
// ascending and aligned.
func (r *run) extents(yield func(start vmcore.PFN, n int) bool) {
	size := r.dump.PageSize()
	most := extentPages(size)
	next := vmcore.PFN(0) // ranges may share a page at their edges
	for _, ram := range r.dump.Ranges() {
		pfn := max(next, vmcore.PFN(uint64(ram.Start)/size))
		end := vmcore.PFN((uint64(ram.End)-1)/size + 1)
		for pfn < end {
			n := min(most-uint64(pfn)%most, uint64(end-pfn))
			if !yield(pfn, int(n)) {
				return
			}
			pfn += vmcore.PFN(n)
		}
		next = max(next, end)
	}
}

// job is one extent on its way through the pipeline.
type job struct {
	index   int // of the extent
	start   vmcore.PFN
	n       int
	extent  *vmcore.Extent
	classes []Class // of the pages, in the end what was done with them
	err     error
	done    chan struct{} // gets a value when a worker has finished the job
}

// save reads, compresses and writes the pages that the survey counted: workers
// take extents in any order, and this goroutine writes them in theirs.
func (r *run) save(ctx context.Context, w vmcore.Writer, kept uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	workers := make([]*worker, r.res.Threads)
	for i := range workers {
		var err error
		if workers[i], err = r.newWorker(); err != nil {
			return err
		}
		defer workers[i].close()
	}
	size := r.dump.PageSize()
	free := make(chan *job, len(workers)*jobsPerThread)
	for range cap(free) {
		free <- &job{
			extent:  w.NewExtent(int(extentPages(size))),
			classes: make([]Class, extentPages(size)),
			done:    make(chan struct{}, 1),
		}
	}
	todo := make(chan *job)             // to the workers
	order := make(chan *job, cap(free)) // to the writer, in ascending order

	var running sync.WaitGroup
	defer running.Wait()
	for _, w := range workers {
		running.Go(func() {
			for j := range todo {
				j.err = w.do(j)
				j.done <- struct{}{}
			}
		})
	}
	whole := false // every extent was handed out; read when order is closed
	go func() {
		defer close(order)
		defer close(todo)
		index := 0
		for start, n := range r.extents {
			var j *job
			select {
			case j = <-free:
			case <-ctx.Done():
			}
			if ctx.Err() != nil {
				return
			}
			j.index, j.start, j.n, j.err = index, start, n, nil
			index++
			order <- j
			todo <- j
		}
		whole = true
	}()

	var failed error
	for j := range order {
		<-j.done
		if failed == nil {
			if failed = r.commit(w, j); failed != nil {
				cancel() // no new extents; those under way come through here
			} else if r.opts.Progress != nil {
				r.opts.Progress(Progress{Pages: w.Pages(), Done: w.Pages() * size, Total: kept * size, Written: int64(w.Size()),
					Looked: r.res.Pages.Total * size, Memory: r.memory})
			}
		}
		free <- j
	}
	if failed == nil && !whole {
		failed = fmt.Errorf("dump cut short: %w", context.Cause(ctx))
	}
	return failed
}

// commit writes a finished job and counts what became of its pages.
func (r *run) commit(w vmcore.Writer, j *job) error {
	if j.err != nil {
		return j.err
	}
	if r.room != nil {
		r.room.fit(j)
	}
	if err := w.Write(j.extent); err != nil {
		return err
	}
	size := vmcore.PhysAddr(r.dump.PageSize())
	r.res.Pages.Total += uint64(j.n)
	r.res.Pages.Zero += uint64(j.extent.Zeros())
	for i, class := range j.classes[:j.n] {
		r.res.Pages.count(class, 1)
		if class == ClassUnreadable {
			at := vmcore.PhysAddr(j.start+vmcore.PFN(i)) * size
			r.res.addUnreadable(at, at+size)
		}
	}
	return nil
}

// worker is what one thread needs to turn extents of memory into extents of the
// dump.
type worker struct {
	run      *run
	selector *Selector // nil: everything is kept
	reader   *vmcore.Reader
}

func (r *run) newWorker() (*worker, error) {
	w := &worker{run: r, reader: r.dump.NewReader()}
	if !r.blind {
		w.selector = r.selector.fork()
	}
	return w, nil
}

func (w *worker) close() { w.reader.Close() }

// do fills the job's extent. Afterwards the job's classes say what became of
// each page: those that are in the dump are ClassKeep.
func (w *worker) do(j *job) error {
	j.extent.Reset()
	classes := j.classes[:j.n]
	if class, ok := w.run.alike.class(j.index); ok {
		for i := range classes {
			classes[i] = class
		}
	} else if clear(classes); w.selector != nil {
		if err := w.selector.Classify(j.start, classes); err != nil {
			return err
		}
		w.run.markOther(j.start, classes)
	}
	w.run.keepOrDrop(j.start, classes)
	for i := 0; i < j.n; {
		if classes[i] != ClassKeep {
			i++
			continue
		}
		end := i + 1
		for end < j.n && classes[end] == ClassKeep {
			end++
		}
		if err := w.add(j, i, end); err != nil {
			return err
		}
		i = end
	}
	return nil
}

// add reads the pages from index i up to end of the job and compresses them.
func (w *worker) add(j *job, i, end int) error {
	for i < end {
		n, err := j.extent.Fill(w.reader, j.start+vmcore.PFN(i), end-i)
		i += n
		if err == nil {
			continue
		}
		var missing *vmcore.AddrError
		if !errors.As(err, &missing) {
			return err
		}
		// The page that could not be read, and no other, is lost.
		j.classes[i] = ClassUnreadable
		if errors.Is(err, vmcore.ErrHole) || errors.Is(err, vmcore.ErrExcluded) {
			// No memory, or left out of the dump that is read already.
			j.classes[i] = ClassAbsent
		}
		i++
	}
	return nil
}
