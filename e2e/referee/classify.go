package referee

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Class says what a page was used for, as far as dump levels care.
type Class uint8

// The classes, in the order in which the rules are tried.
const (
	Absent       Class = iota // the machine has no such page
	Kept                      // none of the rules takes it
	Free                      // level 16
	Unaccepted                // level 16: memory the guest has not accepted yet
	Cache                     // levels 2 and 4: page cache without private data
	CachePrivate              // level 4
	User                      // level 8: anonymous memory and huge pages
	Poisoned                  // always
	Offline                   // always
	classes
)

var classNames = [classes]string{"absent", "kept", "free", "unaccepted", "cache", "cache-private", "user", "poisoned", "offline"}

func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// excludedAt tells whether a dump of the level leaves pages of the class out.
func (c Class) excludedAt(level int) bool {
	switch c {
	case Free, Unaccepted:
		return level&16 != 0
	case Cache:
		return level&(2|4) != 0
	case CachePrivate:
		return level&4 != 0
	case User:
		return level&8 != 0
	case Absent, Poisoned, Offline:
		return true
	}
	return false
}

// pageLayout is where struct page keeps what the rules ask for, and the values
// that this kernel uses.
type pageLayout struct {
	size                                                 uint64
	flags, mapping, mapcount, private, compound          uint64
	lru, swapcache, swapbacked, privateFlag, headMask    uint64
	reserved                                             uint64 // mask; from the order of enum pageflags
	buddy, offline, hugetlb, slab, unaccepted            uint32 // values of _mapcount
	hasOffline, hasHugetlb, hasSlab, hasUnaccepted       bool
	table                                                uint32 // not exported; known for typed values only
	hasTable                                             bool
	compoundInfo                                         bool   // tails are told by page.compound_info (7.1)
	poison                                               uint64 // mask, 0 if unknown
	slabFlag                                             uint64 // mask, 0 if slabs have a type
	maxOrder                                             uint64 // LENGTH(zone.free_area)
	vmemmap                                              uint64
	sectionBits                                          uint64
	memSection, memSectionSize, memSectionLength, memMap uint64
}

func newPageLayout(v vmcoreinfo) (*pageLayout, error) {
	n := need{v: v}
	u := func(key string) uint64 { return uint64(n.number(key)) }
	bit := func(name string) uint64 { return 1 << (u("NUMBER("+name+")") & 63) }
	typ := func(name string) (uint32, bool) {
		x, ok := v.number("NUMBER(PAGE_" + name + "_MAPCOUNT_VALUE)")
		return uint32(x), ok
	}
	l := &pageLayout{
		size:        u("SIZE(page)"),
		flags:       u("OFFSET(page.flags)"),
		mapping:     u("OFFSET(page.mapping)"),
		mapcount:    u("OFFSET(page._mapcount)"),
		private:     u("OFFSET(page.private)"),
		lru:         bit("PG_lru"),
		swapcache:   bit("PG_swapcache"),
		swapbacked:  bit("PG_swapbacked"),
		privateFlag: bit("PG_private"),
		headMask:    u("NUMBER(PG_head_mask)"),
		maxOrder:    u("LENGTH(zone.free_area)"),
		vmemmap:     n.symbol("vmemmap"),
		sectionBits: u("NUMBER(SECTION_SIZE_BITS)") - 12,

		memSection:       n.symbol("mem_section"),
		memSectionSize:   u("SIZE(mem_section)"),
		memSectionLength: u("LENGTH(mem_section)"),
		memMap:           u("OFFSET(mem_section.section_mem_map)"),
	}
	if _, ok := v.number("OFFSET(page.compound_info)"); ok { // from 7.1 on
		l.compound, l.compoundInfo = u("OFFSET(page.compound_info)"), true
	} else {
		l.compound = u("OFFSET(page.compound_head)")
	}
	var ok bool
	if l.buddy, ok = typ("BUDDY"); !ok {
		n.missing = append(n.missing, "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)")
	}
	l.offline, l.hasOffline = typ("OFFLINE")
	l.hugetlb, l.hasHugetlb = typ("HUGETLB")
	l.slab, l.hasSlab = typ("SLAB")
	l.unaccepted, l.hasUnaccepted = typ("UNACCEPTED")
	if l.typed() {
		l.table, l.hasTable = 0xf2<<24, true // include/linux/page-flags.h, 6.12: PGTY_table
	}
	if x, ok := v.number("NUMBER(PG_hwpoison)"); ok {
		l.poison = 1 << (x & 63)
	}
	if x, ok := v.number("NUMBER(PG_slab)"); ok {
		l.slabFlag = 1 << (x & 63)
	}
	l.reserved = l.privateFlag >> 1 // PG_reserved stands before PG_private in every kernel from 5.4 to 7.2
	if err := n.err(); err != nil {
		return nil, err
	}
	if l.size < 56 || l.size > 256 || max(l.flags, l.mapping, l.private, l.compound)+8 > l.size || l.mapcount+4 > l.size {
		return nil, fmt.Errorf("struct page of %d bytes with members beyond", l.size)
	}
	return l, nil
}

// typed tells whether page types are values in the top byte of _mapcount (from
// 6.12 on) rather than cleared bits.
func (l *pageLayout) typed() bool { return l.buddy == 0xf0<<24 }

// isType compares a page's type. The low 24 bits of a typed value belong to
// the type's owner.
func (l *pageLayout) isType(mapcount, value uint32) bool {
	if l.typed() {
		return mapcount>>24 == value>>24
	}
	return mapcount == value
}

// structPage is what the rules look at.
type structPage struct {
	flags, mapping, private, compound uint64
	mapcount                          uint32
}

