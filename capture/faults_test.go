package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// faultRuns is how many random runs there are: a pick, and all in full mode.
func faultRuns() uint64 {
	if os.Getenv("PANICROOM_FULL") == "1" {
		return 1000
	}
	return 100
}

// faultyRAM is the memory of the machines of the fault runs, in bytes.
const faultyRAM = 48 << 20

// faulty is one run with faults, all of which its seed has chosen.
type faulty struct {
	rnd     *rand.Rand
	m       *kerneltest.Machine
	f       faultyDisk
	opts    Options
	what    []string           // the faults, for people
	ctx     context.Context    //
	cancel  context.CancelFunc // ends ctx
	cut     int64              // bytes that the core loses at its end, before it is opened
	late    int64              // bytes that the core is cut to when the writing begins; -1 none
	mayFail bool               // a fault that makes the dump incomplete
}

// faultyDisk is a disk that fails.
type faultyDisk struct {
	disk        // endless by itself
	room    int // bytes of blocks; -1: endless
	writes  int
	failAt  int // this write fails, once; -1 none
	syncErr error
	hook    func()         // before the second write
	blocks  map[int64]bool // that are allocated
}

var errIO = errors.New("I/O error")

func (f *faultyDisk) WriteAt(p []byte, at int64) (int, error) {
	f.writes++
	if f.writes == 2 && f.hook != nil {
		f.hook()
	}
	if f.writes == f.failAt {
		n, err := f.disk.WriteAt(p[:len(p)/2], at)
		return n, errors.Join(errIO, err)
	}
	if n := f.fits(len(p), at); n < len(p) {
		n, _ = f.disk.WriteAt(p[:n], at)
		return n, errFull
	}
	return f.disk.WriteAt(p, at)
}

// fits is how many bytes of a write fit on the disk: what is written again has
// its blocks.
func (f *faultyDisk) fits(n int, at int64) int {
	if f.room < 0 {
		return n
	}
	if f.blocks == nil {
		f.blocks = map[int64]bool{}
	}
	for b := at / page; b*page < at+int64(n); b++ {
		if !f.blocks[b] && (len(f.blocks)+1)*page > f.room {
			return int(max(b*page-at, 0))
		}
		f.blocks[b] = true
	}
	return n
}

func (f *faultyDisk) Sync() error { return f.syncErr }

// newFaulty makes the machine of a seed and breaks it.
func newFaulty(seed uint64) *faulty {
	r := &faulty{rnd: rand.New(rand.NewPCG(seed, 1)), m: kerneltest.New(1), late: -1}
	population(r.m, kerneltest.BasePFN+2048)
	r.m.RAM[0].End = kerneltest.Base + faultyRAM
	noise := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(noise)
	for range 6 {
		r.m.Put(kerneltest.Base+vmcore.PhysAddr(8<<20+r.rnd.IntN(39<<20)), noise)
	}
	r.f.room, r.f.failAt, r.f.disk.room = -1, -1, -1
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.opts = Options{
		Level:       []int{0, 1, 16, 31, 31, LevelReport}[r.rnd.IntN(6)],
		Format:      []Format{FormatKdump, FormatKdump, FormatELF}[r.rnd.IntN(3)],
		Compression: vmcore.Compression(r.rnd.IntN(int(vmcore.CompressionNone) + 1)),
		Threads:     1 + r.rnd.IntN(3),
		Share:       r.rnd.IntN(2) * 1024,
	}
	// vmcoreinfo is written into the notes by Finish.
	info := r.rnd.IntN(4) == 0
	if info {
		r.garbleInfo()
	}
	r.m.Finish()
	faults := []func(){r.fullDisk, r.badWrite, r.badSync, r.badPages, r.cutCore, r.lateCut, r.badSections, r.badTables, r.badStructs, r.canceled}
	for range 1 + r.rnd.IntN(3) {
		faults[r.rnd.IntN(len(faults))]()
	}
	return r
}

func (r *faulty) say(format string, args ...any) {
	r.what = append(r.what, fmt.Sprintf(format, args...))
}

// at is a random address of RAM, a multiple of a page.
func (r *faulty) at() vmcore.PhysAddr {
	return kerneltest.Base + vmcore.PhysAddr(r.rnd.IntN(faultyRAM/page))*page
}

func (r *faulty) fullDisk() {
	r.f.room = r.rnd.IntN(12 << 20)
	r.mayFail = true
	if r.rnd.IntN(2) == 0 {
		r.opts.Room = uint64(r.f.room)
	}
	r.say("a disk of %d bytes, known: %v", r.f.room, r.opts.Room > 0)
}

func (r *faulty) badWrite() {
	r.f.failAt = 1 + r.rnd.IntN(300)
	r.mayFail = true
	r.say("write %d fails", r.f.failAt)
}

