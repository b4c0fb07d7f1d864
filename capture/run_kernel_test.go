package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
	"github.com/panicroom-kdump/panicroom/vmcore/vmcoretest"
)

// runKernel saves a machine that has a kernel.
func runKernel(t testing.TB, m *kerneltest.Machine, f File, opts Options) (*Result, error) {
	t.Helper()
	d := m.Open(t)
	k, err := kernel.Open(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Run(context.Background(), d, k, f, opts)
}

// populated is a machine with pages of all classes. Reading one that must not
// be touched is an error.
func populated() (m *kerneltest.Machine, want map[vmcore.PFN]Class) {
	m = kerneltest.New(1)
	m.Info["CRASHTIME"] = "1795000000"
	want = population(m, (m.FirstPage()+2047)&^2047)
	untouchable(m, want)
	m.Finish()
	return m, want
}

// untouchable makes reading what must not be touched an error.
func untouchable(m *kerneltest.Machine, want map[vmcore.PFN]Class) {
	for pfn := kerneltest.BasePFN; pfn < kerneltest.BasePFN+vmcore.PFN(m.Pages); pfn++ {
		switch want[pfn] {
		case ClassPoison, ClassOffline, ClassUnaccepted:
			at := vmcore.PhysAddr(pfn) * page
			if n := len(m.Bad); n > 0 && m.Bad[n-1].End == at {
				m.Bad[n-1].End += page
			} else {
				m.Bad = append(m.Bad, vmcore.Range{Start: at, End: at + page})
			}
		}
	}
}

// Both looks at memory are told of, and end with all of it.
func TestProgressOfBothLooks(t *testing.T) {
	m, _ := populated()
	var looked, saved []Progress
	_, err := runKernel(t, m, &disk{room: -1}, Options{Level: LevelAll, Progress: func(p Progress) {
		if p.Total == 0 {
			looked = append(looked, p)
		} else {
			saved = append(saved, p)
		}
	}})
	if err != nil || len(looked) == 0 || len(saved) == 0 {
		t.Fatalf("told %d and %d times, %v", len(looked), len(saved), err)
	}
	memory := uint64(m.Pages) * page
	if first := looked[0]; first.Looked != 0 || first.Memory != memory || first.String() != "0% of page structs" {
		t.Errorf("first %+v, %q; want the beginning of %d bytes", first, first, memory)
	}
	if last := saved[len(saved)-1]; last.Looked != memory || last.Done != last.Total || last.String() != fmt.Sprintf("%d pages, 100%% of memory", last.Pages) {
		t.Errorf("last %+v, %q; want the end of %d bytes", last, last, memory)
	}
}

// changing is memory that becomes another one's.
type changing struct {
	before, after io.ReaderAt
	changed       atomic.Bool
}

func (c *changing) ReadAt(p []byte, off int64) (int, error) {
	if c.changed.Load() {
		return c.after.ReadAt(p, off)
	}
	return c.before.ReadAt(p, off)
}

// Of a running machine, which takes memory into use between the two looks at it,
// there is room for all pages, and it is the second look that counts.
func TestRunLive(t *testing.T) {
	const blocks = 16
	memory := func(free bool) *vmcoretest.Image {
		m := kerneltest.New(1)
		first := (m.FirstPage() + 1023) &^ 1023
		for block := range vmcore.PFN(blocks) {
			if free {
				m.SetFree(first+block<<10, 10)
				continue
			}
			for i := range vmcore.PFN(1 << 10) {
				m.Set(first+block<<10+i, kerneltest.Page{Type: noType, Refcount: 1})
			}
		}
		m.Finish()
		return m.Image()
	}
	for _, live := range []bool{false, true} {
		before, after := memory(true), memory(false)
		c := &changing{before: before, after: after}
		d, err := vmcore.New(c, before.Size())
		if live {
			d, err = vmcore.NewLive(c, nil)
		}
		if err != nil || d.Live() != live {
			t.Fatal(d, err)
		}
		k, err := kernel.Open(d, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := Run(t.Context(), d, k, &disk{room: -1}, Options{Level: LevelAll, Threads: 1, Progress: func(p Progress) {
			if p.Total > 0 {
				c.changed.Store(true)
			}
		}})
		if live && (err != nil || res.Pages.Saved < blocks<<10) {
			t.Errorf("a running machine: %+v, %v; want all that came into use", res, err)
		}
		if !live && (err != nil || res.Pages.Free != blocks<<10) {
			t.Errorf("a dead one: %+v, %v; want what the first look saw", res, err)
		}
	}
}

// failedChecks are the names of the checks that failed.
func failedChecks(res *Result) (names []string) {
	for _, c := range res.Checks {
		if !c.OK {
			names = append(names, c.Name)
		}
	}
	return names
}

func TestRunLeavesOutClasses(t *testing.T) {
	m, want := populated()
	for _, level := range []int{LevelAll, LevelCache, LevelZero, 0} {
		f := disk{room: -1}
		res, err := runKernel(t, m, &f, Options{Level: level, Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		if !res.Complete || res.Used != level || len(failedChecks(res)) != 0 {
			t.Errorf("level %d: complete %v, level used %d because %q, checks %+v", level, res.Complete, res.Used, res.Why, res.Checks)
		}
		// Pages that must not be touched were not: they would be unreadable.
		if res.Pages.Unreadable != 0 {
			t.Errorf("level %d: %d pages unreadable", level, res.Pages.Unreadable)
		}
		d := reopen(t, &f)
		var b [page]byte
		var got Counts
		bad := 0
		for pfn := kerneltest.BasePFN; pfn < kerneltest.BasePFN+vmcore.PFN(m.Pages); pfn++ {
			_, err := d.ReadPhys(b[:], vmcore.PhysAddr(pfn)*page)
			drop := want[pfn].Dropped(level)
			if errors.Is(err, vmcore.ErrExcluded) != drop || (err != nil) != drop {
				if bad++; bad < 10 {
					t.Errorf("level %d: page %#x, %v: %v", level, pfn, want[pfn], err)
				}
			}
			got.Total++
			if drop {
				got.count(want[pfn], 1)
			} else {
				got.Saved++
			}
		}
		got.Zero = res.Pages.Zero
		if res.Pages != got {
			t.Errorf("level %d: counted %+v; want %+v", level, res.Pages, got)
		}
		h := d.KdumpHeader()
		if h.Timestamp != 1795000000 || h.DumpLevel != level || h.PhysBase != uint64(kerneltest.Base) {
			t.Errorf("level %d: header %+v", level, h)
		}
	}
}

// A dump that is saved again has no pages for what was left out at first.
func TestRunOfADump(t *testing.T) {
	m, _ := populated()
	f := disk{room: -1}
	first, err := runKernel(t, m, &f, Options{Level: LevelAll})
	if err != nil {
		t.Fatal(err)
	}
	var again disk
	again.room = -1
	res, err := Run(context.Background(), reopen(t, &f), nil, &again, Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := res.Pages
	if p.Saved != first.Pages.Saved || p.Absent != first.Pages.Total-first.Pages.Saved || p.Saved+p.Absent != p.Total {
		t.Errorf("saved again: %+v; at first %+v", p, first.Pages)
	}
}

// When page tables or notes would be left out, classes are not believed: not
// even those that are left out at every level.
func TestRunKeepsAllWhenPageTablesWouldBeLost(t *testing.T) {
	for name, kind := range map[string]uint32{"free": kerneltest.TypeBuddy, "offline": kerneltest.TypeOffline} {
		t.Run(name, func(t *testing.T) {
			m := kerneltest.New(1)
			k, err := kernel.New(m, vmcore.MachineRISCV, []byte(m.Text()), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			var last vmcore.PFN
			for pfn, err := range k.PageTables() {
				if err != nil {
					t.Fatal(err)
				}
				last = pfn
			}
			m.Set(last, kerneltest.Page{Type: kind})
			f := disk{room: -1}
			res, err := runKernel(t, m.Finish(), &f, Options{Level: LevelAll})
			if err != nil {
				t.Fatal(err)
			}
			if got := failedChecks(res); !slices.Equal(got, []string{"kernel page tables kept"}) || res.Used != LevelZero || res.Why == "" {
				t.Errorf("failed checks %q, level used %d because %q", got, res.Used, res.Why)
			}
			if res.Pages.Saved != m.Pages {
				t.Errorf("%d pages saved; want all %d", res.Pages.Saved, m.Pages)
			}
		})
	}
}

// More free pages than the kernel counted: then free pages are kept, and only
// they.
func TestRunKeepsFreePagesThatTheKernelDoesNotCount(t *testing.T) {
	for _, c := range []struct {
		order int
		ok    bool
	}{{5, true}, {8, false}} {
		m := kerneltest.New(1)
		p := (m.FirstPage() + 1023) &^ 1023
		m.SetFree(p, 9)
		m.Set(p+1024, kerneltest.Page{Flags: kerneltest.LRU, Mapping: kerneltest.FileMapping})
		// Free as its struct pages have it, and on no list.
		for i := range vmcore.PFN(1) << c.order {
			m.Set(p+2048+i, kerneltest.Page{Type: noType})
		}
		m.Set(p+2048, kerneltest.Page{Type: kerneltest.TypeBuddy, Private: uint64(c.order)})
		f := disk{room: -1}
		res, err := runKernel(t, m.Finish(), &f, Options{Level: LevelAll})
		if err != nil {
			t.Fatal(err)
		}
		want := Counts{Free: 512 + 1<<c.order, Cache: 1}
		used := LevelAll
		if !c.ok {
			want.Free, used = 0, LevelAll&^LevelFree
		}
		if res.Used != used || res.Pages.Free != want.Free || res.Pages.Cache != want.Cache {
			t.Errorf("order %d: level used %d, %+v, checks %+v; want level %d, %+v", c.order, res.Used, res.Pages, res.Checks, used, want)
		}
	}
}

// Without struct pages nothing is left out.
func TestRunWithoutStructPages(t *testing.T) {
	const pages = kerneltest.SectionPages
	for _, c := range []struct {
		name   string
		damage func(m *kerneltest.Machine)
		used   int
		failed []string
		stats  SelectStats
	}{
		{"no mem_section", func(m *kerneltest.Machine) {
			delete(m.Info, "SYMBOL(mem_section)")
		}, LevelZero, []string{"page structs"}, SelectStats{}},
		{"section without a map", func(m *kerneltest.Machine) {
			m.SetSection(uint64(kerneltest.BasePFN)/pages, 0)
		}, LevelAll, nil, SelectStats{NoStructPage: pages}},
		{"section with a map of nonsense", func(m *kerneltest.Machine) {
			m.SetSection(uint64(kerneltest.BasePFN)/pages, 0x123456789abcdef)
		}, LevelAll, nil, SelectStats{Unreadable: pages}},
		{"struct pages not mapped", func(m *kerneltest.Machine) {
			m.Unmap(kerneltest.BasePFN)
		}, LevelAll, nil, SelectStats{Unreadable: pages}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := kerneltest.New(1)
			m.SetFree((m.FirstPage()+1023)&^1023, 10)
			c.damage(m)
			f := disk{room: -1}
			res, err := runKernel(t, m.Finish(), &f, Options{Level: LevelAll})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(failedChecks(res), c.failed) || res.Used != c.used {
				t.Errorf("level used %d because %q, checks %+v", res.Used, res.Why, res.Checks)
			}
			if res.Pages.Saved != pages || res.Structs != c.stats {
				t.Errorf("%d pages saved, %+v; want all, %+v", res.Pages.Saved, res.Structs, c.stats)
			}
		})
	}
}

// hookedDisk calls a function before it is written to for the first time.
type hookedDisk struct {
	disk
	hook func()
	once sync.Once
}

func (f *hookedDisk) WriteAt(p []byte, at int64) (int, error) {
	f.once.Do(f.hook)
	return f.disk.WriteAt(p, at)
}

// Struct pages may fail between the survey and the saving; what they were about
// is kept then, unless the survey saw nothing else around it, and the dump is whole.
func TestRunWhenStructPagesFailLater(t *testing.T) {
	m := kerneltest.New(1)
	p := (m.FirstPage() + 1023) &^ 1023
	m.SetFree(p, 7)     // half of an extent, to be looked at again
	m.SetFree(p+256, 8) // a whole one
	m.Finish()
	bad, too := kerneltest.StructPhys(p+64), kerneltest.StructPhys(p+256)
	f := &hookedDisk{disk: disk{room: -1}, hook: func() {
		m.Bad = []vmcore.Range{{Start: bad, End: bad + page}, {Start: too, End: too + page}}
	}}
	res, err := runKernel(t, m, f, Options{Level: LevelAll, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	if res.Pages.Free != 128-64+256 || !res.Complete {
		t.Errorf("%d pages free, complete %v; want %d, true", res.Pages.Free, res.Complete, 128-64+256)
	}
}

// A tail in front of its head says nothing that is kept for later.
func TestClassifyTailBeforeHead(t *testing.T) {
	m := kerneltest.New(1)
	p := (m.FirstPage() + 1023) &^ 1023
	m.SetCompound(p+8, 3, kerneltest.Page{Flags: kerneltest.LRU, Mapping: kerneltest.FileMapping})
	m.Set(p+7, kerneltest.Page{Compound: kerneltest.StructAt(p+8) | 1})
	s := selector(t, m.Finish())
	got := classify(t, s, p, 16, 16)
	for i, want := range slices.Concat(slices.Repeat([]Class{ClassKeep}, 8), slices.Repeat([]Class{ClassCache}, 8)) {
		if got[i] != want {
			t.Errorf("page %d is %v; want %v", i, got[i], want)
		}
	}
}

// Headers that claim more memory than any dump can have do not keep Run busy.
func TestRunOfImpossibleMemory(t *testing.T) {
	c := &vmcoretest.Core{RAM: []vmcore.Range{{Start: 0, End: 1 << 60}}}
	if _, err := Run(context.Background(), c.Open(t), nil, &disk{room: -1}, Options{}); !errors.Is(err, vmcore.ErrUnsupported) {
		t.Errorf("Run = %v; want ErrUnsupported", err)
	}
}

// A broken note area is said, and costs nothing else.
func TestRunWithBrokenNotes(t *testing.T) {
	c := machine()
	b := c.Image().Bytes()
	notes := binary.LittleEndian.Uint64(b[64+8:]) // p_offset of the PT_NOTE, which comes first
	binary.LittleEndian.PutUint32(b[notes+4:], 1<<30)
	var f disk
	f.room = -1
	res, err := Run(context.Background(), reopen(t, &disk{data: b}), nil, &f, Options{})
	if err != nil || !res.Complete {
		t.Fatalf("Run = %+v, %v", res, err)
	}
	if got := failedChecks(res); !slices.Contains(got, "notes of the dump") {
		t.Errorf("failed checks %q; want those of notes", got)
	}
}

// Pages of any size are worked on in pieces of the same size.
func TestExtentPages(t *testing.T) {
	for size, want := range map[uint64]uint64{4096: 256, 64 << 10: 16, 256 << 10: 4} {
		if got := extentPages(size); got != want {
			t.Errorf("extentPages(%d) = %d; want %d", size, got, want)
		}
	}
}
