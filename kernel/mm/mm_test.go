package mm_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/kernel/mm"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Where things are in the image of the test's kernel.
const (
	numbers  = kerneltest.Spare            // variables of 8 bytes
	nodeStat = kerneltest.Spare + 0x1000   // vm_node_stat
	offsets  = kerneltest.Spare + 0x2000   // __per_cpu_offset
	possible = kerneltest.Spare + 0x2800   // __cpu_possible_mask
	parts    = kerneltest.Spare + 0x3000   // of CPU 0; those of CPU 1 are cpuSize further
	cpuSize  = 0x1000                      // from one CPU to the next
	pools    = kerneltest.Spare + 0x6000   // hstates
	super    = kerneltest.Spare + 0x7000   // of block devices
	inodes   = kerneltest.Spare + 0x8000   // 0x200 each
	caches   = kerneltest.Spare + 0x10000  // 0x200 each, with their nodes
	heads    = kerneltest.Spare + 0x5000   // slab_caches
	zoneName = kerneltest.Spare + 0x5800   //
	pgdat    = 0xffffffff80000000 + 0x2000 // of package kerneltest
	zone     = pgdat                       // its first zone
	page     = 4096
	onCPU0   = 0 // offset of a CPU's part
	onCPU1   = cpuSize
)

var variables = []string{
	"_totalram_pages", "totalreserve_pages", "nr_vmalloc_pages", "pcpu_nr_populated", "pcpu_nr_units",
	"total_swap_pages", "nr_swap_pages", "sysctl_overcommit_kbytes", "sysctl_overcommit_ratio", "blockdev_superblock", "hugetlb_max_hstate",
}

// counters in the order of the test kernel, which is no kernel's.
var counters = []string{
	"NR_FILE_PAGES", "NR_ACTIVE_FILE", "NR_INACTIVE_FILE", "NR_KERNEL_MISC_RECLAIMABLE", "NR_ANON_MAPPED", "NR_ANON_THPS",
	"NR_FILE_MAPPED", "NR_SHMEM", "NR_FILE_DIRTY", "NR_WRITEBACK", "NR_SLAB_RECLAIMABLE_B", "NR_SLAB_UNRECLAIMABLE_B",
	"NR_PAGETABLE", "NR_KERNEL_STACK_KB", "NR_SWAPCACHE",
}

type machine struct {
	*kerneltest.Machine
	layout  *kernel.Layout
	symbols map[string]uint64
}

func field(off, size uint64) kernel.Field { return kernel.Field{Offset: off, Size: size} }

func array(off, each, count uint64) kernel.Field {
	return kernel.Field{Offset: off, Size: each * count, Count: count}
}

