package vmcore_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/panicroom-kdump/panicroom/vmcore"
	"github.com/panicroom-kdump/panicroom/vmcore/vmcoretest"
)

// handMade is a kdump-compressed file put together by hand, from the layout in
// the documentation of the format and without the code under test: 24 pages
// exist from page frame 8 on; it has frames 8 to 15.
func handMade(t testing.TB, o binary.ByteOrder) []byte {
	t.Helper()
	const (
		blocks = 7 // header, sub header, two bitmaps, descriptors, two of data
		data   = 5 * pg
	)
	b := make([]byte, blocks*pg)
	copy(b, "KDUMP   ")
	o.PutUint32(b[8:], 6)
	copy(b[12:], "Linux")
	copy(b[12+2*65:], "6.12.1")
	copy(b[12+4*65:], "riscv64")
	o.PutUint64(b[408:], 1234567890)
	o.PutUint32(b[424:], 0x27)
	o.PutUint32(b[428:], pg)
	o.PutUint32(b[432:], 1)
	o.PutUint32(b[436:], 2)
	o.PutUint32(b[440:], 32)
	o.PutUint32(b[460:], 2)
	sub := b[pg:]
	o.PutUint64(sub[0:], 0x80000000)
	o.PutUint32(sub[8:], 31)
	info := "OSRELEASE=6.12.1\nPAGESIZE=4096\n"
	o.PutUint32(sub[104:], 11)
	o.PutUint32(sub[108:], uint32(len(info)))
	copy(sub[116:], "VMCOREINFO\x00")
	copy(sub[128:], info)
	o.PutUint64(sub[32:], pg+128)
	o.PutUint64(sub[40:], uint64(len(info)))
	o.PutUint64(sub[48:], pg+104)
	o.PutUint64(sub[56:], uint64(24+len(info)))
	o.PutUint64(sub[96:], 32)
	copy(b[2*pg:], []byte{0, 0xff, 0xff, 0xff})
	copy(b[3*pg:], []byte{0, 0xff, 0, 0})

	pages, off := b[data:data], uint64(data)
	desc := b[4*pg:]
	add := func(content []byte, flags uint32) {
		o.PutUint64(desc[0:], off)
		o.PutUint32(desc[8:], uint32(len(content)))
		o.PutUint32(desc[12:], flags)
		desc = desc[24:]
		pages = append(pages, content...)
		off += uint64(len(content))
	}
	var z bytes.Buffer
	zw := zlib.NewWriter(&z)
	zw.Write(pattern(8 * pg))
	zw.Close()
	add(z.Bytes(), 1)
	add(s2.EncodeSnappy(nil, pattern(9*pg)), 4)
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	add(e.EncodeAll(pattern(10*pg), nil), 0x20)
	add(pattern(11*pg), 0)
	desc = desc[24:] // 12: no descriptor, as in a dump that was cut short
	add([]byte("not zstd"), 0x20)
	add([]byte("not what LZO makes"), 2)
	add(e.EncodeAll(make([]byte, 2*pg), nil), 0x20) // too much
	if len(pages) > 2*pg {
		t.Fatalf("%d bytes of pages", len(pages))
	}
	return b
}

