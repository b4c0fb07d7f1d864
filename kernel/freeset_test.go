package kernel_test

import (
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

func freeSet(t *testing.T, m *kerneltest.Machine, limit int) *kernel.FreeSet {
	t.Helper()
	s, err := openMachine(t, m).FreeSet(limit)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFreeSet(t *testing.T) {
	m := kerneltest.New(1)
	p := m.FirstPage()
	m.SetFree(p+4096, 10)
	m.SetFree(p+1024, 0)
	m.SetFree(p+1030, 1)
	m.Finish()
	s := freeSet(t, m, 100)
	if s.Pages != 1024+1+2 || s.Left != 0 || s.Broken != nil {
		t.Errorf("%d pages, %d left, %v", s.Pages, s.Left, s.Broken)
	}
	for _, c := range []struct {
		pfn, first vmcore.PFN
		order      uint
		ok         bool
	}{
		{0, p + 1024, 0, true},
		{p + 1024, p + 1024, 0, true},
		{p + 1025, p + 1030, 1, true},
		{p + 1031, p + 1030, 1, true},
		{p + 1032, p + 4096, 10, true},
		{p + 5119, p + 4096, 10, true},
		{p + 5120, 0, 0, false},
		{^vmcore.PFN(0), 0, 0, false},
	} {
		if first, order, ok := s.Next(c.pfn); first != c.first || order != c.order || ok != c.ok {
			t.Errorf("Next(%#x) = %#x, %d, %v; want %#x, %d, %v", c.pfn, first, order, ok, c.first, c.order, c.ok)
		}
	}
}

// However many blocks are free, no more are remembered, and the largest are.
func TestFreeSetLimit(t *testing.T) {
	m := kerneltest.New(1)
	p := m.FirstPage()
	for i := range vmcore.PFN(100) {
		m.SetFree(p+2*i, 0)
	}
	m.SetFree(p+2048, 9)
	m.SetFree(p+4096, 10)
	s := freeSet(t, m.Finish(), 10)
	if s.Pages != 512+1024+8 || s.Left != 92 || s.Broken != nil {
		t.Errorf("%d pages, %d left, %v; want 1544, 92", s.Pages, s.Left, s.Broken)
	}
}

// No page is in two blocks, whatever the lists say.
func TestFreeSetOverlap(t *testing.T) {
	m := kerneltest.New(1)
	p := m.FirstPage()
	m.SetFree(p, 10)
	m.SetFree(p+512, 3)
	m.SetFree(p+2048, 3)
	s := freeSet(t, m.Finish(), 10)
	if s.Pages != 1024+8 || s.Broken == nil {
		t.Errorf("%d pages, %v; want 1032 and an error", s.Pages, s.Broken)
	}
}

// FuzzZones changes what vmcoreinfo says of zones, and words of the zone and of the
// lists: whatever they are, walks end, and no page is free twice or outside memory.
func FuzzZones(f *testing.F) {
	f.Add("1536", "256", "152", "1344", "88", "5", "0", "11", uint16(0), uint64(0), uint16(0), uint64(0))
	f.Add("1536", "256", "152", "1344", "88", "5", "0", "11", uint16(152), ^uint64(0), uint16(1136), kerneltest.StructAt(kerneltest.BasePFN)+8)
	f.Add("65536", "0", "8", "16", "16", "16", "100", "32", uint16(6688), uint64(8), uint16(256), uint64(0xffffffff80002100))
	f.Fuzz(func(t *testing.T, zone, area, spanned, stat, areaSize, lists, item, orders string, at uint16, word uint64, at2 uint16, word2 uint64) {
		m := kerneltest.New(1)
		p := m.FirstPage()
		m.SetFree(p, 10)
		m.SetFree(p+2048, 10)
		m.SetFree(p+1024, 0)
		for key, value := range map[string]string{
			"SIZE(zone)": zone, "OFFSET(zone.free_area)": area, "OFFSET(zone.spanned_pages)": spanned, "OFFSET(zone.vm_stat)": stat,
			"SIZE(free_area)": areaSize, "LENGTH(free_area.free_list)": lists, "NUMBER(NR_FREE_PAGES)": item, "LENGTH(zone.free_area)": orders,
		} {
			m.Info[key] = value
		}
		m.Finish()
		pgdat := kerneltest.ListEntry(0) - 256
		m.PutUint64(pgdat+vmcore.PhysAddr(at)&^7, word)
		m.PutUint64(pgdat+vmcore.PhysAddr(at2)&^7, word2)
		k, err := kernel.New(m, vmcore.MachineRISCV, []byte(m.Text()), nil, nil)
		if err != nil {
			return
		}
		n := 0
		for _, err := range k.Zones() {
			if n++; n > 64 && err == nil {
				t.Fatal("zones without end")
			}
		}
		const limit = 1000
		s, err := k.FreeSet(limit)
		if err != nil {
			return
		}
		var end vmcore.PFN
		var pages uint64
		for blocks := 0; ; blocks++ {
			first, order, ok := s.Next(end)
			if !ok {
				break
			}
			if first < end || blocks == limit {
				t.Fatalf("block %d at %#x, after %#x", blocks, first, end)
			}
			end, pages = first+1<<order, pages+1<<order
		}
		if pages != s.Pages {
			t.Errorf("%d pages in blocks, %d said", pages, s.Pages)
		}
	})
}
