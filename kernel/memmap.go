package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/bits"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// MemMap finds the struct page of each page of the dead machine. It holds
// nothing but numbers, whatever the size of the machine; reading is done by a
// [PageReader].
//
// Linux describes memory in sections of 128 MiB or so (SPARSEMEM); an array of
// struct mem_section, in one or two levels, says where the struct pages of
// each are: include/linux/mmzone.h (7.2).
type MemMap struct {
	k    *Kernel
	page *PageLayout

	root       VirtAddr // the array, of pointers when extreme
	roots      uint64   // its length
	extreme    bool
	perRoot    uint64 // sections per element of the array
	entrySize  uint64 // of struct mem_section
	mapOffset  uint64 // of its section_mem_map
	shift      uint   // section number = PFN >> shift
	maxSection uint64 // exclusive
}

// Bits of mem_section.section_mem_map that are no address. There are 4 to 6
// of them (7.2); the address is that of a page, less a multiple of a page.
const (
	sectionPresent = 1 << 0
	sectionHasMap  = 1 << 1
	sectionOnline  = 1 << 2
	sectionMask    = 0x3f
)

// MemMap reads where struct pages are and how they are laid out. Memory models
// other than SPARSEMEM are ErrUnsupported; missing keys ErrNoInfo. The kernel's
// [Layout] helps when it was given in [Options] or used already; the dump is
// not searched for it.
func (k *Kernel) MemMap() (*MemMap, error) {
	page, err := NewPageLayout(k.info, k.knownLayout())
	if err != nil {
		return nil, fmt.Errorf("struct page: %w", err)
	}
	m := &MemMap{k: k, page: page}
	root, ok := k.info.Symbol("mem_section")
	if !ok {
		if _, flat := k.info.Symbol("mem_map"); flat {
			return nil, fmt.Errorf("memory model FLATMEM: %w", ErrUnsupported)
		}
		return nil, fmt.Errorf("SYMBOL(mem_section): %w", ErrNoInfo)
	}
	m.root = root
	var length, size, off uint64
	var sectionBits, maxBits int64
	for _, key := range []struct {
		name string
		get  func() bool
	}{
		{"LENGTH(mem_section)", func() (ok bool) { length, ok = k.info.Length("mem_section"); return }},
		{"SIZE(mem_section)", func() (ok bool) { size, ok = k.info.Size("mem_section"); return }},
		{"OFFSET(mem_section.section_mem_map)", func() (ok bool) { off, ok = k.info.Offset("mem_section.section_mem_map"); return }},
		{"NUMBER(SECTION_SIZE_BITS)", func() (ok bool) {
			if sectionBits, ok = k.info.Number("SECTION_SIZE_BITS"); !ok {
				sectionBits = int64(k.arch.SectionBits)
			}
			return ok || sectionBits > 0
		}},
		{"NUMBER(MAX_PHYSMEM_BITS)", func() (ok bool) { maxBits, ok = k.info.Number("MAX_PHYSMEM_BITS"); return }},
	} {
		if !key.get() {
			return nil, fmt.Errorf("%s: %w", key.name, ErrNoInfo)
		}
	}
	pageSize := k.arch.PageSize
	pageShift := int64(bits.TrailingZeros64(pageSize))
	if size < 8 || size > pageSize || off > size-8 || sectionBits <= pageShift || sectionBits > 40 || maxBits < sectionBits || maxBits > 60 {
		return nil, fmt.Errorf("sections of 1<<%d bytes of 1<<%d, struct mem_section of %d bytes: %w", sectionBits, maxBits, size, ErrCorrupt)
	}
	m.entrySize, m.mapOffset = size, off
	m.shift = uint(sectionBits - pageShift)
	m.maxSection = 1 << uint(maxBits-sectionBits)
	// SPARSEMEM_EXTREME has an array of pointers to pages full of sections;
	// without it, all sections are in the array.
	m.perRoot = pageSize / size
	m.roots = (m.maxSection + m.perRoot - 1) / m.perRoot
	m.extreme = length == m.roots
	if !m.extreme {
		m.perRoot, m.roots = 1, m.maxSection
		if length < m.roots {
			return nil, fmt.Errorf("LENGTH(mem_section) is %d for %d sections: %w", length, m.maxSection, ErrCorrupt)
		}
	}
	return m, nil
}

// PageLayout is how to read the struct pages.
func (m *MemMap) PageLayout() *PageLayout { return m.page }

// Section is a piece of physical memory that has struct pages.
type Section struct {
	First  vmcore.PFN
	Pages  uint64
	Map    VirtAddr // the struct page of First
	Online bool     // false: the struct pages may never have been filled
}

// Sections yields the sections that have struct pages, in ascending order. One
// that cannot be read gives an error; whoever goes on iterating gets the rest.
func (m *MemMap) Sections() iter.Seq2[Section, error] {
	return func(yield func(Section, error) bool) {
		limit := m.maxSection
		if d, ok := m.k.mem.(interface{ MaxPFN() vmcore.PFN }); ok {
			limit = min(limit, uint64(d.MaxPFN())>>m.shift+1)
		}
		r := m.NewReader()
		for nr := uint64(0); nr < limit; {
			s, skip, err := r.section(nr)
			if err == nil {
				if !yield(s, nil) {
					return
				}
			} else if !errors.Is(err, ErrNotFound) {
				if !yield(Section{First: vmcore.PFN(nr << m.shift), Pages: skip << m.shift}, err) {
					return
				}
			}
			nr += skip
		}
	}
}