func TestKdumpHandMade(t *testing.T) {
	for _, o := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		b := handMade(t, o)
		d, err := vmcore.New(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatalf("%v: %v", o, err)
		}
		if d.Format() != vmcore.FormatKdump || d.Machine() != vmcore.MachineRISCV || d.PageSize() != pg || d.MaxPFN() != 32 || d.ByteOrder() != o {
			t.Errorf("%v: format %v, machine %v, page size %d, MaxPFN %d, %v", o, d.Format(), d.Machine(), d.PageSize(), d.MaxPFN(), d.ByteOrder())
		}
		if got, want := string(d.VMCoreInfo()), "OSRELEASE=6.12.1\nPAGESIZE=4096\n"; got != want {
			t.Errorf("%v: VMCoreInfo = %q; want %q", o, got, want)
		}
		if diff := cmp.Diff([]vmcore.Range{{Start: 8 * pg, End: 32 * pg}}, d.Ranges()); diff != "" {
			t.Errorf("%v: Ranges (-want +got):\n%s", o, diff)
		}
		h := d.KdumpHeader()
		if h.Utsname.Release != "6.12.1" || h.Timestamp != 1234567890 || h.DumpLevel != 31 || h.PhysBase != 0x80000000 || h.CPUs != 2 || h.Incomplete {
			t.Errorf("%v: header %+v", o, h)
		}
		for _, tt := range []struct {
			pfn uint64
			err error
		}{
			{0, vmcore.ErrHole},
			{7, vmcore.ErrHole},
			{8, nil},
			{9, nil},
			{10, nil},
			{11, nil},
			{12, vmcore.ErrUnreadable},
			{13, vmcore.ErrCorrupt},
			{14, vmcore.ErrCorrupt},
			{15, vmcore.ErrCorrupt},
			{16, vmcore.ErrExcluded},
			{31, vmcore.ErrExcluded},
			{32, vmcore.ErrHole},
			{1 << 50, vmcore.ErrHole},
		} {
			p := make([]byte, pg)
			addr := vmcore.PhysAddr(tt.pfn * pg)
			if _, err := d.ReadPhys(p, addr); !errors.Is(err, tt.err) {
				t.Errorf("%v: page %d: %v; want %v", o, tt.pfn, err, tt.err)
			} else if err == nil && !bytes.Equal(p, pattern(tt.pfn*pg)) {
				t.Errorf("%v: page %d: wrong content", o, tt.pfn)
			}
			// A part of the page, twice: uncompressed, and then kept.
			for range 2 {
				if _, err := d.ReadPhys(p[:16], addr+0x800); !errors.Is(err, tt.err) {
					t.Errorf("%v: part of page %d: %v; want %v", o, tt.pfn, err, tt.err)
				} else if err == nil && !bytes.Equal(p[:16], pattern(tt.pfn * pg)[0x800:0x810]) {
					t.Errorf("%v: part of page %d: wrong content", o, tt.pfn)
				}
			}
		}
		p := make([]byte, 5*pg)
		if n, err := d.ReadPhys(p, 8*pg+100); n != 4*pg-100 || !errors.Is(err, vmcore.ErrUnreadable) {
			t.Errorf("%v: ReadPhys over pages = %d, %v; want %d, ErrUnreadable", o, n, err, 4*pg-100)
		}
	}
}

func TestKdumpRefused(t *testing.T) {
	good := handMade(t, binary.LittleEndian)
	le := binary.LittleEndian
	for _, tt := range []struct {
		name   string
		change func(b []byte)
		want   error
	}{
		{"diskdump", func(b []byte) { copy(b, "DISKDUMP") }, vmcore.ErrUnsupported},
		{"version", func(b []byte) { le.PutUint32(b[8:], 7) }, vmcore.ErrUnsupported},
		{"split", func(b []byte) { le.PutUint32(b[pg+12:], 1) }, vmcore.ErrUnsupported}, // one part alone
		{"32 bit", func(b []byte) { le.PutUint32(b[428:], 1); le.PutUint32(b[416:], 4096) }, vmcore.ErrUnsupported},
		{"block size", func(b []byte) { le.PutUint32(b[428:], 4095) }, vmcore.ErrCorrupt},
		{"size of sub header", func(b []byte) { le.PutUint32(b[432:], 1<<31) }, vmcore.ErrCorrupt},
		{"size of bitmaps", func(b []byte) { le.PutUint32(b[436:], 1<<31) }, vmcore.ErrCorrupt},
		{"odd bitmaps", func(b []byte) { le.PutUint32(b[436:], 1) }, vmcore.ErrCorrupt},
		{"number of pages", func(b []byte) { le.PutUint64(b[pg+96:], 1<<40) }, vmcore.ErrCorrupt},
	} {
		b := bytes.Clone(good)
		tt.change(b)
		if _, err := vmcore.New(bytes.NewReader(b), int64(len(b))); !errors.Is(err, tt.want) {
			t.Errorf("%s: New = %v; want %v", tt.name, err, tt.want)
		}
	}
}

// diskFile is a file on a disk with room for so many bytes.
type diskFile struct {
	b    []byte
	room int64
}

var errDiskFull = errors.New("no space left on the test's disk")

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	n := len(p)
	// Bytes once written can be overwritten on a full disk.
	if fresh := off + int64(n) - int64(len(f.b)); f.room >= 0 && fresh > 0 && int64(len(f.b))+fresh > f.room {
		n = int(max(f.room-off, 0))
	}
	if end := off + int64(n); n > 0 && end > int64(len(f.b)) {
		f.b = append(f.b, make([]byte, end-int64(len(f.b)))...)
	}
	if n > 0 {
		copy(f.b[off:], p[:n])
	}
	if n < len(p) {
		return n, errDiskFull
	}
	return n, nil
}

