package kernel

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Page is what one struct page says. What its fields mean depends on the kind
// of the page, see [PageLayout.Kind].
type Page struct {
	Flags    uint64 // enum pageflags, with zone, node and section in the upper bits
	Mapping  uint64 // the file or the anonymous memory that it belongs to
	Private  uint64 // the order, for a free block; nothing where TellsFree says no
	Compound uint64 // bit 0 is set in tail pages; the rest leads to the head
	Type     uint32 // _mapcount and page_type, which share a word
	Refcount int32
}

// PageKind is what a page is, as its struct page tells.
type PageKind uint8

// The kinds of pages. Each is decided for one struct page; a tail is what its
// head is.
const (
	PageKernel        PageKind = iota // the kernel's own, or nothing that is known here
	PageTail                          // belongs to the compound page of its head
	PageFree                          // first page of a free block, the order is in Private
	PageAnon                          // anonymous memory of a process
	PageCache                         // page cache, swap cache, shared memory
	PageHugetlb                       // first page of a hugetlb page
	PageSlab                          // kernel objects
	PageTable                         // page tables
	PageTyped                         // another of the kernel's types: zsmalloc, large kmalloc, guard
	PageReserved                      // not for the allocator: image, firmware, memory map
	PageOffline                       // the hypervisor has it, or hotplug took it out
	PageUnaccepted                    // first of the pages not yet accepted from the hypervisor
	PageUninitialized                 // the struct page was never filled
)

// PageLayout is how one kernel writes a struct page: offsets, numbers of flags
// and the encoding of page types, from its vmcoreinfo and, for what that lacks,
// its [Layout]. Everything it does is a pure function of bytes.
//
// Facts: include/linux/mm_types.h, page-flags.h, kernel/vmcore_info.c of Linux
// 5.4 to 7.2.
type PageLayout struct {
	// Size of a struct page, in bytes.
	Size uint64
	// LRU is the offset of the member by which free lists link pages.
	LRU uint64
	// MaxOrder is the number of sizes of free blocks: the largest has
	// 1<<(MaxOrder-1) pages.
	MaxOrder uint64

	flags, mapping, private, compound, mapcount, refcount uint64 // offsets

	// Masks of flags; 0 if this kernel has no such flag or does not tell.
	lru, privateFlag, swapcache, swapbacked, slabFlag, reserved, poison, head uint64

	// Page types; a zero test matches nothing.
	buddy, offline, unaccepted, slab, table, hugetlb typeTest
	// typed: a word below it as signed number is some type, not a count.
	typed int32

	// How a hugetlb page is told before it became a type in 6.9: by the byte
	// dtor of the second struct page, or by a flag there.
	dtorOffset, dtor uint64
	nextFlag         uint64
}

// typeTest matches the word of page types. All encodings of the years fit:
// an exact value (until 4.17), a cleared bit below a base (4.18 to 6.11), a
// value in the top byte (from 6.12).
type typeTest struct{ mask, want uint32 }

func (t typeTest) match(word uint32) bool { return t.mask != 0 && word&t.mask == t.want }

// Limits of struct page, in bytes. It has 64 in nearly all kernels, 56 without
// cgroups, up to 128 in debug kernels.
const (
	minPageStruct = 32
	maxPageStruct = 512
)

