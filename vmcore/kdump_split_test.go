package vmcore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// writeSplit dumps all pages of d into n files.
func writeSplit(t *testing.T, d *vmcore.Dump, n int, keep func(uint64) bool) []*diskFile {
	t.Helper()
	files := make([]*diskFile, n)
	var ws []io.WriterAt
	pages := uint64(0)
	for _, r := range d.Ranges() {
		for pfn := uint64(r.Start) / pg; pfn < uint64(r.End)/pg; pfn++ {
			if keep(pfn) {
				pages++
			}
		}
	}
	for i := range files {
		files[i] = &diskFile{room: -1}
		ws = append(ws, files[i])
	}
	kw, err := vmcore.NewSplitKdumpWriter(ws, headerOf(d), d.Ranges(), pages, vmcore.KdumpOptions{Share: 64})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(copyPages(t, d, kw, keep), kw.Finish(true)); err != nil {
		t.Fatal(err)
	}
	if kw.Pages() != pages {
		t.Fatalf("%d pages written; want %d", kw.Pages(), pages)
	}
	return files
}

func TestSplit(t *testing.T) {
	c, src := source(t)
	keep := func(pfn uint64) bool { return pfn%7 != 3 }
	want := func(pfn uint64) error {
		if keep(pfn) {
			return nil
		}
		return vmcore.ErrExcluded
	}
	for _, n := range []int{2, 3, 40} {
		files := writeSplit(t, src, n, keep)
		var paths []string
		dir := t.TempDir()
		for i, f := range files {
			path := filepath.Join(dir, string(rune('a'+i)))
			if err := os.WriteFile(path, f.b, 0o600); err != nil {
				t.Fatal(err)
			}
			paths = append([]string{path}, paths...) // backwards
		}
		d, err := vmcore.Open(paths[0], paths[1:]...)
		if err != nil {
			t.Fatalf("%d parts: %v", n, err)
		}
		defer d.Close()
		compare(t, c, d, want)
		r := d.NewReader()
		defer r.Close()
		p := make([]byte, 8)
		if _, err := r.ReadPhys(p, 0x80100000); err != nil && keep(0x80100) {
			t.Errorf("%d parts: reader: %v", n, err)
		}

		le := binary.LittleEndian
		last := uint64(0)
		for i, f := range files {
			if !bytes.Equal(f.b[:464], files[0].b[:464]) {
				t.Errorf("headers of parts 1 and %d differ; crash refuses them", i+1)
			}
			start, end := le.Uint64(f.b[pg+80:]), le.Uint64(f.b[pg+88:])
			if start != last || start%64 != 0 && start != 0x90010 || end < start {
				t.Errorf("part %d of %d: page frames %#x to %#x", i+1, n, start, end)
			}
			last = end
		}
		if last != 0x90010 {
			t.Errorf("the last of %d parts ends with %#x", n, last)
		}
		if n == 3 {
			for i, f := range files {
				if size := len(bytes.TrimRight(f.b, "\x00")); size < 150<<10 {
					t.Errorf("part %d has %d bytes: not a third", i+1, size)
				}
			}
		}
	}
}

// A part that is missing costs its pages.
func TestSplitPartMissing(t *testing.T) {
	c, src := source(t)
	files := writeSplit(t, src, 3, func(uint64) bool { return true })
	part := func(i int) vmcore.Part {
		return vmcore.Part{R: bytes.NewReader(files[i].b), Size: int64(len(files[i].b))}
	}
	if d, err := vmcore.NewSplit(part(2), part(0), part(1)); err != nil || d.Incomplete() {
		t.Errorf("all parts: %v, or they are said to be incomplete", err)
	}
	d, err := vmcore.NewSplit(part(2), part(0))
	if err != nil {
		t.Fatal(err)
	}
	if !d.Incomplete() {
		t.Error("without a part in the middle, and not incomplete")
	}
	for _, lacks := range []int{0, 2} {
		d, err := vmcore.NewSplit(part((lacks+1)%3), part((lacks+2)%3))
		if err != nil || !d.Incomplete() {
			t.Errorf("without part %d: %v, or not incomplete", lacks, err)
		}
	}
	le := binary.LittleEndian
	start, end := le.Uint64(files[1].b[pg+80:]), le.Uint64(files[1].b[pg+88:])
	compare(t, c, d, func(pfn uint64) error {
		if pfn >= start && pfn < end {
			return vmcore.ErrUnreadable
		}
		return nil
	})

	whole := &diskFile{room: -1}
	if kw, err := write(t, src, whole, func(uint64) bool { return true }); err != nil || kw.Finish(true) != nil {
		t.Fatal(err)
	}
	other := writeSplit(t, src, 3, func(pfn uint64) bool { return pfn%3 > 0 })
	for name, parts := range map[string][]vmcore.Part{
		"the same part twice": {part(0), part(0)},
		"not split":           {part(0), {R: bytes.NewReader(whole.b), Size: int64(len(whole.b))}},
		"of another dump":     {part(0), {R: bytes.NewReader(other[1].b), Size: int64(len(other[1].b))}},
		"no dump":             {part(0), {R: bytes.NewReader(whole.b[8:]), Size: 8000}},
	} {
		if d, err := vmcore.NewSplit(parts...); err == nil {
			t.Errorf("%s: opens", name)
			d.Close()
		}
	}
	if _, err := vmcore.New(bytes.NewReader(files[0].b), int64(len(files[0].b))); !errors.Is(err, vmcore.ErrUnsupported) {
		t.Errorf("one part alone: %v; want ErrUnsupported", err)
	}
}

