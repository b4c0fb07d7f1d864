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
