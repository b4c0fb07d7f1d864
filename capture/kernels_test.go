package capture

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// pageKernel is a version of Linux as far as struct pages and their part of
// vmcoreinfo are concerned.
type pageKernel struct {
	version string
	// vmcoreinfo are the lines about pages that this version writes, with
	// CONFIG_HUGETLB_PAGE and CONFIG_MEMORY_FAILURE on riscv64, and no others:
	// kernel/crash_core.c until 6.8, kernel/vmcore_info.c since.
	vmcoreinfo string

	// Bits of enum pageflags, include/linux/page-flags.h.
	lru, head, swapcache, reserved, private, swapbacked, poison uint
	slabFlag                                                    uint // 0: a page type

	// Words of page types; 0 where there is no such type. pgtable is known by
	// being some type. mark is what another owner may write below a type.
	buddy, offline, slab, hugetlb, unaccepted, pgtable, mark uint32

	// How the second struct page of a hugetlb page shows it: a bit of its flags,
	// or the number in the byte behind compound_head.
	hugetlbBit uint
	dtor       byte
	// fakeHeads: struct pages of hugetlb pages may share one page of memory, so
	// that every 64th looks like the head (HUGETLB_PAGE_OPTIMIZE_VMEMMAP).
	fakeHeads bool
	// mask: tails have a mask for the head's address in place of the address.
	mask bool
}

// Offsets that have been the same in all versions, with the word that tails have
// at 8 under its name until 7.0.
const (
	pageOffsets = `
SIZE(page)=64
OFFSET(page.flags)=0
OFFSET(page._refcount)=52
OFFSET(page.mapping)=24
OFFSET(page.lru)=8
OFFSET(page._mapcount)=48
OFFSET(page.private)=40
`
	compoundHead = "OFFSET(page.compound_head)=8\n"
	// The order of enum pageflags until 6.5, with PG_head behind the byte that
	// tails use for something else.
	oldFlags = `
NUMBER(PG_lru)=4
NUMBER(PG_private)=13
NUMBER(PG_swapcache)=10
NUMBER(PG_swapbacked)=19
NUMBER(PG_slab)=9
NUMBER(PG_hwpoison)=22
NUMBER(PG_head_mask)=65536
`
	flags66 = `
NUMBER(PG_lru)=5
NUMBER(PG_private)=15
NUMBER(PG_swapcache)=12
NUMBER(PG_swapbacked)=19
NUMBER(PG_slab)=11
NUMBER(PG_hwpoison)=22
NUMBER(PG_head_mask)=64
`
	flags610 = `
NUMBER(PG_lru)=5
NUMBER(PG_private)=14
NUMBER(PG_swapcache)=11
NUMBER(PG_swapbacked)=18
NUMBER(PG_hwpoison)=21
NUMBER(PG_head_mask)=64
`
	newFlags = `
NUMBER(PG_lru)=5
NUMBER(PG_private)=14
NUMBER(PG_swapcache)=10
NUMBER(PG_swapbacked)=17
NUMBER(PG_hwpoison)=20
NUMBER(PG_head_mask)=64
`
	bitTypes = `
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129
NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257
`
	typedTypes = `
NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456
NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-201326592
NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-251658240
`
	sections = "NUMBER(SECTION_SIZE_BITS)=27\n"
	dtorID   = "NUMBER(HUGETLB_PAGE_DTOR)=2\n"
)

