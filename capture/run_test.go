package capture

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/vmcore"
	"github.com/panicroom-kdump/panicroom/vmcore/vmcoretest"
)

const page = 4096

// disk is a File in memory. After room bytes of data it is full.
type disk struct {
	data []byte
	room int // -1: endless
	used int
}

var errFull = errors.New("disk full")

func (f *disk) WriteAt(p []byte, at int64) (int, error) {
	if f.room >= 0 && f.used+len(p) > f.room {
		return 0, errFull
	}
	f.used += len(p)
	if need := int(at) + len(p); need > len(f.data) {
		f.data = append(f.data, make([]byte, need-len(f.data))...)
	}
	return copy(f.data[at:], p), nil
}

func (f *disk) Sync() error { return nil }

// machine is a dead machine of 16 MiB in two ranges, with random pages, pages
// of text and zero pages.
func machine() *vmcoretest.Core {
	c := vmcoretest.New(0x80000000, 8<<20)
	c.RAM = append(c.RAM, vmcore.Range{Start: 0x90000000, End: 0x90000000 + 8<<20})
	c.SetVMCoreInfo("OSRELEASE=6.12.0-test\nPAGESIZE=4096\n")
	c.AddPRStatus(1, [32]uint64{})
	rnd := rand.NewChaCha8([32]byte{1})
	for i, r := range c.RAM {
		for at := r.Start; at < r.End; at += 3 * page {
			b := make([]byte, page)
			if at/page%2 == 0 {
				rnd.Read(b)
			} else {
				for j := range b {
					b[j] = byte('a' + i + j%7)
				}
			}
			c.Put(at, b)
		}
	}
	return c
}

