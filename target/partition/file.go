package partition

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/panicroom-kdump/panicroom/target"
)

// file is a file that is being written. Its fields are under the target's lock.
type file struct {
	c      *crash
	name   string
	size   int64
	next   int64 // offset of the next Write
	chunks []chunk
	taken  int // chunks since the table was last written
	closed bool
}

// chunk is a chunk of a file. Of it, [lo, hi) has been written or is being
// written; what else it holds is of former times and counts as zeros.
type chunk struct {
	on     uint32
	there  bool
	lo, hi uint32
}

// tableEvery is how many chunks a file may grow by until the table is written: as
// much of a dump is lost at most when the panic kernel dies.
const tableEvery = 64

// zeros are what holes are filled with.
var zeros [64 << 10]byte

func (f *file) Write(p []byte) (int, error) {
	f.c.t.mu.Lock()
	at := f.next
	f.next += int64(len(p))
	f.c.t.mu.Unlock()
	return f.WriteAt(p, at)
}

// WriteAt finds places for the data under the lock, and writes without it.
func (f *file) WriteAt(p []byte, offset int64) (n int, err error) {
	t := f.c.t
	for len(p) > 0 {
		size := int64(1) << t.head.Shift
		part := p[:min(int64(len(p)), size-offset&(size-1))]
		on, err := f.place(offset, len(part))
		if err == nil {
			var k int
			k, err = t.disk.WriteAt(part, on)
			n += k
			offset += int64(k)
		}
		if err != nil {
			return n, t.explain(err, f.name, offset, len(p))
		}
		p = p[len(part):]
	}
	return n, nil
}

// place makes room for n bytes, which lie in one chunk, and says where on the
// partition it is.
func (f *file) place(offset int64, n int) (int64, error) {
	t := f.c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case f.closed:
		return 0, fs.ErrClosed
	case offset < 0 || offset > maxFile(t.head)-int64(n):
		return 0, fmt.Errorf("offset %d", offset)
	}
	i := int(offset >> t.head.Shift)
	lo := uint32(offset & (1<<t.head.Shift - 1))
	hi := lo + uint32(n)
	for len(f.chunks) <= i {
		f.chunks = append(f.chunks, chunk{})
	}
	c := &f.chunks[i]
	fresh := !c.there
	if fresh {
		on, ok := t.take()
		if !ok {
			return 0, &target.NoSpaceError{Target: t.name, File: f.name, Offset: offset, Length: n, Free: uint64(t.free) << t.head.Shift}
		}
		*c = chunk{on: on, there: true, lo: lo, hi: lo}
	}
	// Whoever comes later to what is filled here waits for the lock, and writes
	// over it.
	if lo > c.hi {
		if err := t.fill(c, c.hi, lo); err != nil {
			return 0, err
		}
	}
	if hi < c.lo {
		if err := t.fill(c, hi, c.lo); err != nil {
			return 0, err
		}
	}
	c.lo, c.hi = min(c.lo, lo), max(c.hi, hi)
	f.size = max(f.size, offset+int64(n))
	if fresh {
		if f.taken++; f.taken >= tableEvery {
			f.taken = 0
			if err := t.save(); err != nil {
				return 0, err
			}
		}
	}
	return t.offset(c.on) + int64(lo), nil
}

// fill writes zeros into a chunk.
func (t *Target) fill(c *chunk, from, to uint32) error {
	for from < to {
		n, err := t.disk.WriteAt(zeros[:min(to-from, uint32(len(zeros)))], t.offset(c.on)+int64(from))
		from += uint32(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// settle fills all that was not written with zeros.
func (f *file) settle() error {
	t := f.c.t
	for i := range f.chunks {
		c := &f.chunks[i]
		if !c.there {
			continue
		}
		end := uint32(min(int64(1)<<t.head.Shift, f.size-int64(i)<<t.head.Shift))
		if err := t.fill(c, 0, c.lo); err != nil {
			return err
		}
		if err := t.fill(c, c.hi, end); err != nil {
			return err
		}
		c.lo, c.hi = 0, max(c.hi, end)
	}
	return nil
}

// enter brings the table up to date.
func (f *file) enter() {
	e := f.c.t.entry(f.c.name)
	if e == nil {
		return
	}
	for i := range e.Files {
		if e.Files[i].Name == f.name {
			e.Files[i].Size, e.Files[i].Runs = f.size, f.runs()
		}
	}
}

func (f *file) runs() []run {
	var all []run
	for i, c := range f.chunks {
		if !c.there {
			continue
		}
		if k := len(all) - 1; k >= 0 && all[k].At+all[k].Count == uint32(i) && all[k].On+all[k].Count == c.on {
			all[k].Count++
			continue
		}
		all = append(all, run{At: uint32(i), On: c.on, Count: 1})
	}
	return all
}

// Truncate gives back the chunks behind size.
func (f *file) Truncate(size int64) error {
	t := f.c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	if size < 0 || size > maxFile(t.head) {
		return fmt.Errorf("size %d", size)
	}
	keep := int((size + 1<<t.head.Shift - 1) >> t.head.Shift)
	for i := len(f.chunks) - 1; i >= keep; i-- {
		if f.chunks[i].there {
			t.give(f.chunks[i].on)
		}
	}
	f.chunks = f.chunks[:min(len(f.chunks), keep)]
	if size < f.size && len(f.chunks) == keep && keep > 0 && f.chunks[keep-1].there {
		// Should the file grow again, what is behind its end now is zeros.
		c, end := &f.chunks[keep-1], uint32(size-int64(keep-1)<<t.head.Shift)
		c.lo, c.hi = min(c.lo, end), min(c.hi, end)
	}
	f.size = size
	return nil
}

// Sync makes the data and then the table durable.
func (f *file) Sync() error {
	t := f.c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	f.taken = 0
	return t.explain(t.save(), f.name, f.size, 0)
}

func (f *file) Close() error {
	t := f.c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	err := t.save()
	if errors.Is(err, errTooLarge) {
		// The table does not know all of it.
		err = fmt.Errorf("%s is in too many pieces: %w", f.name, err)
	}
	f.closed = true
	t.forget(f)
	f.c.open--
	return t.explain(err, f.name, f.size, 0)
}
