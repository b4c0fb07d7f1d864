package mutate

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

func field(off, size uint64) kernel.Field { return kernel.Field{Offset: off, Size: size} }

// machine is a dead machine with tasks and slab caches, and the layout of its
// structs.
func machine() (*kerneltest.Machine, *kernel.Layout) {
	const (
		caches = kerneltest.Spare
		tasks  = kerneltest.Spare + 0x10000
		head   = kerneltest.Spare + 0x70000
		number = kerneltest.Spare + 0x70100
	)
	m := kerneltest.New(1)
	list := func(nodes ...uint64) {
		for i, n := range nodes {
			m.PutVirt64(n, nodes[(i+1)%len(nodes)])
			m.PutVirt64(n+8, nodes[(i+len(nodes)-1)%len(nodes)])
		}
	}
	nodes := []uint64{head}
	for i := range uint64(40) {
		at := caches + 0x200*i
		m.PutVirt64(at, at+0x100)
		m.PutVirt(at+0x100, []byte("cache\x00"))
		m.PutVirt64(at+8, 64<<32|64)
		m.PutVirt64(at+32, at+0x180)
		m.PutVirt64(at+0x180, 10)
		m.PutVirt64(at+0x188, 640)
		nodes = append(nodes, at+16)
	}
	list(nodes...)
	nodes = nil
	for i := range uint64(100) {
		at := tasks + 0x400*i
		m.PutVirt(at+0x20, []byte("a task\x00"))
		m.PutVirt64(at+0x40, i)
		m.PutVirt64(at+0x50, at+0x200)
		list(at+0x200, at+0x10)
		nodes = append(nodes, at)
	}
	list(nodes...)
	m.PutVirt64(number, 30000)
	m.SetSymbols(map[string]uint64{"slab_caches": head, "init_task": tasks, "_totalram_pages": number, "totalreserve_pages": number})
	m.SetFree(m.FirstPage(), 4)
	m.Finish()
	return m, &kernel.Layout{
		Structs: map[string]kernel.Struct{
			"kmem_cache": {Size: 64, Fields: map[string]kernel.Field{"name": field(0, 8), "oo": field(8, 4), "min": field(12, 4),
				"list": field(16, 16), "node": {Offset: 32, Size: 8, Count: 1}, "object_size": field(40, 4)}},
			"kmem_cache_order_objects": {Size: 4, Fields: map[string]kernel.Field{"x": field(0, 4)}},
			"kmem_cache_node":          {Size: 16, Fields: map[string]kernel.Field{"nr_slabs": field(0, 8), "total_objects": field(8, 8)}},
			"task_struct": {Size: 512, Fields: map[string]kernel.Field{"tasks": field(0, 16), "thread_node": field(0x10, 16),
				"comm": {Offset: 0x20, Size: 16, Count: 16}, "pid": field(0x40, 4), "stack": field(0x48, 8), "signal": field(0x50, 8),
				"mm": field(0x58, 8), "real_cred": field(0x60, 8)}},
			"signal_struct": {Size: 64, Fields: map[string]kernel.Field{"thread_head": field(0, 16)}},
		},
	}
}

// dumps are the machine's in two formats.
func dumps(t *testing.T) (map[string]*bytes.Reader, *kernel.Layout) {
	t.Helper()
	m, layout := machine()
	elf := m.Image()
	image := make([]byte, 64<<20) // the rest is a dump cut short
	if _, err := elf.ReadAt(image, 0); err != nil {
		t.Fatal(err)
	}
	d := m.Open(t)
	k, err := kernel.Open(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "vmcore")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := capture.Run(context.Background(), d, k, file, capture.Options{Level: capture.LevelAll}); err != nil {
		t.Fatal(err)
	}
	packed, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*bytes.Reader{"elf": bytes.NewReader(image), "kdump": bytes.NewReader(packed)}, layout
}

func bases(t *testing.T) map[string]*Base {
	t.Helper()
	files, layout := dumps(t)
	all := map[string]*Base{}
	for name, r := range files {
		b, err := NewBase(r, r.Size(), layout, Questions())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = b
	}
	return all
}

// TestDamagedDumps is what the package is for, on dumps that are made here.
func TestDamagedDumps(t *testing.T) {
	for name, b := range bases(t) {
		var stats runtime.MemStats // of this and other tests
		runtime.ReadMemStats(&stats)
		r := b.Run(Options{Seed: 6, N: 400, Memory: stats.Sys + 100e6})
		for _, f := range r.Failed {
			t.Errorf("%s, %v", name, f)
		}
		if r.Runs != 400 || r.Opened < 200 || r.Opened == 400 || r.Different < 100 {
			t.Errorf("%s: %d dumps, %d opened, %d answered otherwise than the whole one", name, r.Runs, r.Opened, r.Different)
		}
	}
}

func TestSameSeedSameDamage(t *testing.T) {
	first, again := bases(t)["kdump"], bases(t)["kdump"]
	same := 0
	for run := range 60 {
		_, a := first.damaged(1, run)
		_, b := again.damaged(1, run)
		if a != b || a == "" {
			t.Errorf("dump %d: %q, and again %q", run, a, b)
		}
		if _, c := first.damaged(2, run); a == c {
			same++
		}
	}
	if same > 3 {
		t.Errorf("%d of 60 damages are the same with another seed", same)
	}
}

