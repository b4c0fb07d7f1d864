// Package kerneltest makes dead machines with a kernel's view of their memory
// for tests: page tables, sections, struct pages, a zone with free lists and
// the vmcoreinfo that leads there, as Linux 6.12 or others write them.
package kerneltest

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/vmcore"
	"github.com/panicroom-kdump/panicroom/vmcore/vmcoretest"
)

// Where things are in the machine: riscv64 in sv48, RAM from 2 GiB on.
const (
	Base    = vmcore.PhysAddr(0x80000000)
	BasePFN = vmcore.PFN(Base / pageSize)

	// SectionPages is the number of pages in a section, of 128 MiB.
	SectionPages = 1 << 15

	// VMEMMAP is the address of PFN 0's struct page: that of BasePFN is at
	// the beginning of the vmemmap's range.
	VMEMMAP = vmemmapStart - uint64(BasePFN)*PageStruct

	// PageStruct is the size of a struct page in bytes.
	PageStruct = 64

	pageSize     = 4096
	vmemmapStart = 0xffff8d8000000000
	pageOffset   = 0xffffaf8000000000
	imageVirt    = 0xffffffff80000000
	imagePhys    = Base + 0x200000
	rootPhys     = imagePhys + 0x1000
	pgdatPhys    = imagePhys + 0x2000 // struct pglist_data, three pages
	utsPhys      = imagePhys + 0x6000
	rootsPhys    = imagePhys + 0x8000 // array of section roots, as far as needed
	entriesPhys  = imagePhys + 0x9000 // struct mem_section of sections 0..127
	tablesPhys   = imagePhys + 0x10000
	mapPhys      = imagePhys + 0x200000 // struct pages, 2 MiB per section

	zoneSize     = 1536
	zoneFree     = 256 // free_area in struct zone
	zoneSpanned  = 152
	zoneStat     = 1344
	freeAreaSize = 88
	freeLists    = 5
	nrZones      = 6688
	maxOrder     = 11
)

// Where things lie in memory, to damage them: the page with the roots of
// sections and the one with their entries, and the page tables below the root.
const (
	SectionRoots = rootsPhys
	PageTables   = tablesPhys
)

// Flags of struct page as 6.12 numbers them, HWPoison as with MEMORY_FAILURE.
const (
	LRU        = 1 << 5
	Head       = 1 << 6
	SwapCache  = 1 << 10
	Reserved   = 1 << 13
	Private    = 1 << 14
	SwapBacked = 1 << 17
	HWPoison   = 1 << 20
)

// Types of pages as 6.12 writes them.
const (
	NoType         = 0xffffffff // nobody maps it
	TypeBuddy      = 0xf0000000
	TypeOffline    = 0xf1000000
	TypeTable      = 0xf2000000
	TypeHugetlb    = 0xf4000000
	TypeSlab       = 0xf5000000
	TypeZsmalloc   = 0xf6000000
	TypeUnaccepted = 0xf7000000
)

// AnonMapping is a mapping of anonymous memory.
const AnonMapping = 0xffffaf8012345681

// FileMapping is a mapping of the page cache.
const FileMapping = 0xffffaf8012345680

// Page is a struct page.
type Page struct {
	Flags, Compound, Mapping, Private uint64
	Type                              uint32
	Refcount                          int32
}

// Machine is a dead machine under construction. All its pages begin as the
// kernel's, in use and of no class.
type Machine struct {
	*vmcoretest.Core
	Pages uint64 // of RAM

	// Info are the lines of vmcoreinfo; change them to be another kernel.
	Info map[string]string

	next vmcore.PhysAddr // for the next page table
	free [maxOrder][]vmcore.PFN
	more uint64 // free pages that are on no list
}

