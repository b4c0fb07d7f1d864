package capture

import (
	"errors"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

func selector(t testing.TB, m *kerneltest.Machine) *Selector {
	t.Helper()
	k, err := kernel.New(m, vmcore.MachineRISCV, []byte(m.Text()), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSelector(k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// classify asks for n pages from start on, in pieces of step pages.
func classify(t testing.TB, s *Selector, start vmcore.PFN, n, step int) []Class {
	t.Helper()
	classes := make([]Class, n)
	for i := range classes {
		classes[i] = NumClasses // must be replaced
	}
	for i := 0; i < n; i += step {
		if err := s.Classify(start+vmcore.PFN(i), classes[i:min(i+step, n)]); err != nil {
			t.Fatal(err)
		}
	}
	return classes
}

const noType = kerneltest.NoType

// population fills a machine with pages of all kinds from p on and says what
// class each has; pages that are not mentioned are the kernel's.
func population(m *kerneltest.Machine, p vmcore.PFN) map[vmcore.PFN]Class {
	const anon, file = kerneltest.AnonMapping, kerneltest.FileMapping
	want := map[vmcore.PFN]Class{}
	set := func(c Class, pages ...kerneltest.Page) {
		for _, pg := range pages {
			m.Set(p, pg)
			want[p] = c
			p++
		}
	}
	compound := func(c Class, order int, head kerneltest.Page) {
		p = (p + 1<<order - 1) &^ (1<<order - 1)
		m.SetCompound(p, order, head)
		for i := range vmcore.PFN(1) << order {
			want[p+i] = c
		}
		p += 1 << order
	}
	free := func(order int) {
		p = (p + 1<<order - 1) &^ (1<<order - 1)
		m.SetFree(p, order)
		for i := range vmcore.PFN(1) << order {
			want[p+i] = ClassFree
		}
		p += 1 << order
	}
	free(10)
	set(ClassKeep,
		kerneltest.Page{Type: noType, Refcount: 1},                                                  // kernel stack
		kerneltest.Page{Type: kerneltest.TypeTable, Refcount: 1},                                    // page table
		kerneltest.Page{Type: kerneltest.TypeSlab, Mapping: anon, Flags: kerneltest.LRU},            // slab with odd members
		kerneltest.Page{Type: kerneltest.TypeZsmalloc | 7, Mapping: file | 2},                       // zsmalloc
		kerneltest.Page{Type: noType, Refcount: 0},                                                  // on a per-CPU list
		kerneltest.Page{Flags: ^uint64(0), Compound: ^uint64(0), Mapping: ^uint64(0), Type: noType}, // never filled
	)
	set(ClassCache,
		kerneltest.Page{Flags: kerneltest.LRU, Mapping: file, Type: noType, Refcount: 2},
		kerneltest.Page{Flags: kerneltest.LRU, Mapping: file, Type: 3, Refcount: 4},
		kerneltest.Page{Flags: kerneltest.SwapBacked | kerneltest.SwapCache, Type: noType},
	)
	set(ClassCachePrivate, kerneltest.Page{Flags: kerneltest.LRU | kerneltest.Private, Mapping: file, Type: noType})
	set(ClassUser,
		kerneltest.Page{Flags: kerneltest.LRU | kerneltest.SwapBacked, Mapping: anon, Refcount: 1},
		kerneltest.Page{Mapping: anon, Type: noType, Refcount: 1},
	)
	set(ClassPoison,
		kerneltest.Page{Flags: kerneltest.HWPoison, Type: noType, Refcount: 1},
		kerneltest.Page{Flags: kerneltest.HWPoison | kerneltest.LRU, Mapping: file},
	)
	set(ClassOffline, kerneltest.Page{Type: kerneltest.TypeOffline}, kerneltest.Page{Type: kerneltest.TypeOffline, Flags: kerneltest.Private})
	free(0)
	free(3)
	compound(ClassUser, 9, kerneltest.Page{Flags: kerneltest.LRU, Mapping: anon, Refcount: 1})
	compound(ClassCache, 4, kerneltest.Page{Flags: kerneltest.LRU, Mapping: file, Refcount: 1})
	compound(ClassCachePrivate, 2, kerneltest.Page{Flags: kerneltest.LRU | kerneltest.Private, Mapping: file, Refcount: 1})
	compound(ClassUser, 10, kerneltest.Page{Type: kerneltest.TypeHugetlb, Refcount: 1})
	compound(ClassKeep, 3, kerneltest.Page{Type: kerneltest.TypeSlab, Refcount: 1})
	compound(ClassKeep, 2, kerneltest.Page{Type: noType, Refcount: 1})
	free(9)
	// The hardware failed in the middle of things.
	compound(ClassUser, 3, kerneltest.Page{Mapping: anon, Refcount: 1})
	m.Set(p-3, kerneltest.Page{Flags: kerneltest.HWPoison, Compound: kerneltest.StructAt(p-8) | 1})
	want[p-3] = ClassPoison
	compound(ClassKeep, 3, kerneltest.Page{Flags: kerneltest.HWPoison, Type: kerneltest.TypeSlab, Refcount: 1})
	want[p-8] = ClassPoison
	compound(ClassPoison, 3, kerneltest.Page{Flags: kerneltest.HWPoison, Type: kerneltest.TypeHugetlb, Refcount: 1})
	// Memory not accepted yet comes in the largest blocks; its struct pages
	// may never have been filled.
	p = (p + 1023) &^ 1023
	for i := range vmcore.PFN(1024) {
		m.Set(p+i, kerneltest.Page{})
		want[p+i] = ClassUnaccepted
	}
	m.Set(p, kerneltest.Page{Type: kerneltest.TypeUnaccepted})
	return want
}

func TestClassify(t *testing.T) {
	m := kerneltest.New(2)
	// The pages lie across the border of two sections.
	start := kerneltest.BasePFN + kerneltest.SectionPages - 2048
	want := population(m, start)
	m.Finish()
	n := 4 * 2048
	got := classify(t, selector(t, m), start, n, n)
	seen := map[Class]int{}
	bad := 0
	for i, c := range got {
		seen[c]++
		if w := want[start+vmcore.PFN(i)]; c != w {
			if bad++; bad < 20 {
				t.Errorf("page %d: %v; want %v", i, c, w)
			}
		}
	}
	for _, c := range []Class{ClassKeep, ClassCache, ClassCachePrivate, ClassUser, ClassFree, ClassPoison, ClassOffline, ClassUnaccepted} {
		if seen[c] == 0 {
			t.Errorf("no page of class %v", c)
		}
	}
	// The answer does not depend on where questions begin and end.
	for _, step := range []int{1, 7, 512, 777, 2049} {
		again := classify(t, selector(t, m), start, n, step)
		for i := range again {
			if again[i] != got[i] {
				t.Fatalf("in pieces of %d pages: page %d is %v; was %v", step, i, again[i], got[i])
			}
		}
	}
}

// Pages the kernel cannot do without are never left out.
func TestClassifyKeepsKernel(t *testing.T) {
	m := kerneltest.New(1)
	m.Finish()
	k, err := kernel.New(m, vmcore.MachineRISCV, []byte(m.Text()), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSelector(k)
	if err != nil {
		t.Fatal(err)
	}
	tables := 0
	for pfn, err := range k.PageTables() {
		if err != nil {
			t.Fatal(err)
		}
		tables++
		if c := classify(t, s, pfn, 1, 1)[0]; c != ClassKeep {
			t.Errorf("page table %#x is %v", pfn, c)
		}
	}
	if tables == 0 {
		t.Error("no page tables")
	}
}

// Struct pages that cannot be believed: pages are kept, and counted.
func TestClassifyContradictions(t *testing.T) {
	for _, c := range []struct {
		name    string
		damage  func(m *kerneltest.Machine, p vmcore.PFN) // p is a multiple of 2048, not used by anything
		keep    []vmcore.PFN                              // relative to p
		free    []vmcore.PFN
		counted uint64 // contradictions
	}{
		{"order too large", func(m *kerneltest.Machine, p vmcore.PFN) {
			m.Set(p, kerneltest.Page{Type: kerneltest.TypeBuddy, Private: 11})
		}, []vmcore.PFN{0, 1}, nil, 1},
		{"order of nonsense", func(m *kerneltest.Machine, p vmcore.PFN) {
			m.Set(p, kerneltest.Page{Type: kerneltest.TypeBuddy, Private: ^uint64(0)})
		}, []vmcore.PFN{0, 1}, nil, 1},
		{"block not aligned", func(m *kerneltest.Machine, p vmcore.PFN) {
			m.Set(p+2, kerneltest.Page{Type: kerneltest.TypeBuddy, Private: 2})
		}, []vmcore.PFN{2, 3, 4, 5}, nil, 1},
		{"free and in use", func(m *kerneltest.Machine, p vmcore.PFN) {
			m.Set(p, kerneltest.Page{Type: kerneltest.TypeBuddy, Private: 2, Refcount: 1})
		}, []vmcore.PFN{0, 1, 2, 3}, nil, 1},
		{"in use within a free block", func(m *kerneltest.Machine, p vmcore.PFN) {
			m.SetFree(p, 3)
			m.Set(p+5, kerneltest.Page{Type: noType, Refcount: 1})
			m.Set(p+6, kerneltest.Page{Type: kerneltest.TypeSlab})
		}, []vmcore.PFN{5, 6}, []vmcore.PFN{0, 4, 7}, 2},
		{"tail of a page that is no head", func(m *kerneltest.Machine, p vmcore.PFN) {
			m.Set(p, kerneltest.Page{Flags: kerneltest.LRU, Mapping: kerneltest.FileMapping})
			m.Set(p+1, kerneltest.Page{Compound: kerneltest.StructAt(p) | 1})
		}, []vmcore.PFN{1}, nil, 1},
		{"tail of itself", func(m *kerneltest.Machine, p vmcore.PFN) {
			m.Set(p+1, kerneltest.Page{Compound: kerneltest.StructAt(p+1) | 1})
		}, []vmcore.PFN{1}, nil, 1},
		{"tail of a tail", func(m *kerneltest.Machine, p vmcore.PFN) {
			m.SetCompound(p, 1, kerneltest.Page{Flags: kerneltest.LRU})
			m.Set(p+2, kerneltest.Page{Compound: kerneltest.StructAt(p+1) | 1})
		}, []vmcore.PFN{2}, nil, 1},
		{"tail of a page far away", func(m *kerneltest.Machine, p vmcore.PFN) {
			m.Set(p+1, kerneltest.Page{Compound: kerneltest.StructAt(p-1<<23) | 1})
		}, []vmcore.PFN{1}, nil, 1},
		{"tail of no struct page", func(m *kerneltest.Machine, p vmcore.PFN) {
			m.SetCompound(p, 1, kerneltest.Page{Flags: kerneltest.LRU})
			m.Set(p+1, kerneltest.Page{Compound: (kerneltest.StructAt(p) + 8) | 1})
		}, []vmcore.PFN{1}, nil, 1},
		{"tail of nothing", func(m *kerneltest.Machine, p vmcore.PFN) {
			m.Set(p+1, kerneltest.Page{Compound: 1})
		}, []vmcore.PFN{1}, nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := kerneltest.New(1)
			p := (m.FirstPage() + 2047) &^ 2047
			c.damage(m, p)
			s := selector(t, m.Finish())
			got := classify(t, s, p, 2048, 2048)
			for _, i := range c.keep {
				if got[i] != ClassKeep {
					t.Errorf("page %d is %v; want it kept", i, got[i])
				}
			}
			for _, i := range c.free {
				if got[i] != ClassFree {
					t.Errorf("page %d is %v; want it free", i, got[i])
				}
			}
			if n := s.Stats().Contradictory; n != c.counted {
				t.Errorf("%d contradictions; want %d", n, c.counted)
			}
		})
	}
}

func TestClassifyUnreadable(t *testing.T) {
	m := kerneltest.New(4)
	base := uint64(kerneltest.BasePFN) / kerneltest.SectionPages
	m.SetSection(base+2, 0)
	p := (m.FirstPage() + 2047) &^ 2047
	m.SetFree(p, 10)
	// The struct pages of p+256 to p+319 cannot be read.
	bad := kerneltest.StructPhys(p + 256)
	m.Bad = []vmcore.Range{{Start: bad, End: bad + 4096}}
	m.Unmap(kerneltest.BasePFN + 3*kerneltest.SectionPages)
	s := selector(t, m.Finish())
	got := classify(t, s, kerneltest.BasePFN, int(m.Pages), 4096)
	free := 0
	for _, c := range got {
		switch c {
		case ClassFree:
			free++
		case ClassKeep:
		default:
			t.Fatalf("a page is %v", c)
		}
	}
	if free != 1024-64 {
		t.Errorf("%d pages free; want %d", free, 1024-64)
	}
	want := SelectStats{NoStructPage: kerneltest.SectionPages, Unreadable: 64 + kerneltest.SectionPages}
	if s.Stats() != want {
		t.Errorf("stats %+v; want %+v", s.Stats(), want)
	}
	if err := s.Classify(^vmcore.PFN(0)-1, make([]Class, 4)); !errors.Is(err, vmcore.ErrHole) {
		t.Errorf("Classify at the end of all = %v; want ErrHole", err)
	}
}

// Kernels that tell tails by masks (7.1), hugetlb by the next page (6.6, 5.4).
func TestClassifyEras(t *testing.T) {
	p := func(m *kerneltest.Machine) vmcore.PFN { return (m.FirstPage() + 1023) &^ 1023 }
	for _, c := range []struct {
		name string
		make func(m *kerneltest.Machine)
	}{
		{"7.1", func(m *kerneltest.Machine) {
			delete(m.Info, "OFFSET(page.compound_head)")
			m.Info["OFFSET(page.compound_info)"] = "8"
			m.SetCompound(p(m), 3, kerneltest.Page{Type: kerneltest.TypeHugetlb})
			for i := vmcore.PFN(1); i < 8; i++ {
				m.Set(p(m)+i, kerneltest.Page{Compound: ^uint64(kerneltest.PageStruct<<3-1) | 1})
			}
		}},
		{"6.6", func(m *kerneltest.Machine) {
			delete(m.Info, "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)")
			m.Info["NUMBER(PG_hugetlb)"] = "8"
			m.SetCompound(p(m), 3, kerneltest.Page{Mapping: kerneltest.FileMapping})
			m.Set(p(m)+1, kerneltest.Page{Compound: kerneltest.StructAt(p(m)) | 1, Flags: 1<<8 | 3})
		}},
		{"5.4", func(m *kerneltest.Machine) {
			delete(m.Info, "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)")
			m.Info["NUMBER(HUGETLB_PAGE_DTOR)"] = "2"
			m.Info["OFFSET(page.compound_dtor)"] = "40"
			m.SetCompound(p(m), 3, kerneltest.Page{})
			m.Set(p(m)+1, kerneltest.Page{Compound: kerneltest.StructAt(p(m)) | 1, Private: 2})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := kerneltest.New(1)
			c.make(m)
			start := p(m)
			s := selector(t, m.Finish())
			for _, step := range []int{16, 5, 1} {
				for i, got := range classify(t, s, start, 16, step) {
					if want := map[bool]Class{true: ClassUser, false: ClassKeep}[i < 8]; got != want {
						t.Errorf("in pieces of %d: page %d is %v; want %v", step, i, got, want)
					}
				}
			}
		})
	}
}

func TestNewSelectorErrors(t *testing.T) {
	open := func(m *kerneltest.Machine) error {
		k, err := kernel.New(m, vmcore.MachineRISCV, []byte(m.Text()), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewSelector(k)
		return err
	}
	m := kerneltest.New(1)
	delete(m.Info, "SYMBOL(mem_section)")
	if err := open(m.Finish()); !errors.Is(err, kernel.ErrNoInfo) {
		t.Errorf("NewSelector without mem_section = %v; want ErrNoInfo", err)
	}
	// All struct pages seem to be that of a free page, as when a page table is
	// read wrongly.
	m = kerneltest.New(1)
	for i := range m.Pages {
		m.Set(kerneltest.BasePFN+vmcore.PFN(i), kerneltest.Page{Type: kerneltest.TypeBuddy})
	}
	if err := open(m.Finish()); !errors.Is(err, ErrSelection) {
		t.Errorf("NewSelector when the kernel's text seems free = %v; want ErrSelection", err)
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(uint64(0), uint64(0), uint64(0), uint64(10), uint32(kerneltest.TypeBuddy), int32(0), uint16(3))
	f.Add(uint64(64), kerneltest.StructAt(0x81000)|1, uint64(1), uint64(0), uint32(noType), int32(1), uint16(1))
	f.Add(uint64(32), ^uint64(0x1ff)|1, uint64(kerneltest.AnonMapping), uint64(0), uint32(0), int32(1), uint16(999))
	f.Fuzz(func(t *testing.T, flags, compound, mapping, private uint64, kind uint32, refs int32, every uint16) {
		m := kerneltest.New(1)
		p := m.FirstPage()
		for i := vmcore.PFN(0); i < 4096; i += vmcore.PFN(every) + 1 {
			m.Set(p+i, kerneltest.Page{Flags: flags, Compound: compound, Mapping: mapping, Private: private, Type: kind, Refcount: refs})
		}
		s := selector(t, m.Finish())
		whole := classify(t, s, p, 4096, 4096)
		for i, c := range whole {
			if c >= NumClasses {
				t.Fatalf("page %d is %v", i, c)
			}
		}
		if c := classify(t, s, kerneltest.BasePFN+0x200, 16, 16); c[0] != ClassKeep {
			t.Errorf("the kernel's text is %v", c[0])
		}
	})
}

// BenchmarkClassify is for a million pages, 4 GiB of the dead machine.
func BenchmarkClassify(b *testing.B) {
	m := kerneltest.New(8)
	for i := range m.Pages {
		pfn := kerneltest.BasePFN + vmcore.PFN(i)
		switch kind := i / 1024 % 4; {
		case pfn < m.FirstPage():
		case kind == 0:
			m.Set(pfn, kerneltest.Page{Flags: kerneltest.LRU, Mapping: kerneltest.AnonMapping})
		case kind == 1:
			m.Set(pfn, kerneltest.Page{Flags: kerneltest.LRU, Mapping: kerneltest.FileMapping})
		case kind == 2 && i%1024 == 0:
			m.SetFree(pfn, 10)
		}
	}
	m.Finish()
	path := m.WriteFile(b)
	d, err := vmcore.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	k, err := kernel.Open(d, nil)
	if err != nil {
		b.Fatal(err)
	}
	s, err := NewSelector(k)
	if err != nil {
		b.Fatal(err)
	}
	classes := make([]Class, kerneltest.SectionPages)
	b.SetBytes(1 << 20 * kerneltest.PageStruct)
	b.ReportAllocs()
	for b.Loop() {
		for i := uint64(0); i < 1<<20; i += kerneltest.SectionPages {
			if err := s.Classify(kerneltest.BasePFN+vmcore.PFN(i%m.Pages), classes); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(1<<20), "ns/page")
}
