package vmcore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/vmcore"
	"github.com/panicroom-kdump/panicroom/vmcore/vmcoretest"
)

const pg = 4096

// pattern is a page whose content tells its address.
func pattern(addr uint64) []byte {
	p := make([]byte, pg)
	for i := 0; i < pg; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], addr+uint64(i))
	}
	return p
}

// machine has two ranges of RAM and a text segment that overlaps the first
// and, as real ones do, ends within a page.
func machine() *vmcoretest.Core {
	c := &vmcoretest.Core{
		RAM: []vmcore.Range{
			{Start: 0x80080000, End: 0x80480000},
			{Start: 0x90000000, End: 0x90010000},
		},
		Extra: []vmcore.Range{{Start: 0x80202000, End: 0x80212338}},
		Virt:  0xff60000000000000 - 0x80000000,
	}
	for _, a := range []uint64{0x80080000, 0x80202000, 0x80211000, 0x80212000, 0x8047f000, 0x90000000, 0x9000f000} {
		c.Put(vmcore.PhysAddr(a), pattern(a))
	}
	c.AddPRStatus(17, [32]uint64{1: 0xabc})
	c.SetVMCoreInfo("OSRELEASE=6.12.1\nPAGESIZE=4096\nCRASHTIME=1\n")
	return c
}

// both opens the machine through io.ReaderAt and through mappings of a file.
func both(t *testing.T, c *vmcoretest.Core, f func(t *testing.T, d *vmcore.Dump)) {
	t.Run("reader", func(t *testing.T) { f(t, c.Open(t)) })
	t.Run("file", func(t *testing.T) {
		d, err := vmcore.Open(c.WriteFile(t))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		f(t, d)
	})
}

func TestELFFacts(t *testing.T) {
	c := machine()
	both(t, c, func(t *testing.T, d *vmcore.Dump) {
		if d.Format() != vmcore.FormatELF || d.Machine() != vmcore.MachineRISCV || d.PageSize() != 4096 {
			t.Errorf("format %v, machine %v, page size %d", d.Format(), d.Machine(), d.PageSize())
		}
		want := []vmcore.Range{{Start: 0x80080000, End: 0x80480000}, {Start: 0x90000000, End: 0x90010000}}
		if diff := cmp.Diff(want, d.Ranges()); diff != "" {
			t.Errorf("Ranges (-want +got):\n%s", diff)
		}
		if got, want := d.MaxPFN(), vmcore.PFN(0x90010); got != want {
			t.Errorf("MaxPFN = %#x; want %#x", got, want)
		}
		if diff := cmp.Diff(c.Notes, d.Notes()); diff != "" {
			t.Errorf("Notes (-want +got):\n%s", diff)
		}
		if got, want := string(d.VMCoreInfo()), "OSRELEASE=6.12.1\nPAGESIZE=4096\nCRASHTIME=1\n"; got != want {
			t.Errorf("VMCoreInfo = %q; want %q", got, want)
		}
		var raw []byte
		for _, n := range c.Notes {
			raw = vmcore.AppendNote(raw, binary.LittleEndian, n)
		}
		if !bytes.Equal(d.RawNotes(), raw) {
			t.Errorf("RawNotes differ from the file's")
		}
		if n := len(d.Segments()); n != 3 {
			t.Errorf("%d segments; want 3", n)
		}
		if got, want := d.Segments()[1].Virt, uint64(0xff60000000080000); got != want {
			t.Errorf("Segments[1].Virt = %#x; want %#x", got, want)
		}
	})
}