// newMachine makes a machine with 128 MiB whose memory is counted on two CPUs.
func newMachine() *machine {
	m := &machine{Machine: kerneltest.New(1), symbols: map[string]uint64{
		"vm_node_stat": nodeStat, "__per_cpu_offset": offsets, "__cpu_possible_mask": possible,
		"hstates": pools, "slab_caches": heads, "vm_committed_as": numbers + 0x800,
	}}
	items := map[string]int64{}
	for i, c := range counters {
		items[c] = int64(i)
		m.PutVirt64(nodeStat+8*uint64(i), uint64(1000+100*i))
	}
	items["NR_VM_NODE_STAT_ITEMS"] = int64(len(counters))
	for i, v := range variables {
		m.symbols[v] = numbers + 8*uint64(i)
	}
	m.layout = &kernel.Layout{
		Enums: map[string]map[string]int64{
			"node_stat_item":  items,
			"zone_watermarks": {"WMARK_MIN": 0, "WMARK_LOW": 1, "WMARK_HIGH": 2},
		},
		Structs: map[string]kernel.Struct{
			"zone": {Size: 1536, Fields: map[string]kernel.Field{
				"_watermark": array(0, 8, 4), "watermark_boost": field(32, 8), "per_cpu_zonestats": field(112, 8),
				"managed_pages": field(144, 8), "present_pages": field(160, 8), "name": field(176, 8),
				"free_area": array(256, 88, 11),
			}},
			"free_area":        {Size: 88, Fields: map[string]kernel.Field{"nr_free": field(80, 8)}},
			"per_cpu_zonestat": {Size: 16, Fields: map[string]kernel.Field{"vm_stat_diff": array(0, 1, 11)}},
			"per_cpu_nodestat": {Size: 32, Fields: map[string]kernel.Field{"vm_node_stat_diff": array(1, 1, 20)}},
			"pglist_data":      {Size: 9280, Fields: map[string]kernel.Field{"per_cpu_nodestats": field(8000, 8)}},
			"cpumask":          {Size: 8, Fields: map[string]kernel.Field{"bits": array(0, 8, 1)}},
			"percpu_counter":   {Size: 40, Fields: map[string]kernel.Field{"count": field(8, 8), "counters": field(32, 8)}},
			"hstate": {Size: 64, Fields: map[string]kernel.Field{"order": field(0, 4), "nr_huge_pages": field(8, 8),
				"free_huge_pages": field(16, 8), "resv_huge_pages": field(24, 8), "surplus_huge_pages": field(32, 8)}},
			"super_block":              {Size: 256, Fields: map[string]kernel.Field{"s_inodes": field(128, 16)}},
			"inode":                    {Size: 256, Fields: map[string]kernel.Field{"i_mapping": field(48, 8), "i_sb_list": field(64, 16)}},
			"address_space":            {Size: 128, Fields: map[string]kernel.Field{"nrpages": field(88, 8)}},
			"kmem_cache_order_objects": {Size: 4, Fields: map[string]kernel.Field{"x": field(0, 4)}},
			"kmem_cache_node":          {Size: 64, Fields: map[string]kernel.Field{"nr_slabs": field(32, 8), "total_objects": field(40, 8)}},
			"kmem_cache": {Size: 0x2000, Fields: map[string]kernel.Field{"object_size": field(28, 4), "oo": field(52, 4), "min": field(56, 4),
				"name": field(96, 8), "list": field(104, 16), "node": array(216, 8, 900)}},
			"task_struct": {Size: 3648, Fields: map[string]kernel.Field{"stack_vm_area": field(100, 8)}},
		},
	}
	m.set("_totalram_pages", 30000)
	m.set("totalreserve_pages", 500)
	m.set("nr_vmalloc_pages", 700)
	m.set("pcpu_nr_populated", 11)
	m.set("pcpu_nr_units", 2)
	m.set("total_swap_pages", 900)
	m.set("nr_swap_pages", 800)
	m.set("sysctl_overcommit_ratio", 50)
	m.set("hugetlb_max_hstate", 2)
	m.set("blockdev_superblock", super)

	m.PutVirt(possible, []byte{3})
	m.PutVirt64(offsets, onCPU0)
	m.PutVirt64(offsets+8, onCPU1)
	// Per-CPU parts: of the counters of the node, of those of the zone, and of
	// what was promised.
	m.PutVirt64(pgdat+8000, parts)
	m.part(0, 0, 5)     // NR_FILE_PAGES
	m.part(1, 0, 0xfe)  // -2
	m.part(1, 14, 0xff) // NR_SWAPCACHE
	m.PutVirt64(zone+112, parts+0x100)
	m.PutVirt(parts+onCPU0+0x100, []byte{7})
	m.PutVirt(parts+onCPU1+0x100, []byte{0xf0})
	m.PutVirt64(numbers+0x800+8, 5000)
	m.PutVirt64(numbers+0x800+32, parts+0x200)
	m.PutVirt(parts+onCPU1+0x200, []byte{0xfd, 0xff, 0xff, 0xff})

	for i, n := range []uint64{100, 200, 300, 400, 8} { // marks, and the boost
		m.PutVirt64(zone+8*uint64(i), n)
	}
	m.PutVirt64(zone+144, 29000)
	m.PutVirt64(zone+160, 32768)
	m.PutVirt64(zone+176, zoneName)
	m.PutVirt(zoneName, []byte("DMA32\x00"))
	m.SetFree(m.FirstPage(), 3)
	m.SetFree(m.FirstPage()+64, 5)
	m.PutVirt64(zone+256+3*88+80, 1)
	m.PutVirt64(zone+256+5*88+80, 1)

	for i, p := range [][]uint64{{9, 4, 3, 2, 1}, {18, 0, 0, 0, 0}} {
		at := pools + 64*uint64(i)
		for j, n := range p {
			m.PutVirt64(at+8*uint64(j), n)
		}
	}
	// Two block devices with 30 and 12 pages.
	m.list(super+128, inodes+64, inodes+0x200+64)
	for i, n := range []uint64{30, 12} {
		at := inodes + 0x200*uint64(i)
		m.PutVirt64(at+48, at+0x100)
		m.PutVirt64(at+0x100+88, n)
	}
	return m
}

