package kernel

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testBTF = testImage + 0x700000

// machineWithBTF has the BTF of pageTypes in its memory.
func machineWithBTF(t testing.TB, raw []byte) *machine {
	t.Helper()
	m := newMachine("sv48")
	m.put(testBTF, raw)
	putSymbols(m, kallsymsBaseRelative, []Symbol{
		{Addr: testImage + 0x2000, Type: 'T', Name: "_stext"},
		{Addr: testBTF, Type: 'D', Name: "__start_BTF"},
		{Addr: testBTF + VirtAddr(len(raw)), Type: 'D', Name: "__stop_BTF"},
	})
	m.say("SIZE(page)=64")
	m.say("OFFSET(page.lru)=8")
	return m
}

func TestLayoutInDump(t *testing.T) {
	raw := makeBTF(t, pageTypes()...)
	k := machineWithBTF(t, raw).kernel(t)
	want, err := LayoutFromBTF(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if k.knownLayout() != nil {
		t.Error("the layout is known before it was looked for")
	}
	got, err := k.Layout()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("layout (-want +got):\n%s", diff)
	}
	if k.knownLayout() != got {
		t.Error("the layout is not known after it was found")
	}
}

func TestLayoutGiven(t *testing.T) {
	raw := makeBTF(t, pageTypes()...)
	good := pageLayoutWanted()
	wrong := &Layout{Structs: map[string]Struct{"page": {Size: 56}}}

	k := kernelWithLayout(t, machineWithBTF(t, raw), good)
	if l, err := k.Layout(); l != good || err != nil || k.knownLayout() != good {
		t.Errorf("Layout = %p, %v; want the one given, %p", l, err, good)
	}
	// That of another kernel is not used; the dump has the right one.
	k = kernelWithLayout(t, machineWithBTF(t, raw), wrong)
	if k.knownLayout() != nil {
		t.Error("a layout that disagrees with vmcoreinfo is known")
	}
	if l, err := k.Layout(); err != nil || l == wrong {
		t.Errorf("Layout = %+v, %v; want that of the dump", l, err)
	}
	// When the dump has none, the error names both.
	m := newMachine("sv48")
	m.say("SIZE(page)=64")
	k = kernelWithLayout(t, m, wrong)
	if l, err := k.Layout(); !errors.Is(err, ErrLayout) || !errors.Is(err, ErrNoInfo) {
		t.Errorf("Layout = %+v, %v; want ErrLayout and ErrNoInfo", l, err)
	}
}

func TestLayoutInDumpErrors(t *testing.T) {
	raw := makeBTF(t, pageTypes()...)
	damaged := bytes.Clone(raw)
	damaged[0] = 0
	foreign := machineWithBTF(t, raw)
	foreign.info = append([]string{"SIZE(page)=56"}, foreign.info...)
	none := newMachine("sv48")
	putSymbols(none, kallsymsBaseRelative, []Symbol{{Addr: testImage + 0x2000, Type: 'T', Name: "_stext"}})
	for _, c := range []struct {
		name string
		m    *machine
		want error
	}{
		{"damaged", machineWithBTF(t, damaged), ErrCorrupt},
		{"empty", machineWithBTF(t, nil), ErrNotFound},
		{"another kernel's", foreign, ErrLayout},
		{"none", none, ErrNotFound},
	} {
		k := c.m.kernel(t)
		for range 2 { // the answer is kept
			if l, err := k.Layout(); !errors.Is(err, c.want) {
				t.Errorf("%s: Layout = %+v, %v; want %v", c.name, l, err, c.want)
			}
		}
	}
}

// Two nodes, and CPUs that have not yet added up what they took.
func TestZonesOfNodes(t *testing.T) {
	const (
		nodeData = testImage + 0x710000
		online   = testImage + 0x711000
		perCPU   = testImage + 0x712000
		possible = testImage + 0x713000
		pgdat    = testImage + 0x720000 // and each 0x10000 further
		stats    = testImage + 0x750000 // of the zone of node i and CPU j at i*0x100+j*0x1000
	)
	m := newMachine("sv48")
	putSymbols(m, kallsymsBaseRelative, []Symbol{
		{Addr: testImage + 0x2000, Type: 'T', Name: "_stext"},
		{Addr: nodeData, Type: 'B', Name: "node_data"},
		{Addr: perCPU, Type: 'B', Name: "__per_cpu_offset"},
		{Addr: possible, Type: 'B', Name: "__cpu_possible_mask"},
	})
	for _, s := range []string{
		"SYMBOL(node_online_map)=ffffffff80711000", "SIZE(nodemask_t)=8",
		"SIZE(pglist_data)=4096", "OFFSET(pglist_data.node_zones)=0", "OFFSET(pglist_data.nr_zones)=4000",
		"SIZE(zone)=1024", "OFFSET(zone.vm_stat)=512", "OFFSET(zone.spanned_pages)=8", "NUMBER(NR_FREE_PAGES)=1",
	} {
		m.say("%s", s)
	}
	m.put64(online, 0b1001)
	m.put64(possible, 0b11)
	m.put64(perCPU, 0x100000)
	m.put64(perCPU+8, 0x101000)
	for i, node := range []int{0, 3} {
		at := pgdat + VirtAddr(0x10000*i)
		m.put64(nodeData+VirtAddr(8*node), uint64(at))
		m.put(at, make([]byte, 4096))
		m.put64(at+4000, 2)
		zone := at + 1024 // the first has no memory
		m.put64(zone+8, 5000)
		m.put64(zone+512+8, uint64(1000*(i+1)))
		m.put64(zone+16, uint64(stats)-0x100000+uint64(i*0x100))
		for cpu, diff := range []int8{-7, 3} {
			m.put(stats+VirtAddr(0x1000*cpu+0x100*i+4+1), []byte{byte(diff)})
		}
	}
	layout := &Layout{Structs: map[string]Struct{
		"zone":             {Size: 1024, Fields: map[string]Field{"per_cpu_zonestats": {Offset: 16, Size: 8}}},
		"per_cpu_zonestat": {Size: 16, Fields: map[string]Field{"vm_stat_diff": {Offset: 4, Size: 11, Count: 11}}},
		"cpumask":          {Size: 8},
	}}
	want := []Zone{
		{Node: 0, Index: 1, Addr: pgdat + 1024, Spanned: 5000, Free: 996, FreeExact: true},
		{Node: 3, Index: 1, Addr: pgdat + 0x10000 + 1024, Spanned: 5000, Free: 1996, FreeExact: true},
	}
	zones := func(k *Kernel) (got []Zone) {
		for z, err := range k.Zones() {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, z)
		}
		return got
	}
	if diff := cmp.Diff(want, zones(kernelWithLayout(t, m, layout))); diff != "" {
		t.Errorf("zones (-want +got):\n%s", diff)
	}
	// Without a layout the kernel's own sums are what there is.
	for i := range want {
		want[i].Free, want[i].FreeExact = int64(1000*(i+1)), false
	}
	if diff := cmp.Diff(want, zones(m.kernel(t))); diff != "" {
		t.Errorf("zones without layout (-want +got):\n%s", diff)
	}
}
