package kernel_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

func openMachine(t testing.TB, m *kerneltest.Machine) *kernel.Kernel {
	t.Helper()
	k, err := kernel.New(m, vmcore.MachineRISCV, []byte(m.Text()), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func memMap(t testing.TB, m *kerneltest.Machine) *kernel.MemMap {
	t.Helper()
	mm, err := openMachine(t, m).MemMap()
	if err != nil {
		t.Fatal(err)
	}
	return mm
}

// readAll reads the struct pages of all memory and calls f for each run.
func readAll(m *kerneltest.Machine, mm *kernel.MemMap, f func(kernel.PageRun, error)) {
	r := mm.NewReader()
	for pfn := uint64(0); pfn < m.Pages; {
		run, err := r.Read(kerneltest.BasePFN+vmcore.PFN(pfn), m.Pages-pfn)
		f(run, err)
		pfn += run.Count
	}
}

func TestPageReader(t *testing.T) {
	m := kerneltest.New(2)
	for pfn := range m.Pages {
		m.Set(kerneltest.BasePFN+vmcore.PFN(pfn), kerneltest.Page{Private: 7 * pfn})
	}
	mm := memMap(t, m.Finish())
	seen := uint64(0)
	readAll(m, mm, func(run kernel.PageRun, err error) {
		if err != nil {
			t.Fatal(err)
		}
		if want := kernel.VirtAddr(kerneltest.StructAt(run.First)); run.Virt != want {
			t.Errorf("struct page of %#x at %#x; want %#x", run.First, run.Virt, want)
		}
		if n := uint64(len(run.Raw)); n != run.Count*64 {
			t.Fatalf("%d bytes for %d pages", n, run.Count)
		}
		for i := range run.Count {
			pg := mm.PageLayout().Decode(run.Raw[i*64:])
			if pg.Private != 7*seen {
				t.Fatalf("page %#x: private %d; want %d", seen, pg.Private, 7*seen)
			}
			seen++
		}
	})
	if seen != m.Pages {
		t.Errorf("%d pages; want %d", seen, m.Pages)
	}
	r := mm.NewReader()
	for _, pfn := range []vmcore.PFN{kerneltest.BasePFN, kerneltest.BasePFN + kerneltest.SectionPages + 5} {
		if pg, err := r.ReadPage(pfn); err != nil || pg.Private != 7*uint64(pfn-kerneltest.BasePFN) {
			t.Errorf("ReadPage(%#x) = %+v, %v", pfn, pg, err)
		}
		if got, err := r.PFNOf(kernel.VirtAddr(kerneltest.StructAt(pfn))); err != nil || got != pfn {
			t.Errorf("PFNOf(%#x) = %#x, %v; want %#x", kerneltest.StructAt(pfn), got, err, pfn)
		}
	}
	for _, va := range []uint64{0, kerneltest.StructAt(kerneltest.BasePFN) + 8, kerneltest.StructAt(0), kerneltest.StructAt(1 << 43)} {
		if pfn, err := r.PFNOf(kernel.VirtAddr(va)); !errors.Is(err, kernel.ErrNotFound) {
			t.Errorf("PFNOf(%#x) = %#x, %v; want ErrNotFound", va, pfn, err)
		}
	}
}

// Struct pages that do not divide a page: some lie across two.
func TestPageReaderOddSize(t *testing.T) {
	m := kerneltest.New(1)
	m.Info["SIZE(page)"] = "56"
	m.Info["SYMBOL(vmemmap)"] = fmt.Sprintf("%x", kerneltest.StructAt(kerneltest.BasePFN)-uint64(kerneltest.BasePFN)*56)
	m.SetSection(uint64(kerneltest.BasePFN)/kerneltest.SectionPages, kerneltest.StructAt(kerneltest.BasePFN)-uint64(kerneltest.BasePFN)*56|0xf)
	for pfn := range m.Pages {
		m.PutUint64(kerneltest.StructPhys(kerneltest.BasePFN)+vmcore.PhysAddr(56*pfn+40), 3*pfn)
	}
	mm := memMap(t, m.Finish())
	seen := uint64(0)
	readAll(m, mm, func(run kernel.PageRun, err error) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range run.Count {
			if pg := mm.PageLayout().Decode(run.Raw[i*56:]); pg.Private != 3*seen {
				t.Fatalf("page %d: private %d; want %d", seen, pg.Private, 3*seen)
			}
			seen++
		}
	})
}

func TestPageReaderErrors(t *testing.T) {
	m := kerneltest.New(4)
	base := uint64(kerneltest.BasePFN) / kerneltest.SectionPages
	m.SetSection(base+1, 0)                            // no section
	m.SetSection(base+2, kerneltest.VMEMMAP|0xf&^1<<2) // not online
	bad := kerneltest.StructPhys(kerneltest.BasePFN + 128)
	m.Bad = []vmcore.Range{{Start: bad, End: bad + 4096}} // 64 struct pages
	m.Unmap(kerneltest.BasePFN + 3*kerneltest.SectionPages)
	mm := memMap(t, m.Finish())
	var good, notFound, unreadable, unmapped uint64
	readAll(m, mm, func(run kernel.PageRun, err error) {
		switch {
		case err == nil:
			good += run.Count
		case run.Raw != nil || run.Count == 0:
			t.Fatalf("run of %d pages, %d bytes with %v", run.Count, len(run.Raw), err)
		case errors.Is(err, kernel.ErrNotFound):
			notFound += run.Count
		case errors.Is(err, vmcore.ErrUnreadable):
			unreadable += run.Count
		case errors.Is(err, kernel.ErrNotMapped):
			unmapped += run.Count
		default:
			t.Errorf("page %#x: %v", run.First, err)
		}
	})
	if s := uint64(kerneltest.SectionPages); good != s-64 || unreadable != 64 || notFound != 2*s || unmapped != s {
		t.Errorf("%d pages good, %d unreadable, %d without struct page, %d not mapped; want %d, 64, %d, %d",
			good, unreadable, notFound, unmapped, s-64, 2*s, s)
	}
	r := mm.NewReader()
	if run, err := r.Read(1<<51, 100); !errors.Is(err, kernel.ErrNotFound) || run.Count == 0 || run.Count > 100 {
		t.Errorf("Read beyond all memory = %d pages, %v; want ErrNotFound", run.Count, err)
	}
}

func TestSections(t *testing.T) {
	m := kerneltest.New(3)
	base := uint64(kerneltest.BasePFN) / kerneltest.SectionPages
	m.SetSection(base+1, 0)
	m.SetSection(base+5, 0x1000|0xf) // its struct pages would be at no kernel address
	m.Finish()
	k, err := kernel.Open(m.Open(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	mm, err := k.MemMap()
	if err != nil {
		t.Fatal(err)
	}
	var got []vmcore.PFN
	for s, err := range mm.Sections() {
		if err != nil {
			t.Fatal(err)
		}
		if !s.Online || s.Pages != kerneltest.SectionPages || uint64(s.Map) != kerneltest.StructAt(s.First) {
			t.Errorf("section %+v", s)
		}
		got = append(got, s.First)
	}
	if len(got) != 2 || got[0] != kerneltest.BasePFN || got[1] != kerneltest.BasePFN+2*kerneltest.SectionPages {
		t.Errorf("sections at %#x; want two", got)
	}
	if _, err := mm.NewReader().Read(kerneltest.BasePFN+5*kerneltest.SectionPages, 1); !errors.Is(err, kernel.ErrCorrupt) {
		t.Errorf("Read in a damaged section = %v; want ErrCorrupt", err)
	}
}

func TestMemMapErrors(t *testing.T) {
	for _, c := range []struct {
		key, value string
		want       error
	}{
		{"SYMBOL(mem_section)", "", kernel.ErrNoInfo},
		{"LENGTH(mem_section)", "", kernel.ErrNoInfo},
		{"LENGTH(mem_section)", "7", kernel.ErrCorrupt},
		{"SIZE(mem_section)", "0", kernel.ErrCorrupt},
		{"SIZE(mem_section)", "8192", kernel.ErrCorrupt},
		{"OFFSET(mem_section.section_mem_map)", "25", kernel.ErrCorrupt},
		{"NUMBER(SECTION_SIZE_BITS)", "12", kernel.ErrCorrupt},
		{"NUMBER(MAX_PHYSMEM_BITS)", "99", kernel.ErrCorrupt},
		{"OFFSET(page.flags)", "", kernel.ErrNoInfo},
	} {
		m := kerneltest.New(1)
		m.Info[c.key] = c.value
		if mm, err := openMachine(t, m.Finish()).MemMap(); !errors.Is(err, c.want) {
			t.Errorf("MemMap with %s=%s = %v, %v; want %v", c.key, c.value, mm, err, c.want)
		}
	}
	m := kerneltest.New(1)
	delete(m.Info, "SYMBOL(mem_section)")
	m.Info["SYMBOL(mem_map)"] = "ffffffff80000000"
	if _, err := openMachine(t, m.Finish()).MemMap(); !errors.Is(err, kernel.ErrUnsupported) {
		t.Errorf("MemMap of FLATMEM = %v; want ErrUnsupported", err)
	}
}

// A static array of sections, without SPARSEMEM_EXTREME.
func TestSectionsStatic(t *testing.T) {
	m := kerneltest.New(2)
	m.Info["LENGTH(mem_section)"] = fmt.Sprint(1 << 5)
	m.Info["NUMBER(MAX_PHYSMEM_BITS)"] = "32"
	// The roots' page lies right before the page of entries.
	var at uint64
	if _, err := fmt.Sscanf(m.Info["SYMBOL(mem_section)"], "%x", &at); err != nil {
		t.Fatal(err)
	}
	m.Info["SYMBOL(mem_section)"] = fmt.Sprintf("%x", at+4096)
	mm := memMap(t, m.Finish())
	n := 0
	for s, err := range mm.Sections() {
		if err != nil {
			t.Fatal(err)
		}
		if uint64(s.Map) != kerneltest.StructAt(s.First) {
			t.Errorf("section %+v", s)
		}
		n++
	}
	if n != 2 {
		t.Errorf("%d sections; want 2", n)
	}
}

func FuzzSections(f *testing.F) {
	f.Add(uint64(kerneltest.VMEMMAP|0xf), uint64(0xffffaf8000209000), "4194304", "27", "32", uint64(0x80000))
	f.Add(uint64(0), uint64(0), "32", "27", "16", uint64(0x1234567))
	f.Add(^uint64(0), ^uint64(0), "1", "16", "8", ^uint64(0))
	f.Fuzz(func(t *testing.T, word, root uint64, length, bits, size string, pfn uint64) {
		m := kerneltest.New(1)
		m.Info["LENGTH(mem_section)"] = length
		m.Info["NUMBER(SECTION_SIZE_BITS)"] = bits
		m.Info["SIZE(mem_section)"] = size
		m.SetSection(16, word)
		var at uint64
		fmt.Sscanf(m.Info["SYMBOL(mem_section)"], "%x", &at)
		m.PutUint64(kerneltest.Base+vmcore.PhysAddr(at-0xffffffff80000000)+0x200000, root)
		k, err := kernel.New(m, vmcore.MachineRISCV, []byte(m.Text()), nil, nil)
		if err != nil {
			return
		}
		mm, err := k.MemMap()
		if err != nil {
			return
		}
		r := mm.NewReader()
		for _, p := range []uint64{pfn, 0x80000} {
			run, err := r.Read(vmcore.PFN(p), 5000)
			if run.Count == 0 || run.Count > 5000 || (err == nil) != (run.Raw != nil) {
				t.Errorf("Read(%#x) = %d pages, %d bytes, %v", p, run.Count, len(run.Raw), err)
			}
			r.PFNOf(kernel.VirtAddr(word))
		}
	})
}