// Pages of equal content share what is stored, in as many places as are
// remembered.
func TestShare(t *testing.T) {
	c, _ := source(t)
	for a := vmcore.PhysAddr(0x80200000); a < 0x80280000; a += pg {
		c.Put(a, bytes.Repeat([]byte{0xaa, byte(a >> 12 & 1)}, pg/2))
	}
	src := c.Open(t)
	size := map[int]int{}
	for _, share := range []int{0, 1, 1000} {
		for _, compression := range everyCompression {
			f := &diskFile{room: -1}
			h := headerOf(src)
			h.Compression = compression
			kw, err := vmcore.NewKdumpWriter(f, h, src.Ranges(), 2000, vmcore.KdumpOptions{Share: share})
			if err != nil {
				t.Fatal(err)
			}
			all := func(uint64) bool { return true }
			if err := errors.Join(copyPages(t, src, kw, all), kw.Finish(true)); err != nil {
				t.Fatal(err)
			}
			d, err := vmcore.New(bytes.NewReader(f.b), int64(len(f.b)))
			if err != nil {
				t.Fatal(err)
			}
			compare(t, c, d, func(uint64) error { return nil })
			d.Close()
			if compression == vmcore.CompressionNone {
				size[share] = len(f.b)
			}
		}
	}
	if got, want := size[0]-size[1000], 126*pg; got != want {
		t.Errorf("128 pages of two contents take %d bytes less when shared; want %d", got, want)
	}
	if size[1] < size[1000] || size[1] > size[0] {
		t.Errorf("sizes %v", size)
	}
}

// FuzzSplit changes what the parts of a split dump say of themselves: each has a
// whole header, both bitmaps, and descriptors of its own.
func FuzzSplit(f *testing.F) {
	for _, o := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		b := handMade(f, o)
		add := func(startA, endA, startB, endB uint64) {
			sub := func(start, end uint64) []byte {
				s := bytes.Clone(b[pg : pg+160])
				o.PutUint32(s[12:], 1)
				o.PutUint64(s[80:], start)
				o.PutUint64(s[88:], end)
				return s
			}
			f.Add(b[:464], sub(startA, endA), sub(startB, endB), b[2*pg:2*pg+4], b[3*pg:3*pg+4], b[4*pg:4*pg+8*24], b[5*pg:5*pg+600])
		}
		add(0, 10, 10, 32)
		add(10, 32, 0, 10)
		add(0, 16, 8, 32)
		add(0, ^uint64(0), 0, 0)
	}
	f.Fuzz(func(t *testing.T, header, subA, subB, bitmap1, bitmap2, descs, data []byte) {
		part := func(sub []byte) vmcore.Part {
			b := make([]byte, 7*pg)
			for i, region := range [][]byte{header, sub, bitmap1, bitmap2, descs, data} {
				copy(b[i*pg:(i+1)*pg], region)
			}
			copy(b, "KDUMP   ")
			return vmcore.Part{R: bytes.NewReader(b), Size: int64(len(b))}
		}
		d, err := vmcore.NewSplit(part(subA), part(subB))
		if (d == nil) == (err == nil) {
			t.Fatalf("NewSplit = %v, %v", d, err)
		}
		if err != nil {
			return
		}
		defer d.Close()
		p := make([]byte, d.PageSize())
		for i, r := range d.Ranges() {
			if i == 16 {
				break
			}
			for at, n := r.Start, 0; at < r.End && n < 40; at, n = at+vmcore.PhysAddr(len(p)), n+1 {
				if n, err := d.ReadPhys(p, at); (err == nil) != (n == len(p)) {
					t.Fatalf("ReadPhys = %d, %v", n, err)
				}
			}
		}
	})
}