// source is a machine with pages that compress, pages that do not and zeros.
func source(t testing.TB) (*vmcoretest.Core, *vmcore.Dump) {
	c := machine()
	rng := rand.New(rand.NewPCG(1, 2))
	for a := vmcore.PhysAddr(0x80100000); a < 0x80140000; a += 2 * pg {
		noise := make([]byte, pg)
		for i := range noise {
			noise[i] = byte(rng.Uint32())
		}
		c.Put(a, noise)
	}
	return c, c.Open(t)
}

// write dumps all pages of d that keep wants.
func write(t testing.TB, d *vmcore.Dump, w *diskFile, keep func(pfn uint64) bool) (*vmcore.KdumpWriter, error) {
	t.Helper()
	return writeWith(t, d, w, vmcore.CompressionZstd, keep)
}

func writeWith(t testing.TB, d *vmcore.Dump, w *diskFile, compression vmcore.Compression, keep func(pfn uint64) bool) (*vmcore.KdumpWriter, error) {
	t.Helper()
	h := headerOf(d)
	h.Compression = compression
	kw, err := vmcore.NewKdumpWriter(w, h, d.Ranges(), 2000, vmcore.KdumpOptions{})
	if err != nil {
		return nil, err
	}
	return kw, copyPages(t, d, kw, keep)
}

func headerOf(d *vmcore.Dump) vmcore.KdumpHeader {
	return vmcore.KdumpHeader{
		Utsname:   vmcore.Utsname{Sysname: "Linux", Nodename: "test", Release: "6.12.1", Version: "#1", Machine: "riscv64", Domainname: "(none)"},
		Timestamp: 99, PageSize: pg, PhysBase: 0x80000000, DumpLevel: 31, Notes: d.Notes(),
	}
}

// copyPages writes all pages of d that keep wants, in extents that neither
// begin nor end within 64 page frames.
func copyPages(t testing.TB, d *vmcore.Dump, w vmcore.Writer, keep func(pfn uint64) bool) error {
	t.Helper()
	e := w.NewExtent(64)
	page := make([]byte, pg)
	for _, r := range d.Ranges() {
		for a := r.Start; a < r.End; a += pg {
			if e.Pages() > 0 && a/pg%64 == 0 {
				if err := w.Write(e); err != nil {
					return err
				}
				e.Reset()
			}
			if !keep(uint64(a) / pg) {
				continue
			}
			if _, err := d.ReadPhys(page, a); err != nil {
				t.Fatal(err)
			}
			if err := e.Add(vmcore.PFN(a/pg), page); err != nil {
				t.Fatal(err)
			}
		}
	}
	return w.Write(e)
}

// compare reads every page of the dump b and gives how many it has.
func compare(t *testing.T, c *vmcoretest.Core, d *vmcore.Dump, want func(pfn uint64) error) int {
	t.Helper()
	got, content := make([]byte, pg), make([]byte, pg)
	has := 0
	for _, r := range c.RAM {
		for a := r.Start; a < r.End; a += pg {
			_, err := d.ReadPhys(got, a)
			if err == nil {
				has++
			}
			why := want(uint64(a) / pg)
			if !errors.Is(err, why) {
				t.Fatalf("page %#x: %v; want %v", uint64(a), err, why)
			}
			if err := d.Missing(a); !errors.Is(err, why) {
				t.Fatalf("page %#x: Missing = %v; want %v", uint64(a), err, why)
			}
			if c.ReadPhys(content, a); err == nil && !bytes.Equal(got, content) {
				t.Fatalf("page %#x: wrong content", uint64(a))
			}
		}
	}
	return has
}

