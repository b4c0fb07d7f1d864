package vmcore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// coreFile is an ELF core whose only segment has the given memory, from
// physical address start on, at file offset off.
func coreFile(t testing.TB, start vmcore.PhysAddr, memory []byte, off int) string {
	t.Helper()
	le := binary.LittleEndian
	b := make([]byte, 64+56, off+len(memory))
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 4)   // ET_CORE
	le.PutUint16(b[18:], 243) // riscv
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	ph := b[64:]
	le.PutUint32(ph, 1) // PT_LOAD
	le.PutUint64(ph[8:], uint64(off))
	le.PutUint64(ph[24:], uint64(start))
	le.PutUint64(ph[32:], uint64(len(memory)))
	le.PutUint64(ph[40:], uint64(len(memory)))
	b = append(b[:off], memory...)
	name := filepath.Join(t.TempDir(), "core")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// patchwork is memory of n pages, of which each third is zero.
func patchwork(t testing.TB, n int) []byte {
	b := pages(t, n)
	for i := 0; i < n; i += 3 {
		clear(b[i*pg:][:pg])
	}
	return b
}

// Filling an extent is the same as adding the pages one by one, wherever they
// lie in the windows of the file.
func TestFill(t *testing.T) {
	const n = 700 // more than two windows
	memory := patchwork(t, n)
	const first = 0x80000
	for _, off := range []int{4096, 8192, 4096 + 512, 1<<20 - 100} {
		d, err := vmcore.Open(coreFile(t, first*pg, memory, off))
		if err != nil {
			t.Fatal(err)
		}
		extents := [2][]byte{}
		for i := range extents {
			f := &diskFile{room: -1}
			kw, err := vmcore.NewKdumpWriter(f, vmcore.KdumpHeader{PageSize: pg, Compression: vmcore.CompressionLZO}, d.Ranges(), n, vmcore.KdumpOptions{})
			if err != nil {
				t.Fatal(err)
			}
			e := kw.NewExtent(n)
			if i == 0 {
				r := d.NewReader()
				if done, err := e.Fill(r, first, n); done != n || err != nil {
					t.Fatalf("Fill at offset %d = %d, %v; want %d", off, done, err, n)
				}
				if done, err := e.Fill(r, first+n-1, 1); done != 0 || err == nil || errors.As(err, new(*vmcore.AddrError)) {
					t.Errorf("Fill with a page again = %d, %v", done, err)
				}
				if done, err := e.Fill(r, first+n, 1); done != 0 || !errors.Is(err, vmcore.ErrHole) || !errors.As(err, new(*vmcore.AddrError)) {
					t.Errorf("Fill beyond memory = %d, %v", done, err)
				}
				if done, err := e.Fill(r, 1<<52, 1); done != 0 || err == nil {
					t.Errorf("Fill beyond all addresses = %d, %v", done, err)
				}
				r.Close()
			} else {
				for p := range n {
					if err := e.Add(first+vmcore.PFN(p), memory[p*pg:][:pg]); err != nil {
						t.Fatal(err)
					}
				}
			}
			if e.Pages() != n || e.Zeros() != (n+2)/3 {
				t.Errorf("offset %d: %d pages, %d of zeros", off, e.Pages(), e.Zeros())
			}
			if err := errors.Join(kw.Write(e), kw.Finish(true)); err != nil {
				t.Fatal(err)
			}
			extents[i] = f.b
		}
		if !bytes.Equal(extents[0], extents[1]) {
			t.Errorf("offset %d: filled and added pages make different files", off)
		}
		d.Close()
	}
}

// A file that was cut off while it is mapped faults: what lies before is there,
// and the error is about the first page that is not.
func TestFillFault(t *testing.T) {
	const n, first, left = 40, 0x80000, 17
	memory := patchwork(t, n)
	name := coreFile(t, first*pg, memory, pg)
	d, err := vmcore.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r := d.NewReader()
	defer r.Close()
	if err := os.Truncate(name, (1+left)*pg); err != nil {
		t.Fatal(err)
	}
	kw, err := vmcore.NewKdumpWriter(&diskFile{room: -1}, vmcore.KdumpHeader{PageSize: pg}, d.Ranges(), n, vmcore.KdumpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e := kw.NewExtent(n)
	done, err := e.Fill(r, first, n)
	if done != left || !errors.Is(err, vmcore.ErrUnreadable) {
		t.Fatalf("Fill = %d, %v; want %d pages", done, err, left)
	}
	if done, err = e.Fill(r, first+left+1, 1); done != 0 || !errors.Is(err, vmcore.ErrUnreadable) {
		t.Errorf("Fill behind the fault = %d, %v", done, err)
	}
	if err := errors.Join(kw.Write(e), kw.Finish(false)); err != nil || kw.Pages() != left {
		t.Errorf("%d pages written, %v; want %d", kw.Pages(), err, left)
	}
}

// The hot path does not allocate: not for a page, and not for an extent.
func TestHotPathAllocations(t *testing.T) {
	const n, first, runs = 128, 0x80000, 10
	memory := patchwork(t, n*(runs+1))
	d, err := vmcore.Open(coreFile(t, first*pg, memory, pg))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, compression := range everyCompression {
		r := d.NewReader()
		kw, err := vmcore.NewKdumpWriter(discard{}, vmcore.KdumpHeader{PageSize: pg, Compression: compression},
			d.Ranges(), n*(runs+1), vmcore.KdumpOptions{})
		if err != nil {
			t.Fatal(err)
		}
		e := kw.NewExtent(n)
		at := vmcore.PFN(first)
		allocs := testing.AllocsPerRun(runs, func() {
			e.Reset()
			if done, err := e.Fill(r, at, n); done != n || err != nil {
				t.Fatalf("Fill = %d, %v", done, err)
			}
			if err := kw.Write(e); err != nil {
				t.Fatal(err)
			}
			at += n
		})
		// A window that is mapped anew costs a few; there are six of them.
		if allocs > 2 {
			t.Errorf("%v: %v allocations for an extent of %d pages", compression, allocs, n)
		}
		r.Close()
		if err := kw.Finish(true); err != nil {
			t.Fatal(err)
		}
	}
}

// discard is a file that nobody reads.
type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
