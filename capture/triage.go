package capture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sort"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// pageSet is a set of page frames that takes little memory however many there
// are: when they lie in too many places, it gets what lies between close ones
// as well.
type pageSet struct {
	runs []pageRun // sorted and apart when closed
	gap  vmcore.PFN
}

type pageRun struct{ start, end vmcore.PFN }

// maxRuns is how many runs a pageSet keeps: 1 MiB of memory, and twice that
// while it is filled.
const maxRuns = 1 << 16

// add puts pages into the set.
func (s *pageSet) add(start, end vmcore.PFN) {
	if start >= end {
		return
	}
	if n := len(s.runs); n > 0 && start >= s.runs[n-1].start && start <= s.runs[n-1].end {
		s.runs[n-1].end = max(s.runs[n-1].end, end)
		return
	}
	s.runs = append(s.runs, pageRun{start, end})
	if len(s.runs) > 2*maxRuns {
		s.close()
	}
}

// close sorts the set, and must be called before has.
func (s *pageSet) close() {
	slices.SortFunc(s.runs, func(a, b pageRun) int { return cmp.Compare(a.start, b.start) })
	for {
		n := 0
		for _, r := range s.runs {
			if n > 0 && r.start <= s.runs[n-1].end+s.gap {
				s.runs[n-1].end = max(s.runs[n-1].end, r.end)
				continue
			}
			s.runs[n] = r
			n++
		}
		s.runs = s.runs[:n]
		if n <= maxRuns {
			return
		}
		s.gap = 2*s.gap + 1
	}
}

// without calls f for each index of n pages from start on that is not in the
// set.
func (s *pageSet) without(start vmcore.PFN, n int, f func(i int)) {
	at := sort.Search(len(s.runs), func(i int) bool { return s.runs[i].end > start })
	for i := range n {
		pfn := start + vmcore.PFN(i)
		for at < len(s.runs) && s.runs[at].end <= pfn {
			at++
		}
		if at == len(s.runs) || pfn < s.runs[at].start {
			f(i)
		}
	}
}

// triageMemory is what *kernel.Kernel tells of where things are that triage
// needs.
type triageMemory interface {
	noteMemory
	Info() *kernel.VMCoreInfo
	Layout() (*kernel.Layout, error)
	PageTables() iter.Seq2[vmcore.PFN, error]
	Tasks() iter.Seq2[kernel.Task, error]
	TranslateRange(va kernel.VirtAddr, length uint64) iter.Seq2[kernel.Extent, error]
	ReadUint32(va kernel.VirtAddr) (uint32, error)
}

// triage is the search for the pages that [LevelReport] keeps.
type triage struct {
	ctx      context.Context
	k        triageMemory
	pageSize uint64
	set      pageSet
	errs     []error
}

// triagePages finds the memory that triage of a dead kernel needs:
//
//   - the kernel's image, with its symbols, types, and static variables;
//   - its page tables;
//   - what is mapped for modules and by vmalloc: their code, stacks, and the
//     per-CPU areas made later;
//   - the per-CPU areas of the CPUs that there were at boot;
//   - the log, and where notes were;
//   - of each thread its task_struct, stack, signal_struct, mm_struct and cred.
//
// The error says what was not found; without it, nothing is missing.
func triagePages(ctx context.Context, k triageMemory, pageSize uint64) (*pageSet, error) {
	t := &triage{ctx: ctx, k: k, pageSize: pageSize}
	for _, part := range []struct {
		name string
		find func() error
	}{
		{"image", t.image}, {"page tables", t.tables}, {"vmalloc and modules", t.vmalloc},
		{"per-CPU areas", t.perCPU}, {"log", t.log}, {"notes", t.notes}, {"tasks", t.tasks},
	} {
		if err := part.find(); err != nil {
			t.errs = append(t.errs, fmt.Errorf("%s: %w", part.name, err))
		}
	}
	t.set.close()
	if ctx.Err() != nil {
		t.errs = append(t.errs, context.Cause(ctx))
	}
	return &t.set, errors.Join(t.errs...)
}

// virt adds what is mapped of a range. Parts of it that cannot be translated,
// because a page table cannot be read, are not there for any reader.
func (t *triage) virt(va kernel.VirtAddr, size uint64) (pages uint64) {
	for e, err := range t.k.TranslateRange(va, size) {
		if t.ctx.Err() != nil {
			break
		}
		if err != nil {
			continue
		}
		start := vmcore.PFN(uint64(e.Phys) / t.pageSize)
		end := vmcore.PFN((uint64(e.Phys)+e.Size-1)/t.pageSize + 1)
		t.set.add(start, end)
		pages += uint64(end - start)
	}
	return pages
}

