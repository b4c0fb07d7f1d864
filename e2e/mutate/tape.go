package mutate

import (
	"cmp"
	"io"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// maxSpans bounds how many places are remembered; a report reads from some ten
// thousand.
const maxSpans = 1 << 18

// span is a place that was read.
type span struct {
	at  uint64
	len int
}

// tape remembers what was read, each place once.
type tape struct {
	mu    sync.Mutex
	known map[span]bool
}

func (t *tape) note(at uint64, length int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil {
		t.known = map[span]bool{}
	}
	if length > 0 && len(t.known) < maxSpans {
		t.known[span{at, length}] = true
	}
}

// places are what a tape remembers.
type places struct {
	all   []span
	small []span // single structs and numbers, not stretches of tables
	head  []span // the beginning of the file
}

// Bounds of what counts as small and as the beginning.
const (
	smallSpan = 512
	headSize  = 16 << 10
)

// pick chooses a place. Most of what is read is large tables, where damage does
// less than anywhere else.
func (p *places) pick(r *rand.Rand) span {
	from := p.all
	switch n := r.IntN(8); {
	case n == 0 && len(p.head) > 0:
		from = p.head
	case n < 5 && len(p.small) > 0:
		from = p.small
	}
	return from[r.IntN(len(from))]
}

// places are sorted: what order they were read in is not the same each time.
func (t *tape) places() *places {
	p := &places{all: t.spans()}
	for _, s := range p.all {
		if s.len <= smallSpan {
			p.small = append(p.small, s)
		}
		if s.at < headSize {
			p.head = append(p.head, s)
		}
	}
	return p
}

func (t *tape) spans() []span {
	var all []span
	for s := range t.known {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.len, b.len)) })
	return all
}

// tapedFile is a file that is read.
type tapedFile struct {
	io.ReaderAt
	*tape
}

func (f tapedFile) ReadAt(p []byte, off int64) (int, error) {
	f.note(uint64(off), len(p))
	return f.ReaderAt.ReadAt(p, off)
}

// tapedMemory is memory that is read.
type tapedMemory struct {
	kernel.Memory
	*tape
}

func (m tapedMemory) ReadPhys(p []byte, addr vmcore.PhysAddr) (int, error) {
	m.note(uint64(addr), len(p))
	return m.Memory.ReadPhys(p, addr)
}
