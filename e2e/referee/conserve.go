package referee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// conservation checks what must hold whatever the rules say: the kernel's own
// count of free pages, and the pages that no dump may do without.
func conservation(s *space, z *census, d *diskdump, unreadable []Range) ([]Finding, error) {
	var all []Finding
	dropped := func(pfn uint64) bool {
		return pfn < uint64(len(z.class)) && z.class[pfn] != Absent && !bit(d.dumped, pfn) && !within(unreadable, pfn)
	}

	if d.level&16 != 0 {
		counted, zones, err := s.freePages()
		if err != nil {
			return nil, err
		}
		free := 0
		for pfn := range uint64(len(z.class)) {
			if dropped(pfn) && z.class[pfn] == Free {
				free++
			}
		}
		// Each CPU keeps up to 127 pages of change to itself before it adds
		// them to the zone's counter (struct per_cpu_zonestat, s8).
		slack := 127 * max(1, s.c.cpus) * zones
		all = append(all, Finding{
			Check:  "free pages dropped = NR_FREE_PAGES",
			OK:     free-counted <= slack && counted-free <= slack,
			Detail: fmt.Sprintf("%d dropped, the kernel counts %d in %d zones, may differ by %d", free, counted, zones, slack),
		})
	}

	kind := func(what string, is []bool) {
		diff, n := differences{what: "no " + what + " dropped"}, 0
		for pfn, yes := range is {
			if !yes {
				continue
			}
			n++
			if dropped(uint64(pfn)) {
				diff.add(uint64(pfn), z.describe(uint64(pfn)))
			}
		}
		f := diff.finding(n)
		if n == 0 {
			f.OK, f.Detail = false, "the machine has none, which cannot be"
		}
		all = append(all, f)
	}
	kind("slab page", z.slab)
	kind("reserved page", z.reserved)
	if z.layout.hasTable {
		kind("page of type table (user page tables too)", z.table)
	}

	mapped, err := s.kernelPages(uint64(len(z.class)))
	if err != nil {
		return nil, err
	}
	kind("kernel page table", mapped.tables)
	kind("page of the kernel image and modules", mapped.image)
	kind("page in vmalloc space (kernel stacks, module data)", mapped.vmalloc)
	kind("struct page", mapped.vmemmap)

	// A CPU that ran a program when it was stopped has that program's stack
	// pointer, in the lower half of addresses; the one that crashed was in the
	// kernel.
	stacks, inKernel := differences{what: "the stack of each CPU is in the dump"}, 0
	for _, sp := range s.c.stackPointers {
		if sp < 1<<63 {
			continue
		}
		inKernel++
		pa, err := s.translate(sp)
		switch {
		case err != nil:
			stacks.add(sp>>12, err.Error())
		case !bit(d.dumped, pa/pageSize):
			stacks.add(pa/pageSize, "not in the dump")
		}
	}
	if inKernel == 0 {
		stacks.add(0, "no CPU was in the kernel")
	}
	all = append(all, stacks.finding(inKernel))
	return all, nil
}

// freePages sums the kernel's counters of free pages over all zones of all
// nodes.
func (s *space) freePages() (pages, zones int, err error) {
	n := need{v: s.c.info}
	online := n.symbol("node_online_map")
	nodeZones, nrZones := uint64(n.number("OFFSET(pglist_data.node_zones)")), uint64(n.number("OFFSET(pglist_data.nr_zones)"))
	zoneSize, stat := uint64(n.number("SIZE(zone)")), uint64(n.number("OFFSET(zone.vm_stat)"))
	item, mapSize := uint64(n.number("NUMBER(NR_FREE_PAGES)")), n.number("SIZE(nodemask_t)")
	if err := n.err(); err != nil {
		return 0, 0, err
	}
	found, err := s.symbols("node_data")
	if err != nil {
		return 0, 0, err
	}
	mask, err := s.read(online, int(min(mapSize, 128)))
	if err != nil {
		return 0, 0, fmt.Errorf("node_online_map: %w", err)
	}
	for node := range uint64(len(mask) * 8) {
		if !bit(mask, node) {
			continue
		}
		pgdat, err := s.u64(found["node_data"] + node*8)
		if err != nil {
			return 0, 0, fmt.Errorf("node_data[%d]: %w", node, err)
		}
		b, err := s.read(pgdat+nrZones, 4)
		if err != nil {
			return 0, 0, fmt.Errorf("node %d: %w", node, err)
		}
		nr := binary.LittleEndian.Uint32(b)
		if nr == 0 || nr > 8 {
			return 0, 0, fmt.Errorf("node %d has %d zones", node, nr)
		}
		for zone := range uint64(nr) {
			free, err := s.u64(pgdat + nodeZones + zone*zoneSize + stat + item*8)
			if err != nil {
				return 0, 0, fmt.Errorf("zone %d of node %d: %w", zone, node, err)
			}
			pages += int(int64(free))
			zones++
		}
	}
	if zones == 0 {
		return 0, 0, errors.New("no node is online")
	}
	return pages, zones, nil
}

// mappedPages marks page frames by what the kernel's page tables use them for.
type mappedPages struct{ tables, image, vmalloc, vmemmap []bool }

func (s *space) kernelPages(end uint64) (*mappedPages, error) {
	n := need{v: s.c.info}
	u := func(key string) uint64 { return uint64(n.number("NUMBER(" + key + ")")) }
	vmalloc, vmallocEnd := u("VMALLOC_START"), u("VMALLOC_END")
	vmemmap, vmemmapEnd := u("VMEMMAP_START"), u("VMEMMAP_END")
	modules := u("MODULES_VADDR") // the kernel image stands above them
	if err := n.err(); err != nil {
		return nil, err
	}
	// The kernel frees its init sections when it has booted, and whoever asks
	// for memory gets them; they stay mapped at their old addresses.
	initSections, err := s.symbols("__init_begin", "__init_end")
	if err != nil {
		return nil, err
	}
	m := &mappedPages{make([]bool, end), make([]bool, end), make([]bool, end), make([]bool, end)}
	err = s.walk(func(va, pfn, pages uint64, table bool) {
		var set []bool
		switch {
		case table:
			set = m.tables
		case va >= modules && va < 1<<64-1<<21: // the last 2 MiB hold error pointers
			set = m.image
		case va >= vmalloc && va < vmallocEnd:
			set = m.vmalloc
		case va >= vmemmap && va < vmemmapEnd:
			set = m.vmemmap
		default:
			return // the linear map shows all memory
		}
		if bits.Len64(pfn+pages) > 44 {
			return
		}
		for p := pfn; p < min(pfn+pages, end); p++ { // beyond are devices
			at := va + (p-pfn)*pageSize
			if !table && at >= initSections["__init_begin"] && at < initSections["__init_end"] {
				continue
			}
			set[p] = s.c.has(p)
		}
	})
	return m, err
}