func TestELFReadPhys(t *testing.T) {
	c := machine()
	both(t, c, func(t *testing.T, d *vmcore.Dump) {
		r := d.NewReader()
		defer r.Close()
		for _, tt := range []struct {
			addr uint64
			size int
			n    int
			err  error
		}{
			{0x80080000, pg, pg, nil},
			{0x80080ffc, 8, 8, nil}, // across pages
			{0x80211000, 2 * pg, 2 * pg, nil},
			{0x80212300, 0xd00, 0xd00, nil}, // across the end of the text segment
			{0x80080000, 0x400000, 0x400000, nil},
			{0x8047f000, 2 * pg, pg, vmcore.ErrHole},
			{0x80000000, 8, 0, vmcore.ErrHole},
			{0x90010000, 8, 0, vmcore.ErrHole},
			{0xfffffffffffffff8, 16, 0, vmcore.ErrHole},
		} {
			want := make([]byte, tt.size)
			c.ReadPhys(want[:tt.n], vmcore.PhysAddr(tt.addr))
			for name, f := range map[string]func([]byte, vmcore.PhysAddr) (int, error){"Dump": d.ReadPhys, "Reader": r.ReadPhys} {
				got := make([]byte, tt.size)
				n, err := f(got, vmcore.PhysAddr(tt.addr))
				if n != tt.n || !errors.Is(err, tt.err) {
					t.Errorf("%s.ReadPhys(%d bytes, %#x) = %d, %v; want %d, %v", name, tt.size, tt.addr, n, err, tt.n, tt.err)
				}
				if !bytes.Equal(got[:n], want[:n]) {
					t.Errorf("%s.ReadPhys(%d bytes, %#x): wrong content", name, tt.size, tt.addr)
				}
			}
		}
	})
}

// TestELFBadPage: one page that cannot be read costs one page.
func TestELFBadPage(t *testing.T) {
	c := machine()
	c.Bad = []vmcore.Range{{Start: 0x80300000, End: 0x80302000}}
	checkBadPages(t, c.Open(t), vmcoretest.ErrBadMemory)
}

// TestELFFault: the same, when touching a mapped page faults. A file that
// shrinks after it was mapped does that.
func TestELFFault(t *testing.T) {
	c := machine()
	path := c.WriteFile(t)
	d, err := vmcore.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	seg := d.Segments()[2] // the last one of the file
	before := make([]byte, pg)
	if _, err := d.ReadPhys(before, seg.Phys.Start); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, seg.Offset+3*pg); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 8*pg)
	n, err := d.ReadPhys(p, seg.Phys.Start)
	var at *vmcore.AddrError
	if n != 3*pg || !errors.Is(err, vmcore.ErrUnreadable) || !errors.As(err, &at) || at.Addr != seg.Phys.Start+3*pg {
		t.Fatalf("ReadPhys over the end = %d, %v; want %d, ErrUnreadable at %#x", n, err, 3*pg, seg.Phys.Start+3*pg)
	}
	if !bytes.Equal(p[:pg], before) {
		t.Error("the page before the fault changed")
	}
	if n, err := d.ReadPhys(p[:pg], 0x80202000); n != pg || err != nil {
		t.Errorf("ReadPhys elsewhere after a fault = %d, %v; want %d", n, err, pg)
	}
}

func checkBadPages(t *testing.T, d *vmcore.Dump, cause error) {
	t.Helper()
	p := make([]byte, 16*pg)
	n, err := d.ReadPhys(p, 0x802fe000)
	var at *vmcore.AddrError
	if n != 2*pg || !errors.Is(err, vmcore.ErrUnreadable) || !errors.Is(err, cause) || !errors.As(err, &at) || at.Addr != 0x80300000 {
		t.Fatalf("ReadPhys over a bad page = %d, %v; want %d, ErrUnreadable at 0x80300000", n, err, 2*pg)
	}
	if n, err := d.ReadPhys(p, 0x80302000); n != len(p) || err != nil {
		t.Errorf("ReadPhys behind the bad pages = %d, %v; want %d", n, err, len(p))
	}
}

// TestELFTruncated: a file that ends too early opens, and what is missing is
// unreadable, not absent.
func TestELFTruncated(t *testing.T) {
	im := machine().Image()
	b := im.Bytes()
	d, err := vmcore.New(bytes.NewReader(b[:len(b)-3*pg-100]), int64(len(b)-3*pg-100))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 0x10000)
	n, err := d.ReadPhys(p, 0x90000000)
	if want := 0x10000 - 3*pg - 100; n != want || !errors.Is(err, vmcore.ErrUnreadable) {
		t.Errorf("ReadPhys = %d, %v; want %d, ErrUnreadable", n, err, want)
	}
	if got := d.MaxPFN(); got != 0x90010 {
		t.Errorf("MaxPFN = %#x; want 0x90010", got)
	}
}

