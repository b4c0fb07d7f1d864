package kernel

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// pageInfo is the part of vmcoreinfo that is about struct page, of which the
// lines that follow replace or add.
func pageInfo(t testing.TB, lines ...string) *VMCoreInfo {
	t.Helper()
	text := strings.Join(lines, "\n") + `
SIZE(page)=64
OFFSET(page.flags)=0
OFFSET(page.compound_head)=8
OFFSET(page.lru)=8
OFFSET(page.mapping)=24
OFFSET(page.private)=40
OFFSET(page._mapcount)=48
OFFSET(page._refcount)=52
LENGTH(zone.free_area)=11
NUMBER(PG_lru)=5
NUMBER(PG_private)=14
NUMBER(PG_swapcache)=10
NUMBER(PG_swapbacked)=17
NUMBER(PG_head_mask)=64
`
	info, err := ParseVMCoreInfo([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// The kernels of which each has its own way to write a page's type: the lines
// of vmcoreinfo, and the words that pages have.
var pageEras = []struct {
	name  string
	lines []string
	// words of page types; 0: this kernel has no such type
	buddy, offline, slab, hugetlb, unaccepted, other uint32
}{
	// include/linux/page-flags.h of each version.
	{"5.4", []string{
		"NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129", "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257",
		"NUMBER(PG_slab)=9", "NUMBER(HUGETLB_PAGE_DTOR)=2", "OFFSET(page.compound_dtor)=16",
	}, ^uint32(0x80), ^uint32(0x100), 0, 0, 0, ^uint32(0x400)},
	{"6.9", []string{
		"NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129", "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257",
		"NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-2049", "NUMBER(PG_slab)=9",
	}, ^uint32(0x80), ^uint32(0x100), 0, ^uint32(0x800), 0, ^uint32(0x200)},
	{"6.10", []string{
		"NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129", "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257",
		"NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-2049", "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-4097",
	}, ^uint32(0x80), ^uint32(0x100), ^uint32(0x1000), ^uint32(0x800), 0, ^uint32(0x200)},
	{"6.11", []string{
		"NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-1073741825", "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-536870913",
		"NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-67108865", "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-33554433",
	}, ^uint32(0x40000000), ^uint32(0x20000000), ^uint32(0x02000000), ^uint32(0x04000000), 0, ^uint32(0x01000000) &^ 0xffff},
	{"6.12", []string{
		"NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456", "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-251658240",
		"NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-201326592", "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376",
		"NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)=-150994944",
	}, 0xf0000000, 0xf1000000, 0xf5000000, 0xf4000000, 0xf7000000, 0xf6000123},
}

func TestPageTypes(t *testing.T) {
	for _, era := range pageEras {
		t.Run(era.name, func(t *testing.T) {
			l, err := NewPageLayout(pageInfo(t, era.lines...), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				name string
				word uint32
				want PageKind
			}{
				{"buddy", era.buddy, PageFree},
				{"offline", era.offline, PageOffline},
				{"slab", era.slab, PageSlab},
				{"hugetlb", era.hugetlb, PageHugetlb},
				{"unaccepted", era.unaccepted, PageUnaccepted},
				{"another type", era.other, PageTyped},
				{"unmapped", ^uint32(0), PageKernel},
				{"mapped once", 0, PageKernel},
				{"mapped often", 1000, PageKernel},
				{"one too few", ^uint32(1), PageKernel}, // -2: an underflow is no type
			} {
				if c.word == 0 && c.want != PageKernel {
					continue
				}
				pg := Page{Type: c.word}
				if got := l.Kind(&pg); got != c.want {
					t.Errorf("%s: Kind(%#x) = %d; want %d", c.name, c.word, got, c.want)
				}
			}
			// Types written into the lower bits by their owner (6.11).
			if era.name == "6.12" {
				pg := Page{Type: era.slab | 0x1234}
				if got := l.Kind(&pg); got != PageSlab {
					t.Errorf("Kind(%#x) = %d; want slab", pg.Type, got)
				}
			}
		})
	}
}

func TestPageKinds(t *testing.T) {
	const (
		lru, swapcache, swapbacked = 1 << 5, 1 << 10, 1 << 17
		anon, file                 = 0xffffaf8000000001, 0xffffaf8000000000
	)
	bits := func(lines ...string) *PageLayout {
		l, err := NewPageLayout(pageInfo(t, lines...), &Layout{Enums: map[string]map[string]int64{
			"pageflags": {"PG_reserved": 13, "PG_hwpoison": 20, "PG_lru": 1}, // PG_lru: vmcoreinfo wins
		}})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	values := bits(pageEras[len(pageEras)-1].lines...)
	old := bits(pageEras[0].lines...)
	for _, c := range []struct {
		name string
		l    *PageLayout
		pg   Page
		want PageKind
	}{
		{"nothing", values, Page{Type: ^uint32(0)}, PageKernel},
		{"zeros", values, Page{}, PageKernel},
		{"cache", values, Page{Flags: lru, Mapping: file}, PageCache},
		{"swap cache", values, Page{Flags: swapbacked | swapcache}, PageCache},
		{"swapbacked alone", values, Page{Flags: swapbacked}, PageKernel},
		{"anonymous", values, Page{Flags: lru | swapbacked, Mapping: anon}, PageAnon},
		{"ksm", values, Page{Flags: lru, Mapping: anon | 2}, PageAnon},
		{"mapping of no kernel address", values, Page{Mapping: 0x1001}, PageKernel},
		{"movable, not anonymous", values, Page{Mapping: file | 2}, PageKernel},
		{"reserved", values, Page{Flags: 1<<13 | lru}, PageReserved},
		{"offline and reserved", values, Page{Flags: 1 << 13, Type: 0xf1000000}, PageOffline},
		{"tail", values, Page{Compound: 0xffff8d8000000041, Flags: lru}, PageTail},
		{"never filled", values, Page{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint32(0), -1}, PageUninitialized},
		{"slab by flag", old, Page{Flags: 1 << 9, Mapping: anon, Type: ^uint32(0x80)}, PageSlab},
		{"no slab flag any more", values, Page{Flags: 1<<9 | lru, Mapping: anon}, PageAnon},
	} {
		if got := c.l.Kind(&c.pg); got != c.want {
			t.Errorf("%s: Kind(%+v) = %d; want %d", c.name, c.pg, got, c.want)
		}
	}
	if pg := (Page{Flags: 1 << 20}); !values.Poisoned(&pg) {
		t.Error("a page with PG_hwpoison is not Poisoned")
	}
	if pg := (Page{Flags: ^uint64(0)}); values.Poisoned(&pg) {
		t.Error("a struct page never filled is Poisoned")
	}
}

func TestPageHugetlbByNext(t *testing.T) {
	next := func(flags uint64, dtor byte, compound uint64) []byte {
		b := make([]byte, 64)
		binary.LittleEndian.PutUint64(b, flags)
		binary.LittleEndian.PutUint64(b[8:], compound)
		b[16] = dtor
		return b
	}
	const tail = 0xffff8d8000000001
	for _, c := range []struct {
		name  string
		lines []string
		next  []byte
		want  bool
	}{
		{"5.4 hugetlb", pageEras[0].lines, next(0, 2, tail), true},
		{"5.4 other", pageEras[0].lines, next(0, 1, tail), false},
		{"5.4 not compound", pageEras[0].lines, next(0, 2, 0), false},
		{"6.3 hugetlb", []string{"NUMBER(HUGETLB_PAGE_DTOR)=2", "OFFSET(folio._folio_dtor)=80"}, next(0, 2, tail), true},
		{"6.3 other", []string{"NUMBER(HUGETLB_PAGE_DTOR)=2", "OFFSET(folio._folio_dtor)=80"}, next(0, 1, tail), false},
		{"6.6 hugetlb", []string{"NUMBER(PG_hugetlb)=8"}, next(1<<8, 0, tail), true},
		{"6.6 other", []string{"NUMBER(PG_hugetlb)=8"}, next(1<<9, 0, tail), false},
	} {
		l, err := NewPageLayout(pageInfo(t, c.lines...), nil)
		if err != nil {
			t.Fatal(err)
		}
		head := Page{Flags: 64}
		if !l.AsksNext(&head) {
			t.Errorf("%s: AsksNext of a head = false", c.name)
		}
		if l.AsksNext(&Page{}) {
			t.Errorf("%s: AsksNext of a single page = true", c.name)
		}
		if got := l.HugetlbByNext(c.next); got != c.want {
			t.Errorf("%s: HugetlbByNext = %v; want %v", c.name, got, c.want)
		}
	}
	l, err := NewPageLayout(pageInfo(t, pageEras[len(pageEras)-1].lines...), nil)
	if err != nil {
		t.Fatal(err)
	}
	if l.AsksNext(&Page{Flags: 64}) {
		t.Error("6.12: AsksNext = true; hugetlb is a type there")
	}
}

func TestPageHeadOf(t *testing.T) {
	l, err := NewPageLayout(pageInfo(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	const va = 0xffff8d8000008ac0
	for _, c := range []struct {
		name     string
		compound uint64
		want     VirtAddr
	}{
		{"pointer", 0xffff8d8000008001, 0xffff8d8000008000},
		{"pointer of sv57", 0xff1c000002000041, 0xff1c000002000040},
		{"mask of order 2", ^uint64(64<<2-1) | 1, va &^ (64<<2 - 1)},
		{"mask of order 9", ^uint64(64<<9-1) | 1, va &^ (64<<9 - 1)},
		{"mask of order 18", ^uint64(64<<18-1) | 1, va &^ (64<<18 - 1)},
		// The lowest address of a memory map is minus a power of two, too.
		{"pointer to the first struct page of arm64", 0xfffffc0000000001, 0xfffffc0000000000},
		{"nothing", 1, 0},
	} {
		pg := Page{Compound: c.compound}
		if got := l.HeadOf(&pg, va); got != c.want {
			t.Errorf("%s: HeadOf(%#x) = %#x; want %#x", c.name, c.compound, got, c.want)
		}
	}
}

func TestPageLayoutErrors(t *testing.T) {
	for _, lines := range [][]string{
		{"SIZE(page)=8"},
		{"SIZE(page)=4096"},
		{"SIZE(page)=63"},
		{"SIZE(page)=x"},
		{"OFFSET(page.flags)=60"},
		{"OFFSET(page.private)=18446744073709551615"},
		{"OFFSET(page._refcount)=61"},
		{"OFFSET(page.mapping)="},
		{"LENGTH(zone.free_area)=0"},
		{"LENGTH(zone.free_area)=64"},
	} {
		if l, err := NewPageLayout(pageInfo(t, lines...), nil); err == nil {
			t.Errorf("NewPageLayout with %v = %+v; want an error", lines, l)
		}
	}
	// What vmcoreinfo lacks, the layout may know.
	info, err := ParseVMCoreInfo([]byte("SIZE(page)=64\nOFFSET(page.flags)=0\nLENGTH(zone.free_area)=11\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewPageLayout(info, nil); err == nil {
		t.Error("NewPageLayout without offsets = nil error")
	}
	fields := map[string]Field{}
	for i, n := range []string{"mapping", "private", "_refcount", "_mapcount", "compound_info", "lru"} {
		fields[n] = Field{Offset: uint64(8 * i), Size: 8}
	}
	if _, err := NewPageLayout(info, &Layout{Structs: map[string]Struct{"page": {64, fields}}}); err != nil {
		t.Errorf("NewPageLayout with a layout: %v", err)
	}
}

func FuzzPageDecode(f *testing.F) {
	for i, era := range pageEras {
		f.Add(strings.Join(era.lines, "\n"), []byte{byte(i), 1, 2, 3}, uint64(0xffff8d8000000040))
	}
	f.Add("SIZE(page)=56\nOFFSET(page.private)=48\nOFFSET(page.compound_dtor)=255\nNUMBER(HUGETLB_PAGE_DTOR)=2", []byte("x"), uint64(1))
	f.Fuzz(func(t *testing.T, lines string, raw []byte, va uint64) {
		info, err := ParseVMCoreInfo([]byte(lines + fmt.Sprint(pageInfo(t).text())))
		if err != nil {
			return
		}
		l, err := NewPageLayout(info, nil)
		if err != nil {
			return
		}
		for uint64(len(raw)) < l.Size {
			raw = append(raw, make([]byte, l.Size)...)
		}
		pg := l.Decode(raw)
		kind := l.Kind(&pg)
		if pg.Compound&1 != 0 && kind != PageTail && kind != PageUninitialized {
			t.Errorf("Kind(%+v) = %d; a tail is a tail", pg, kind)
		}
		l.HeadOf(&pg, VirtAddr(va))
		l.HugetlbByNext(raw)
		l.AsksNext(&pg)
		l.PrivateCache(&pg)
	})
}

// text writes a vmcoreinfo back.
func (v *VMCoreInfo) text() string {
	var b strings.Builder
	b.WriteByte('\n')
	for _, k := range v.Keys() {
		s, _ := v.String(k)
		fmt.Fprintf(&b, "%s=%s\n", k, s)
	}
	return b.String()
}