// New makes a machine with a number of sections of RAM, at most 64.
func New(sections int) *Machine {
	size := uint64(sections) * SectionPages * pageSize
	m := &Machine{
		Core:  vmcoretest.New(Base, size),
		Pages: size / pageSize,
		next:  tablesPhys,
		Info: map[string]string{
			"OSRELEASE": "6.12.107-test", "PAGESIZE": "4096",
			"NUMBER(VA_BITS)":                     "48",
			"NUMBER(PAGE_OFFSET)":                 hex(pageOffset),
			"NUMBER(phys_ram_base)":               fmt.Sprint(uint64(Base)),
			"NUMBER(KERNEL_LINK_ADDR)":            hex(imageVirt),
			"NUMBER(va_kernel_pa_offset)":         hex(imageVirt - uint64(imagePhys)),
			"SYMBOL(_stext)":                      symbol(imagePhys),
			"SYMBOL(swapper_pg_dir)":              symbol(rootPhys),
			"SYMBOL(init_uts_ns)":                 symbol(utsPhys),
			"SYMBOL(contig_page_data)":            symbol(pgdatPhys),
			"SYMBOL(vmemmap)":                     fmt.Sprintf("%x", VMEMMAP),
			"SYMBOL(mem_section)":                 symbol(rootsPhys),
			"LENGTH(mem_section)":                 "4194304",
			"SIZE(mem_section)":                   "32",
			"OFFSET(mem_section.section_mem_map)": "0",
			"NUMBER(SECTION_SIZE_BITS)":           "27",
			"NUMBER(MAX_PHYSMEM_BITS)":            "56",
			"SIZE(page)":                          "64",
			"OFFSET(page.flags)":                  "0",
			"OFFSET(page.compound_head)":          "8",
			"OFFSET(page.lru)":                    "8",
			"OFFSET(page.mapping)":                "24",
			"OFFSET(page.private)":                "40",
			"OFFSET(page._mapcount)":              "48",
			"OFFSET(page._refcount)":              "52",
			"SIZE(pglist_data)":                   "9280",
			"OFFSET(pglist_data.node_zones)":      "0",
			"OFFSET(pglist_data.nr_zones)":        fmt.Sprint(nrZones),
			"SIZE(zone)":                          fmt.Sprint(zoneSize),
			"OFFSET(zone.free_area)":              fmt.Sprint(zoneFree),
			"OFFSET(zone.vm_stat)":                fmt.Sprint(zoneStat),
			"OFFSET(zone.spanned_pages)":          fmt.Sprint(zoneSpanned),
			"SIZE(free_area)":                     fmt.Sprint(freeAreaSize),
			"OFFSET(free_area.free_list)":         "0",
			"LENGTH(zone.free_area)":              fmt.Sprint(maxOrder),
			"LENGTH(free_area.free_list)":         fmt.Sprint(freeLists),
			"NUMBER(NR_FREE_PAGES)":               "0",
			"NUMBER(PG_lru)":                      "5",
			"NUMBER(PG_private)":                  "14",
			"NUMBER(PG_swapcache)":                "10",
			"NUMBER(PG_swapbacked)":               "17",
			"NUMBER(PG_hwpoison)":                 "20",
			"NUMBER(PG_head_mask)":                "64",
			"NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)":    signed(TypeSlab),
			"NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)":   signed(TypeBuddy),
			"NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)": signed(TypeHugetlb),
			"NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)": signed(TypeOffline),
			"NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)": signed(
				TypeUnaccepted),
		},
	}
	m.PutUint64(rootPhys, 0)
	// Section roots: one page of sections is enough for 16 GiB.
	first := uint64(BasePFN) / SectionPages
	m.PutUint64(rootsPhys, linear(entriesPhys))
	for i := range uint64(sections) {
		m.SetSection(first+i, VMEMMAP|0xf)
		m.mapHuge(vmemmapStart+i<<21, mapPhys+vmcore.PhysAddr(i<<21))
	}
	for pfn := range m.Pages {
		m.Set(BasePFN+vmcore.PFN(pfn), Page{Type: NoType, Refcount: 1})
	}
	// One zone that spans all.
	m.Put(pgdatPhys+nrZones, []byte{1, 0, 0, 0})
	m.PutUint64(pgdatPhys+zoneSpanned, m.Pages)
	return m
}

func hex(n uint64) string             { return fmt.Sprintf("%#x", n) }
func signed(n uint32) string          { return fmt.Sprint(int32(n)) }
func linear(p vmcore.PhysAddr) uint64 { return pageOffset + uint64(p-Base) }
func image(p vmcore.PhysAddr) uint64  { return imageVirt + uint64(p-imagePhys) }
func symbol(p vmcore.PhysAddr) string { return fmt.Sprintf("%x", image(p)) }

// SetSection writes section_mem_map of a section below 128.
func (m *Machine) SetSection(nr, word uint64) {
	m.PutUint64(entriesPhys+vmcore.PhysAddr(nr*32), word)
}

// mapHuge maps 2 MiB.
func (m *Machine) mapHuge(va uint64, pa vmcore.PhysAddr) {
	table := rootPhys
	for shift := uint(39); shift > 21; shift -= 9 {
		at := table + vmcore.PhysAddr(va>>shift&511*8)
		var b [8]byte
		if _, err := m.ReadPhys(b[:], at); err != nil {
			panic(err)
		}
		e := binary.LittleEndian.Uint64(b[:])
		if e == 0 {
			e = uint64(m.next)>>12<<10 | 1
			m.next += pageSize
			m.PutUint64(at, e)
		}
		table = vmcore.PhysAddr(e >> 10 << 12)
	}
	m.PutUint64(table+vmcore.PhysAddr(va>>21&511*8), uint64(pa)>>12<<10|0xef)
}