// pageKernels has a row for each time that something changed, from 5.4 to 7.2.
var pageKernels = []pageKernel{
	{ // The destructor is a byte that numbers it (since 4.16).
		version: "5.4", vmcoreinfo: pageOffsets + compoundHead + "OFFSET(page.compound_dtor)=16\nOFFSET(page.compound_order)=17\n" + oldFlags + bitTypes + dtorID,
		lru: 4, head: 16, swapcache: 10, reserved: 12, private: 13, swapbacked: 19, poison: 22, slabFlag: 9,
		buddy: ^uint32(0x80), offline: ^uint32(0x100), pgtable: ^uint32(0x400), dtor: 2,
	},
	{ // SECTION_SIZE_BITS is told.
		version: "5.13", vmcoreinfo: pageOffsets + compoundHead + "OFFSET(page.compound_dtor)=16\nOFFSET(page.compound_order)=17\n" + oldFlags + bitTypes + dtorID + sections,
		lru: 4, head: 16, swapcache: 10, reserved: 12, private: 13, swapbacked: 19, poison: 22, slabFlag: 9,
		buddy: ^uint32(0x80), offline: ^uint32(0x100), pgtable: ^uint32(0x200), dtor: 2,
	},
	{ // As 5.13, with struct pages that lie about the others of a hugetlb page.
		version: "6.1", vmcoreinfo: pageOffsets + compoundHead + "OFFSET(page.compound_dtor)=16\nOFFSET(page.compound_order)=17\n" + oldFlags + bitTypes + dtorID + sections,
		lru: 4, head: 16, swapcache: 10, reserved: 12, private: 13, swapbacked: 19, poison: 22, slabFlag: 9,
		buddy: ^uint32(0x80), offline: ^uint32(0x100), pgtable: ^uint32(0x200), dtor: 2, fakeHeads: true,
	},
	{ // The second struct page is part of struct folio.
		version: "6.3", vmcoreinfo: pageOffsets + compoundHead + "OFFSET(folio._folio_dtor)=80\nOFFSET(folio._folio_order)=81\n" + oldFlags + bitTypes + dtorID + sections,
		lru: 4, head: 16, swapcache: 10, reserved: 12, private: 13, swapbacked: 19, poison: 22, slabFlag: 9,
		buddy: ^uint32(0x80), offline: ^uint32(0x100), pgtable: ^uint32(0x200), dtor: 2, fakeHeads: true,
	},
	{ // No destructors: PG_hugetlb is PG_active of the second struct page, whose
		// lowest byte has the order. Flags in another order.
		version: "6.6", vmcoreinfo: pageOffsets + compoundHead + flags66 + `
NUMBER(PG_hugetlb)=8
` + bitTypes + sections,
		lru: 5, head: 6, swapcache: 12, reserved: 14, private: 15, swapbacked: 19, poison: 22, slabFlag: 11,
		buddy: ^uint32(0x80), offline: ^uint32(0x100), pgtable: ^uint32(0x200), hugetlbBit: 8, fakeHeads: true,
	},
	{ // Hugetlb is a page type.
		version: "6.9", vmcoreinfo: pageOffsets + compoundHead + flags66 + `
NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-2049
` + bitTypes + sections,
		lru: 5, head: 6, swapcache: 12, reserved: 14, private: 15, swapbacked: 19, poison: 22, slabFlag: 11,
		buddy: ^uint32(0x80), offline: ^uint32(0x100), pgtable: ^uint32(0x200), hugetlb: ^uint32(0x800), fakeHeads: true,
	},
	{ // Slab is a page type, and no flag.
		version: "6.10", vmcoreinfo: pageOffsets + compoundHead + flags610 + `
NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-4097
NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-2049
` + bitTypes + sections,
		lru: 5, head: 6, swapcache: 11, reserved: 13, private: 14, swapbacked: 18, poison: 21,
		buddy: ^uint32(0x80), offline: ^uint32(0x100), pgtable: ^uint32(0x200), hugetlb: ^uint32(0x800), slab: ^uint32(0x1000), fakeHeads: true,
	},
	{ // Types are bits of the top byte, and whoever has a type may use the rest.
		version: "6.11", vmcoreinfo: pageOffsets + compoundHead + flags610 + `
NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-33554433
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-1073741825
NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-67108865
NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-536870913
` + sections,
		lru: 5, head: 6, swapcache: 11, reserved: 13, private: 14, swapbacked: 18, poison: 21,
		buddy: ^uint32(0x40000000), offline: ^uint32(0x20000000), pgtable: ^uint32(0x10000000), hugetlb: ^uint32(0x04000000), slab: ^uint32(0x02000000),
		mark: 0xffff, fakeHeads: true,
	},
	{ // Types are values of the top byte.
		version: "6.12", vmcoreinfo: pageOffsets + compoundHead + newFlags + typedTypes + sections,
		lru: 5, head: 6, swapcache: 10, reserved: 13, private: 14, swapbacked: 17, poison: 20,
		buddy: 0xf0000000, offline: 0xf1000000, pgtable: 0xf2000000, hugetlb: 0xf4000000, slab: 0xf5000000, mark: 0xffffff, fakeHeads: true,
	},
	{ // Unaccepted memory is told, with CONFIG_UNACCEPTED_MEMORY.
		version: "6.16", vmcoreinfo: pageOffsets + compoundHead + newFlags + typedTypes + sections + "NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)=-150994944\n",
		lru: 5, head: 6, swapcache: 10, reserved: 13, private: 14, swapbacked: 17, poison: 20,
		buddy: 0xf0000000, offline: 0xf1000000, pgtable: 0xf2000000, hugetlb: 0xf4000000, slab: 0xf5000000, unaccepted: 0xf7000000,
		mark: 0xffffff, fakeHeads: true,
	},
	{ // The word of tails has another name, and a pointer in it.
		version: "7.1 pointer", vmcoreinfo: pageOffsets + "OFFSET(page.compound_info)=8\n" + newFlags + typedTypes + sections + "NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)=-150994944\n",
		lru: 5, head: 6, swapcache: 10, reserved: 13, private: 14, swapbacked: 17, poison: 20,
		buddy: 0xf0000000, offline: 0xf1000000, pgtable: 0xf2000000, hugetlb: 0xf4000000, slab: 0xf5000000, unaccepted: 0xf7000000,
		mark: 0xffffff,
	},
	{ // Or a mask, with HUGETLB_PAGE_OPTIMIZE_VMEMMAP.
		version: "7.1 mask", vmcoreinfo: pageOffsets + "OFFSET(page.compound_info)=8\n" + newFlags + typedTypes + sections + "NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)=-150994944\n",
		lru: 5, head: 6, swapcache: 10, reserved: 13, private: 14, swapbacked: 17, poison: 20,
		buddy: 0xf0000000, offline: 0xf1000000, pgtable: 0xf2000000, hugetlb: 0xf4000000, slab: 0xf5000000, unaccepted: 0xf7000000,
		mark: 0xffffff, mask: true,
	},
}