// TestReadFile: the file as it is, what stands beside the segments included.
func TestReadFile(t *testing.T) {
	c := machine()
	want := c.Image().Bytes()
	both(t, c, func(t *testing.T, d *vmcore.Dump) {
		r := d.NewReader()
		defer r.Close()
		got := make([]byte, len(want))
		if n, err := r.ReadFile(got, 0); n != len(want) || err != nil || !bytes.Equal(got, want) {
			t.Errorf("ReadFile of %d bytes = %d, %v; same bytes: %v", len(want), n, err, bytes.Equal(got, want))
		}
		if n, err := r.ReadFile(got[:2*pg], d.Size()-pg); n != pg || !errors.Is(err, vmcore.ErrUnreadable) {
			t.Errorf("ReadFile over the end = %d, %v; want %d, ErrUnreadable", n, err, pg)
		}
	})
}

// TestELFExcluded: memory without bytes in the file, as makedumpfile -E leaves
// out pages.
func TestELFExcluded(t *testing.T) {
	im := machine().Image()
	b := im.Bytes()
	ph := b[64+3*56:] // the last PT_LOAD
	binary.LittleEndian.PutUint64(ph[32:], 2*pg)
	d, err := vmcore.New(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4*pg)
	if n, err := d.ReadPhys(p, 0x90000000); n != 2*pg || !errors.Is(err, vmcore.ErrExcluded) {
		t.Errorf("ReadPhys = %d, %v; want %d, ErrExcluded", n, err, 2*pg)
	}
}

// TestELFManySegments: 65 535 and more program headers are counted in section
// header 0.
func TestELFManySegments(t *testing.T) {
	const count = 70000
	le := binary.LittleEndian
	b := machine().Image().Bytes()[:64]
	le.PutUint16(b[56:], 0xffff)
	le.PutUint64(b[40:], 64+count*56)
	for i := range uint64(count) {
		b = le.AppendUint32(b, 1)
		b = le.AppendUint32(b, 7)
		for _, v := range []uint64{0x500000, 0, 0x80000000 + i*2*pg, 8, 8, 0} {
			b = le.AppendUint64(b, v)
		}
	}
	section := make([]byte, 64)
	le.PutUint32(section[44:], count)
	b = append(b, section...)
	b = append(b, make([]byte, 0x500000+pg-len(b))...)
	d, err := vmcore.New(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if got := len(d.Segments()); got != count {
		t.Errorf("%d segments; want %d", got, count)
	}
}

func TestELFRefused(t *testing.T) {
	good := machine().Image().Bytes()[:0x3000]
	le := binary.LittleEndian
	for _, tt := range []struct {
		name   string
		change func(b []byte) []byte
		want   error
	}{
		{"empty", func(b []byte) []byte { return nil }, vmcore.ErrUnrecognizedFormat},
		{"text", func(b []byte) []byte { return []byte("a letter, not a dump") }, vmcore.ErrUnrecognizedFormat},
		{"header only in part", func(b []byte) []byte { return b[:40] }, vmcore.ErrCorrupt},
		{"32 bit", func(b []byte) []byte { b[4] = 1; return b }, vmcore.ErrUnsupported},
		{"executable", func(b []byte) []byte { le.PutUint16(b[16:], 2); return b }, vmcore.ErrUnrecognizedFormat},
		{"size of program headers", func(b []byte) []byte { le.PutUint16(b[54:], 32); return b }, vmcore.ErrCorrupt},
		{"number of program headers", func(b []byte) []byte { le.PutUint16(b[56:], 60000); return b }, vmcore.ErrCorrupt},
		{"no memory", func(b []byte) []byte { le.PutUint16(b[56:], 1); return b }, vmcore.ErrCorrupt},
		{"address overflow", func(b []byte) []byte { le.PutUint64(b[64+56+24:], 1<<64-8); return b }, vmcore.ErrCorrupt},
		{"offset overflow", func(b []byte) []byte { le.PutUint64(b[64+56+8:], 1<<63-8); return b }, vmcore.ErrCorrupt},
		{"more in the file than in memory", func(b []byte) []byte { le.PutUint64(b[64+56+32:], 1<<40); return b }, vmcore.ErrCorrupt},
		{"header of a flattened dump only in part", func(b []byte) []byte { return []byte("makedumpfile\x00\x00\x00\x00") }, vmcore.ErrCorrupt},
	} {
		b := tt.change(bytes.Clone(good))
		if _, err := vmcore.New(bytes.NewReader(b), int64(len(b))); !errors.Is(err, tt.want) {
			t.Errorf("%s: New = %v; want %v", tt.name, err, tt.want)
		}
	}
}

// TestConcurrentReads: many goroutines share the windows of one Dump, more
// than are kept mapped.
func TestConcurrentReads(t *testing.T) {
	c := vmcoretest.New(0x80000000, 1<<30)
	for a := uint64(0x80000000); a < 0xc0000000; a += 8 << 20 {
		c.Put(vmcore.PhysAddr(a), pattern(a))
	}
	d, err := vmcore.Open(c.WriteFile(t))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			p := make([]byte, 16)
			for i := range uint64(512) {
				a := 0x80000000 + (i*37+uint64(g)*11)%128*(8<<20)
				n, err := d.ReadPhys(p, vmcore.PhysAddr(a))
				if n != len(p) || err != nil || binary.LittleEndian.Uint64(p[8:]) != a+8 {
					t.Errorf("ReadPhys(%#x) = %d, %v, content %x", a, n, err, p)
					return
				}
			}
		})
	}
	wg.Wait()
}

