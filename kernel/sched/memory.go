package sched

import (
	"github.com/panicroom-kdump/panicroom/kernel"
)

// memory reads how much memory processes have: struct mm_struct,
// include/linux/mm_types.h.
type memory struct {
	k        *kernel.Kernel
	pageSize uint64
	mm       *kernel.StructReader
	// counter is for kernels since 6.2, whose rss_stat is an array of
	// percpu_counter; before, it is one of long.
	counter *kernel.StructReader
	perCPU  *kernel.PerCPU

	last         kernel.VirtAddr // of whom the answers are known: threads come in a row
	rss, size    uint64
	lastComplete error
}

// Members of mm_struct.rss_stat, include/linux/mm_types_task.h (Linux 4.5 to
// 7.2): files, anonymous memory, swap, shared memory. Swap is not there.
var resident = [...]int{0, 1, 3}

const counters = 4

func openMemory(k *kernel.Kernel) (*memory, error) {
	m := &memory{k: k, pageSize: k.Arch().PageSize}
	var err error
	if m.mm, err = k.Struct("mm_struct", "total_vm", "rss_stat"); err != nil {
		return nil, err
	}
	f, _ := m.mm.Field("rss_stat")
	if f.Count == counters {
		if m.counter, err = k.Struct("percpu_counter", "count", "?counters"); err != nil {
			return nil, err
		}
		if m.counter.Has("counters") {
			if m.perCPU, err = k.PerCPU(); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

// of is what a mm_struct says in bytes. What could be read is returned with an
// error: without its per-CPU parts a counter is off by some dozens of pages for
// each CPU.
func (m *memory) of(mm kernel.VirtAddr) (rss, size uint64, err error) {
	if mm == m.last {
		return m.rss, m.size, m.lastComplete
	}
	m.last = mm
	m.rss, m.size, m.lastComplete = m.read(mm)
	return m.rss, m.size, m.lastComplete
}

func (m *memory) read(mm kernel.VirtAddr) (rss, size uint64, err error) {
	pages, err := m.k.ReadUint64(mm + kernel.VirtAddr(m.mm.Offset("total_vm")))
	if err != nil {
		return 0, 0, err
	}
	size = pages * m.pageSize
	n, err := m.resident(mm)
	// Parts are added while others are changed: a sum may be below zero then.
	return uint64(max(n, 0)) * m.pageSize, size, err
}

func (m *memory) resident(mm kernel.VirtAddr) (pages int64, err error) {
	f, _ := m.mm.Field("rss_stat")
	at := mm + kernel.VirtAddr(f.Offset)
	for _, i := range resident {
		if m.counter == nil {
			n, err := m.k.ReadUint64(at + kernel.VirtAddr(8*i))
			if err != nil {
				return pages, err
			}
			pages += int64(n)
			continue
		}
		o, err := m.counter.At(at + kernel.VirtAddr(uint64(i)*f.ElemSize()))
		if err != nil {
			return pages, err
		}
		pages += o.Int("count")
		parts := o.Pointer("counters")
		if m.perCPU == nil || parts == 0 {
			continue
		}
		for _, cpu := range m.perCPU.CPUs {
			n, err := m.k.ReadUint32(m.perCPU.Addr(parts, cpu))
			if err != nil {
				return pages, err
			}
			pages += int64(int32(n))
		}
	}
	return pages, nil
}