// reopen opens what a run wrote.
func reopen(t *testing.T, f *disk) *vmcore.Dump {
	t.Helper()
	d, err := vmcore.New(bytes.NewReader(f.data), int64(len(f.data)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// compare reads every page of the machine from the dump and returns how many
// are there.
func compare(t *testing.T, c *vmcoretest.Core, d *vmcore.Dump) (pages int) {
	t.Helper()
	want, got := make([]byte, page), make([]byte, page)
	for _, r := range c.RAM {
		for at := r.Start; at < r.End; at += page {
			if _, err := d.ReadPhys(got, at); err != nil {
				if !errors.Is(err, vmcore.ErrExcluded) {
					t.Errorf("page %#x: %v", at, err)
				}
				continue
			}
			pages++
			if _, err := c.ReadPhys(want, at); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("page %#x differs", at)
			}
		}
	}
	return pages
}

func TestRunKeepsEveryPage(t *testing.T) {
	for _, threads := range []int{1, 4} {
		c := machine()
		var f disk
		f.room = -1
		var last Progress
		res, err := Run(context.Background(), c.Open(t), nil, &f, Options{
			Level: LevelAll, Threads: threads,
			Progress: func(p Progress) { last = p },
		})
		if err != nil {
			t.Fatal(err)
		}
		const all = 16 << 20 / page
		if got := compare(t, c, reopen(t, &f)); got != all {
			t.Errorf("%d threads: %d pages; want %d", threads, got, all)
		}
		if !res.Complete || res.Pages.Total != all || res.Pages.Saved != all || res.Bytes != int64(len(f.data)) {
			t.Errorf("%d threads: %+v", threads, res)
		}
		// Nothing is known of the kernel: only zero pages may be called anything.
		if res.Used != LevelZero || res.Why == "" {
			t.Errorf("level used %d, because %q; want %d and why", res.Used, res.Why, LevelZero)
		}
		if want := uint64(all - 2*((8<<20)/page+2)/3); res.Pages.Zero != want {
			t.Errorf("%d zero pages; want %d", res.Pages.Zero, want)
		}
		if last.Done != all*page || last.Total != all*page {
			t.Errorf("last progress %+v", last)
		}
	}
}

func TestThreadsDoNotChangeTheFile(t *testing.T) {
	var files [2]disk
	for i, threads := range []int{1, 5} {
		files[i].room = -1
		if _, err := Run(context.Background(), machine().Open(t), nil, &files[i], Options{Threads: threads}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0].data, files[1].data) {
		t.Error("one thread and five threads write different files")
	}
}

func TestUnreadablePagesCostThemselves(t *testing.T) {
	c := machine()
	c.Bad = []vmcore.Range{
		{Start: 0x80000000, End: 0x80080000},
		{Start: 0x90003000, End: 0x90004000},
	}
	var f disk
	f.room = -1
	res, err := Run(context.Background(), c.Open(t), nil, &f, Options{Level: LevelAll})
	if err != nil {
		t.Fatal(err)
	}
	const bad = 0x80 + 1
	if res.Pages.Unreadable != bad || !res.Complete {
		t.Errorf("%d pages unreadable, complete %v; want %d, true", res.Pages.Unreadable, res.Complete, bad)
	}
	want := []Unreadable{{0x80000000, 0x80080000}, {0x90003000, 0x90004000}}
	if diff := cmp.Diff(want, res.Unreadable); diff != "" {
		t.Errorf("unreadable (-want +got):\n%s", diff)
	}
	if got, want := compare(t, c, reopen(t, &f)), 16<<20/page-bad; got != want {
		t.Errorf("%d pages in the dump; want %d", got, want)
	}
}

func TestFullDiskLeavesAValidDump(t *testing.T) {
	c := machine()
	var whole disk
	whole.room = -1
	if _, err := Run(context.Background(), c.Open(t), nil, &whole, Options{}); err != nil {
		t.Fatal(err)
	}
	saved := 0
	for _, part := range []int{2, 4, 8} {
		f := disk{room: whole.used / part}
		res, err := Run(context.Background(), c.Open(t), nil, &f, Options{})
		if !errors.Is(err, errFull) {
			t.Fatalf("1/%d of the room: %v; want %v", part, err, errFull)
		}
		if res == nil {
			continue // not even the headers fit
		}
		if res.Complete || res.Reason == "" {
			t.Errorf("1/%d of the room: complete %v, reason %q", part, res.Complete, res.Reason)
		}
		got := compare(t, c, reopen(t, &f))
		if uint64(got) != res.Pages.Saved {
			t.Errorf("1/%d of the room: %d pages can be read; %d were saved", part, got, res.Pages.Saved)
		}
		saved += got
	}
	if saved == 0 {
		t.Error("a disk that held half of the dump holds nothing")
	}
}

func TestDeadlineLeavesAValidDump(t *testing.T) {
	c := machine()
	ctx, cancel := context.WithCancelCause(context.Background())
	late := errors.New("too late")
	f := disk{room: -1}
	res, err := Run(ctx, c.Open(t), nil, &f, Options{Threads: 1, Progress: func(p Progress) { cancel(late) }})
	if !errors.Is(err, late) || res == nil || res.Complete {
		t.Fatalf("%+v, %v; want a result and %v", res, err, late)
	}
	got := compare(t, c, reopen(t, &f))
	if got == 0 || got == 16<<20/page || uint64(got) != res.Pages.Saved {
		t.Errorf("%d pages can be read, %d were saved", got, res.Pages.Saved)
	}
}

func TestRawCopy(t *testing.T) {
	c := machine()
	c.Extra = []vmcore.Range{{Start: 0x80200000, End: 0x80300000}}
	image := c.Image()
	want := image.Bytes()
	copyOf := func(c *vmcoretest.Core) (*disk, *Result) {
		f := &disk{room: -1}
		res, err := RawCopy(context.Background(), c.Open(t), f, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return f, res
	}
	f, res := copyOf(c)
	if !bytes.Equal(f.data, want) {
		t.Errorf("the copy has %d bytes and differs from the %d of the original", len(f.data), len(want))
	}
	if res.Bytes != image.Size() || !res.Complete {
		t.Errorf("%+v; want %d bytes, complete", res, image.Size())
	}
	c.Bad = []vmcore.Range{{Start: 0x80001000, End: 0x80003000}}
	if _, res := copyOf(c); res.Pages.Unreadable != 2 {
		t.Errorf("%d pages unreadable; want 2", res.Pages.Unreadable)
	}
}

func TestOptionsThreads(t *testing.T) {
	for _, c := range []struct {
		opts Options
		want int
	}{
		{Options{Threads: 3, MemLimit: 1 << 40}, 3},
		{Options{Threads: 64}, 5},
		{Options{Threads: 64, MemLimit: 32 << 20}, 1},
		{Options{Threads: 64, MemLimit: 1 << 30}, 64},
		{Options{Threads: 64, MemLimit: 1}, 1},
	} {
		if got := c.opts.threads(page); got != c.want {
			t.Errorf("%+v: %d threads; want %d", c.opts, got, c.want)
		}
	}
}

func TestBadLevel(t *testing.T) {
	for _, level := range []int{-1, 32} {
		if _, err := Run(context.Background(), machine().Open(t), nil, &disk{room: -1}, Options{Level: level}); err == nil {
			t.Errorf("level %d was taken", level)
		}
	}
}

func BenchmarkRun(b *testing.B) {
	c := machine()
	d := c.Open(b)
	b.SetBytes(16 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Run(context.Background(), d, nil, discard{}, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// discard is a File that keeps nothing.
type discard struct{}

func (discard) WriteAt(p []byte, at int64) (int, error) { return len(p), nil }
func (discard) Sync() error                             { return nil }

var _ io.WriterAt = discard{}