// FuzzELF has small files, which the fuzzer changes faster: headers and notes
// as they are, and a segment of 100 bytes.
func FuzzELF(f *testing.F) {
	c := machine()
	c.RAM, c.Extra = []vmcore.Range{{Start: 0x90000f80, End: 0x90000fe4}}, []vmcore.Range{{Start: 0x90000fc0, End: 0x90000fd0}}
	whole := c.Image().Bytes()
	b := bytes.Clone(whole[:64+3*56])
	notes := whole[pg:][:binary.LittleEndian.Uint64(b[64+32:])]
	binary.LittleEndian.PutUint64(b[64+8:], uint64(len(b)))
	b = append(b, notes...)
	binary.LittleEndian.PutUint64(b[64+56+8:], uint64(len(b)))
	binary.LittleEndian.PutUint64(b[64+2*56+8:], uint64(len(b)))
	b = append(b, make([]byte, 100)...)
	f.Add(b)
	f.Add(b[:len(b)-50])
	f.Add(b[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := vmcore.New(bytes.NewReader(b), int64(len(b)))
		if (d == nil) == (err == nil) {
			t.Fatalf("New = %v, %v", d, err)
		}
		if err != nil {
			return
		}
		p := make([]byte, 3*pg)
		for i, r := range d.Ranges() {
			if r.Start >= r.End || i > 0 && d.Ranges()[i-1].End >= r.Start {
				t.Fatalf("ranges not sorted: %v", d.Ranges())
			}
			n, err := d.ReadPhys(p, r.Start)
			if (err == nil) != (n == len(p)) {
				t.Fatalf("ReadPhys = %d, %v", n, err)
			}
		}
		d.RawNotes()
	})
}

func BenchmarkReadPhys(b *testing.B) {
	c := vmcoretest.New(0x80000000, 256<<20)
	for a := vmcore.PhysAddr(0x80000000); a < 0x90000000; a += 1 << 20 {
		c.Put(a, pattern(uint64(a)))
	}
	d, err := vmcore.Open(c.WriteFile(b))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	b.Run("word", func(b *testing.B) {
		b.ReportAllocs()
		p := make([]byte, 8)
		var i uint64
		for b.Loop() {
			i += 0x10008
			d.ReadPhys(p, 0x80000000+vmcore.PhysAddr(i%(64<<20)))
		}
	})
	b.Run("extent", func(b *testing.B) {
		b.ReportAllocs()
		r := d.NewReader()
		defer r.Close()
		p := make([]byte, 1<<20)
		b.SetBytes(int64(len(p)))
		var i uint64
		for b.Loop() {
			r.ReadPhys(p, 0x80000000+vmcore.PhysAddr(i%(256<<20)))
			i += uint64(len(p))
		}
	})
}