// NewPageLayout reads the layout of struct page. l may be nil; what vmcoreinfo
// says wins. The error is ErrNoInfo for a key that no decision can do without,
// ErrCorrupt for numbers that cannot be.
func NewPageLayout(info *VMCoreInfo, l *Layout) (*PageLayout, error) {
	p := new(PageLayout)
	size, ok := info.Size("page")
	if !ok {
		return nil, fmt.Errorf("SIZE(page): %w", ErrNoInfo)
	}
	if size < minPageStruct || size > maxPageStruct || size%8 != 0 {
		return nil, fmt.Errorf("struct page of %d bytes: %w", size, ErrCorrupt)
	}
	p.Size = size

	for _, m := range []struct {
		offset *uint64
		width  uint64
		names  []string
	}{
		{&p.flags, 8, []string{"page.flags"}},
		{&p.mapping, 8, []string{"page.mapping"}},
		{&p.refcount, 4, []string{"page._refcount"}},
		{&p.mapcount, 4, []string{"page._mapcount", "page.page_type"}},
		{&p.compound, 8, []string{"page.compound_info", "page.compound_head"}},
		{&p.LRU, 16, []string{"page.lru"}},
	} {
		off, ok := firstOffset(info, l, m.names)
		if !ok {
			return nil, fmt.Errorf("OFFSET(%s): %w", m.names[0], ErrNoInfo)
		}
		if off > size || m.width > size-off {
			return nil, fmt.Errorf("%s at %d of %d bytes: %w", m.names[0], off, size, ErrCorrupt)
		}
		*m.offset = off
	}

	private, sized := firstOffset(info, l, []string{"page.private"})
	switch {
	case !sized:
		p.private = p.mapping // any that can be read: nobody has use for it
	case private > size-8:
		return nil, fmt.Errorf("page.private at %d of %d bytes: %w", private, size, ErrCorrupt)
	default:
		p.private = private
	}

	p.MaxOrder, ok = info.Length("zone.free_area")
	if !ok {
		if f, found := l.Field("zone.free_area"); found {
			p.MaxOrder = f.Count
		}
	}
	if p.MaxOrder == 0 || p.MaxOrder > 32 {
		return nil, fmt.Errorf("LENGTH(zone.free_area) is %d: %w", p.MaxOrder, ErrNoInfo)
	}

	p.setFlags(info, l)
	p.setTypes(info, l)
	p.setHugetlb(info)
	if !sized {
		p.buddy = typeTest{} // a free block of unknown size
	}
	return p, nil
}

// TellsFree reports whether struct pages tell which pages are free: if not,
// none is [PageFree], and only the free lists know ([Kernel.FreeSet]).
func (p *PageLayout) TellsFree() bool { return p.buddy.mask != 0 }

func firstOffset(info *VMCoreInfo, l *Layout, names []string) (uint64, bool) {
	for _, n := range names {
		if off, ok := info.Offset(n); ok {
			return off, true
		}
	}
	for _, n := range names {
		if off, ok := l.Offset(n); ok {
			return off, true
		}
	}
	return 0, false
}

// setFlags fills the masks of flags.
func (p *PageLayout) setFlags(info *VMCoreInfo, l *Layout) {
	flag := func(name string) uint64 {
		n, ok := info.Number(name)
		if !ok {
			n, ok = l.EnumValue("pageflags", name)
		}
		if !ok || n < 0 || n > 63 {
			return 0
		}
		return 1 << uint(n)
	}
	p.lru = flag("PG_lru")
	p.privateFlag = flag("PG_private")
	p.swapcache = flag("PG_swapcache")
	p.swapbacked = flag("PG_swapbacked")
	p.reserved = flag("PG_reserved")
	p.poison = flag("PG_hwpoison")
	// A flag until 6.9; a page type now, of which the enum knows nothing.
	p.slabFlag = flag("PG_slab")
	if mask, ok := info.Number("PG_head_mask"); ok {
		p.head = uint64(mask)
	} else {
		p.head = flag("PG_head")
	}
}

