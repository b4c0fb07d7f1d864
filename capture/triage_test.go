package capture

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// members are the pages of n from start on that are in the set.
func members(s *pageSet, start vmcore.PFN, n int) map[vmcore.PFN]bool {
	in := map[vmcore.PFN]bool{}
	for i := range n {
		in[start+vmcore.PFN(i)] = true
	}
	s.without(start, n, func(i int) { delete(in, start+vmcore.PFN(i)) })
	return in
}

func TestPageSet(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var s pageSet
		want := map[vmcore.PFN]bool{}
		for range rnd.IntN(60) {
			start := vmcore.PFN(rnd.IntN(2000))
			end := start + vmcore.PFN(rnd.IntN(40))
			s.add(start, end)
			for pfn := start; pfn < end; pfn++ {
				want[pfn] = true
			}
		}
		s.close()
		for at := 0; at < 2100; at += 300 {
			for pfn, in := range members(&s, vmcore.PFN(at), 300) {
				if in != want[pfn] {
					t.Fatalf("page %d: in the set %v; want %v", pfn, in, want[pfn])
				}
			}
			for pfn := vmcore.PFN(at); pfn < vmcore.PFN(at+300); pfn++ {
				if want[pfn] && !members(&s, vmcore.PFN(at), 300)[pfn] {
					t.Fatalf("page %d is lost", pfn)
				}
			}
		}
	}
}

// Pages in too many places take no more memory, and none is lost.
func TestPageSetIsBounded(t *testing.T) {
	var s pageSet
	const n = 5 * maxRuns
	for i := range vmcore.PFN(n) {
		s.add(3*i, 3*i+1)
	}
	s.close()
	if len(s.runs) > maxRuns || cap(s.runs) > 4*maxRuns {
		t.Errorf("%d runs in room for %d", len(s.runs), cap(s.runs))
	}
	for i := 0; i < n; i += 1024 {
		for pfn := range vmcore.PFN(1024) {
			if p := 3*vmcore.PFN(i) + pfn; p%3 == 0 && p < 3*n && !members(&s, p, 1)[p] {
				t.Fatalf("page %d is lost", p)
			}
		}
	}
}

// triaged is a kernel of which all parts lie in pages of their own; virtual
// addresses are physical ones plus 1<<32.
type triaged struct {
	noted
	info   map[string]string
	layout *kernel.Layout
	tasks  []kernel.Task
	words  map[kernel.VirtAddr]uint32
	tables []vmcore.PFN
	// unmapped has the page frames that cannot be translated.
	unmapped map[uint64]bool
}

func (k *triaged) Info() *kernel.VMCoreInfo {
	var b strings.Builder
	for key, v := range k.info {
		b.WriteString(key + "=" + v + "\n")
	}
	info, err := kernel.ParseVMCoreInfo([]byte(b.String()))
	if err != nil {
		panic(err)
	}
	return info
}

func (k *triaged) Layout() (*kernel.Layout, error) {
	if k.layout == nil {
		return nil, kernel.ErrNoInfo
	}
	return k.layout, nil
}

func (k *triaged) PageTables() iter.Seq2[vmcore.PFN, error] {
	return func(yield func(vmcore.PFN, error) bool) {
		for _, pfn := range k.tables {
			if !yield(pfn, nil) {
				return
			}
		}
	}
}

func (k *triaged) Tasks() iter.Seq2[kernel.Task, error] {
	return func(yield func(kernel.Task, error) bool) {
		if k.tasks == nil {
			yield(kernel.Task{}, kernel.ErrCorrupt)
		}
		for _, task := range k.tasks {
			if !yield(task, nil) {
				return
			}
		}
	}
}

func (k *triaged) ReadUint32(va kernel.VirtAddr) (uint32, error) {
	if n, ok := k.words[va]; ok {
		return n, nil
	}
	return 0, errNoPointer
}

func (k *triaged) TranslateRange(va kernel.VirtAddr, length uint64) iter.Seq2[kernel.Extent, error] {
	return func(yield func(kernel.Extent, error) bool) {
		for end := va + kernel.VirtAddr(length); va < end; {
			n := min(page-uint64(va)%page, uint64(end-va))
			pa := vmcore.PhysAddr(va - 1<<32)
			if !k.unmapped[uint64(pa)/page] && !yield(kernel.Extent{Virt: va, Phys: pa, Size: n}, nil) {
				return
			}
			va += kernel.VirtAddr(n)
		}
	}
}

// virtPage is the address of a page frame of triaged.
func virtPage(n uint64) kernel.VirtAddr { return kernel.VirtAddr(1<<32 + n*page) }