// apply makes the machine write its vmcoreinfo as this kernel does. without are
// lines that were lost.
func (k *pageKernel) apply(m *kerneltest.Machine, without ...string) {
	maps.DeleteFunc(m.Info, func(key, _ string) bool {
		for _, about := range []string{"page", "PG_", "PAGE_SLAB", "PAGE_BUDDY", "PAGE_HUGETLB", "PAGE_OFFLINE", "PAGE_UNACCEPTED", "SECTION_SIZE_BITS"} {
			if strings.Contains(key, "("+about) {
				return true
			}
		}
		return false
	})
	for line := range strings.Lines(k.vmcoreinfo) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			m.Info[key] = value
		}
	}
	for _, key := range without {
		delete(m.Info, key)
	}
}

// fill puts pages of all kinds that this kernel has at p and behind, and says
// what class each is of. Kinds are far enough from each other for any order.
func (k *pageKernel) fill(m *kerneltest.Machine, p vmcore.PFN) map[vmcore.PFN]Class {
	const anon, file, step = kerneltest.AnonMapping, kerneltest.FileMapping, 1024
	want := map[vmcore.PFN]Class{}
	single := func(c Class, pg kerneltest.Page) {
		m.Set(p, pg)
		want[p] = c
		want[p+1] = ClassKeep // the neighbour, which is the kernel's
		p += step
	}
	tailWord := func(head vmcore.PFN, order int) uint64 {
		if k.mask {
			return -(uint64(kerneltest.PageStruct) << order) | 1
		}
		return kerneltest.StructAt(head) | 1
	}
	// compound fills a compound page and lets change the second struct page.
	compound := func(c Class, order int, head kerneltest.Page, second func(pg *kerneltest.Page)) {
		head.Flags |= 1 << k.head
		m.Set(p, head)
		for i := vmcore.PFN(1); i < 1<<order; i++ {
			tail := kerneltest.Page{Compound: tailWord(p, order), Type: noType}
			if i == 1 && second != nil {
				second(&tail)
			}
			m.Set(p+i, tail)
		}
		for i := range vmcore.PFN(1) << order {
			want[p+i] = c
		}
		want[p+1<<order] = ClassKeep
		p += step
	}
	free := func(order int) {
		m.SetFree(p, order)
		m.Set(p, kerneltest.Page{Type: k.buddy, Private: uint64(order)})
		for i := range vmcore.PFN(1) << order {
			want[p+i] = ClassFree
		}
		p += step
	}
	bit := func(bits ...uint) (flags uint64) {
		for _, b := range bits {
			flags |= 1 << b
		}
		return flags
	}

	free(0)
	free(3)
	free(10)
	single(ClassCache, kerneltest.Page{Flags: bit(k.lru), Mapping: file, Type: noType, Refcount: 1})
	single(ClassCache, kerneltest.Page{Flags: bit(k.lru), Mapping: file, Type: 2, Refcount: 4})                  // mapped by three
	single(ClassCache, kerneltest.Page{Flags: bit(k.swapbacked, k.swapcache), Mapping: file, Type: noType})      // shared memory, being swapped
	single(ClassKeep, kerneltest.Page{Flags: bit(k.swapbacked), Mapping: file, Type: noType, Refcount: 1})       // on its way to the lists
	single(ClassCachePrivate, kerneltest.Page{Flags: bit(k.lru, k.private), Mapping: file, Type: noType})        // with buffer heads
	single(ClassUser, kerneltest.Page{Flags: bit(k.lru, k.swapbacked), Mapping: anon, Refcount: 1})              // anonymous
	single(ClassUser, kerneltest.Page{Flags: bit(k.lru, k.swapbacked), Mapping: anon | 2, Type: 7, Refcount: 8}) // of KSM
	compound(ClassUser, 9, kerneltest.Page{Flags: bit(k.lru, k.swapbacked), Mapping: anon, Refcount: 1}, func(pg *kerneltest.Page) {
		pg.Flags = 9 // order and flags of a folio, or nothing
		if k.dtor != 0 {
			pg.Flags = 0
		}
	})
	compound(ClassCache, 4, kerneltest.Page{Flags: bit(k.lru), Mapping: file, Type: noType, Refcount: 1}, nil)

	hugetlb := p
	compound(ClassUser, 9, kerneltest.Page{Mapping: file, Type: max(k.hugetlb, k.absent()), Refcount: 1}, func(pg *kerneltest.Page) {
		if k.hugetlbBit != 0 {
			pg.Flags = bit(k.hugetlbBit) | 9
		}
	})
	if k.dtor != 0 {
		m.Put(kerneltest.StructPhys(hugetlb+1)+16, []byte{k.dtor, 9})
	}
	if k.fakeHeads {
		for i := vmcore.PFN(64); i < 512; i++ {
			var one [kerneltest.PageStruct]byte
			if _, err := m.ReadPhys(one[:], kerneltest.StructPhys(hugetlb+i%64)); err != nil {
				panic(err)
			}
			m.Put(kerneltest.StructPhys(hugetlb+i), one[:])
		}
	}
	// A compound page that is like it but for the mark.
	compound(ClassKeep, 9, kerneltest.Page{Type: noType, Refcount: 1}, func(pg *kerneltest.Page) { pg.Flags = 9 })

	if k.slabFlag != 0 {
		// Members are used for other things in a slab.
		compound(ClassKeep, 3, kerneltest.Page{Flags: bit(k.slabFlag), Mapping: anon, Type: 0x123, Refcount: 1}, nil)
	} else {
		compound(ClassKeep, 3, kerneltest.Page{Type: k.slab, Mapping: anon, Flags: bit(k.lru), Refcount: 1}, nil)
		single(ClassKeep, kerneltest.Page{Type: k.slab&^k.mark | 0x1234&k.mark, Refcount: 1})
	}
	single(ClassOffline, kerneltest.Page{Type: k.offline, Refcount: 1})
	single(ClassOffline, kerneltest.Page{Type: k.offline, Flags: bit(k.reserved), Refcount: 1})
	single(ClassKeep, kerneltest.Page{Type: k.pgtable, Refcount: 1})
	single(ClassKeep, kerneltest.Page{Flags: bit(k.reserved), Type: noType, Refcount: 1})
	single(ClassKeep, kerneltest.Page{Type: noType, Refcount: 0}) // on a CPU's own list
	single(ClassKeep, kerneltest.Page{Flags: ^uint64(0), Compound: ^uint64(0), Mapping: ^uint64(0), Private: ^uint64(0), Type: noType, Refcount: -1})
	if k.unaccepted != 0 {
		m.Set(p, kerneltest.Page{Type: k.unaccepted})
		for i := range vmcore.PFN(1024) {
			want[p+i] = ClassUnaccepted
			if i > 0 {
				m.Set(p+i, kerneltest.Page{}) // never filled
			}
		}
		p += step
	}

	// What the hardware destroyed: alone, in the cache, among free pages, in the
	// middle of a page of many.
	single(ClassPoison, kerneltest.Page{Flags: bit(k.poison), Type: noType, Refcount: 1})
	single(ClassPoison, kerneltest.Page{Flags: bit(k.poison, k.lru), Mapping: file, Type: noType, Refcount: 1})
	free(4)
	m.Set(p-step+5, kerneltest.Page{Flags: bit(k.poison), Type: noType})
	want[p-step+5] = ClassPoison
	thp := p
	compound(ClassUser, 9, kerneltest.Page{Flags: bit(k.lru, k.swapbacked), Mapping: anon, Refcount: 1}, nil)
	for _, i := range []vmcore.PFN{1, 77, 511} {
		m.Set(thp+i, kerneltest.Page{Flags: bit(k.poison), Compound: tailWord(thp, 9), Type: noType})
		want[thp+i] = ClassPoison
	}
	return want
}

