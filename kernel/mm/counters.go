package mm

import (
	"encoding/binary"
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Bounds of the kernel's counters: there are some seventy in 7.2, and each
// node has a part on each CPU.
const (
	maxCounters = 512
	maxParts    = 1 << 19
)

// nodeCounters are the counters of enum node_stat_item: vm_node_stat, and what
// CPUs have not added to it yet (struct per_cpu_nodestat), mm/vmstat.c.
type nodeCounters struct {
	index map[string]int64
	sums  []int64
}

func (r *reader) nodeCounters() (*nodeCounters, error) {
	l, err := r.k.Layout()
	if err != nil {
		return nil, err
	}
	c := &nodeCounters{index: l.Enum("node_stat_item")}
	count, ok := c.index["NR_VM_NODE_STAT_ITEMS"]
	if !ok {
		return nil, fmt.Errorf("enum node_stat_item: %w", kernel.ErrNoInfo)
	}
	if count < 1 || count > maxCounters {
		return nil, fmt.Errorf("%d counters of nodes: %w", count, kernel.ErrCorrupt)
	}
	at, err := r.k.Variable("vm_node_stat")
	if err != nil {
		return nil, err
	}
	b := make([]byte, 8*count)
	if err := r.k.ReadVirt(b, at); err != nil {
		return nil, fmt.Errorf("vm_node_stat: %w", err)
	}
	c.sums = make([]int64, count)
	for i := range c.sums {
		c.sums[i] = int64(binary.LittleEndian.Uint64(b[8*i:]))
	}
	if err := r.addParts(c); err != nil {
		r.missing("what CPUs keep of the counters (up to some MiB)", err)
	}
	return c, nil
}

// addParts adds what each CPU has for itself: one signed byte per counter.
func (r *reader) addParts(c *nodeCounters) error {
	pgdat, err := r.k.Struct("pglist_data", "per_cpu_nodestats")
	if err != nil {
		return err
	}
	stat, err := r.k.Struct("per_cpu_nodestat", "vm_node_stat_diff")
	if err != nil {
		return err
	}
	diff, _ := stat.Field("vm_node_stat_diff")
	if diff.ElemSize() != 1 || diff.Size < uint64(len(c.sums)) {
		return fmt.Errorf("%d counters in %d bytes: %w", len(c.sums), diff.Size, kernel.ErrUnsupported)
	}
	per, err := r.k.PerCPU()
	if err != nil {
		return err
	}
	nodes, err := r.k.Nodes()
	if err != nil {
		return err
	}
	if len(nodes)*len(per.CPUs) > maxParts {
		return fmt.Errorf("%d nodes and %d CPUs: %w", len(nodes), len(per.CPUs), kernel.ErrCorrupt)
	}
	b := make([]byte, len(c.sums))
	for _, n := range nodes {
		parts, err := r.k.ReadPointer(n.Addr + kernel.VirtAddr(pgdat.Offset("per_cpu_nodestats")))
		if err != nil {
			return fmt.Errorf("node %d: %w", n.ID, err)
		}
		for _, cpu := range per.CPUs {
			if err := r.k.ReadVirt(b, per.Addr(parts, cpu)+kernel.VirtAddr(diff.Offset)); err != nil {
				return fmt.Errorf("node %d, CPU %d: %w", n.ID, cpu, err)
			}
			for i, d := range b {
				c.sums[i] += int64(int8(d))
			}
		}
	}
	return nil
}

// get is the value of a counter.
func (c *nodeCounters) get(name string) (int64, error) {
	i, ok := c.index[name]
	if !ok || i < 0 || i >= int64(len(c.sums)) {
		return 0, fmt.Errorf("counter %s: %w", name, kernel.ErrNoInfo)
	}
	return c.sums[i], nil
}

// readCounters reads what the counters of nodes tell, and what is reckoned
// from them.
func (r *reader) readCounters() {
	c, err := r.nodeCounters()
	if err != nil {
		r.missing("cache, anonymous memory, slabs, stacks, page tables, available", err)
		return
	}
	s := r.s
	var files, active, inactive, misc uint64
	for _, n := range []struct {
		into *uint64
		name string
	}{
		{&files, "NR_FILE_PAGES"},
		{&active, "NR_ACTIVE_FILE"},
		{&inactive, "NR_INACTIVE_FILE"},
		{&misc, "NR_KERNEL_MISC_RECLAIMABLE"},
		{&s.Anon, "NR_ANON_MAPPED"},
		{&s.AnonHuge, "NR_ANON_THPS"},
		{&s.Mapped, "NR_FILE_MAPPED"},
		{&s.Shmem, "NR_SHMEM"},
		{&s.Dirty, "NR_FILE_DIRTY"},
		{&s.Writeback, "NR_WRITEBACK"},
		{&s.SlabReclaimable, "NR_SLAB_RECLAIMABLE_B"},
		{&s.SlabUnreclaimable, "NR_SLAB_UNRECLAIMABLE_B"},
		{&s.PageTables, "NR_PAGETABLE"},
	} {
		// Those of slabs are asked for in bytes (_B), but kept in pages.
		v, err := c.get(n.name)
		if err == nil {
			*n.into, err = r.bytes(v)
		}
		if err != nil {
			r.missing(n.name, err)
		}
	}
	kb, err := c.get("NR_KERNEL_STACK_KB")
	if err == nil && (kb < 0 || kb > maxPages) {
		err = fmt.Errorf("%d KiB: %w", kb, kernel.ErrCorrupt)
	}
	if err != nil {
		r.missing("kernel stacks", err)
	} else {
		s.KernelStacks = uint64(kb) << 10
	}
	// Kernels without swap have no such counter.
	if v, err := c.get("NR_SWAPCACHE"); err == nil {
		r.swapCached, _ = r.bytes(v)
	}
	s.Cached = files - min(files, r.swapCached) // less the buffers, which are read later
	r.readVmalloc(c)
	r.reckonAvailable(active+inactive, s.SlabReclaimable+misc)
}

// readVmalloc: a counter like others in 7.2, a variable in 6.12.
func (r *reader) readVmalloc(c *nodeCounters) {
	if l, err := r.k.Layout(); err == nil {
		_, r.stacksTwo = l.Offset("task_struct.stack_vm_area")
	}
	v, err := c.get("NR_VMALLOC")
	if err != nil {
		r.s.Vmalloc = r.pages("vmalloc", "nr_vmalloc_pages")
		return
	}
	if r.s.Vmalloc, err = r.bytes(v); err != nil {
		r.missing("vmalloc", err)
	}
}

// reckonAvailable estimates what programs could still have had without
// swapping, as the kernel does (si_mem_available, mm/show_mem.c, Linux 6.4):
// what is free beyond its reserves, and of the page cache and of what slabs can
// give back all but half, or the low watermarks if that is less.
func (r *reader) reckonAvailable(cache, reclaimable uint64) {
	n, err := r.number("totalreserve_pages")
	var reserve uint64
	if err == nil {
		reserve, err = r.bytes(n)
	}
	if err == nil && r.noZones {
		err = fmt.Errorf("watermarks of zones: %w", kernel.ErrNoInfo)
	}
	if err != nil {
		r.missing("available", err)
		return
	}
	cache -= min(cache/2, r.lowMarks)
	reclaimable -= min(reclaimable/2, r.lowMarks)
	have := r.s.Free + cache + reclaimable
	r.s.Available = have - min(have, reserve)
}
