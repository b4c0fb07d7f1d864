package referee

import (
	"strings"
	"testing"
)

// hugeMapped is a machine of 4 MiB whose struct pages a leaf of 2 MiB maps.
func hugeMapped(t *testing.T, info string, pages map[uint64]structPage) (*space, *census) {
	t.Helper()
	m := newMachine(1024)
	m.info = info
	pfn := func(index uint64) uint64 { return ramBase/pageSize + index }
	pa := func(index uint64) uint64 { return ramBase + index*pageSize }
	const root, middle, huge = 16, 17, 512
	m.put64(pa(root)+0xffffffc500000000>>30&511*8, pointTo(pfn(middle)))
	m.put64(pa(middle), leafTo(pfn(huge)))
	m.put64(pa(root)+0xffffffc600000000>>30&511*8, pointTo(pfn(22)))
	m.put64(pa(22), pointTo(pfn(23)))
	m.put64(pa(23)+8*1, leafTo(pfn(20)))
	m.put64(pa(23)+8*2, leafTo(pfn(21)))
	m.put64(pa(20), 0xffffffc600002000)
	m.put64(pa(21)+16*16, 0xffffffc4fe000000|0xf)
	for i := range uint64(1024) {
		p, ok := pages[i]
		if !ok {
			p.mapcount = noType
		}
		p.put(m.ram[huge*pageSize+i*64:])
	}
	s, err := newSpace(m.core(t))
	if err != nil {
		t.Fatal(err)
	}
	z, err := classify(s)
	if err != nil {
		t.Fatal(err)
	}
	return s, z
}

// Each known defect leads to the difference that it is known for, and any other
// difference is found.
func TestExplain(t *testing.T) {
	const anon = 0xff600001
	info72 := strings.Replace(info612, "page.compound_head", "page.compound_info", 1)
	for _, c := range []struct {
		name, info, version string
		pages               map[uint64]structPage
		level               int
		out                 []uint64 // what makedumpfile leaves out
		want                string
	}{
		// Pages 64 to 67 and so on are taken for copies of the first four.
		{"huge leaf", info612, "1.7.8", map[uint64]structPage{0: {mapcount: 0xf0000000, private: 2}}, 16, every(64, 0, 1, 2, 3), "60 kept pages left out: struct page of a huge leaf read wrongly"},
		{"huge leaf, free page kept", info612, "1.7.8", map[uint64]structPage{100: {mapcount: 0xf0000000}}, 16, nil, "1 free pages kept: struct page of a huge leaf read wrongly"},
		// A tail that looks like page cache is judged as that, and so are its copies.
		{"tails", info72, "1.7.8", map[uint64]structPage{
			4: {flags: head | lru | private, mapcount: noType},
			5: {flags: 2, compound: 0xffffffc4fe000000 | 1, mapcount: noType},
			6: {flags: lru, compound: 0xffffffc4fe000000 | 1, mapcount: noType},
			7: {compound: 0xffffffc4fe000000 | 1, mapcount: noType},
		}, 2, every(64, 6), "1 cache-private pages left out: tail pages not told; 15 kept pages left out: struct page of a huge leaf read wrongly"},
		{"waiters", info612, "1.7.8", map[uint64]structPage{3: {flags: 1 << 7, mapping: anon, mapcount: 0}}, 8, nil, "1 user pages kept: waiters taken for slab"},
		{"repaired", info612, "1.8.0", map[uint64]structPage{0: {mapcount: 0xf0000000, private: 2}}, 16, []uint64{0, 1, 2, 3}, "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, z := hugeMapped(t, c.info, c.pages)
			e, err := newExplainer(s, z, c.version)
			if err != nil {
				t.Fatal(err)
			}
			d := &diskdump{dumped: make([]byte, len(z.class)/8+1)}
			base := uint64(ramBase / pageSize)
			for i := range uint64(1024) {
				d.dumped[(base+i)/8] |= 1 << ((base + i) % 8)
			}
			for _, i := range c.out {
				d.dumped[(base+i)/8] &^= 1 << ((base + i) % 8)
			}
			found := e.explain(d, c.level)
			if !found[0].OK || found[1].Detail != c.want {
				t.Errorf("%+v; want %q", found, c.want)
			}
			// One page more or less has no reason.
			d.dumped[(base+1000)/8] ^= 1 << ((base + 1000) % 8)
			if found := e.explain(d, c.level); found[0].OK {
				t.Error("a page was left out without a reason, and that was not found")
			}
		})
	}
	if _, err := defectsOf("1.7.2"); err == nil {
		t.Error("defects of 1.7.2 are not known, and that is no error")
	}
	if _, err := defectsOf("unknown"); err == nil {
		t.Error("a version of nonsense is no error")
	}
}

// every are these pages of each step pages.
func every(step uint64, which ...uint64) (all []uint64) {
	for i := uint64(0); i < 1024; i += step {
		for _, j := range which {
			all = append(all, i+j)
		}
	}
	return all
}
