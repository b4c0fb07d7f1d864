package kerneltest

import "github.com/panicroom-kdump/panicroom/vmcore"

// maxVast is what the one page of section roots has room for: 8 TiB.
const maxVast = 512 * 128

// NewVast makes a machine with a number of sections of RAM of which only the
// first is in use. All the others are free, in blocks of the largest order, and
// share the struct pages of one: a machine of many TiB is a few MiB here. Only
// the blocks of the second section are on the free lists; the zone's counter
// has them all.
func NewVast(sections int) *Machine {
	if sections < 2 || sections > maxVast {
		panic("kerneltest: so many sections cannot be had")
	}
	m := New(1)
	m.Pages = 2 * SectionPages
	for pfn := BasePFN + SectionPages; pfn < BasePFN+2*SectionPages; pfn += 1 << (maxOrder - 1) {
		m.SetFree(pfn, maxOrder-1)
	}
	m.Pages = uint64(sections) * SectionPages
	m.RAM[0].End = Base + vmcore.PhysAddr(m.Pages*pageSize)
	m.more = (uint64(sections) - 2) * SectionPages
	m.PutUint64(pgdatPhys+zoneSpanned, m.Pages)

	const perRoot = 128
	freeMap := StructPhys(BasePFN + SectionPages)
	first := uint64(BasePFN) / SectionPages
	for i := uint64(1); i < uint64(sections); i++ {
		nr := first + i
		entries := entriesPhys
		if root := nr / perRoot; root > 0 {
			entries = freeMap + 2<<20 + vmcore.PhysAddr(root*pageSize)
			m.PutUint64(rootsPhys+vmcore.PhysAddr(root*8), linear(entries))
		}
		m.PutUint64(entries+vmcore.PhysAddr(nr%perRoot*32), VMEMMAP|0xf)
		m.mapHuge(vmemmapStart+i<<21, freeMap)
	}
	return m
}