func (l *pageLayout) decode(b []byte) structPage {
	le := binary.LittleEndian
	return structPage{
		flags:    le.Uint64(b[l.flags:]),
		mapping:  le.Uint64(b[l.mapping:]),
		private:  le.Uint64(b[l.private:]),
		compound: le.Uint64(b[l.compound:]),
		mapcount: le.Uint32(b[l.mapcount:]),
	}
}

func (l *pageLayout) isSlab(p structPage) bool {
	return l.slabFlag != 0 && p.flags&l.slabFlag != 0 || l.hasSlab && l.isType(p.mapcount, l.slab)
}

// rules are those of makedumpfile's __exclude_unnecessary_pages, in its order,
// for a page that is no tail. pages is how many pages the answer is about.
// next is the struct page after, which holds a compound page's order.
func (l *pageLayout) rules(p, next structPage) (class Class, pages uint64) {
	order := uint64(0)
	if p.flags&l.headMask == l.headMask && next.compound&1 != 0 {
		order = next.flags & 0xff // struct folio's _flags_1, from 6.6 on
	}
	slab := l.isSlab(p)
	anon := p.mapping&1 != 0
	cache := p.flags&l.lru != 0 || p.flags&l.swapbacked != 0 && p.flags&l.swapcache != 0
	switch {
	case l.isType(p.mapcount, l.buddy) && !slab:
		if p.private >= l.maxOrder {
			return Kept, 1
		}
		return Free, 1 << p.private
	case l.hasUnaccepted && l.isType(p.mapcount, l.unaccepted):
		return Unaccepted, 1 << (l.maxOrder - 1)
	case cache && !anon && p.flags&l.privateFlag == 0:
		return Cache, 1 << order
	case cache && !anon:
		return CachePrivate, 1 << order
	case anon && !slab, l.hasHugetlb && order > 0 && l.isType(p.mapcount, l.hugetlb):
		return User, 1 << order
	case l.poison != 0 && p.flags&l.poison != 0:
		return Poisoned, 1
	case l.hasOffline && l.isType(p.mapcount, l.offline) && !slab:
		return Offline, 1 << order
	}
	return Kept, 1 << order
}

// census is what the classifier finds of every page.
type census struct {
	layout *pageLayout
	class  []Class // by page frame number
	pages  []structPage
	count  [classes]int
	// slab, reserved and table mark pages that no dump may leave out, compound
	// tails included.
	slab, reserved, table []bool
	unmapped              int // present pages without a struct page
}

func classify(s *space) (*census, error) {
	l, err := newPageLayout(s.c.info)
	if err != nil {
		return nil, err
	}
	end := s.c.end()
	z := &census{
		layout: l, class: make([]Class, end), pages: make([]structPage, end+1),
		slab: make([]bool, end), reserved: make([]bool, end), table: make([]bool, end),
	}
	has := make([]bool, end) // a struct page
	for pfn := range end {
		if !s.c.has(pfn) {
			continue
		}
		z.class[pfn] = Kept
		raw, err := s.read(l.vmemmap+pfn*l.size, int(l.size))
		if errors.Is(err, errNotMapped) {
			z.unmapped++
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("struct page of frame %#x: %w", pfn, err)
		}
		z.pages[pfn], has[pfn] = l.decode(raw), true
	}
	if err := z.checkSections(s); err != nil {
		return nil, err
	}
	decided := make([]bool, end) // by the block that the page is part of
	for pfn := range end {
		p := z.pages[pfn]
		if !has[pfn] {
			continue
		}
		z.reserved[pfn] = p.flags&l.reserved != 0
		if p.compound&1 != 0 { // a tail shares its head's fate
			continue
		}
		class, n := l.rules(p, z.pages[pfn+1])
		if n > 1<<20 {
			return nil, fmt.Errorf("frame %#x: a block of %d pages", pfn, n)
		}
		for q := pfn; q < min(pfn+n, end); q++ {
			if z.class[q] == Absent || decided[q] {
				continue
			}
			z.class[q], decided[q] = class, n > 1
			z.slab[q] = z.slab[q] || l.isSlab(p)
			z.table[q] = z.table[q] || l.hasTable && l.isType(p.mapcount, l.table)
		}
	}
	for _, c := range z.class {
		z.count[c]++
	}
	return z, nil
}

// checkSections compares vmemmap, through which struct pages were read, with
// what each section of memory says of its own struct pages (mem_section of
// SPARSEMEM_EXTREME: an array of pointers to pages full of sections).
func (z *census) checkSections(s *space) error {
	l := z.layout
	perRoot := pageSize / l.memSectionSize
	seen := uint64(1<<64 - 1)
	for pfn, class := range z.class {
		nr := uint64(pfn) >> l.sectionBits
		if class == Absent || nr == seen {
			continue
		}
		seen = nr
		if nr/perRoot >= l.memSectionLength {
			return fmt.Errorf("section %d beyond mem_section", nr)
		}
		root, err := s.u64(l.memSection + nr/perRoot*8)
		if err != nil {
			return fmt.Errorf("mem_section of section %d: %w", nr, err)
		}
		if root == 0 {
			continue
		}
		coded, err := s.u64(root + nr%perRoot*l.memSectionSize + l.memMap)
		if err != nil {
			return fmt.Errorf("section %d: %w", nr, err)
		}
		const hasMemMap = 1 << 1
		if coded&hasMemMap != 0 && coded&^0x3f != l.vmemmap {
			return fmt.Errorf("section %d has its struct pages at %#x; vmemmap is %#x", nr, coded&^0x3f, l.vmemmap)
		}
	}
	return nil
}
