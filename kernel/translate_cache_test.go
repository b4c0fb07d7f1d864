package kernel

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// counted counts the reads of a test's memory, which may be a live machine's.
type counted struct {
	*machine
	reads atomic.Int64
	live  bool
}

func (c *counted) ReadPhys(p []byte, addr vmcore.PhysAddr) (int, error) {
	c.reads.Add(1)
	return c.machine.ReadPhys(p, addr)
}

func (c *counted) Live() bool { return c.live }

// Pages of the vmalloc area: two that share a place in the cache, and one that
// is mapped by 2 MiB.
const (
	cacheVirt = VirtAddr(0xffff8f8000001000)
	cacheTwin = cacheVirt + 4096*cachedPages
	cacheHuge = VirtAddr(0xffff8f8040000000)
	cachePhys = vmcore.PhysAddr(0xa0000000)
)

func newCounted(t testing.TB, live bool) (*counted, *Kernel) {
	m := newMachine("sv48")
	m.mapPage(cacheVirt, cachePhys, 12)
	m.mapPage(cacheTwin, cachePhys+0x5000, 12)
	m.mapPage(cacheHuge, cachePhys+0x200000, 21)
	for i := range vmcore.PhysAddr(16) {
		m.write(cachePhys+i<<12, bytes.Repeat([]byte{byte(i)}, 4096))
		m.write(cachePhys+0x200000+i<<12, bytes.Repeat([]byte{0x80 | byte(i)}, 4096))
	}
	c := &counted{machine: m, live: live}
	k := m.kernel(t)
	k.mem = c
	return c, k
}

func (c *counted) read(t testing.TB, k *Kernel, va VirtAddr, want byte, reads int64) {
	t.Helper()
	before := c.reads.Load()
	var b [8]byte
	if err := k.ReadVirt(b[:], va); err != nil || b != [8]byte(bytes.Repeat([]byte{want}, 8)) {
		t.Errorf("at %v: % x, %v; want %#x", va, b, err, want)
	}
	if got := c.reads.Load() - before; got != reads {
		t.Errorf("at %v: %d reads, not %d", va, got, reads)
	}
}

func TestTranslationsAreKept(t *testing.T) {
	c, k := newCounted(t, false)
	const walked, known = 5, 1 // four levels and the bytes
	c.read(t, k, cacheVirt+16, 0, walked)
	c.read(t, k, cacheVirt+4088, 0, known)
	c.read(t, k, cacheTwin+8, 5, walked)
	c.read(t, k, cacheVirt, 0, walked)
	c.read(t, k, cacheHuge+0x3008, 0x83, walked-1)
	c.read(t, k, cacheHuge+0x3fe0, 0x83, known)
	c.read(t, k, cacheHuge+0x4000, 0x84, walked-1)
	if pa, err := k.Translate(cacheHuge + 0x4123); err != nil || pa != cachePhys+0x204123 {
		t.Errorf("translated to %#x, %v", uint64(pa), err)
	}
	// What is known of a page is no more than the page.
	var b [16]byte
	if err := k.ReadVirt(b[:], cacheHuge+0x3ff8); err != nil || b[7] != 0x83 || b[8] != 0x84 {
		t.Errorf("over the end of a page: % x, %v", b, err)
	}
	// What is not mapped is looked for each time.
	for range 2 {
		if err := k.ReadVirt(b[:], cacheVirt+4096); err == nil {
			t.Error("read what is not mapped")
		}
	}
	// Walk goes through the tables, whatever is known.
	before := c.reads.Load()
	if _, _, err := k.Walk(cacheVirt); err != nil || c.reads.Load()-before != 4 {
		t.Errorf("walk with %d reads, %v", c.reads.Load()-before, err)
	}
}

func TestTranslationsOfALiveMachine(t *testing.T) {
	c, k := newCounted(t, true)
	c.read(t, k, cacheVirt, 0, 5)
	c.mapPage(cacheVirt, cachePhys+0x7000, 12)
	c.read(t, k, cacheVirt, 7, 5)
}

func TestTranslationsConcurrently(t *testing.T) {
	_, k := newCounted(t, false)
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			va, want := cacheVirt, byte(0)
			if i%2 != 0 {
				va, want = cacheTwin, 5
			}
			var b [8]byte
			for range 2000 {
				if err := k.ReadVirt(b[:], va+8); err != nil || b[0] != want {
					t.Errorf("at %v: %d, %v", va, b[0], err)
					return
				}
			}
		})
	}
	wait.Wait()
}

// BenchmarkReadVirt reads a stack's frames: small pieces of a page in the
// vmalloc area.
func BenchmarkReadVirt(b *testing.B) {
	_, k := newCounted(b, false)
	var buf [16]byte
	for i := 0; b.Loop(); i++ {
		if err := k.ReadVirt(buf[:], cacheVirt+VirtAddr(i%32*128)); err != nil {
			b.Fatal(err)
		}
	}
}
