package kernel_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

func TestFreePages(t *testing.T) {
	m := kerneltest.New(1)
	p := m.FirstPage()
	m.SetFree(p, 10)
	m.SetFree(p+2048, 10)
	m.SetFree(p+1024, 0)
	m.SetFree(p+1030, 1)
	k := openMachine(t, m.Finish())
	var got []kernel.FreeBlock
	for b, err := range k.FreePages() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b)
	}
	want := []kernel.FreeBlock{{First: p + 1024}, {First: p + 1030, Order: 1}, {First: p, Order: 10}, {First: p + 2048, Order: 10}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("free blocks (-want +got):\n%s", diff)
	}
	var zones []kernel.Zone
	for z, err := range k.Zones() {
		if err != nil {
			t.Fatal(err)
		}
		z.Addr = 0
		zones = append(zones, z)
	}
	if diff := cmp.Diff([]kernel.Zone{{Spanned: m.Pages, Free: 2*1024 + 1 + 2}}, zones); diff != "" {
		t.Errorf("zones (-want +got):\n%s", diff)
	}
}

// A list that is damaged costs that list.
func TestFreePagesDamaged(t *testing.T) {
	for name, damage := range map[string]func(m *kerneltest.Machine, p vmcore.PFN){
		"circle": func(m *kerneltest.Machine, p vmcore.PFN) {
			// The second block leads back to itself.
			m.PutUint64(kerneltest.StructPhys(p+2048)+8, kerneltest.StructAt(p+2048)+8)
			m.PutUint64(kerneltest.StructPhys(p+2048)+16, kerneltest.StructAt(p+2048)+8)
		},
		"nowhere": func(m *kerneltest.Machine, p vmcore.PFN) { m.PutUint64(kerneltest.ListEntry(10), 0x1234) },
		"no page": func(m *kerneltest.Machine, p vmcore.PFN) {
			m.PutUint64(kerneltest.ListEntry(10), kerneltest.StructAt(p)+16)
		},
		"wrong way": func(m *kerneltest.Machine, p vmcore.PFN) {
			m.PutUint64(kerneltest.StructPhys(p)+16, kerneltest.StructAt(p)+8)
		},
		"outside memory": func(m *kerneltest.Machine, p vmcore.PFN) {
			m.PutUint64(kerneltest.StructPhys(p)+8, kerneltest.StructAt(1<<30)+8)
		},
	} {
		m := kerneltest.New(1)
		p := m.FirstPage()
		m.SetFree(p, 10)
		m.SetFree(p+2048, 10)
		m.SetFree(p+1024, 0)
		m.Finish()
		damage(m, p)
		blocks, failed := 0, 0
		for b, err := range openMachine(t, m).FreePages() {
			if err != nil {
				failed++
				continue
			}
			blocks++
			if b.Order == 0 && b.First != p+1024 {
				t.Errorf("%s: %+v", name, b)
			}
		}
		if failed != 1 || blocks < 1 || blocks > 3 {
			t.Errorf("%s: %d blocks, %d errors; want one list to fail", name, blocks, failed)
		}
	}
}

func TestZonesErrors(t *testing.T) {
	for _, c := range []struct {
		key, value string
		want       error
	}{
		{"SIZE(zone)", "", kernel.ErrNoInfo},
		{"SIZE(zone)", "100", kernel.ErrCorrupt},
		{"NUMBER(NR_FREE_PAGES)", "", kernel.ErrNoInfo},
		{"NUMBER(NR_FREE_PAGES)", "-1", kernel.ErrCorrupt},
		{"OFFSET(zone.vm_stat)", "18446744073709551615", kernel.ErrCorrupt},
		{"OFFSET(zone.spanned_pages)", "1536", kernel.ErrCorrupt},
		{"OFFSET(pglist_data.nr_zones)", "256", kernel.ErrCorrupt},
		{"SYMBOL(contig_page_data)", "", kernel.ErrNoInfo},
		{"SYMBOL(contig_page_data)", "ffffffff70000000", kernel.ErrNotMapped},
	} {
		m := kerneltest.New(1)
		m.Info[c.key] = c.value
		if c.key == "OFFSET(pglist_data.nr_zones)" {
			m.SetFree(m.FirstPage(), 0) // the first list's address is no small number
		}
		var failed error
		for _, err := range openMachine(t, m.Finish()).Zones() {
			failed = err
		}
		if !errors.Is(failed, c.want) {
			t.Errorf("Zones with %s=%s = %v; want %v", c.key, c.value, failed, c.want)
		}
	}
}