func (r *faulty) badSync() {
	r.f.syncErr = errIO
	r.mayFail = true
	r.say("sync fails")
}

func (r *faulty) badPages() {
	for range 1 + r.rnd.IntN(200) {
		at := r.at()
		r.m.Bad = append(r.m.Bad, vmcore.Range{Start: at, End: at + page})
	}
	if r.rnd.IntN(2) == 0 {
		at := kerneltest.StructPhys(kerneltest.BasePFN) + vmcore.PhysAddr(r.rnd.IntN(400))*page
		r.m.Bad = append(r.m.Bad, vmcore.Range{Start: at, End: at + 16*page})
	}
	r.say("%d ranges of bad memory", len(r.m.Bad))
}

func (r *faulty) cutCore() {
	r.cut = r.rnd.Int64N(faultyRAM)
	r.say("the core lacks %d bytes", r.cut)
}

func (r *faulty) lateCut() {
	// Beyond the end of a file, but in its last page, a mapping reads zeros.
	r.late = page * (1 + r.rnd.Int64N(faultyRAM/page))
	r.say("the core is cut to %d bytes while it is read", r.late)
}

// garbage writes random bytes, zeros or ones over a part of what is at start.
func (r *faulty) garbage(what string, start vmcore.PhysAddr, size int) {
	n := 8 * (1 + r.rnd.IntN(size/8))
	at := start + vmcore.PhysAddr(8*r.rnd.IntN((size-n)/8+1))
	b := make([]byte, n)
	kind := r.rnd.IntN(3)
	for i := range b {
		switch kind {
		case 0:
			b[i] = byte(r.rnd.Uint32())
		case 1:
			b[i] = 0xff
		}
	}
	r.m.Put(at, b)
	r.say("%s: %d bytes at %#x are garbage of kind %d", what, n, at, kind)
}

func (r *faulty) badSections() { r.garbage("mem_section", kerneltest.SectionRoots, 2*page) }
func (r *faulty) badTables()   { r.garbage("page tables", kerneltest.PageTables, 8*page) }
func (r *faulty) badStructs() {
	r.garbage("struct pages", kerneltest.StructPhys(kerneltest.BasePFN), faultyRAM/page*kerneltest.PageStruct)
}

func (r *faulty) canceled() {
	after := 1 + r.rnd.IntN(20)
	r.opts.Progress = func(Progress) {
		if after--; after == 0 {
			r.cancel()
		}
	}
	r.mayFail = true
	r.say("canceled at extent %d", after)
}

// garbleInfo takes lines out of vmcoreinfo or makes them something else.
func (r *faulty) garbleInfo() {
	keys := slices.Sorted(func(yield func(string) bool) {
		for k := range r.m.Info {
			if !yield(k) {
				return
			}
		}
	})
	for range 1 + r.rnd.IntN(4) {
		k := keys[r.rnd.IntN(len(keys))]
		switch v := r.m.Info[k]; r.rnd.IntN(5) {
		case 0:
			delete(r.m.Info, k)
		case 1:
			r.m.Info[k] = fmt.Sprint(r.rnd.Uint64() >> r.rnd.IntN(64))
		case 2:
			r.m.Info[k] = fmt.Sprintf("%x", r.rnd.Uint64()>>r.rnd.IntN(64))
		case 3:
			r.m.Info[k] = []string{"", "-1", "0", "0xffffffffffffffff", "nonsense", strings.Repeat("9", 50)}[r.rnd.IntN(6)]
		case 4:
			if v != "" {
				b := []byte(v)
				b[r.rnd.IntN(len(b))] ^= byte(1 + r.rnd.IntN(15))
				r.m.Info[k] = string(b)
			}
		}
		r.say("vmcoreinfo: %s=%s", k, r.m.Info[k])
	}
}

// Whatever is wrong with the dead machine, its core or the disk: there is an
// end, what was written opens, and every page in it is the machine's.
func TestFaults(t *testing.T) {
	var complete, cut, nothing int
	for seed := range faultRuns() {
		r := newFaulty(seed)
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() {
				if p := recover(); p != nil {
					t.Errorf("panic: %v", p)
				}
			}()
			switch r.run(t) {
			case ended:
				complete++
			case cutShort:
				cut++
			case empty:
				nothing++
			}
		}()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatalf("seed %d (%s): not done within a minute", seed, strings.Join(r.what, "; "))
		}
		r.cancel()
		if t.Failed() {
			t.Fatalf("seed %d, %+v: %s", seed, r.opts, strings.Join(r.what, "; "))
		}
	}
	t.Logf("%d dumps were complete, %d cut short, %d had no room for their headers", complete, cut, nothing)
	if complete == 0 || cut == 0 {
		t.Error("no dump was complete, or none was cut short")
	}
}