// mapped is virt for what must be there.
func (t *triage) mapped(what string, va kernel.VirtAddr, size uint64) error {
	if t.virt(va, size) == 0 {
		return fmt.Errorf("%s at %#x: %w", what, uint64(va), kernel.ErrNotMapped)
	}
	return nil
}

// lookup is for symbols that are needed.
func (t *triage) lookup(names ...string) ([]kernel.VirtAddr, error) {
	found, err := t.k.Lookup(names...)
	if err != nil {
		return nil, err
	}
	var list []kernel.VirtAddr
	for _, n := range names {
		va, ok := found[n]
		if !ok {
			return nil, fmt.Errorf("symbol %s: %w", n, kernel.ErrNotFound)
		}
		list = append(list, va)
	}
	return list, nil
}

func (t *triage) image() error {
	at, err := t.lookup("_start", "_end")
	if err != nil {
		return err
	}
	if at[1] <= at[0] || at[1]-at[0] > 1<<30 {
		return fmt.Errorf("from %#x to %#x: %w", uint64(at[0]), uint64(at[1]), kernel.ErrCorrupt)
	}
	return t.mapped("the kernel", at[0], uint64(at[1]-at[0]))
}

func (t *triage) tables() error {
	for pfn, err := range t.k.PageTables() {
		if t.ctx.Err() != nil {
			break
		}
		if err == nil { // one that cannot be read is not in any dump
			t.set.add(pfn, pfn+1)
		}
	}
	return nil
}

// vmalloc adds what is mapped from VMALLOC_START to VMALLOC_END and from
// MODULES_VADDR to MODULES_END (arch/riscv/kernel/vmcore_info.c, Linux 7.2).
func (t *triage) vmalloc() error {
	for _, r := range [][2]string{{"VMALLOC_START", "VMALLOC_END"}, {"MODULES_VADDR", "MODULES_END"}} {
		start, ok := t.k.Info().Number(r[0])
		end, ok2 := t.k.Info().Number(r[1])
		if !ok || !ok2 || uint64(start) >= uint64(end) {
			return fmt.Errorf("NUMBER(%s), NUMBER(%s): %w", r[0], r[1], kernel.ErrNoInfo)
		}
		t.virt(kernel.VirtAddr(start), uint64(end-start))
	}
	return nil
}

// maxCPUs is the most that NR_CPUS is.
const maxCPUs = 8192

// perCPU adds the per-CPU areas, and the tasks that run or idle on each CPU.
func (t *triage) perCPU() error {
	at, err := t.lookup("__per_cpu_offset", "nr_cpu_ids", "__per_cpu_start", "pcpu_unit_size", "runqueues")
	if err != nil {
		return err
	}
	offsets, start, runqueues := at[0], at[2], at[4]
	cpus, err := t.k.ReadUint32(at[1])
	if err != nil {
		return err
	}
	size, err := t.k.ReadUint32(at[3])
	if err != nil {
		return err
	}
	if cpus == 0 || cpus > maxCPUs || size == 0 || size > 64<<20 {
		return fmt.Errorf("%d CPUs with %d bytes each: %w", cpus, size, kernel.ErrCorrupt)
	}
	l, err := t.k.Layout()
	if err != nil {
		return err
	}
	for cpu := range cpus {
		offset, err := t.k.ReadPointer(offsets + kernel.VirtAddr(8*cpu))
		if err != nil {
			return err
		}
		if offset == 0 {
			continue // there is no such CPU
		}
		// The areas end with what was made for modules, the unit's size counts
		// from the beginning.
		if t.virt(start+offset, uint64(size)) == 0 {
			continue // nor ever was
		}
		for _, member := range []string{"rq.curr", "rq.idle", "rq.stop"} {
			f, ok := l.Field(member)
			if !ok {
				return fmt.Errorf("%s: %w", member, kernel.ErrNoInfo)
			}
			task, err := t.k.ReadPointer(runqueues + offset + kernel.VirtAddr(f.Offset))
			if err == nil && task != 0 {
				err = t.task(l, task)
			}
			if err != nil {
				return fmt.Errorf("%s of CPU %d: %w", member, cpu, err)
			}
		}
	}
	return nil
}