// PageReader reads struct pages, many at a time, through one buffer. It is for
// one goroutine; readers of one MemMap may work at the same time.
type PageReader struct {
	m    *MemMap
	walk walker

	buf []byte // struct pages
	one []byte // a single one

	// What was read of the sections last.
	rootBuf, entryBuf []byte
	rootAt, entryAt   VirtAddr // where from; 0 nothing

	sec   Section
	secNr uint64
	known bool // sec is section secNr

	ext Extent // of the map, translated last

	base VirtAddr // see vmemmap; 0 not asked for yet
}

// PageBatch is the number of struct pages that a PageReader reads at once, if
// they have 64 bytes. 128 KiB stay in a core's cache.
const PageBatch = 2048

// NewReader makes a reader.
func (m *MemMap) NewReader() *PageReader {
	return &PageReader{
		m:    m,
		walk: walker{k: m.k},
		buf:  make([]byte, PageBatch*64/m.page.Size*m.page.Size),
		one:  make([]byte, m.page.Size),
	}
}

// PageRun is struct pages of consecutive pages.
type PageRun struct {
	First vmcore.PFN
	Count uint64   // pages
	Virt  VirtAddr // where the first struct page is
	Raw   []byte   // Count struct pages; valid until the next Read
}

// Read reads the struct pages from start on: as many of n as come at once, at
// least one. With an error Raw is nil, and Count is the number of pages that
// the error is about: ErrNotFound where the kernel has no struct pages or never
// filled them, others where they cannot be read.
func (r *PageReader) Read(start vmcore.PFN, n uint64) (PageRun, error) {
	m := r.m
	run := PageRun{First: start}
	nr := uint64(start) >> m.shift
	left := uint64(1)<<m.shift - uint64(start)&(1<<m.shift-1) // pages of the section
	if !r.known || r.secNr != nr {
		s, skip, err := r.section(nr)
		if err == nil && !s.Online {
			err = fmt.Errorf("section %d is offline: %w", nr, ErrNotFound)
		}
		if err != nil {
			run.Count = min(n, left+(skip-1)<<m.shift)
			return run, err
		}
		r.sec, r.secNr, r.known = s, nr, true
	}
	size := m.page.Size
	run.Virt = r.sec.Map + VirtAddr(uint64(start-r.sec.First)*size)
	n = min(n, left, uint64(len(r.buf))/size)
	pa, avail, err := r.translate(run.Virt, n*size)
	if err != nil {
		run.Count = min(left, n, (avail+size-1)/size)
		return run, err
	}
	if avail < size {
		// A struct page across two pages, which need not be neighbours.
		run.Count = 1
		if err := m.k.ReadVirt(r.buf[:size], run.Virt); err != nil {
			return run, err
		}
		run.Raw = r.buf[:size]
		return run, nil
	}
	run.Count = min(n, avail/size)
	raw := r.buf[:run.Count*size]
	got, err := m.k.mem.ReadPhys(raw, pa)
	if err != nil {
		if whole := uint64(max(got, 0)) / size; whole > 0 {
			run.Count, run.Raw = whole, raw[:whole*size]
			return run, nil
		}
		// The page of memory that cannot be read holds this many.
		inPage := m.k.arch.PageSize - uint64(pa)%m.k.arch.PageSize
		run.Count = min(run.Count, (inPage+size-1)/size)
		return run, fmt.Errorf("struct page of PFN %#x: %w", uint64(start), err)
	}
	run.Raw = raw
	return run, nil
}

// ReadAt reads the single struct page at va and leaves the last run valid.
func (r *PageReader) ReadAt(va VirtAddr) (Page, []byte, error) {
	if err := r.m.k.ReadVirt(r.one, va); err != nil {
		return Page{}, nil, err
	}
	return r.m.page.Decode(r.one), r.one, nil
}

// ReadPage reads the single struct page of a page and leaves the last run
// valid.
func (r *PageReader) ReadPage(pfn vmcore.PFN) (Page, error) {
	s, _, err := r.section(uint64(pfn) >> r.m.shift)
	if err != nil {
		return Page{}, err
	}
	pg, _, err := r.ReadAt(s.Map + VirtAddr(uint64(pfn-s.First)*r.m.page.Size))
	return pg, err
}