func (m *machine) set(variable string, n uint64) { m.PutVirt64(m.symbols[variable], n) }

func (m *machine) part(cpu, counter int, n byte) {
	m.PutVirt(parts+cpuSize*uint64(cpu)+1+uint64(counter), []byte{n})
}

// list links a head and entries.
func (m *machine) list(nodes ...uint64) {
	for i, n := range nodes {
		m.PutVirt64(n, nodes[(i+1)%len(nodes)])
		m.PutVirt64(n+8, nodes[(i+len(nodes)-1)%len(nodes)])
	}
}

func (m *machine) kernel(t testing.TB) *kernel.Kernel {
	t.Helper()
	m.SetSymbols(m.symbols)
	m.Finish()
	k, err := kernel.New(m, vmcore.MachineRISCV, []byte(m.Text()), nil, &kernel.Options{Layout: m.layout})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestRead(t *testing.T) {
	got, err := mm.Read(newMachine().kernel(t))
	if err != nil {
		t.Fatal(err)
	}
	const (
		free  = 8 + 32 + 7 - 16
		cache = 1100 + 1200 - 208 // but the low mark
		slabs = 2000 + 1300 - 208
		huge  = 4 * 512
	)
	want := &mm.Summary{
		Total: 30000 * page, Free: free * page, Available: (free + cache + slabs - 500) * page,
		Anon: 1400 * page, AnonHuge: 1500 * page, Mapped: 1600 * page, Shmem: 1700 * page, Dirty: 1800 * page,
		Writeback: 1900 * page, SlabReclaimable: 2000 * page, SlabUnreclaimable: 2100 * page, PageTables: 2200 * page,
		KernelStacks: 2300 << 10, Vmalloc: 700 * page, PerCPU: 22 * page, SwapTotal: 900 * page, SwapFree: 800 * page,
		Committed: 4997 * page, CommitLimit: ((30000-huge)/2 + 900) * page,
		Huge: []mm.HugePages{{Size: 2 << 20, Total: 4, Free: 3, Reserved: 2, Surplus: 1}},
		Zones: []mm.Zone{{Name: "DMA32", Present: 32768 * page, Managed: 29000 * page, Free: free * page,
			Min: 108 * page, Low: 208 * page, High: 308 * page, Orders: []uint64{0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0}}},
	}
	// More is in the swap cache than in files here, so nothing is cached, and
	// there are no buffers.
	used := uint64(free+1400+2000+2100+2200+700+22+huge) + 2399
	want.Other = (30000 - used) * page
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	// With less of it, there are buffers and a cache.
	m := newMachine()
	m.PutVirt64(nodeStat+8*14, 4)
	if got, err = mm.Read(m.kernel(t)); err != nil || got.Buffers != 42*page || got.Cached != (1003-3-42)*page || got.Missing != nil {
		t.Errorf("buffers %d, cached %d pages, missing %q, %v", got.Buffers/page, got.Cached/page, got.Missing, err)
	}
}

// TestOtherKernels reads what is counted elsewhere in other kernels.
func TestOtherKernels(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *machine)
		check  func(s *mm.Summary) bool
	}{
		"vmalloc is a counter of nodes": {
			func(m *machine) {
				m.layout.Enums["node_stat_item"]["NR_VMALLOC"] = 15
				m.layout.Enums["node_stat_item"]["NR_VM_NODE_STAT_ITEMS"] = 16
				m.PutVirt64(nodeStat+8*15, 123)
				delete(m.symbols, "nr_vmalloc_pages")
			},
			func(s *mm.Summary) bool { return s.Vmalloc == 123*page },
		},
		"no swap": {
			func(m *machine) {
				delete(m.layout.Enums["node_stat_item"], "NR_SWAPCACHE")
				delete(m.symbols, "total_swap_pages")
				delete(m.symbols, "nr_swap_pages")
			},
			func(s *mm.Summary) bool { return s.SwapTotal == 0 && s.CommitLimit == (30000-2048)/2*page },
		},
		"no huge pages": {
			func(m *machine) { m.layout.Structs["hstate"] = kernel.Struct{}; delete(m.symbols, "hstates") },
			func(s *mm.Summary) bool { return s.Huge == nil },
		},
		"stacks of the linear map": {
			func(m *machine) { delete(m.layout.Structs["task_struct"].Fields, "stack_vm_area") },
			func(s *mm.Summary) bool { return s.Other == (30000-31-1400-2000-2100-2200-700-22-2048-2399-575)*page },
		},
		"a limit in bytes": {
			func(m *machine) { m.set("sysctl_overcommit_kbytes", 4003) },
			func(s *mm.Summary) bool { return s.CommitLimit == (1000+900)*page },
		},
	} {
		m := newMachine()
		c.change(m)
		s, err := mm.Read(m.kernel(t))
		if err != nil || s.Missing != nil || !c.check(s) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

// TestMissing damages one thing at a time: it is said, and the rest is there.
func TestMissing(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(m *machine)
		says   string
	}{
		"total":          {func(m *machine) { m.set("_totalram_pages", 1<<50) }, "total: 1125899906842624 pages"},
		"no reserve":     {func(m *machine) { delete(m.symbols, "totalreserve_pages") }, "available: symbol totalreserve_pages"},
		"counters":       {func(m *machine) { delete(m.symbols, "vm_node_stat") }, "cache, anonymous memory"},
		"a counter":      {func(m *machine) { m.PutVirt64(nodeStat+8*7, 1<<60) }, "NR_SHMEM: "},
		"stacks":         {func(m *machine) { m.PutVirt64(nodeStat+8*13, 1<<60) }, "kernel stacks: 1152921504606846976 KiB"},
		"no counter":     {func(m *machine) { delete(m.layout.Enums["node_stat_item"], "NR_KERNEL_STACK_KB") }, "kernel stacks: counter NR_KERNEL_STACK_KB"},
		"too many":       {func(m *machine) { m.layout.Enums["node_stat_item"]["NR_VM_NODE_STAT_ITEMS"] = 1 << 40 }, "1099511627776 counters"},
		"parts":          {func(m *machine) { m.PutVirt64(pgdat+8000, 0x1000) }, "what CPUs keep"},
		"zone's parts":   {func(m *machine) { m.PutVirt64(zone+112, 0x1000) }, "without what CPUs keep"},
		"zone's name":    {func(m *machine) { m.PutVirt64(zone+176, 8) }, "zone 0 of node 0: name"},
		"watermarks":     {func(m *machine) { delete(m.layout.Enums, "zone_watermarks") }, "available: watermarks"},
		"block devices":  {func(m *machine) { m.PutVirt64(inodes+64, inodes+64) }, "buffers, which are counted as cache"},
		"pages of one":   {func(m *machine) { m.PutVirt64(inodes+0x100+88, 1<<60) }, "buffers, which are counted as cache"},
		"sizes":          {func(m *machine) { m.set("hugetlb_max_hstate", 1<<20) }, "huge pages: 1048576 sizes"},
		"order":          {func(m *machine) { m.PutVirt64(pools, 40) }, "huge pages: 4 pages of order 40"},
		"many huge ones": {func(m *machine) { m.PutVirt64(pools+8, 1<<40) }, "huge pages: 1099511627776 pages"},
		"promises":       {func(m *machine) { m.PutVirt64(numbers+0x800+32, 0x1000) }, "committed: vm_committed_as of CPU 0"},
		"ratio":          {func(m *machine) { m.set("sysctl_overcommit_ratio", 1<<31) }, "commit limit: 0 KiB, -2147483648 %"},
		"units":          {func(m *machine) { m.set("pcpu_nr_units", 1<<30) }, "per-CPU memory: 11 pages in each of 1073741824"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			c.damage(m)
			s, err := mm.Read(m.kernel(t))
			if err != nil {
				t.Fatal(err)
			}
			if all := strings.Join(s.Missing, "\n"); !strings.Contains(all, c.says) {
				t.Errorf("missing %q, wanted %q", all, c.says)
			}
			if s.Total == 0 && name != "total" || s.SwapTotal == 0 {
				t.Errorf("too much is missing: %+v", s)
			}
		})
	}

	m := newMachine()
	m.symbols = nil
	m.Finish()
	k, err := kernel.New(m, vmcore.MachineRISCV, []byte(m.Text()), nil, &kernel.Options{Layout: m.layout})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := mm.Read(k); s != nil || err == nil {
		t.Errorf("without symbols: %+v, %v", s, err)
	}
}