// log adds the ring of records where it is not in the image: with log_buf_len=
// it is anywhere (setup_log_buf, kernel/printk/printk.c, Linux 7.2).
func (t *triage) log() error {
	info := t.k.Info()
	prb, ok := info.Symbol("prb")
	if !ok {
		return fmt.Errorf("SYMBOL(prb): %w", kernel.ErrNoInfo)
	}
	var missing error
	offset := func(names ...string) (sum kernel.VirtAddr) {
		for _, n := range names {
			off, ok := info.Offset(n)
			if !ok || off > 1<<16 {
				missing = fmt.Errorf("OFFSET(%s): %w", n, kernel.ErrNoInfo)
			}
			sum += kernel.VirtAddr(off)
		}
		return sum
	}
	const desc, text = "printk_ringbuffer.desc_ring", "printk_ringbuffer.text_data_ring"
	count, sizeBits := offset(desc, "prb_desc_ring.count_bits"), offset(text, "prb_data_ring.size_bits")
	descs, infos, data := offset(desc, "prb_desc_ring.descs"), offset(desc, "prb_desc_ring.infos"), offset(text, "prb_data_ring.data")
	descSize, ok := info.Size("prb_desc")
	infoSize, ok2 := info.Size("printk_info")
	if missing == nil && (!ok || !ok2 || descSize > 1<<16 || infoSize > 1<<16) {
		missing = fmt.Errorf("SIZE(prb_desc), SIZE(printk_info): %w", kernel.ErrNoInfo)
	}
	if missing != nil {
		return missing
	}
	ring, err := t.k.ReadPointer(prb)
	if err != nil {
		return err
	}
	number := func(at kernel.VirtAddr) (n uint32) {
		if err == nil {
			n, err = t.k.ReadUint32(ring + at)
		}
		return n
	}
	pointer := func(at kernel.VirtAddr) (p kernel.VirtAddr) {
		if err == nil {
			p, err = t.k.ReadPointer(ring + at)
		}
		return p
	}
	countBits, textBits := number(count), number(sizeBits)
	d, i, x := pointer(descs), pointer(infos), pointer(data)
	if err != nil {
		return err
	}
	if countBits > 32 || textBits > 32 {
		return fmt.Errorf("ring of 2^%d records and 2^%d bytes: %w", countBits, textBits, kernel.ErrCorrupt)
	}
	return errors.Join(t.mapped("descriptors", d, descSize<<countBits),
		t.mapped("records", i, infoSize<<countBits), t.mapped("text", x, 1<<textBits))
}

func (t *triage) notes() error {
	pages, err := notePages(t.k, t.pageSize)
	for _, pfn := range pages {
		t.set.add(pfn, pfn+1)
	}
	return err
}

func (t *triage) tasks() error {
	l, err := t.k.Layout()
	if err != nil {
		return err
	}
	size := func(name string) uint64 {
		n, _ := l.Size(name)
		return min(n, 64<<10)
	}
	signal, mm, cred := size("signal_struct"), size("mm_struct"), size("cred")
	for task, err := range t.k.Tasks() {
		if err != nil {
			return err
		}
		if t.ctx.Err() != nil {
			break
		}
		if err := t.task(l, task.Addr); err != nil {
			return fmt.Errorf("PID %d: %w", task.PID, err)
		}
		for _, p := range []struct {
			at   kernel.VirtAddr
			size uint64
		}{{task.Signal, signal}, {task.MM, mm}, {task.Cred, cred}} {
			if p.at != 0 {
				t.virt(p.at, p.size)
			}
		}
	}
	return nil
}

// stackSize is enough for the kernel stacks of every architecture, where the
// types do not say how large they are.
const stackSize = 64 << 10

// task adds a task_struct and the stack of its thread.
func (t *triage) task(l *kernel.Layout, at kernel.VirtAddr) error {
	size, ok := l.Size("task_struct")
	f, ok2 := l.Field("task_struct.stack")
	if !ok || !ok2 || size > 64<<10 || f.Offset > size-8 {
		return fmt.Errorf("task_struct: %w", kernel.ErrNoInfo)
	}
	if err := t.mapped("task_struct", at, size); err != nil {
		return err
	}
	stack, err := t.k.ReadPointer(at + kernel.VirtAddr(f.Offset))
	if err != nil || stack == 0 {
		return err // a task that has ended has none
	}
	n, ok := l.Size("thread_union")
	if !ok || n > stackSize {
		n = stackSize
	}
	t.virt(stack, n)
	return nil
}