// translate finds memory at va: n bytes or what of them is contiguous. With an
// error, avail is how many bytes it is about.
func (r *PageReader) translate(va VirtAddr, n uint64) (pa vmcore.PhysAddr, avail uint64, err error) {
	if off := uint64(va - r.ext.Virt); off < r.ext.Size && r.ext.Size-off >= min(n, r.m.page.Size) {
		return r.ext.Phys + vmcore.PhysAddr(off), r.ext.Size - off, nil
	}
	pa, avail, err = r.walk.lookup(va)
	if err != nil {
		r.ext = Extent{}
		return 0, max(avail, 1), err
	}
	for avail < n {
		next, more, err := r.walk.lookup(va + VirtAddr(avail))
		if err != nil || next != pa+vmcore.PhysAddr(avail) || more == 0 {
			break
		}
		avail += more
	}
	r.ext = Extent{va, pa, avail}
	return pa, avail, nil
}

// section finds section nr. skip is the number of sections that the answer is
// about, 1 for a section that exists. The error is ErrNotFound for one that
// does not.
func (r *PageReader) section(nr uint64) (s Section, skip uint64, err error) {
	m := r.m
	if nr >= m.maxSection {
		return s, 1, fmt.Errorf("section %d of %d: %w", nr, m.maxSection, ErrNotFound)
	}
	at := m.root + VirtAddr(nr*m.entrySize)
	if m.extreme {
		toNext := m.perRoot - nr%m.perRoot
		p, err := r.cached(&r.rootBuf, &r.rootAt, m.root+VirtAddr(nr/m.perRoot*8), 8)
		if err != nil {
			return s, toNext, fmt.Errorf("mem_section of section %d: %w", nr, err)
		}
		block := VirtAddr(binary.LittleEndian.Uint64(p))
		if block == 0 {
			return s, toNext, fmt.Errorf("section %d: %w", nr, ErrNotFound)
		}
		at = block + VirtAddr(nr%m.perRoot*m.entrySize)
	}
	p, err := r.cached(&r.entryBuf, &r.entryAt, at, m.entrySize)
	if err != nil {
		return s, 1, fmt.Errorf("section %d: %w", nr, err)
	}
	word := binary.LittleEndian.Uint64(p[m.mapOffset:])
	if word&(sectionPresent|sectionHasMap) != sectionPresent|sectionHasMap {
		return s, 1, fmt.Errorf("section %d: %w", nr, ErrNotFound)
	}
	s.First = vmcore.PFN(nr << m.shift)
	s.Pages = 1 << m.shift
	s.Online = word&sectionOnline != 0
	s.Map = VirtAddr(word&^sectionMask + uint64(s.First)*m.page.Size)
	if !m.k.arch.canonical(s.Map) || s.Map>>63 == 0 || uint64(s.Map)%8 != 0 {
		return Section{}, 1, fmt.Errorf("section %d has its struct pages at %#x: %w", nr, s.Map, ErrCorrupt)
	}
	return s, 1, nil
}

// cached returns n bytes at va from a buffer that holds a page of memory.
func (r *PageReader) cached(buf *[]byte, at *VirtAddr, va VirtAddr, n uint64) ([]byte, error) {
	size := r.m.k.arch.PageSize
	off := uint64(va) & (size - 1)
	if off+n > size {
		// Only a static array of an odd size lies across pages.
		p := make([]byte, n)
		return p, r.m.k.ReadVirt(p, va)
	}
	if *buf == nil {
		*buf = make([]byte, size)
		*at = 0
	}
	if base := va - VirtAddr(off); *at != base || *at == 0 {
		*at = 0
		if err := r.m.k.ReadVirt(*buf, base); err != nil {
			return nil, err
		}
		*at = base
	}
	return (*buf)[off:][:n], nil
}

// vmemmap is where the struct page of PFN 0 would be. A kernel that does not say
// shows it in any of its sections, if struct pages are one array; if they are
// not, PFNOf finds no page by it.
func (r *PageReader) vmemmap() (VirtAddr, error) {
	if base, ok := r.m.k.info.Symbol("vmemmap"); ok {
		return base, nil
	}
	if r.base == 0 {
		for s, err := range r.m.Sections() {
			if err != nil {
				return 0, fmt.Errorf("vmemmap: %w", err)
			}
			r.base = s.Map - VirtAddr(uint64(s.First)*r.m.page.Size)
			break
		}
	}
	if r.base == 0 {
		return 0, fmt.Errorf("SYMBOL(vmemmap): %w", ErrNoInfo)
	}
	return r.base, nil
}

// PFNOf tells which page the struct page at va describes. The error is
// ErrNotFound when va is in no memory map. Kernels without SPARSEMEM_VMEMMAP,
// whose struct pages lie about, are not supported.
func (r *PageReader) PFNOf(va VirtAddr) (vmcore.PFN, error) {
	base, err := r.vmemmap()
	if err != nil {
		return 0, err
	}
	size := r.m.page.Size
	off := uint64(va - base)
	pfn := vmcore.PFN(off / size)
	if off%size != 0 || uint64(pfn)>>r.m.shift >= r.m.maxSection {
		return 0, fmt.Errorf("%#x is no struct page: %w", va, ErrNotFound)
	}
	s, _, err := r.section(uint64(pfn) >> r.m.shift)
	if err != nil {
		return 0, err
	}
	if s.Map+VirtAddr(uint64(pfn-s.First)*size) != va {
		return 0, fmt.Errorf("%#x is no struct page: %w", va, ErrNotFound)
	}
	return pfn, nil
}