// outcome is what became of a dump.
type outcome int

const (
	ended outcome = iota
	cutShort
	empty
)

func (r *faulty) run(t *testing.T) outcome {
	d := r.open(t)
	defer d.Close()
	k, err := kernel.Open(d, nil)
	if err != nil {
		k = nil
	}
	res, err := Run(r.ctx, d, k, &r.f, r.opts)
	if (err == nil) != (res != nil && res.Complete) {
		t.Errorf("Run = %+v, %v; want an error or a complete dump", res, err)
	}
	if err != nil && !r.mayFail {
		t.Errorf("Run: %v; nothing that was broken should end a dump", err)
	}
	if res == nil {
		// Nothing was written but a part of the headers.
		if r.f.room < 0 && r.f.failAt < 0 && r.ctx.Err() == nil || r.f.writes > 20 {
			t.Errorf("Run: %v, and no dump", err)
		}
		return empty
	}
	out, err := vmcore.New(bytes.NewReader(r.f.data), int64(len(r.f.data)))
	if err != nil {
		t.Errorf("what was written does not open: %v; %+v", err, res)
		return cutShort
	}
	defer out.Close()
	half := r.f.room >= 0 || r.f.failAt >= 0 // writes may get through in part
	if r.f.syncErr == nil && !half && out.Incomplete() == res.Complete {
		t.Errorf("the dump says incomplete %v, the result complete %v", out.Incomplete(), res.Complete)
	}
	// More bits of a bitmap may be set than is known.
	if saved := uint64(r.compare(t, out)); saved < res.Pages.Saved || saved > res.Pages.Saved && !half {
		t.Errorf("%d pages can be read; %d were saved", saved, res.Pages.Saved)
	}
	p := res.Pages
	if sum := p.Saved + p.Cache + p.CachePrivate + p.User + p.Free + p.Untouchable + p.Other + p.NoRoom + p.Unreadable + p.Absent; res.Complete && sum != p.Total {
		t.Errorf("%d pages are accounted for: %+v", sum, p)
	}
	if !res.Complete {
		return cutShort
	}
	return ended
}

// open opens the machine's core: through a file that is mapped if it is to
// lose its end, which is a real SIGBUS.
func (r *faulty) open(t *testing.T) *vmcore.Dump {
	im := r.m.Image()
	size := im.Size() - r.cut
	if r.late < 0 {
		d, err := vmcore.New(im, size)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	path := r.m.WriteFile(t)
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	d, err := vmcore.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r.f.hook = func() {
		if r.late < size {
			if err := os.Truncate(path, r.late); err != nil {
				t.Error(err)
			}
		}
	}
	return d
}

// compare holds every page that can be read against the machine's memory, and
// returns how many there are.
func (r *faulty) compare(t *testing.T, d *vmcore.Dump) (pages int) {
	bad := r.m.Bad
	r.m.Bad = nil // what was read is right even so
	defer func() { r.m.Bad = bad }()
	got, want := make([]byte, page), make([]byte, page)
	for at := r.m.RAM[0].Start; at < r.m.RAM[0].End; at += page {
		if _, err := d.ReadPhys(got, at); err != nil {
			if !errors.Is(err, vmcore.ErrExcluded) {
				t.Errorf("page %#x: %v", at, err)
			}
			continue
		}
		pages++
		if _, err := r.m.ReadPhys(want, at); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("page %#x is not the machine's", at)
		}
	}
	return pages
}

// The disk is full after every MiB that there is to write.
func TestFullDiskAtEveryMiB(t *testing.T) {
	for _, format := range []Format{FormatKdump, FormatELF} {
		last := -1
		for room := 0; ; room += 1 << 20 {
			r := &faulty{m: kerneltest.New(1), late: -1, ctx: context.Background(), cancel: func() {}, mayFail: true}
			population(r.m, kerneltest.BasePFN+2048)
			r.m.RAM[0].End = kerneltest.Base + faultyRAM
			noise := make([]byte, 12<<20)
			rand.NewChaCha8([32]byte{9}).Read(noise)
			r.m.Put(kerneltest.Base+8<<20, noise)
			r.m.Finish()
			r.f.room, r.f.failAt, r.f.disk.room = room, -1, -1
			r.opts = Options{Format: format, Level: LevelAll}
			out := r.run(t)
			if t.Failed() {
				t.Fatalf("%s, %d bytes of room", format, room)
			}
			if out == ended {
				if last < 4 {
					t.Errorf("%s: only %d disks were too small", format, last)
				}
				break
			}
			last++
		}
	}
}