// TestWhatMayNotBe has questions that do what none may.
func TestWhatMayNotBe(t *testing.T) {
	files, layout := dumps(t)
	r := files["kdump"]
	b, err := NewBase(r, r.Size(), layout, Questions())
	if err != nil {
		t.Fatal(err)
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	block := make(chan struct{})
	defer close(block)
	for _, c := range []struct {
		name  string
		ask   func(k *kernel.Kernel, w io.Writer) error
		says  string
		goes  bool // on after the first
		stack string
	}{
		{"panic", func(*kernel.Kernel, io.Writer) error { panic("no") }, "panic: panic: no", true, "mutate_test.go"},
		{"error", func(*kernel.Kernel, io.Writer) error { return errors.New("wrong") }, "error: wrong", true, ""},
		{"hang", func(*kernel.Kernel, io.Writer) error { <-block; return nil }, "no answer within", false, "mutate_test.go"},
		{"control", func(_ *kernel.Kernel, w io.Writer) error {
			_, err := (&answer{Writer: w, ok: asDmesg}).Write([]byte("ab\x1b[2J"))
			return err
		}, `a byte 0x1b after "ab"`, true, ""},
		{"length", func(_ *kernel.Kernel, w io.Writer) error {
			a := &answer{Writer: io.Discard, ok: anyByte}
			for range 65 {
				if _, err := a.Write(make([]byte, 1<<20)); err != nil {
					return err
				}
			}
			return nil
		}, "more than 67108864 bytes", true, ""},
		{"memory", func(*kernel.Kernel, io.Writer) error { return nil }, "MB of memory, at most 1 MB", false, ""},
	} {
		asked := 0
		limit, memory := time.Minute, stats.Sys+200<<20
		switch c.name {
		case "hang":
			limit = 200 * time.Millisecond
		case "memory":
			memory = 1e6 // any program has more
		}
		res := b.Run(Options{
			Seed: 6, First: 1, N: 3, Limit: limit, Memory: memory,
			Begin: func(int) { asked++ }, Questions: []Question{{Name: c.name, Ask: quiet(b, c.ask)}},
		})
		if len(res.Failed) == 0 || !strings.Contains(res.Failed[0].What, c.says) || !strings.Contains(res.Failed[0].Stack, c.stack) || res.Failed[0].Damage == "" {
			t.Errorf("%s: %+v", c.name, res)
		}
		if goes := asked == 3; goes != c.goes || res.Next != 1+asked || res.Runs != asked {
			t.Errorf("%s: asked %d dumps, next is %d", c.name, asked, res.Next)
		}
	}
}

// quiet leaves the whole dump alone.
func quiet(b *Base, ask func(*kernel.Kernel, io.Writer) error) func(*kernel.Kernel, io.Writer) error {
	return func(k *kernel.Kernel, w io.Writer) error {
		if k.Memory() == kernel.Memory(b.dump) {
			return nil
		}
		return ask(k, w)
	}
}

func TestDamagedFile(t *testing.T) {
	f := &damagedFile{ReaderAt: strings.NewReader("0123456789"), size: 8, patches: []patch{{2, []byte("ab")}, {3, []byte("X")}, {7, []byte("YZ")}}}
	for _, c := range []struct {
		off  int64
		n    int
		want string
		err  error
	}{{0, 4, "01aX", nil}, {3, 3, "X45", nil}, {6, 2, "6Y", nil}, {6, 4, "6Y", io.EOF}, {8, 1, "", io.EOF}, {-1, 1, "", io.EOF}} {
		p := make([]byte, c.n)
		n, err := f.ReadAt(p, c.off)
		if string(p[:n]) != c.want || err != c.err {
			t.Errorf("%d bytes at %d: %q, %v; want %q, %v", c.n, c.off, p[:n], err, c.want, c.err)
		}
	}
}

func TestDamagedMemory(t *testing.T) {
	m, _ := machine()
	m.Put(kerneltest.Base, bytes.Repeat([]byte{1}, 3*pageSize))
	pfn := uint64(kerneltest.BasePFN)
	at := pfn * pageSize
	d := &damagedMemory{m, map[uint64][]patch{}, map[uint64]error{pfn + 2: vmcore.ErrExcluded}, map[uint64]uint64{pfn + 1: pfn + 3}}
	d.patch(patch{at + pageSize - 2, []byte{7, 8, 9}})
	p := make([]byte, 6)
	if n, err := d.ReadPhys(p, vmcore.PhysAddr(at+pageSize-3)); n != 6 || err != nil || !bytes.Equal(p, []byte{1, 7, 8, 9, 0, 0}) {
		t.Errorf("over two pages: %d, %v, %v", n, p, err)
	}
	if n, err := d.ReadPhys(p, vmcore.PhysAddr(at+2*pageSize-4)); n != 4 || !errors.Is(err, vmcore.ErrExcluded) {
		t.Errorf("into a page that is gone: %d, %v", n, err)
	}
}