// setTypes fills the tests of page types. The kernel exports them as the value
// that the word has: ~flag while types were bits, the value since then.
func (p *PageLayout) setTypes(info *VMCoreInfo, l *Layout) {
	const (
		exact = iota
		flags
		topByte
	)
	buddy, known := info.Number("PAGE_BUDDY_MAPCOUNT_VALUE")
	// Any type shows how all are written.
	some, found := buddy, known
	for _, name := range []string{"OFFLINE", "SLAB", "HUGETLB", "UNACCEPTED"} {
		if !found {
			some, found = info.Number("PAGE_" + name + "_MAPCOUNT_VALUE")
		}
	}
	encoding, base := exact, uint32(0)
	v := uint32(some)
	switch {
	case found && v&0xffffff == 0 && v>>24 >= 0x80 && v>>24 < 0xff:
		// 6.12: a value in the top byte, the rest is for the owner.
		encoding = topByte
		p.typed = -0x01000000 // PGTY_mapcount_underflow << 24
	case found && bits.OnesCount32(^v) == 1 && ^v >= 1<<24:
		// 6.11: bits in the top byte below base 0x80000000.
		encoding, base = flags, 0x80000000
		p.typed = -0x10000
	case found && bits.OnesCount32(^v) == 1:
		// 4.18: bits below base 0xf0000000.
		encoding, base = flags, 0xf0000000
		p.typed = -128
	default:
		// Whole words until 4.17, the highest of them -128: mm_types.h.
		p.typed = -127
	}
	test := func(word uint32) typeTest {
		switch encoding {
		case topByte:
			return typeTest{0xff000000, word & 0xff000000}
		case flags:
			return typeTest{base | ^word, base}
		}
		return typeTest{^uint32(0), word}
	}
	if known {
		p.buddy = test(uint32(buddy))
	}
	for _, t := range []struct {
		test    *typeTest
		number  string
		newName string // in enum pagetype, a value for the top byte (6.12)
		oldName string // in enum pagetype, a bit (6.11)
	}{
		{&p.offline, "PAGE_OFFLINE_MAPCOUNT_VALUE", "PGTY_offline", "PG_offline"},
		{&p.unaccepted, "PAGE_UNACCEPTED_MAPCOUNT_VALUE", "PGTY_unaccepted", ""},
		{&p.slab, "PAGE_SLAB_MAPCOUNT_VALUE", "PGTY_slab", "PG_slab"},
		{&p.hugetlb, "PAGE_HUGETLB_MAPCOUNT_VALUE", "PGTY_hugetlb", "PG_hugetlb"},
		{&p.table, "PAGE_TABLE_MAPCOUNT_VALUE", "PGTY_table", "PG_table"},
	} {
		if n, ok := info.Number(t.number); ok {
			*t.test = test(uint32(n))
		} else if n, ok := l.EnumValue("pagetype", t.newName); ok && encoding == topByte && n >= 0x80 && n < 0xff {
			*t.test = test(uint32(n) << 24)
		} else if n, ok := l.EnumValue("pagetype", t.oldName); ok && encoding == flags && bits.OnesCount32(uint32(n)) == 1 {
			*t.test = test(^uint32(n))
		}
	}
}

// setHugetlb finds how hugetlb pages are told when they are no page type.
func (p *PageLayout) setHugetlb(info *VMCoreInfo) {
	if p.hugetlb.mask != 0 {
		return
	}
	// 6.6 to 6.8: a flag of the second page.
	if n, ok := info.Number("PG_hugetlb"); ok && n >= 0 && n < 64 {
		p.nextFlag = 1 << uint(n)
		return
	}
	// Until 6.5: a byte that numbers the destructor.
	dtor, ok := info.Number("HUGETLB_PAGE_DTOR")
	if !ok || dtor <= 0 || dtor > 0xff {
		return
	}
	off, ok := info.Offset("page.compound_dtor")
	if !ok {
		// 6.3: counted from the first page.
		if off, ok = info.Offset("folio._folio_dtor"); ok {
			off -= p.Size
		}
	}
	if ok && off < p.Size {
		p.dtor, p.dtorOffset = uint64(dtor), off
	}
}

// Decode reads one struct page. raw has at least Size bytes.
func (p *PageLayout) Decode(raw []byte) Page {
	raw = raw[:p.Size]
	return Page{
		Flags:    binary.LittleEndian.Uint64(raw[p.flags:]),
		Mapping:  binary.LittleEndian.Uint64(raw[p.mapping:]),
		Private:  binary.LittleEndian.Uint64(raw[p.private:]),
		Compound: binary.LittleEndian.Uint64(raw[p.compound:]),
		Type:     binary.LittleEndian.Uint32(raw[p.mapcount:]),
		Refcount: int32(binary.LittleEndian.Uint32(raw[p.refcount:])),
	}
}

