package kernel

import (
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// maxPageTables bounds the walk over damaged page tables, which can refer to
// each other in circles. It is enough to map 8 TiB in pages of 4 KiB.
const maxPageTables = 1 << 22

// PageTables yields every page that holds a page table of the kernel, the top
// one first, each before what it refers to. A table that maps much, as KASAN's
// zero page does, may come more than once. A page that cannot be read is
// yielded and then its error; whoever goes on iterating gets the rest. The walk
// ends with ErrCorrupt when there are more tables than any kernel has.
func (k *Kernel) PageTables() iter.Seq2[vmcore.PFN, error] {
	return func(yield func(vmcore.PFN, error) bool) {
		w := tableWalk{k: k, yield: yield, left: maxPageTables}
		w.visit(k.arch.Root, 0)
	}
}

type tableWalk struct {
	k     *Kernel
	yield func(vmcore.PFN, error) bool
	left  int
	above [maxLevels]vmcore.PhysAddr
	bufs  [maxLevels][]byte
}

// visit yields the table at addr and those below; false ends the whole walk.
func (w *tableWalk) visit(addr vmcore.PhysAddr, level int) bool {
	a := w.k.arch
	if w.left--; w.left < 0 {
		w.yield(0, fmt.Errorf("more than %d page tables: %w", maxPageTables, ErrCorrupt))
		return false
	}
	pfn := vmcore.PFN(uint64(addr) / a.PageSize)
	if !w.yield(pfn, nil) {
		return false
	}
	if level == len(a.Shifts)-1 {
		return true // the entries are leaves
	}
	if w.bufs[level] == nil {
		w.bufs[level] = make([]byte, 8<<a.IndexBits)
	}
	table := w.bufs[level]
	if _, err := w.k.mem.ReadPhys(table, addr); err != nil {
		return w.yield(pfn, fmt.Errorf("page table at %#x: %w", uint64(addr), err))
	}
	w.above[level] = addr
	var before uint64
	for i := 0; i < len(table); i += 8 {
		entry := binary.LittleEndian.Uint64(table[i:])
		// The same again is how KASAN maps its shadow of what is not there:
		// once is enough.
		same := entry == before
		before = entry
		if same {
			continue
		}
		next, kind := a.Decode(entry, 0)
		if kind != EntryTable {
			continue
		}
		circle := false
		for _, up := range w.above[:level+1] {
			circle = circle || up == next
		}
		if circle {
			if !w.yield(pfn, fmt.Errorf("page table at %#x contains itself: %w", uint64(next), ErrCorrupt)) {
				return false
			}
			continue
		}
		if !w.visit(next, level+1) {
			return false
		}
	}
	return true
}