// cache writes a slab cache and returns where its list entry is.
func (m *machine) cache(i uint64, name string, size, wanted, least uint32, slabs, objects uint64) uint64 {
	at := caches + 0x200*i
	m.PutVirt64(at+28, uint64(size))
	m.PutVirt64(at+52, uint64(wanted)|uint64(least)<<32)
	m.PutVirt64(at+96, at+0x140)
	m.PutVirt(at+0x140, append([]byte(name), 0))
	m.PutVirt64(at+216, at+0x180)
	m.PutVirt64(at+0x180+32, slabs)
	m.PutVirt64(at+0x180+40, objects)
	return at + 104
}

func TestCaches(t *testing.T) {
	m := newMachine()
	m.list(heads,
		m.cache(0, "small", 64, 64, 64, 10, 640),
		// Of 5 slabs with 8 objects of order 3, two were made with one page and 2.
		m.cache(1, "large", 2000, 3<<16|16, 0<<16|2, 5, 3*16+2*2),
		m.cache(2, "empty", 8, 512, 512, 0, 0))
	want := []mm.Cache{
		{Name: "large", Addr: kernel.VirtAddr(caches + 0x200), Object: 2000, Objects: 52, Slabs: 5, Bytes: (3*8 + 2) * page},
		{Name: "small", Addr: kernel.VirtAddr(caches), Object: 64, Objects: 640, Slabs: 10, Bytes: 10 * page},
		{Name: "empty", Addr: kernel.VirtAddr(caches + 0x400), Object: 8},
	}
	got, err := mm.Caches(m.kernel(t))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestCachesOf7 has the nodes of a cache as Linux 7.1 has them.
func TestCachesOf7(t *testing.T) {
	m := newMachine()
	delete(m.layout.Structs["kmem_cache"].Fields, "node")
	m.layout.Structs["kmem_cache"].Fields["per_node"] = array(208, 16, 4)
	m.layout.Structs["kmem_cache_per_node_ptrs"] = kernel.Struct{Size: 16, Fields: map[string]kernel.Field{"node": field(8, 8)}}
	m.list(heads, m.cache(0, "small", 64, 64, 64, 10, 640))
	got, err := mm.Caches(m.kernel(t))
	if err != nil || len(got) != 1 || got[0].Bytes != 10*page {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestCachesDamaged(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(m *machine)
		left   int
		is     error
	}{
		"a list in a circle": {func(m *machine) { m.PutVirt64(caches+0x200+104, caches+0x200+104) }, 2, kernel.ErrCorrupt},
		"no node":            {func(m *machine) { m.PutVirt64(caches+216, 0x1000) }, 1, kernel.ErrNotMapped},
		"no name":            {func(m *machine) { m.PutVirt64(caches+96, 0x1000) }, 1, kernel.ErrNotMapped},
		"an order":           {func(m *machine) { m.PutVirt64(caches+52, 99<<16) }, 1, kernel.ErrCorrupt},
		"slabs":              {func(m *machine) { m.PutVirt64(caches+0x180+32, 1<<63) }, 1, kernel.ErrCorrupt},
		"not counted":        {func(m *machine) { delete(m.layout.Structs["kmem_cache_node"].Fields, "nr_slabs") }, 0, kernel.ErrNoInfo},
		"another allocator":  {func(m *machine) { delete(m.layout.Structs["kmem_cache"].Fields, "oo") }, 0, kernel.ErrNoInfo},
		"without nodes":      {func(m *machine) { delete(m.layout.Structs["kmem_cache"].Fields, "node") }, 0, kernel.ErrNoInfo},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			m.list(heads, m.cache(0, "one", 64, 64, 64, 10, 640), m.cache(1, "two", 64, 64, 64, 10, 640))
			c.damage(m)
			got, err := mm.Caches(m.kernel(t))
			if len(got) != c.left || !errors.Is(err, c.is) {
				t.Errorf("%d caches, %v", len(got), err)
			}
		})
	}
}
