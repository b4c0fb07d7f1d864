package capture

import (
	"errors"
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Selector tells the class of each page of the dead machine from its struct
// pages, the kernel's own record of what it used the page for.
//
// It errs on the side of keeping. What the kernel does not say plainly is the
// kernel's, memory without a struct page is kept, and a struct page that
// contradicts itself is kept and counted. The rules are those of
// makedumpfile -d; what a struct page means decides kernel.PageLayout.
//
// A Selector is for one goroutine; it takes 150 KiB.
type Selector struct {
	layout   *kernel.PageLayout
	memmap   *kernel.MemMap
	r        *kernel.PageReader
	maxBlock uint64 // pages of the largest free block
	stats    SelectStats

	// free is where struct pages do not tell which pages are free; else nil.
	free    *kernel.FreeSet
	freeErr error // why it is empty

	// The compound pages whose tails were met last: heads by the address of
	// their struct page.
	heads [2]headClass
	turn  int
}

type headClass struct {
	va    kernel.VirtAddr
	class Class
}

// SelectStats counts the struct pages that a Selector could not go by. All
// these pages are kept.
type SelectStats struct {
	// NoStructPage: the kernel has no struct page for it, or never filled it.
	NoStructPage uint64 `json:"no_struct_page"`
	// Unreadable: the struct page cannot be read.
	Unreadable uint64 `json:"unreadable"`
	// Contradictory: free and in use, tail of nothing, a block that cannot be.
	Contradictory uint64 `json:"contradictory"`
}

func (s *SelectStats) merge(o SelectStats) {
	s.NoStructPage += o.NoStructPage
	s.Unreadable += o.Unreadable
	s.Contradictory += o.Contradictory
}

// ErrSelection: pages that any kernel must keep would be left out, so that
// struct pages are not understood.
var ErrSelection = errors.New("struct pages are not understood")

// NewSelector finds the struct pages of k and classifies a few pages that no
// kernel can do without. The error is kernel.ErrNoInfo or kernel.ErrUnsupported
// when struct pages cannot be found, ErrSelection when one of those pages would
// be left out: then only the content of pages, zero or not, may decide.
func NewSelector(k *kernel.Kernel) (*Selector, error) {
	// The layout is a refinement: vmcoreinfo alone has what matters.
	_, _ = k.Layout()
	m, err := k.MemMap()
	if err != nil {
		return nil, fmt.Errorf("memory map: %w", err)
	}
	layout := m.PageLayout()
	s := &Selector{layout: layout, memmap: m, r: m.NewReader(), maxBlock: 1 << (layout.MaxOrder - 1)}
	if !layout.TellsFree() {
		if s.free, s.freeErr = k.FreeSet(maxFreeBlocks); s.freeErr != nil {
			s.free = &kernel.FreeSet{}
		}
	}
	if err := s.check(k); err != nil {
		return nil, err
	}
	return s, nil
}

// maxFreeBlocks is how many free blocks are remembered where that must be: 8 MiB
// of memory. Free memory of a machine of any size lies in few large blocks; what
// goes beyond are the smallest, which are kept.
const maxFreeBlocks = 1 << 20

// fork gives a Selector for another goroutine.
func (s *Selector) fork() *Selector {
	return &Selector{layout: s.layout, memmap: s.memmap, r: s.memmap.NewReader(), maxBlock: s.maxBlock, free: s.free, freeErr: s.freeErr}
}

// checkFreeLists says how free pages were found, where struct pages do not tell;
// ok is false where they do.
func (s *Selector) checkFreeLists() (c Check, ok bool) {
	if s.free == nil {
		return c, false
	}
	c = Check{Name: "free lists", OK: true, Detail: fmt.Sprintf("struct pages do not tell what is free; %d pages are on free lists, %d of them in too many blocks and kept",
		s.free.Pages+s.free.Left, s.free.Left)}
	if err := errors.Join(s.freeErr, s.free.Broken); err != nil {
		c.OK, c.Detail = false, c.Detail+": "+err.Error()
	}
	return c, true
}

// check classifies pages that every kernel needs: its text, its page tables,
// the array of sections.
func (s *Selector) check(k *kernel.Kernel) error {
	pageSize := k.Arch().PageSize
	for _, name := range []string{"_stext", "swapper_pg_dir", "mem_section", "init_uts_ns"} {
		va, ok := k.Info().Symbol(name)
		if !ok {
			continue
		}
		pa, err := k.Translate(va)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		pfn := vmcore.PFN(uint64(pa) / pageSize)
		var one [1]Class
		if err := s.Classify(pfn, one[:]); err != nil {
			return err
		}
		if one[0].Dropped(LevelAll) {
			return fmt.Errorf("PFN %#x with %s would be left out as %v: %w", uint64(pfn), name, one[0], ErrSelection)
		}
	}
	s.stats = SelectStats{}
	return nil
}

// Stats is what was counted so far.
func (s *Selector) Stats() SelectStats { return s.stats }

// Classify fills in the class of each page from start on, of all of classes.
// The answer does not depend on how pages are divided into calls; it costs
// least when start is a multiple of the largest free block. Where struct pages
// are missing, damaged or unreadable, pages are kept and counted: the error is
// for a start beyond all physical addresses, and then all are kept, too.
func (s *Selector) Classify(start vmcore.PFN, classes []Class) error {
	n := uint64(len(classes))
	if start+vmcore.PFN(n) < start || start+vmcore.PFN(n) > 1<<52 {
		clear(classes) // ClassKeep
		return fmt.Errorf("%d pages from PFN %#x: %w", n, uint64(start), vmcore.ErrHole)
	}
	// Pages below blockEnd belong to a block found before.
	block, blockEnd := s.blockAround(start)
	for i := uint64(0); i < n; {
		run, err := s.r.Read(start+vmcore.PFN(i), n-i)
		part := classes[i : i+run.Count]
		if err != nil {
			s.unknown(part, err)
			i += run.Count
			continue
		}
		block, blockEnd = s.run(run, part, block, blockEnd)
		i += run.Count
	}
	return nil
}

// unknown keeps pages without a struct page to go by.
func (s *Selector) unknown(part []Class, err error) {
	for i := range part {
		part[i] = ClassKeep
	}
	if errors.Is(err, kernel.ErrNotFound) {
		s.stats.NoStructPage += uint64(len(part))
	} else {
		s.stats.Unreadable += uint64(len(part))
	}
}

// run classifies the pages of one run. Those below blockEnd are of class block
// unless they show that they are in use; what is returned is the block that
// reaches beyond the run.
func (s *Selector) run(run kernel.PageRun, classes []Class, block Class, blockEnd vmcore.PFN) (Class, vmcore.PFN) {
	size := s.layout.Size
	listed, listedOrder := s.nextListed(max(run.First, blockEnd))
	for i := range classes {
		raw := run.Raw[uint64(i)*size:][:size]
		pfn := run.First + vmcore.PFN(i)
		pg := s.layout.Decode(raw)
		if pfn < blockEnd {
			classes[i] = s.inBlock(&pg, block)
			continue
		}
		if pfn == listed {
			classes[i] = s.firstListed(&pg)
			block, blockEnd = ClassFree, pfn+1<<listedOrder
			listed, listedOrder = s.nextListed(blockEnd)
			continue
		}
		va := run.Virt + kernel.VirtAddr(uint64(i)*size)
		c := ClassKeep
		switch kind := s.layout.Kind(&pg); kind {
		case kernel.PageFree:
			if order, ok := s.freeOrder(&pg, pfn); ok {
				c = ClassFree
				block, blockEnd = c, pfn+1<<order
			} else {
				s.stats.Contradictory++
			}
		case kernel.PageUnaccepted:
			if uint64(pfn)&(s.maxBlock-1) == 0 {
				c = ClassUnaccepted
				block, blockEnd = c, pfn+vmcore.PFN(s.maxBlock)
			} else {
				s.stats.Contradictory++
			}
		case kernel.PageTail:
			c = s.tail(&pg, va)
		default:
			c = s.single(&pg, kind, va)
			if s.layout.Head(&pg) {
				s.remember(va, c)
			}
		}
		if c != ClassPoison && s.layout.Poisoned(&pg) {
			c = ClassPoison
		}
		classes[i] = c
	}
	return block, blockEnd
}

// freeOrder is the order of the free block that begins with pg; false if there
// cannot be such a block.
func (s *Selector) freeOrder(pg *kernel.Page, pfn vmcore.PFN) (uint64, bool) {
	order := pg.Private
	return order, order < s.layout.MaxOrder && uint64(pfn)&(1<<order-1) == 0 && pg.Refcount == 0
}

// nextListed is the next block of the free lists from pfn on, for kernels where
// those are asked.
func (s *Selector) nextListed(pfn vmcore.PFN) (first vmcore.PFN, order uint) {
	if s.free != nil {
		if first, order, ok := s.free.Next(pfn); ok {
			return first, order
		}
	}
	return ^vmcore.PFN(0), 0
}

// firstListed is the class of the first page of a block of the free lists. Its
// type says that it is free, in a way that is not known.
func (s *Selector) firstListed(pg *kernel.Page) Class {
	if s.layout.Kind(pg) == kernel.PageTyped && !s.layout.Poisoned(pg) && pg.Refcount == 0 {
		return ClassFree
	}
	return s.inBlock(pg, ClassFree)
}

// inBlock is the class of a page within a free or unaccepted block. Pages of a
// block have no users: one that has is kept. Struct pages of unaccepted memory
// may never have been filled.
func (s *Selector) inBlock(pg *kernel.Page, block Class) Class {
	if s.layout.Poisoned(pg) {
		return ClassPoison
	}
	switch s.layout.Kind(pg) {
	case kernel.PageKernel:
		if pg.Refcount == 0 || block == ClassUnaccepted {
			return block
		}
	case kernel.PageReserved, kernel.PageUninitialized:
		if block == ClassUnaccepted {
			return block
		}
	}
	s.stats.Contradictory++
	return ClassKeep
}

// single is the class of a page that is neither free nor a tail, and of the
// tails that it is the head of.
func (s *Selector) single(pg *kernel.Page, kind kernel.PageKind, va kernel.VirtAddr) Class {
	if (kind == kernel.PageKernel || kind == kernel.PageCache) && s.layout.AsksNext(pg) {
		if _, next, err := s.r.ReadAt(va + kernel.VirtAddr(s.layout.Size)); err != nil {
			s.stats.Unreadable++
		} else if s.layout.HugetlbByNext(next) {
			kind = kernel.PageHugetlb
		}
	}
	switch kind {
	case kernel.PageOffline:
		return ClassOffline
	case kernel.PageHugetlb:
		if s.layout.Poisoned(pg) {
			// The mark of any failure in the whole hugetlb page is on its head.
			return ClassPoison
		}
		return ClassUser
	case kernel.PageAnon:
		return ClassUser
	case kernel.PageCache:
		if s.layout.PrivateCache(pg) {
			return ClassCachePrivate
		}
		return ClassCache
	case kernel.PageUninitialized:
		s.stats.NoStructPage++
	}
	return ClassKeep
}

func (s *Selector) remember(va kernel.VirtAddr, c Class) {
	s.heads[s.turn] = headClass{va, c}
	s.turn ^= 1
}

// tail is the class of the compound page that the tail at va belongs to. The
// head is looked up by the tail's own word, so that no order has to be known
// or believed.
func (s *Selector) tail(pg *kernel.Page, va kernel.VirtAddr) Class {
	headVA := s.layout.HeadOf(pg, va)
	if headVA >= va || uint64(va-headVA) >= maxCompound*s.layout.Size || uint64(va-headVA)%s.layout.Size != 0 {
		s.stats.Contradictory++
		return ClassKeep
	}
	for _, h := range s.heads {
		if h.va == headVA {
			return h.class
		}
	}
	c := s.headOf(headVA)
	s.remember(headVA, c)
	return c
}

// maxCompound bounds the pages of a compound page: 16 GiB of 4 KiB, the
// largest hugetlb page of all architectures.
const maxCompound = 1 << 22

func (s *Selector) headOf(headVA kernel.VirtAddr) Class {
	pg, _, err := s.r.ReadAt(headVA)
	if err != nil {
		s.stats.Unreadable++
		return ClassKeep
	}
	kind := s.layout.Kind(&pg)
	switch kind {
	case kernel.PageTail, kernel.PageFree, kernel.PageUnaccepted, kernel.PageUninitialized:
		s.stats.Contradictory++
		return ClassKeep
	}
	if !s.layout.Head(&pg) {
		s.stats.Contradictory++
		return ClassKeep
	}
	return s.single(&pg, kind, headVA)
}

// blockAround finds the free block that start lies in, if it does not begin
// there: its first page is at a lower multiple of the block's size.
func (s *Selector) blockAround(start vmcore.PFN) (Class, vmcore.PFN) {
	if first, order := s.nextListed(start); first < start {
		return ClassFree, first + 1<<order
	}
	for order := uint64(1); order < s.layout.MaxOrder; order++ {
		first := start &^ (1<<order - 1)
		if first == start {
			continue
		}
		pg, err := s.r.ReadPage(first)
		if err != nil {
			return ClassKeep, 0
		}
		switch s.layout.Kind(&pg) {
		case kernel.PageFree:
			if order, ok := s.freeOrder(&pg, first); ok && first+1<<order > start {
				return ClassFree, first + 1<<order
			}
		case kernel.PageUnaccepted:
			if end := first + vmcore.PFN(s.maxBlock); uint64(first)&(s.maxBlock-1) == 0 && end > start {
				return ClassUnaccepted, end
			}
		}
	}
	return ClassKeep, 0
}
