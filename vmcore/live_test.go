package vmcore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// liveBytes is the machine as /proc/kcore shows it: with the areas of vmalloc,
// which have no physical address, one of them at an offset that no read can
// name.
func liveBytes() []byte {
	b := machine().Image().Bytes()
	le := binary.LittleEndian
	n := le.Uint16(b[56:])
	at := 64 + 56*int(n)
	for _, offset := range []uint64{0xffc0000000001000, 0x2000} {
		le.PutUint32(b[at:], 1)
		for i, v := range []uint64{offset, 0xff20000000000000, 1<<64 - 1, 1 << 50, 1 << 50} {
			le.PutUint64(b[at+8+8*i:], v)
		}
		at += 56
	}
	le.PutUint16(b[56:], n+2)
	return b
}

func TestLive(t *testing.T) {
	b := liveBytes()
	if _, err := vmcore.New(bytes.NewReader(b), int64(len(b))); err == nil {
		t.Error("opens as a dump; this test shows nothing")
	}
	path := filepath.Join(t.TempDir(), "kcore")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	crash := []vmcore.Range{{Start: 0x80300000, End: 0x80400000}, {Start: 0x9000f000, End: 0xa0000000}, {Start: 0x1000, End: 0x2000}}
	d, err := vmcore.OpenLive(path, crash)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	want := []vmcore.Range{{Start: 0x80080000, End: 0x80300000}, {Start: 0x80400000, End: 0x80480000}, {Start: 0x90000000, End: 0x9000f000}}
	if diff := cmp.Diff(want, d.Ranges()); diff != "" {
		t.Errorf("memory (-want +got):\n%s", diff)
	}
	if string(d.VMCoreInfo()) != "OSRELEASE=6.12.1\nPAGESIZE=4096\nCRASHTIME=1\n" || len(d.Notes()) != 2 {
		t.Errorf("%d notes, VMCOREINFO %q", len(d.Notes()), d.VMCoreInfo())
	}
	p := make([]byte, pg)
	for _, addr := range []vmcore.PhysAddr{0x80080000, 0x80202000, 0x80211000, 0x8047f000, 0x90000000} {
		if _, err := d.ReadPhys(p, addr); err != nil || !bytes.Equal(p, pattern(uint64(addr))) {
			t.Errorf("%#x: %v, or other bytes", uint64(addr), err)
		}
	}
	for _, addr := range []vmcore.PhysAddr{0x80300000, 0x803ff000, 0x9000f000} {
		if _, err := d.ReadPhys(p, addr); !errors.Is(err, vmcore.ErrHole) {
			t.Errorf("%#x, which is the panic kernel's: %v; want ErrHole", uint64(addr), err)
		}
	}
}

func TestLiveErrors(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":        {},
		"a header":     liveBytes()[:64],
		"another file": bytes.Repeat([]byte("another file "), 100),
		"nothing left": machine().Image().Bytes(),
	} {
		without := []vmcore.Range{{Start: 0, End: 1 << 60}}
		if d, err := vmcore.NewLive(bytes.NewReader(b), without); err == nil {
			t.Errorf("%s: opens, with %v", name, d.Ranges())
		}
	}
	if _, err := vmcore.OpenLive(filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func FuzzLive(f *testing.F) {
	b := liveBytes()
	f.Add(b[:3*pg], uint64(0x80090000), uint64(0x80100000))
	f.Add(b[:400], uint64(0), uint64(1<<63))
	f.Fuzz(func(t *testing.T, b []byte, start, end uint64) {
		without := vmcore.Range{Start: vmcore.PhysAddr(start), End: vmcore.PhysAddr(end)}
		d, err := vmcore.NewLive(bytes.NewReader(b), []vmcore.Range{without})
		if (d == nil) == (err == nil) {
			t.Fatalf("NewLive = %v, %v", d, err)
		}
		if err != nil {
			return
		}
		p := make([]byte, 2*pg)
		for _, s := range d.Segments() {
			if start < end && s.Phys.Start < without.End && without.Start < s.Phys.End {
				t.Fatalf("%v is in there without %v", s.Phys, without)
			}
			if n, err := d.ReadPhys(p, s.Phys.Start); (err == nil) != (n == len(p)) {
				t.Fatalf("ReadPhys = %d, %v", n, err)
			}
		}
	})
}

// alone fails when two read at a time.
type alone struct {
	io.ReaderAt
	reading, met atomic.Bool
}

func (a *alone) ReadAt(p []byte, off int64) (int, error) {
	if a.reading.Swap(true) {
		a.met.Store(true)
	}
	defer a.reading.Store(false)
	runtime.Gosched()
	return a.ReaderAt.ReadAt(p, off)
}

// Reads of one /proc/kcore are one at a time: they share a buffer in the kernel.
func TestLiveOneReadAtATime(t *testing.T) {
	a := &alone{ReaderAt: bytes.NewReader(liveBytes())}
	d, err := vmcore.NewLive(a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			r := d.NewReader()
			defer r.Close()
			p := make([]byte, pg)
			for range 500 {
				if _, err := r.ReadPhys(p, d.Ranges()[0].Start); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if a.met.Load() {
		t.Error("two read at a time")
	}
}