// absent is the word of a hugetlb page where that is no type.
func (k *pageKernel) absent() uint32 {
	if k.hugetlb != 0 {
		return 0
	}
	return noType
}

// Each kernel's way to say what its pages are is understood, and what must not
// be touched is not: reading it is an error in these tests.
func TestKernels(t *testing.T) {
	for _, k := range pageKernels {
		for _, lost := range []struct {
			name string
			keys []string
		}{
			{"", nil},
			// Without one of these only the free lists say what is free.
			{" by free lists", []string{"NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)"}},
			{" by free lists, sizes unknown", []string{"OFFSET(page.private)", "SYMBOL(vmemmap)"}},
		} {
			t.Run(k.version+lost.name, func(t *testing.T) {
				t.Parallel()
				m := kerneltest.New(2)
				k.apply(m, lost.keys...)
				start := (m.FirstPage() + 2047) &^ 2047
				want := k.fill(m, start)
				m.Finish()
				k.check(t, m, want)
				untouchable(m, want)
				for _, level := range []int{0, LevelAll} {
					if lost.keys != nil {
						break // as above, but for the classes
					}
					k.save(t, m, want, level)
				}
			})
		}
	}
}

// Where only the free lists say what is free, damage to them costs room and
// nothing else: pages are kept, and that is said.
func TestFreeListsDamaged(t *testing.T) {
	lost := func(m *kerneltest.Machine) vmcore.PFN {
		delete(m.Info, "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)")
		p := (m.FirstPage() + 2047) &^ 2047
		m.SetFree(p, 10)
		m.SetFree(p+2048, 3)
		m.SetFree(p+2056, 3)
		return p
	}
	for _, c := range []struct {
		name   string
		damage func(m *kerneltest.Machine, p vmcore.PFN) // after the lists were written
		before func(m *kerneltest.Machine)
		free   uint64 // pages left out
		failed bool
	}{
		{"none", nil, nil, 1024 + 16, false},
		{"no lists", nil, func(m *kerneltest.Machine) { delete(m.Info, "OFFSET(zone.free_area)") }, 0, true},
		{"a list that leads nowhere", func(m *kerneltest.Machine, p vmcore.PFN) {
			m.PutUint64(kerneltest.StructPhys(p+2048)+8, 0x1234)
		}, nil, 1024 + 8, true},
		{"a block of another size", func(m *kerneltest.Machine, p vmcore.PFN) {
			// The list of order 10 goes on to the block of order 3 behind.
			other := p + 2056
			m.PutUint64(kerneltest.StructPhys(p)+8, kerneltest.StructAt(other)+8)
			m.PutUint64(kerneltest.StructPhys(other)+8, 0)
			m.PutUint64(kerneltest.StructPhys(other)+16, kerneltest.StructAt(p)+8)
		}, nil, 1024 + 8, true},
		{"a block that is in use", func(m *kerneltest.Machine, p vmcore.PFN) {
			m.Set(p+2049, kerneltest.Page{Type: noType, Refcount: 1})
		}, nil, 1024 + 15, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := kerneltest.New(1)
			p := lost(m)
			if c.before != nil {
				c.before(m)
			}
			m.Finish()
			if c.damage != nil {
				c.damage(m, p)
			}
			f := disk{room: -1}
			res, err := runKernel(t, m, &f, Options{Level: LevelFree})
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(res.Checks, func(c Check) bool { return c.Name == "free lists" })
			if i < 0 || res.Checks[i].OK == c.failed {
				t.Fatalf("checks %+v; want one of free lists that fails: %v", res.Checks, c.failed)
			}
			if res.Pages.Free != c.free || !res.Complete {
				t.Errorf("%d pages free, complete %v, %q; want %d", res.Pages.Free, res.Complete, res.Checks[i].Detail, c.free)
			}
		})
	}
}

