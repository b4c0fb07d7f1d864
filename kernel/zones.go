package kernel

import (
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Zone is a zone of a memory node.
type Zone struct {
	Node  int
	Index int      // in the node, enum zone_type
	Addr  VirtAddr // of its struct zone
	// Spanned is the number of pages from its first to its last one.
	Spanned uint64
	// Free is what the kernel counted as free (NR_FREE_PAGES), in pages: what
	// is on the free lists. Pages on per-CPU lists are not among them.
	Free int64
	// FreeExact: Free has the parts that each CPU still kept for itself.
	// Without, it is off by up to about a hundred pages per CPU.
	FreeExact bool
}

// Limits of what is believed of zones.
const (
	maxNodes      = 1 << 10 // MAX_NUMNODES is 1<<CONFIG_NODES_SHIFT, which is 10 at most
	maxZones      = 8       // per node: MAX_NR_ZONES is 6 at most
	maxFreeLists  = 16      // per order: MIGRATE_TYPES is 6 in 7.2
	maxZoneStruct = 1 << 16
)

// Zones yields all zones that have memory. It ends with the first error.
func (k *Kernel) Zones() iter.Seq2[Zone, error] {
	return func(yield func(Zone, error) bool) {
		z, err := k.newZoneReader()
		if err != nil {
			yield(Zone{}, fmt.Errorf("zones: %w", err))
			return
		}
		for _, n := range z.nodes {
			for i := range n.zones {
				zone, err := z.read(n, i)
				if err != nil {
					yield(Zone{}, fmt.Errorf("zone %d of node %d: %w", i, n.id, err))
					return
				}
				if zone.Spanned > 0 && !yield(zone, nil) {
					return
				}
			}
		}
	}
}

// zoneNode is one memory node, a struct pglist_data.
type zoneNode struct {
	id    int
	addr  VirtAddr
	zones int
}

// zoneReader knows where zones are and how to read them.
type zoneReader struct {
	k                   *Kernel
	nodes               []zoneNode
	perNode             int // room for zones in struct pglist_data
	zonesOff, size      uint64
	spannedOff, freeOff uint64
	stats, diff         uint64 // offsets of the pointer to per-CPU counters, of ours in them
	cpus                []uint64
	exact               bool
}

func (k *Kernel) newZoneReader() (*zoneReader, error) {
	z := &zoneReader{k: k}
	var vmstat, pgdat uint64
	for _, key := range []struct {
		v    *uint64
		name string
		get  func(string) (uint64, bool)
	}{
		{&z.zonesOff, "pglist_data.node_zones", k.info.Offset},
		{&z.spannedOff, "zone.spanned_pages", k.info.Offset},
		{&vmstat, "zone.vm_stat", k.info.Offset},
		{&z.size, "zone", k.info.Size},
		{&pgdat, "pglist_data", k.info.Size},
	} {
		var ok bool
		if *key.v, ok = key.get(key.name); !ok {
			return nil, fmt.Errorf("%s: %w", key.name, ErrNoInfo)
		}
	}
	nr, ok := k.info.Number("NR_FREE_PAGES")
	if !ok {
		return nil, fmt.Errorf("NUMBER(NR_FREE_PAGES): %w", ErrNoInfo)
	}
	if z.size < 8 || z.size > maxZoneStruct || nr < 0 || nr > 1<<10 ||
		vmstat > z.size || 8*uint64(nr)+8 > z.size-vmstat || z.spannedOff > z.size-8 || z.zonesOff > pgdat {
		return nil, fmt.Errorf("struct zone of %d bytes: %w", z.size, ErrCorrupt)
	}
	z.freeOff = vmstat + 8*uint64(nr)
	// node_zones is an array of MAX_NR_ZONES at the beginning; pglist_data
	// has more behind it, so this is a bound.
	z.perNode = int(min((pgdat-z.zonesOff)/z.size, maxZones))
	if err := z.findNodes(); err != nil {
		return nil, err
	}
	// Per-CPU remainders are a refinement: without them the sums are close.
	z.exact = z.findStats(uint64(nr)) == nil
	return z, nil
}

// findNodes finds the nodes: an array of pointers with NUMA, one variable
// without.
func (z *zoneReader) findNodes() error {
	k := z.k
	if one, ok := k.info.Symbol("contig_page_data"); ok {
		return z.addNode(0, one)
	}
	syms, err := k.Lookup("node_data", "contig_page_data")
	if err != nil {
		return fmt.Errorf("node_data: %w", err)
	}
	data, numa := syms["node_data"]
	if !numa {
		if one, ok := syms["contig_page_data"]; ok {
			return z.addNode(0, one)
		}
		return fmt.Errorf("symbol node_data: %w", ErrNotFound)
	}
	online, ok := k.info.Symbol("node_online_map")
	size, ok2 := k.info.Size("nodemask_t")
	if !ok || !ok2 || size > maxNodes/8 {
		return fmt.Errorf("node_online_map: %w", ErrNoInfo)
	}
	mask := make([]byte, size)
	if err := k.ReadVirt(mask, online); err != nil {
		return fmt.Errorf("node_online_map: %w", err)
	}
	for node := range int(size) * 8 {
		if mask[node/8]>>(node%8)&1 == 0 {
			continue
		}
		pgdat, err := k.ReadPointer(data + VirtAddr(8*node))
		if err != nil {
			return fmt.Errorf("node %d: %w", node, err)
		}
		if pgdat == 0 {
			continue
		}
		if err := z.addNode(node, pgdat); err != nil {
			return err
		}
	}
	return nil
}

func (z *zoneReader) addNode(id int, pgdat VirtAddr) error {
	n := zoneNode{id, pgdat, z.perNode}
	// The zones in use come first.
	if off, ok := z.k.info.Offset("pglist_data.nr_zones"); ok {
		used, err := z.k.ReadUint32(pgdat + VirtAddr(off))
		if err != nil {
			return fmt.Errorf("node %d: %w", id, err)
		}
		if used > maxZones {
			return fmt.Errorf("node %d has %d zones: %w", id, used, ErrCorrupt)
		}
		n.zones = int(used)
	}
	z.nodes = append(z.nodes, n)
	return nil
}

// findStats finds where CPUs keep what they have not added to the counters of
// a zone: struct per_cpu_zonestat since 5.14, per_cpu_pageset before; one
// signed byte per counter.
func (z *zoneReader) findStats(nr uint64) error {
	l, err := z.k.Layout()
	if err != nil {
		return err
	}
	stats, ok := l.Offset("zone.per_cpu_zonestats")
	diff, ok2 := l.Field("per_cpu_zonestat.vm_stat_diff")
	if !ok || !ok2 {
		stats, ok = l.Offset("zone.pageset")
		diff, ok2 = l.Field("per_cpu_pageset.vm_stat_diff")
	}
	if !ok || !ok2 || nr >= diff.Size || stats > z.size-8 {
		return fmt.Errorf("per-CPU counters of zones: %w", ErrNotFound)
	}
	z.stats, z.diff = stats, diff.Offset+nr
	syms, err := z.k.Lookup("__per_cpu_offset", "__cpu_possible_mask", "nr_cpu_ids")
	if err != nil {
		return err
	}
	offsets, ok := syms["__per_cpu_offset"]
	possible, ok2 := syms["__cpu_possible_mask"]
	size, ok3 := l.Size("cpumask")
	if !ok || !ok2 || !ok3 || size > maxCPUs/8 {
		return fmt.Errorf("CPUs: %w", ErrNotFound)
	}
	mask := make([]byte, size)
	if err := z.k.ReadVirt(mask, possible); err != nil {
		return err
	}
	for cpu := range int(size) * 8 {
		if mask[cpu/8]>>(cpu%8)&1 == 0 {
			continue
		}
		off, err := z.k.ReadUint64(offsets + VirtAddr(8*cpu))
		if err != nil {
			return err
		}
		z.cpus = append(z.cpus, off)
	}
	return nil
}

func (z *zoneReader) read(n zoneNode, index int) (Zone, error) {
	zone := Zone{Node: n.id, Index: index, Addr: n.addr + VirtAddr(z.zonesOff+uint64(index)*z.size)}
	var err error
	if zone.Spanned, err = z.k.ReadUint64(zone.Addr + VirtAddr(z.spannedOff)); err != nil {
		return zone, err
	}
	if zone.Spanned == 0 {
		return zone, nil
	}
	free, err := z.k.ReadUint64(zone.Addr + VirtAddr(z.freeOff))
	if err != nil {
		return zone, err
	}
	zone.Free = int64(free)
	if !z.exact {
		return zone, nil
	}
	var sum int64
	stats, err := z.k.ReadUint64(zone.Addr + VirtAddr(z.stats))
	for _, cpu := range z.cpus {
		var b [1]byte
		if err == nil {
			err = z.k.ReadVirt(b[:], VirtAddr(stats+cpu+z.diff))
		}
		sum += int64(int8(b[0]))
	}
	if err == nil {
		zone.Free += sum
		zone.FreeExact = true
	}
	return zone, nil
}

// FreeBlock is a block of free pages on a free list.
type FreeBlock struct {
	First vmcore.PFN
	Order uint // 1<<Order pages
	Node  int
	Zone  int // index in the node
	List  int // enum migratetype
}

// FreePages yields the blocks of free pages by walking the free lists of all
// zones, as the allocator would find them. Struct pages say the same, see
// [PageFree]; the two must agree. A list that is damaged gives an error and is
// left; whoever goes on iterating gets the other lists. Needs
// SPARSEMEM_VMEMMAP.
func (k *Kernel) FreePages() iter.Seq2[FreeBlock, error] {
	return func(yield func(FreeBlock, error) bool) {
		w, err := k.newFreeWalk()
		if err != nil {
			yield(FreeBlock{}, fmt.Errorf("free lists: %w", err))
			return
		}
		for zone, err := range k.Zones() {
			if err != nil {
				yield(FreeBlock{}, err)
				return
			}
			for order := range uint(w.orders) {
				for list := range int(w.lists) {
					if !w.walk(zone, order, list, yield) {
						return
					}
				}
			}
		}
	}
}

type freeWalk struct {
	k                      *Kernel
	r                      *PageReader
	orders, lists          uint64
	area, areaSize, listAt uint64
}

func (k *Kernel) newFreeWalk() (*freeWalk, error) {
	m, err := k.MemMap()
	if err != nil {
		return nil, err
	}
	w := &freeWalk{k: k, r: m.NewReader(), orders: m.page.MaxOrder}
	var ok [4]bool
	w.area, ok[0] = k.info.Offset("zone.free_area")
	w.areaSize, ok[1] = k.info.Size("free_area")
	w.listAt, ok[2] = k.info.Offset("free_area.free_list")
	w.lists, ok[3] = k.info.Length("free_area.free_list")
	if ok != [4]bool{true, true, true, true} {
		return nil, fmt.Errorf("zone.free_area: %w", ErrNoInfo)
	}
	if w.lists > maxFreeLists || w.area > maxZoneStruct || w.areaSize > maxZoneStruct || w.listAt > w.areaSize {
		return nil, fmt.Errorf("%d free lists: %w", w.lists, ErrCorrupt)
	}
	return w, nil
}

// walk yields the blocks of one list; false ends everything.
func (w *freeWalk) walk(zone Zone, order uint, list int, yield func(FreeBlock, error) bool) bool {
	head := zone.Addr + VirtAddr(w.area+uint64(order)*w.areaSize+w.listAt+16*uint64(list))
	fail := func(err error) bool {
		return yield(FreeBlock{}, fmt.Errorf("free list %d of order %d, zone %d of node %d: %w", list, order, zone.Index, zone.Node, err))
	}
	prev, left := head, zone.Spanned>>order+1
	at, err := w.k.ReadPointer(head)
	if err != nil {
		return fail(err)
	}
	for ; at != head; left-- {
		if left == 0 {
			return fail(fmt.Errorf("longer than the zone: %w", ErrCorrupt))
		}
		// Next and previous at once: a list that is whole leads back.
		var links [16]byte
		if err := w.k.ReadVirt(links[:], at); err != nil {
			return fail(err)
		}
		if back := VirtAddr(binary.LittleEndian.Uint64(links[8:])); back != prev {
			return fail(fmt.Errorf("entry at %#x follows %#x, not %#x: %w", at, back, prev, ErrCorrupt))
		}
		pfn, err := w.r.PFNOf(at - VirtAddr(w.r.m.page.LRU))
		if err != nil {
			return fail(err)
		}
		if !yield(FreeBlock{pfn, order, zone.Node, zone.Index, list}, nil) {
			return false
		}
		prev, at = at, VirtAddr(binary.LittleEndian.Uint64(links[:]))
	}
	return true
}
