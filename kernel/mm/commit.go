package mm

import (
	"encoding/binary"
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Bounds of sizes of huge pages and of block devices.
const (
	maxHugeSizes  = 16
	maxHugeOrder  = 32
	maxBlockNodes = 1 << 16
)

// readHuge reads the pools of huge pages, hstates of mm/hugetlb.c: one for
// each size.
func (r *reader) readHuge() {
	if err := r.hugePools(); err != nil {
		r.missing("huge pages", err)
	}
}

func (r *reader) hugePools() error {
	l, err := r.k.Layout()
	if err != nil {
		return err
	}
	if size, ok := l.Size("hstate"); !ok || size == 0 {
		return nil // built without huge pages
	}
	pool, err := r.k.Struct("hstate", "order", "nr_huge_pages", "free_huge_pages", "resv_huge_pages", "surplus_huge_pages")
	if err != nil {
		return err
	}
	at, err := r.k.Variable("hstates")
	if err != nil {
		return err
	}
	n, err := r.short("hugetlb_max_hstate")
	if err != nil {
		return err
	}
	if n < 0 || n > maxHugeSizes {
		return fmt.Errorf("%d sizes: %w", n, kernel.ErrCorrupt)
	}
	for i := range uint64(n) {
		o, err := pool.At(at + kernel.VirtAddr(i*pool.Size()))
		if err != nil {
			return err
		}
		order := o.Uint("order")
		h := HugePages{
			Total: o.Uint("nr_huge_pages"), Free: o.Uint("free_huge_pages"),
			Reserved: o.Uint("resv_huge_pages"), Surplus: o.Uint("surplus_huge_pages"),
		}
		if order > maxHugeOrder || max(h.Total, h.Free, h.Reserved, h.Surplus) > maxPages>>order {
			return fmt.Errorf("%d pages of order %d: %w", h.Total, order, kernel.ErrCorrupt)
		}
		h.Size = r.page << order
		if h.Total|h.Reserved|h.Surplus != 0 {
			r.s.Huge = append(r.s.Huge, h)
		}
	}
	return nil
}

// readBuffers: buffers are the page cache of block devices, which have their
// inodes on a file system of their own (block/bdev.c).
func (r *reader) readBuffers() {
	n, err := r.blockPages()
	var b uint64
	if err == nil {
		b, err = r.bytes(n)
	}
	if err != nil {
		r.missing("buffers, which are counted as cache", err)
		return
	}
	r.s.Buffers = min(b, r.s.Cached)
	r.s.Cached -= r.s.Buffers
}

func (r *reader) blockPages() (int64, error) {
	super, err := r.k.Struct("super_block", "s_inodes")
	if err != nil {
		return 0, err
	}
	inode, err := r.k.Struct("inode", "i_sb_list", "i_mapping")
	if err != nil {
		return 0, err
	}
	space, err := r.k.Struct("address_space", "nrpages")
	if err != nil {
		return 0, err
	}
	at, err := r.k.Variable("blockdev_superblock")
	if err != nil {
		return 0, err
	}
	sb, err := r.k.ReadPointer(at)
	if err != nil {
		return 0, fmt.Errorf("blockdev_superblock: %w", err)
	}
	var sum int64
	left := maxBlockNodes
	for node, err := range r.k.List(sb+kernel.VirtAddr(super.Offset("s_inodes")), inode.Offset("i_sb_list")) {
		if err != nil {
			return 0, err
		}
		if left--; left < 0 {
			return 0, fmt.Errorf("more than %d block devices: %w", maxBlockNodes, kernel.ErrCorrupt)
		}
		// Only these: an inode is as large as a dozen others.
		mapping, err := r.k.ReadPointer(node + kernel.VirtAddr(inode.Offset("i_mapping")))
		if err != nil {
			return 0, err
		}
		n, err := r.k.ReadUint64(mapping + kernel.VirtAddr(space.Offset("nrpages")))
		if err != nil {
			return 0, err
		}
		if n > maxPages {
			return 0, fmt.Errorf("block device with %d pages: %w", n, kernel.ErrCorrupt)
		}
		sum = min(sum+int64(n), maxPages)
	}
	return sum, nil
}

// readSwap reads how much swap there is. What is on an area that was being
// given up (swapoff) when the kernel died counts as neither.
func (r *reader) readSwap() {
	if l, err := r.k.Layout(); err == nil {
		if _, ok := l.EnumValue("node_stat_item", "NR_SWAPCACHE"); !ok && l.Enum("node_stat_item") != nil {
			return // built without swap
		}
	}
	r.s.SwapTotal = r.pages("swap", "total_swap_pages")
	r.s.SwapFree = r.pages("free swap", "nr_swap_pages")
}

// readCommitted reads what programs were promised and how much that may be
// where promises are kept (vm.overcommit_memory=2): vm_commit_limit and
// vm_memory_committed, mm/util.c, Linux 6.1.
func (r *reader) readCommitted() {
	n, err := r.sumCounter("vm_committed_as")
	if err == nil {
		r.s.Committed, err = r.bytes(n)
	}
	if err != nil {
		r.missing("committed", err)
	}
	kbytes, err := r.number("sysctl_overcommit_kbytes")
	ratio, err2 := r.short("sysctl_overcommit_ratio")
	if err == nil {
		err = err2
	}
	if err == nil && (kbytes < 0 || kbytes > maxPages || ratio < 0) {
		err = fmt.Errorf("%d KiB, %d %%: %w", kbytes, ratio, kernel.ErrCorrupt)
	}
	if err != nil {
		r.missing("commit limit", err)
		return
	}
	limit := uint64(kbytes) << 10 &^ (r.page - 1)
	if kbytes == 0 {
		pages := r.s.Total / r.page
		for _, h := range r.s.Huge {
			pages -= min(pages, h.Total*(h.Size/r.page))
		}
		limit = pages * uint64(ratio) / 100 * r.page
	}
	r.s.CommitLimit = limit + r.s.SwapTotal
}

// sumCounter is the exact value of a struct percpu_counter
// (lib/percpu_counter.c): each CPU has a part of 32 bits.
func (r *reader) sumCounter(variable string) (int64, error) {
	at, err := r.k.Variable(variable)
	if err != nil {
		return 0, err
	}
	counter, err := r.k.Struct("percpu_counter", "count", "?counters")
	if err != nil {
		return 0, err
	}
	o, err := counter.At(at)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", variable, err)
	}
	sum := o.Int("count")
	if !o.Has("counters") {
		return sum, nil
	}
	per, err := r.k.PerCPU()
	if err != nil {
		return 0, err
	}
	for _, cpu := range per.CPUs {
		var b [4]byte
		if err := r.k.ReadVirt(b[:], per.Addr(o.Pointer("counters"), cpu)); err != nil {
			return 0, fmt.Errorf("%s of CPU %d: %w", variable, cpu, err)
		}
		sum += int64(int32(binary.LittleEndian.Uint32(b[:])))
	}
	return sum, nil
}