// check asks for the class of each page, in pieces of different sizes.
func (k *pageKernel) check(t *testing.T, m *kerneltest.Machine, want map[vmcore.PFN]Class) {
	t.Helper()
	n := int(m.Pages)
	for _, step := range []int{n, 2049, 61} {
		bad := 0
		seen := map[Class]int{}
		for i, got := range classify(t, selector(t, m), kerneltest.BasePFN, n, step) {
			pfn := kerneltest.BasePFN + vmcore.PFN(i)
			w, mentioned := want[pfn]
			if !mentioned {
				w = ClassKeep
			}
			seen[got]++
			if got != w {
				if bad++; bad < 10 {
					t.Errorf("in pieces of %d: page %#x is %v; want %v", step, pfn, got, w)
				}
			}
		}
		for _, c := range []Class{ClassKeep, ClassFree, ClassCache, ClassCachePrivate, ClassUser, ClassPoison, ClassOffline} {
			if seen[c] == 0 {
				t.Errorf("no page of class %v", c)
			}
		}
	}
}

// save makes a dump, which must not touch what must not be touched and have what
// its level keeps.
func (k *pageKernel) save(t *testing.T, m *kerneltest.Machine, want map[vmcore.PFN]Class, level int) {
	t.Helper()
	f := disk{room: -1}
	res, err := runKernel(t, m, &f, Options{Level: level, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	if !res.Complete || res.Used != level || len(failedChecks(res)) > 0 || res.Pages.Unreadable > 0 {
		t.Errorf("level %d: complete %v, level used %d because %q, failed checks %q, %d pages unreadable",
			level, res.Complete, res.Used, res.Why, failedChecks(res), res.Pages.Unreadable)
	}
	var saved uint64
	for pfn := range m.Pages {
		if !want[kerneltest.BasePFN+vmcore.PFN(pfn)].Dropped(level) {
			saved++
		}
	}
	if res.Pages.Saved != saved {
		t.Errorf("level %d: %d pages saved; want %d", level, res.Pages.Saved, saved)
	}
}