// wholeTriage is a kernel with everything in it, and the pages that are.
func wholeTriage() (*triaged, []vmcore.PFN) {
	k := &triaged{noted: twoCPUs(), tables: []vmcore.PFN{300, 301}, unmapped: map[uint64]bool{103: true}}
	k.symbols["_start"], k.symbols["_end"] = virtPage(10), virtPage(13)
	k.symbols["nr_cpu_ids"], k.symbols["__per_cpu_start"], k.symbols["pcpu_unit_size"], k.symbols["runqueues"] = 0x30, 0, 0x38, 0x40
	k.words = map[kernel.VirtAddr]uint32{0x30: 3, 0x38: 2 * page}
	k.info = map[string]string{
		"NUMBER(VMALLOC_START)": "0x100064000", "NUMBER(VMALLOC_END)": "0x100068000", // pages 100 to 103
		"NUMBER(MODULES_VADDR)": "0x100078000", "NUMBER(MODULES_END)": "0x100079000", // page 120
		"SYMBOL(prb)": "50", "SIZE(prb_desc)": "24", "SIZE(printk_info)": "88",
		"OFFSET(printk_ringbuffer.desc_ring)": "0", "OFFSET(printk_ringbuffer.text_data_ring)": "64",
		"OFFSET(prb_desc_ring.count_bits)": "0", "OFFSET(prb_desc_ring.descs)": "8", "OFFSET(prb_desc_ring.infos)": "16",
		"OFFSET(prb_data_ring.size_bits)": "0", "OFFSET(prb_data_ring.data)": "8",
	}
	const ring = 0x2000
	k.pointers[0x50] = ring
	k.words[ring], k.words[ring+64] = 6, 13
	k.pointers[ring+8], k.pointers[ring+16], k.pointers[ring+72] = virtPage(200), virtPage(202), virtPage(205)
	field := func(off, size uint64) kernel.Field { return kernel.Field{Offset: off, Size: size} }
	k.layout = &kernel.Layout{Structs: map[string]kernel.Struct{
		"task_struct":   {Size: 512, Fields: map[string]kernel.Field{"stack": field(8, 8)}},
		"thread_union":  {Size: 2 * page},
		"signal_struct": {Size: 64}, "mm_struct": {Size: 64}, "cred": {Size: 64},
		"rq": {Size: 64, Fields: map[string]kernel.Field{"curr": field(0, 8), "idle": field(8, 8), "stop": field(16, 8)}},
	}}
	for _, offset := range []kernel.VirtAddr{virtPage(21), virtPage(23)} {
		for i, task := range []uint64{400, 410, 0} {
			at := offset + 0x40 + kernel.VirtAddr(8*i)
			k.pointers[at] = 0
			if task != 0 {
				k.pointers[at] = virtPage(task)
			}
		}
	}
	for _, n := range []uint64{400, 410, 420} {
		k.pointers[virtPage(n)+8] = virtPage(n + 1) // the stack
		if n > 400 {
			k.tasks = append(k.tasks, kernel.Task{Addr: virtPage(n), Signal: virtPage(n + 5), Cred: virtPage(n + 6)})
		}
	}
	return k, []vmcore.PFN{
		7, 10, 11, 12, 21, 22, 23, 24, 100, 101, 102, 120, 200, 202, 203, 205, 206, 300, 301,
		400, 401, 402, 410, 411, 412, 415, 416, 420, 421, 422, 425, 426,
	}
}

func TestTriagePages(t *testing.T) {
	k, want := wholeTriage()
	set, err := triagePages(t.Context(), k, page)
	if err != nil {
		t.Fatal(err)
	}
	var got []vmcore.PFN
	in := members(set, 0, 600)
	for pfn := range vmcore.PFN(600) {
		if in[pfn] {
			got = append(got, pfn)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages %v; want %v", got, want)
	}
}

// What is not found is said: a report would miss it.
func TestTriagePagesMissing(t *testing.T) {
	for part, damage := range map[string]func(k *triaged){
		"image":               func(k *triaged) { delete(k.symbols, "_end") },
		"vmalloc and modules": func(k *triaged) { delete(k.info, "NUMBER(VMALLOC_END)") },
		"per-CPU areas":       func(k *triaged) { k.words[0x30] = 1 << 20 },
		"log":                 func(k *triaged) { k.words[0x2000] = 60 },
		"notes":               func(k *triaged) { delete(k.pointers, 0x10) },
		"tasks":               func(k *triaged) { k.tasks = nil },
	} {
		k, _ := wholeTriage()
		damage(k)
		if _, err := triagePages(t.Context(), k, page); err == nil || !strings.HasPrefix(err.Error(), part+": ") {
			t.Errorf("%s: %v; want it said", part, err)
		}
	}
	k, _ := wholeTriage()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := triagePages(ctx, k, page); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// A machine without symbols has no triage pages: all that is the kernel's is
// kept, and said why.
func TestRunReportFallsBack(t *testing.T) {
	m := kerneltest.New(1)
	m.SetFree((m.FirstPage()+1023)&^1023, 10)
	f := disk{room: -1}
	res, err := runKernel(t, m.Finish(), &f, Options{Level: LevelReport})
	if err != nil {
		t.Fatal(err)
	}
	if res.Used != LevelAll || res.Why == "" || !slices.Equal(failedChecks(res), []string{"memory for triage"}) {
		t.Errorf("level used %d because %q, failed checks %q", res.Used, res.Why, failedChecks(res))
	}
	if res.Pages.Free != 1024 || res.Pages.Other != 0 || !res.Complete {
		t.Errorf("%+v", res.Pages)
	}
}

func TestMarkOther(t *testing.T) {
	r := &run{triage: &pageSet{}}
	r.triage.add(11, 13)
	r.triage.close()
	got := []Class{ClassKeep, ClassKeep, ClassKeep, ClassKeep, ClassFree, ClassPoison}
	r.markOther(10, got)
	if want := []Class{ClassOther, ClassKeep, ClassKeep, ClassOther, ClassFree, ClassPoison}; !slices.Equal(got, want) {
		t.Errorf("%v; want %v", got, want)
	}
}

func TestParseLevel(t *testing.T) {
	for text, want := range map[string]int{"0": 0, "31": 31, "full": 0, "kernel": 31, "report": LevelReport, "17": 17} {
		got, err := ParseLevel(text)
		if got != want || err != nil {
			t.Errorf("ParseLevel(%q) = %d, %v; want %d", text, got, err, want)
		}
		if again, err := ParseLevel(LevelName(got)); again != got || err != nil {
			t.Errorf("ParseLevel(LevelName(%d)) = %d, %v", got, again, err)
		}
	}
	for _, text := range []string{"", "-1", "32", "63", "all", "1.5"} {
		if got, err := ParseLevel(text); err == nil {
			t.Errorf("ParseLevel(%q) = %d; want an error", text, got)
		}
	}
}
