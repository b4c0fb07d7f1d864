package vmcore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/vmcore"
	"github.com/panicroom-kdump/panicroom/vmcore/vmcoretest"
)

// flatBlock is a block of a flattened file put together by hand.
type flatBlock struct {
	off  uint64
	data []byte
}

func flatten(blocks ...flatBlock) []byte {
	b := make([]byte, 4096)
	copy(b, "makedumpfile")
	b[23], b[31] = 1, 1
	for _, k := range blocks {
		b = binary.BigEndian.AppendUint64(b, k.off)
		b = binary.BigEndian.AppendUint64(b, uint64(len(k.data)))
		b = append(b, k.data...)
	}
	return append(b, bytes.Repeat([]byte{0xff}, 16)...)
}

// cutUp makes blocks of a file, the odd ones first, without blocks of zeros.
func cutUp(file []byte, size int) []flatBlock {
	var even, odd []flatBlock
	for at := 0; at < len(file); at += size {
		b := flatBlock{uint64(at), file[at:min(at+size, len(file))]}
		switch {
		case len(bytes.Trim(b.data, "\x00")) == 0:
		case at/size%2 == 0:
			even = append(even, b)
		default:
			odd = append(odd, b)
		}
	}
	return append(odd, even...)
}

func TestFlattened(t *testing.T) {
	c, src := source(t)
	kdump := &diskFile{room: -1}
	kw, err := write(t, src, kdump, func(uint64) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if err := kw.Finish(true); err != nil {
		t.Fatal(err)
	}
	for _, dump := range []struct {
		format vmcore.Format
		file   []byte
	}{{vmcore.FormatKdump, kdump.b}, {vmcore.FormatELF, c.Image().Bytes()}} {
		for _, size := range []int{1000, 4096, 70001} {
			flat := flatten(cutUp(dump.file, size)...)
			path := filepath.Join(t.TempDir(), "flat")
			if err := os.WriteFile(path, flat, 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := vmcore.Open(path)
			if err != nil {
				t.Fatalf("%v, blocks of %d: %v", dump.format, size, err)
			}
			defer d.Close()
			if d.Format() != dump.format || !d.Flattened() {
				t.Errorf("%v, flattened %v; want %v", d.Format(), d.Flattened(), dump.format)
			}
			if diff := cmp.Diff(c.Notes, d.Notes()); diff != "" {
				t.Errorf("Notes (-want +got):\n%s", diff)
			}
			compare(t, c, d, func(uint64) error { return nil })

			out := &diskFile{room: -1}
			n, err := vmcore.Rearrange(out, bytes.NewReader(flat))
			if err != nil {
				t.Fatal(err)
			}
			// Zeros at the end of a file are in no block.
			if want := bytes.TrimRight(dump.file, "\x00"); int(n) < len(want) || !bytes.HasPrefix(out.b, want) {
				t.Errorf("%v, blocks of %d: rearranged, %d bytes; want %d", dump.format, size, n, len(want))
			}
			for _, cut := range []int{len(flat) - 1, len(flat) - 16, len(flat) / 2, 4096, 100} {
				if _, err := vmcore.New(bytes.NewReader(flat[:cut]), int64(cut)); !errors.Is(err, vmcore.ErrCorrupt) {
					t.Errorf("cut to %d of %d bytes: New = %v; want ErrCorrupt", cut, len(flat), err)
				}
				if _, err := vmcore.Rearrange(&diskFile{room: -1}, bytes.NewReader(flat[:cut])); err == nil {
					t.Errorf("cut to %d of %d bytes: rearranged", cut, len(flat))
				}
			}
		}
	}
}

// The block that stands later in the file counts, as if all were written out
// in order.
func TestFlattenedOverlap(t *testing.T) {
	c := vmcoretest.New(0x80000000, 1<<20)
	c.SetVMCoreInfo("PAGESIZE=4096\n")
	for a := vmcore.PhysAddr(0x80000000); a < 0x80100000; a += pg {
		c.Put(a, pattern(uint64(a)))
	}
	file := c.Image().Bytes()
	junk := bytes.Repeat([]byte{0xee}, len(file))
	third := uint64(len(file) / 3)
	blocks := []flatBlock{
		{0, junk}, {10, junk[:100]}, {third, junk[third : 2*third]},
		{0, file[:third+50]}, {2 * third, junk[2*third:]}, {third - 7, file[third-7 : 2*third+1]},
		{2*third + 1, file[2*third+1:]}, {2 * third, file[2*third : 2*third+100]},
	}
	flat := flatten(blocks...)
	out := &diskFile{room: -1}
	if _, err := vmcore.Rearrange(out, bytes.NewReader(flat)); err != nil || !bytes.Equal(out.b, file) {
		t.Fatalf("the test's own blocks are wrong: %v", err)
	}
	d, err := vmcore.New(bytes.NewReader(flat), int64(len(flat)))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	compare(t, c, d, func(uint64) error { return nil })
}

func TestFlattenedRefused(t *testing.T) {
	block := flatBlock{0, []byte("\x7fELF and more than that")}
	for name, tt := range map[string]struct {
		file []byte
		want error
	}{
		"nothing in it":    {flatten(), vmcore.ErrUnrecognizedFormat},
		"text in it":       {flatten(flatBlock{0, []byte("a letter")}), vmcore.ErrUnrecognizedFormat},
		"flattened twice":  {flatten(flatBlock{0, flatten(block)}), vmcore.ErrUnrecognizedFormat},
		"type":             {append(append(flatten()[:23], 2), flatten()[24:]...), vmcore.ErrUnsupported},
		"version":          {append(append(flatten()[:31], 2), flatten()[32:]...), vmcore.ErrUnsupported},
		"empty block":      {flatten(flatBlock{5, nil}), vmcore.ErrCorrupt},
		"offset too large": {flatten(flatBlock{1 << 63, []byte{1}}), vmcore.ErrCorrupt},
		"tiny blocks":      {flatten(make2000(flatBlock{0, []byte{1}})...), vmcore.ErrCorrupt},
	} {
		if _, err := vmcore.New(bytes.NewReader(tt.file), int64(len(tt.file))); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v; want %v", name, err, tt.want)
		}
	}
}

func make2000(b flatBlock) (all []flatBlock) {
	for range 2000 {
		all = append(all, b)
	}
	return all
}

// onceFile fails when a byte is written twice.
type onceFile struct {
	vmcore.Flattener
	written []vmcore.Range
	t       *testing.T
}

func (f *onceFile) WriteAt(p []byte, off int64) (int, error) {
	r := vmcore.Range{Start: vmcore.PhysAddr(off), End: vmcore.PhysAddr(off) + vmcore.PhysAddr(len(p))}
	for _, w := range f.written {
		if r.Start < w.End && w.Start < r.End {
			f.t.Errorf("bytes %v were written before as %v", r, w)
		}
	}
	f.written = append(f.written, r)
	return f.Flattener.WriteAt(p, off)
}

// A dump that is written once goes through a pipe and is the same one.
func TestFlattener(t *testing.T) {
	c, src := source(t)
	keep := func(pfn uint64) bool { return pfn%7 != 3 }
	for _, share := range []int{0, 100} {
		var pipe bytes.Buffer
		flat, err := vmcore.NewFlattener(&pipe)
		if err != nil {
			t.Fatal(err)
		}
		once := &onceFile{Flattener: *flat, t: t}
		kw, err := vmcore.NewKdumpWriter(once, headerOf(src), src.Ranges(), 2000, vmcore.KdumpOptions{WriteOnce: true, Share: share})
		if err != nil {
			t.Fatal(err)
		}
		if err := copyPages(t, src, kw, keep); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(kw.Finish(true), once.Close()); err != nil {
			t.Fatal(err)
		}
		b := pipe.Bytes()
		d, err := vmcore.New(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		has := compare(t, c, d, func(pfn uint64) error {
			if keep(pfn) {
				return nil
			}
			return vmcore.ErrExcluded
		})
		if uint64(has) != kw.Pages() || d.KdumpHeader().Incomplete {
			t.Errorf("%d pages of %d, incomplete %v", has, kw.Pages(), d.KdumpHeader().Incomplete)
		}
		d.Close()

		// Rearranged it is, byte by byte, what is written to a disk.
		out, direct := &diskFile{room: -1}, &diskFile{room: -1}
		if _, err := vmcore.Rearrange(out, &pipe); err != nil {
			t.Fatal(err)
		}
		kw, err = vmcore.NewKdumpWriter(direct, headerOf(src), src.Ranges(), 2000, vmcore.KdumpOptions{Share: share})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(copyPages(t, src, kw, keep), kw.Finish(true)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.b, direct.b) {
			t.Errorf("share %d: rearranged, %d bytes; on a disk %d others", share, len(out.b), len(direct.b))
		}
	}
}

func TestFlattenerFails(t *testing.T) {
	full := errors.New("pipe closed")
	w := &failingWriter{room: 4096 + 16 + 10, err: full}
	f, err := vmcore.NewFlattener(w)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.WriteAt(make([]byte, 20), 5); n != 10 || !errors.Is(err, full) {
		t.Errorf("WriteAt = %d, %v; want 10, %v", n, err, full)
	}
	if _, err := f.WriteAt(make([]byte, 1), 50); !errors.Is(err, full) {
		t.Errorf("WriteAt after an error: %v", err)
	}
	if err := f.Close(); !errors.Is(err, full) {
		t.Errorf("Close after an error: %v", err)
	}
}

type failingWriter struct {
	room int
	err  error
}

func (w *failingWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.room)
	w.room -= n
	if n < len(p) {
		return n, w.err
	}
	return n, nil
}

// FuzzFlattened: whatever blocks a file has, it opens as what writing them out
// in order makes.
func FuzzFlattened(f *testing.F) {
	c := vmcoretest.New(0x80000000, 8*pg)
	c.Put(0x80001000, pattern(0x80001000))
	file := c.Image().Bytes()
	f.Add(flatten(cutUp(file, 1000)...)[4096:])
	f.Add(flatten(flatBlock{0, file[:200]}, flatBlock{100, file[50:4000]}, flatBlock{3000, file[3000:]})[4096:])
	f.Fuzz(func(t *testing.T, blocks []byte) {
		flat := append(flatten()[:4096], blocks...)
		out := &boundedFile{}
		_, rerr := vmcore.Rearrange(out, bytes.NewReader(flat))
		d, err := vmcore.New(bytes.NewReader(flat), int64(len(flat)))
		if (d == nil) == (err == nil) {
			t.Fatalf("New = %v, %v", d, err)
		}
		if err != nil {
			return
		}
		defer d.Close()
		if rerr != nil && !errors.Is(rerr, errFar) {
			t.Fatalf("opens and cannot be rearranged: %v", rerr)
		}
		r := d.NewReader()
		defer r.Close()
		got := make([]byte, min(len(out.b), int(d.Size())))
		if n, err := r.ReadFile(got, 0); err != nil || rerr == nil && !bytes.Equal(got, out.b[:n]) {
			t.Fatalf("ReadFile = %d, %v; equal %v", n, err, bytes.Equal(got, out.b[:n]))
		}
	})
}

// boundedFile takes what is written near its beginning.
type boundedFile struct{ b []byte }

var errFar = errors.New("far from the beginning")

func (f *boundedFile) WriteAt(p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	if end > 1<<20 {
		return 0, fmt.Errorf("%d bytes at %d: %w", len(p), off, errFar)
	}
	if end > int64(len(f.b)) {
		f.b = append(f.b, make([]byte, end-int64(len(f.b)))...)
	}
	return copy(f.b[off:], p), nil
}
