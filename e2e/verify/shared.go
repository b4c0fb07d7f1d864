package main

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// shared are counters of pages without what each CPU keeps of them to itself, which
// crash does not read.
type shared struct {
	committed    uint64
	files, slabs uint64
	free         []uint64 // of each zone, in the order of the kernel's zones
}

// readShared reads them where crash does: vm_committed_as (struct percpu_counter,
// include/linux/percpu_counter.h), vm_node_stat (mm/vmstat.c) and zone.vm_stat
// (include/linux/mmzone.h), all of Linux 6.12 and 7.2.
func readShared(k *kernel.Kernel) (s shared, err error) {
	counter, err := k.Struct("percpu_counter", "count")
	if err != nil {
		return s, err
	}
	at, err := k.Variable("vm_committed_as")
	if err != nil {
		return s, err
	}
	o, err := counter.At(at)
	if err != nil {
		return s, err
	}
	s.committed = o.Uint("count")

	l, err := k.Layout()
	if err != nil {
		return s, err
	}
	if at, err = k.Variable("vm_node_stat"); err != nil {
		return s, err
	}
	for _, c := range []struct {
		into *uint64
		name string
	}{{&s.files, "NR_FILE_PAGES"}, {&s.slabs, "NR_SLAB_RECLAIMABLE_B"}, {&s.slabs, "NR_SLAB_UNRECLAIMABLE_B"}} {
		i, ok := l.EnumValue("node_stat_item", c.name)
		if !ok {
			return s, fmt.Errorf("%s: %w", c.name, kernel.ErrNoInfo)
		}
		n, err := k.ReadUint64(at + kernel.VirtAddr(8*i))
		if err != nil {
			return s, err
		}
		*c.into += n
	}

	stat, ok1 := k.Info().Offset("zone.vm_stat")
	nr, ok2 := k.Info().Number("NR_FREE_PAGES")
	if !ok1 || !ok2 {
		return s, fmt.Errorf("zone.vm_stat: %w", kernel.ErrNoInfo)
	}
	for z, err := range k.Zones() {
		if err != nil {
			return s, err
		}
		n, err := k.ReadUint64(z.Addr + kernel.VirtAddr(stat) + kernel.VirtAddr(8*nr))
		if err != nil {
			return s, err
		}
		s.free = append(s.free, n)
	}
	return s, nil
}

// freeAll is the free pages of all zones.
func (s *shared) freeAll() uint64 {
	var sum uint64
	for _, n := range s.free {
		sum += n
	}
	return sum
}