// Kind tells what the page is. The order of the questions matters: members
// share words, and a later question may only be asked when the earlier ones
// were answered with no.
func (p *PageLayout) Kind(pg *Page) PageKind {
	switch {
	case pg.Flags == ^uint64(0):
		// PAGE_POISON_PATTERN: the kernel fills fresh struct pages so.
		return PageUninitialized
	case pg.Compound&1 != 0:
		return PageTail
	case pg.Flags&p.slabFlag != 0:
		// Slabs use the other members for themselves.
		return PageSlab
	case int32(pg.Type) < p.typed:
		return p.typeKind(pg)
	case pg.Flags&p.reserved != 0:
		return PageReserved
	case pg.Mapping&1 != 0 && pg.Mapping>>63 != 0:
		// PAGE_MAPPING_ANON in the pointer to an anon_vma, or to KSM's node.
		return PageAnon
	case pg.Flags&p.lru != 0 || (pg.Flags&p.swapbacked != 0 && pg.Flags&p.swapcache != 0):
		return PageCache
	}
	return PageKernel
}

func (p *PageLayout) typeKind(pg *Page) PageKind {
	switch word := pg.Type; {
	case p.slab.match(word):
		return PageSlab
	case p.offline.match(word):
		return PageOffline
	case p.buddy.match(word):
		return PageFree
	case p.unaccepted.match(word):
		return PageUnaccepted
	case p.hugetlb.match(word):
		return PageHugetlb
	case p.table.match(word):
		return PageTable
	}
	return PageTyped
}

// Poisoned reports whether the hardware failed in the page, whatever its kind.
func (p *PageLayout) Poisoned(pg *Page) bool {
	return pg.Flags&p.poison != 0 && pg.Flags != ^uint64(0)
}

// Head reports whether pg is the first page of a compound page.
func (p *PageLayout) Head(pg *Page) bool { return pg.Flags&p.head != 0 }

// PrivateCache reports whether a page of the page cache has data of its
// filesystem attached. Where the kernel does not tell, all have.
func (p *PageLayout) PrivateCache(pg *Page) bool {
	return p.privateFlag == 0 || pg.Flags&p.privateFlag != 0
}

// AsksNext reports whether only the second struct page tells if pg, a head, is
// a hugetlb page.
func (p *PageLayout) AsksNext(pg *Page) bool {
	return p.nextFlag|p.dtor != 0 && p.Head(pg)
}

// HugetlbByNext tells from the second struct page of a compound page whether
// it is a hugetlb page, for kernels where AsksNext.
func (p *PageLayout) HugetlbByNext(raw []byte) bool {
	raw = raw[:p.Size]
	if binary.LittleEndian.Uint64(raw[p.compound:])&1 == 0 {
		return false // no tail, so the first was no head
	}
	if p.nextFlag != 0 {
		return binary.LittleEndian.Uint64(raw[p.flags:])&p.nextFlag != 0
	}
	return p.dtor != 0 && uint64(raw[p.dtorOffset]) == p.dtor
}

// HeadOf is the address of the head's struct page, for a tail whose own is at
// va. Since 7.1 the word may be a mask for the address instead of a pointer
// (compound_info_has_mask, include/linux/page-flags.h, Linux 7.2). Which one
// it is shows by itself: a mask is minus a power of two, of at most the size
// of the struct pages of one compound page, and no memory map lies that high.
func (p *PageLayout) HeadOf(pg *Page, va VirtAddr) VirtAddr {
	word := pg.Compound &^ 1
	if neg := -word; word>>32 == 0xffffffff && neg&(neg-1) == 0 {
		return va & VirtAddr(word)
	}
	return VirtAddr(word)
}