func TestKdumpWriter(t *testing.T) {
	c, src := source(t)
	keep := func(pfn uint64) bool { return pfn%7 != 3 && pfn%1000 < 900 }
	f := &diskFile{room: -1}
	kw, err := write(t, src, f, keep)
	if err != nil {
		t.Fatal(err)
	}
	if err := kw.Finish(true); err != nil {
		t.Fatal(err)
	}

	// Through a file, so that mappings are tested as well.
	path := filepath.Join(t.TempDir(), "dump")
	if err := os.WriteFile(path, f.b, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := vmcore.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if diff := cmp.Diff(c.RAM, d.Ranges()); diff != "" {
		t.Errorf("Ranges (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(c.Notes, d.Notes()); diff != "" {
		t.Errorf("Notes (-want +got):\n%s", diff)
	}
	h := d.KdumpHeader()
	if h.Incomplete || h.CPUs != 1 || h.MaxPFN != 0x90010 || h.Utsname.Nodename != "test" || h.Timestamp != 99 || h.DumpLevel != 31 || h.PhysBase != 0x80000000 {
		t.Errorf("header %+v", h)
	}
	has := compare(t, c, d, func(pfn uint64) error {
		if keep(pfn) {
			return nil
		}
		return vmcore.ErrExcluded
	})
	if uint64(has) != kw.Pages() {
		t.Errorf("%d pages read back, %d written", has, kw.Pages())
	}
	if _, err := d.ReadPhys(make([]byte, 8), 0x8fffff00); !errors.Is(err, vmcore.ErrHole) {
		t.Errorf("between the ranges: %v; want ErrHole", err)
	}

	// What other readers look at and ours does not.
	le := binary.LittleEndian
	if got := le.Uint64(f.b[416:]); got != 0 {
		t.Errorf("tv_usec = %d; libkdumpfile takes the file for a 32-bit machine's", got)
	}
	if got := le.Uint32(f.b[440:]); got != 0x90010 {
		t.Errorf("max_mapnr = %#x", got)
	}
	sub := f.b[pg:]
	if off, n := le.Uint64(sub[32:]), le.Uint64(sub[40:]); string(f.b[off:off+n]) != string(src.VMCoreInfo()) {
		t.Errorf("offset_vmcoreinfo %#x, size %d: not VMCOREINFO", off, n)
	}
	if off := le.Uint64(sub[48:]); off != pg+104 {
		t.Errorf("offset_note = %#x", off)
	}
	for _, field := range []int{12, 16, 24, 64, 72, 80, 88} {
		if got := le.Uint64(sub[field&^7:]); field != 12 && got != 0 {
			t.Errorf("sub header at %d: %#x; want 0", field, got)
		}
	}
}

// TestKdumpCut: however early a disk is full, the file either cannot be begun
// or opens, says that it is incomplete, and has right pages.
func TestKdumpCut(t *testing.T) {
	c, src := source(t)
	all := func(uint64) bool { return true }
	whole := &diskFile{room: -1}
	if kw, err := write(t, src, whole, all); err != nil {
		t.Fatal(err)
	} else if err := kw.Finish(true); err != nil {
		t.Fatal(err)
	}
	last := 0
	for room := int64(100); room < int64(len(whole.b)); room += 7001 {
		f := &diskFile{room: room}
		kw, err := write(t, src, f, all)
		if !errors.Is(err, errDiskFull) {
			t.Fatalf("room %d: %v; want a full disk", room, err)
		}
		if kw == nil {
			continue
		}
		if err := kw.Finish(true); err != nil {
			t.Fatalf("room %d: Finish: %v", room, err)
		}
		d, err := vmcore.New(bytes.NewReader(f.b), int64(len(f.b)))
		if err != nil {
			t.Fatalf("room %d: %v", room, err)
		}
		if !d.KdumpHeader().Incomplete {
			t.Errorf("room %d: not marked incomplete", room)
		}
		n := int(kw.Pages())
		has := compare(t, c, d, func(pfn uint64) error {
			if n--; n >= 0 {
				return nil
			}
			return vmcore.ErrExcluded
		})
		if has < last {
			t.Errorf("room %d: %d pages, fewer than with less room", room, has)
		}
		last = has
	}
	if last == 0 {
		t.Error("no cut dump had any page")
	}
}

// TestKdumpUnfinished: a file whose writer died opens too.
func TestKdumpUnfinished(t *testing.T) {
	c, src := source(t)
	f := &diskFile{room: -1}
	if _, err := write(t, src, f, func(pfn uint64) bool { return pfn < 0x80100 }); err != nil {
		t.Fatal(err)
	}
	d, err := vmcore.New(bytes.NewReader(f.b), int64(len(f.b)))
	if err != nil {
		t.Fatal(err)
	}
	if !d.KdumpHeader().Incomplete {
		t.Error("not marked incomplete")
	}
	compare(t, c, d, func(pfn uint64) error {
		if pfn < 0x80100 {
			return nil
		}
		return vmcore.ErrExcluded
	})
}

func TestKdumpWriterOrder(t *testing.T) {
	_, src := source(t)
	kw, err := vmcore.NewKdumpWriter(&diskFile{room: -1}, vmcore.KdumpHeader{PageSize: pg}, src.Ranges(), 3, vmcore.KdumpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e := kw.NewExtent(4)
	page := make([]byte, pg)
	if err := e.Add(0x80090, page); err != nil {
		t.Fatal(err)
	}
	if err := e.Add(0x80090, page); err == nil {
		t.Error("the same page twice was taken")
	}
	if err := e.Add(0x80091, page[1:]); err == nil {
		t.Error("a short page was taken")
	}
	if err := kw.Write(e); err != nil {
		t.Fatal(err)
	}
	if err := kw.Write(e); err == nil {
		t.Error("an extent was taken twice")
	}
}

// FuzzKdump changes the regions of a file one by one: a whole file is mostly
// zeros, and too large for the fuzzer.
func FuzzKdump(f *testing.F) {
	for _, o := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		b := handMade(f, o)
		add := func() {
			f.Add(b[:464], b[pg:pg+160], b[2*pg:2*pg+4], b[3*pg:3*pg+4], b[4*pg:4*pg+8*24], b[5*pg:5*pg+600])
		}
		add()
		for version := uint32(1); version < 6; version++ {
			o.PutUint32(b[8:], version)
			add()
		}
		o.PutUint32(b[8:], 6)
		// A part of a split dump, from page frame 10 on.
		o.PutUint32(b[pg+12:], 1)
		o.PutUint64(b[pg+80:], 10)
		o.PutUint64(b[pg+88:], 32)
		add()
	}
	f.Fuzz(func(t *testing.T, header, sub, bitmap1, bitmap2, descs, data []byte) {
		b := make([]byte, 7*pg)
		for i, region := range [][]byte{header, sub, bitmap1, bitmap2, descs, data} {
			copy(b[i*pg:(i+1)*pg], region)
		}
		copy(b, "KDUMP   ")
		d, err := vmcore.New(bytes.NewReader(b), int64(len(b)))
		if errors.Is(err, vmcore.ErrUnsupported) {
			part := vmcore.Part{R: bytes.NewReader(b), Size: int64(len(b))}
			d, err = vmcore.NewSplit(part)
			if d2, err := vmcore.NewSplit(part, part); err == nil {
				d2.Close()
			}
		}
		if (d == nil) == (err == nil) {
			t.Fatalf("New = %v, %v", d, err)
		}
		if err != nil {
			return
		}
		defer d.Close()
		p := make([]byte, d.PageSize())
		for i, r := range d.Ranges() {
			if i == 64 {
				break
			}
			n, err := d.ReadPhys(p, r.Start)
			if (err == nil) != (n == len(p)) {
				t.Fatalf("ReadPhys = %d, %v", n, err)
			}
			d.ReadPhys(p, r.End-vmcore.PhysAddr(len(p)/2))
		}
	})
}

// TestHugeMachine: what a terabyte costs is the file, not memory.
func TestHugeMachine(t *testing.T) {
	c := vmcoretest.New(0x80000000, 1<<40)
	top := vmcore.PhysAddr(0x80000000 + 1<<40 - pg)
	c.Put(top, pattern(uint64(top)))
	src := c.Open(t)
	path := filepath.Join(t.TempDir(), "dump")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	kw, err := vmcore.NewKdumpWriter(f, vmcore.KdumpHeader{PageSize: pg, Utsname: vmcore.Utsname{Machine: "riscv64"}}, src.Ranges(), 1<<28, vmcore.KdumpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e := kw.NewExtent(16)
	for _, addr := range []vmcore.PhysAddr{0x80000000, 1 << 39, top} {
		page := make([]byte, pg)
		if _, err := src.ReadPhys(page, addr); err != nil {
			t.Fatal(err)
		}
		if err := e.Add(vmcore.PFN(addr/pg), page); err != nil {
			t.Fatal(err)
		}
	}
	if err := kw.Write(e); err != nil {
		t.Fatal(err)
	}
	if err := kw.Finish(true); err != nil {
		t.Fatal(err)
	}
	d, err := vmcore.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	got := make([]byte, pg)
	if _, err := d.ReadPhys(got, top); err != nil || !bytes.Equal(got, pattern(uint64(top))) {
		t.Errorf("the last page: %v", err)
	}
	if _, err := d.ReadPhys(got, top-pg); !errors.Is(err, vmcore.ErrExcluded) {
		t.Errorf("the page before it: %v; want ErrExcluded", err)
	}
	runtime.ReadMemStats(&after)
	// Everything ever allocated on the way. Both bitmaps alone are 64 MiB.
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("%d bytes allocated; want at most 8 MiB", n)
	} else {
		t.Logf("%d bytes allocated", n)
	}
}