// Unmap removes the struct pages of the 2 MiB of the memory map that has the
// one of pfn.
func (m *Machine) Unmap(pfn vmcore.PFN) {
	m.mapHuge(StructAt(pfn), 0)
	m.PutUint64(m.lastTable(StructAt(pfn)), 0)
}

func (m *Machine) lastTable(va uint64) vmcore.PhysAddr {
	table := rootPhys
	for shift := uint(39); shift > 21; shift -= 9 {
		var b [8]byte
		if _, err := m.ReadPhys(b[:], table+vmcore.PhysAddr(va>>shift&511*8)); err != nil {
			panic(err)
		}
		table = vmcore.PhysAddr(binary.LittleEndian.Uint64(b[:]) >> 10 << 12)
	}
	return table + vmcore.PhysAddr(va>>21&511*8)
}

// StructAt is the virtual address of a page's struct page.
func StructAt(pfn vmcore.PFN) uint64 { return VMEMMAP + uint64(pfn)*PageStruct }

// StructPhys is where a page's struct page lies in memory.
func StructPhys(pfn vmcore.PFN) vmcore.PhysAddr {
	return mapPhys + vmcore.PhysAddr(uint64(pfn-BasePFN)*PageStruct)
}

// Linear is where the linear map has an address of RAM.
func Linear(p vmcore.PhysAddr) uint64 { return linear(p) }

// FirstPage is the first page that the machine itself does not use.
func (m *Machine) FirstPage() vmcore.PFN {
	return vmcore.PFN((mapPhys+vmcore.PhysAddr(m.Pages*PageStruct))/pageSize+1<<maxOrder) &^ (1<<maxOrder - 1)
}

// Set writes the struct page of a page.
func (m *Machine) Set(pfn vmcore.PFN, p Page) {
	var b [PageStruct]byte
	binary.LittleEndian.PutUint64(b[0:], p.Flags)
	binary.LittleEndian.PutUint64(b[8:], p.Compound)
	binary.LittleEndian.PutUint64(b[24:], p.Mapping)
	binary.LittleEndian.PutUint64(b[40:], p.Private)
	binary.LittleEndian.PutUint32(b[48:], p.Type)
	binary.LittleEndian.PutUint32(b[52:], uint32(p.Refcount))
	m.Put(StructPhys(pfn), b[:])
}

// SetFree makes a block of 1<<order pages free and puts it on a free list.
func (m *Machine) SetFree(pfn vmcore.PFN, order int) {
	for i := range vmcore.PFN(1) << order {
		m.Set(pfn+i, Page{Type: NoType})
	}
	m.Set(pfn, Page{Type: TypeBuddy, Private: uint64(order)})
	m.free[order] = append(m.free[order], pfn)
}

// SetCompound makes 1<<order pages one compound page with the given head.
func (m *Machine) SetCompound(pfn vmcore.PFN, order int, head Page) {
	head.Flags |= Head
	m.Set(pfn, head)
	for i := vmcore.PFN(1); i < 1<<order; i++ {
		m.Set(pfn+i, Page{Compound: StructAt(pfn) | 1, Type: NoType})
	}
}

// Finish writes the free lists and the vmcoreinfo note. Nothing may be set
// afterwards, only damaged.
func (m *Machine) Finish() *Machine {
	total := m.more
	for order, blocks := range m.free {
		total += uint64(len(blocks)) << order
		for list := range freeLists {
			at := pgdatPhys + vmcore.PhysAddr(zoneFree+order*freeAreaSize+16*list)
			head := image(at)
			nodes, places := []uint64{head}, []vmcore.PhysAddr{at}
			if list == 0 {
				for _, pfn := range blocks {
					nodes = append(nodes, StructAt(pfn)+8)
					places = append(places, StructPhys(pfn)+8)
				}
			}
			for i := range nodes {
				m.PutUint64(places[i], nodes[(i+1)%len(nodes)])
				m.PutUint64(places[i]+8, nodes[(i+len(nodes)-1)%len(nodes)])
			}
		}
	}
	m.PutUint64(pgdatPhys+zoneStat, total)
	m.SetVMCoreInfo(m.Text())
	return m
}

// Text is the vmcoreinfo.
func (m *Machine) Text() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m.Info)) {
		fmt.Fprintf(&b, "%s=%s\n", k, m.Info[k])
	}
	return b.String()
}

// ListEntry is where the first free block of an order is linked, to damage it.
func ListEntry(order int) vmcore.PhysAddr {
	return pgdatPhys + vmcore.PhysAddr(zoneFree+order*freeAreaSize)
}
