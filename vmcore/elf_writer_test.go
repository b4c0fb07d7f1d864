package vmcore_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/vmcore"
	"github.com/panicroom-kdump/panicroom/vmcore/vmcoretest"
)

// withText is the machine of source with the kernel's text mapped a second
// time, where pages are left out too.
func withText(t testing.TB) (*vmcoretest.Core, *vmcore.Dump) {
	c, _ := source(t)
	c.Extra = []vmcore.Range{{Start: 0x80100000, End: 0x80180000}}
	c.Virt = 0xff00000000000000
	return c, c.Open(t)
}

// textVirt is how far above its place in the linear map the text is mapped.
const textVirt = 0x80000000000000

// elfHeaderOf is the header of the machine that withText makes.
func elfHeaderOf(c *vmcoretest.Core, d *vmcore.Dump) vmcore.ELFHeader {
	segments := slices.Clone(d.Segments())
	for i, s := range segments {
		if slices.Contains(c.Extra, s.Phys) {
			segments[i].Virt += textVirt
		}
	}
	return vmcore.ELFHeader{Machine: d.Machine(), PageSize: pg, Notes: d.Notes(), Segments: segments}
}

func TestELFWriter(t *testing.T) {
	c, src := withText(t)
	for name, keep := range map[string]func(uint64) bool{
		"all":         func(uint64) bool { return true },
		"every third": func(pfn uint64) bool { return pfn%3 == 1 },
		"the middle":  func(pfn uint64) bool { return pfn > 0x80090 && pfn < 0x80150 },
		"the last":    func(pfn uint64) bool { return pfn == 0x9000f },
		"none":        func(uint64) bool { return false },
	} {
		t.Run(name, func(t *testing.T) {
			f := &diskFile{room: -1}
			w, err := vmcore.NewELFWriter(f, elfHeaderOf(c, src), vmcore.ELFOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(copyPages(t, src, w, keep), w.Finish(true)); err != nil {
				t.Fatal(err)
			}
			d, err := vmcore.New(bytes.NewReader(f.b), int64(len(f.b)))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if d.Incomplete() || d.Machine() != src.Machine() {
				t.Errorf("incomplete %v, machine %v", d.Incomplete(), d.Machine())
			}
			if diff := cmp.Diff(src.Ranges(), d.Ranges()); diff != "" {
				t.Errorf("Ranges (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.Notes, d.Notes()); diff != "" {
				t.Errorf("Notes (-want +got):\n%s", diff)
			}
			has := compare(t, c, d, func(pfn uint64) error {
				if keep(pfn) {
					return nil
				}
				return vmcore.ErrExcluded
			})
			if uint64(has) != w.Pages() || uint64(len(f.b)) != w.Size() {
				t.Errorf("%d pages of %d in %d bytes of %d", has, w.Pages(), len(f.b), w.Size())
			}
			asOthersSee(t, c, f.b, keep)

			// Written again it is the same file.
			again := &diskFile{room: -1}
			w, err = vmcore.NewELFWriter(again, vmcore.ELFHeader{Machine: d.Machine(), PageSize: pg, Notes: d.Notes(), Segments: d.Segments()}, vmcore.ELFOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(copyPages(t, d, w, keep), w.Finish(true)); err != nil {
				t.Fatal(err)
			}
			a, err := vmcore.New(bytes.NewReader(again.b), int64(len(again.b)))
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if diff := cmp.Diff(places(d), places(a)); diff != "" {
				t.Errorf("segments of one written again (-want +got):\n%s", diff)
			}

			// A flattened one is the same file.
			var pipe bytes.Buffer
			flat, err := vmcore.NewFlattener(&pipe)
			if err != nil {
				t.Fatal(err)
			}
			once := &onceFile{Flattener: *flat, t: t}
			w, err = vmcore.NewELFWriter(once, elfHeaderOf(c, src), vmcore.ELFOptions{WriteOnce: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(copyPages(t, src, w, keep), w.Finish(true), once.Close()); err != nil {
				t.Fatal(err)
			}
			out := &diskFile{room: -1}
			if _, err := vmcore.Rearrange(out, &pipe); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.b, out.b) {
				t.Errorf("flattened and rearranged, %d other bytes than the %d on a disk", len(out.b), len(f.b))
			}
		})
	}
}

// places are the segments of a core by what they say of memory.
func places(d *vmcore.Dump) []vmcore.Segment {
	s := slices.Clone(d.Segments())
	for i := range s {
		s[i].Offset = 0 // where memory begins in the file depends on the room for headers
	}
	return s
}

// asOthersSee reads the file as readers by virtual address do, with the
// standard library.
func asOthersSee(t *testing.T, c *vmcoretest.Core, file []byte, keep func(uint64) bool) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	mapped := map[uint64]int{}
	for i, p := range f.Progs {
		if i == 0 {
			if p.Type != elf.PT_NOTE {
				t.Errorf("the first program header is of type %v", p.Type)
			}
			continue
		}
		// crash 9.0.2 asks for no type, and takes what it finds at the first of
		// these for the size of all headers.
		if p.Type != elf.PT_LOAD || p.Off == 0 {
			t.Errorf("program header %d is of type %v, at %d", i, p.Type, p.Off)
		}
		text := p.Vaddr == p.Paddr+c.Virt+textVirt
		if p.Vaddr != p.Paddr+c.Virt && !text || p.Off%pg != 0 || p.Flags != 7 || p.Filesz != p.Memsz || p.Memsz == 0 {
			t.Errorf("program header %d: %+v", i, p.ProgHeader)
		}
		if p.Off+p.Filesz > uint64(len(file)) {
			t.Fatalf("program header %d reaches beyond the file: %+v", i, p.ProgHeader)
		}
		got, want := make([]byte, p.Filesz), make([]byte, p.Filesz)
		if _, err := io.ReadFull(p.Open(), got); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ReadPhys(want, vmcore.PhysAddr(p.Paddr)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("program header %d: not the memory at %#x", i, p.Paddr)
		}
		for pfn := p.Paddr / pg; pfn < (p.Paddr+p.Memsz)/pg; pfn++ {
			mapped[pfn]++
			if text && !c.Extra[0].Contains(vmcore.PhysAddr(pfn*pg)) {
				t.Errorf("page frame %#x is mapped as the kernel's text", pfn)
			}
		}
	}
	// What was left out is claimed by nobody, and the kernel's text is there
	// twice.
	for _, r := range c.RAM {
		for pfn := uint64(r.Start) / pg; pfn < uint64(r.End)/pg; pfn++ {
			want := 0
			if keep(pfn) {
				want = 1
				if c.Extra[0].Contains(vmcore.PhysAddr(pfn * pg)) {
					want = 2
				}
			}
			if mapped[pfn] != want {
				t.Fatalf("page frame %#x is in %d PT_LOADs; want %d", pfn, mapped[pfn], want)
			}
		}
	}
}

// However early a disk is full, what is there opens and is right.
func TestELFWriterCut(t *testing.T) {
	c, src := withText(t)
	keep := func(pfn uint64) bool { return pfn%5 > 0 }
	had := 0
	for room := int64(100); room < 2<<20; room += 30011 {
		f := &diskFile{room: room}
		w, err := vmcore.NewELFWriter(f, elfHeaderOf(c, src), vmcore.ELFOptions{})
		if err != nil {
			if !errors.Is(err, errDiskFull) {
				t.Fatal(err)
			}
			continue
		}
		if err := copyPages(t, src, w, keep); !errors.Is(err, errDiskFull) {
			t.Fatalf("room %d: %v; want a full disk", room, err)
		}
		if err := w.Finish(true); err != nil {
			t.Fatalf("room %d: Finish: %v", room, err)
		}
		d, err := vmcore.New(bytes.NewReader(f.b), int64(len(f.b)))
		if err != nil {
			t.Fatalf("room %d: %v", room, err)
		}
		if !d.Incomplete() {
			t.Errorf("room %d: not marked incomplete", room)
		}
		n := w.Pages()
		has := compare(t, c, d, func(pfn uint64) error {
			if keep(pfn) && n > 0 {
				n--
				return nil
			}
			return vmcore.ErrExcluded
		})
		had += has
		d.Close()
	}
	if had == 0 {
		t.Error("no cut dump had any page")
	}
}

// A file whose writer died opens too.
func TestELFUnfinished(t *testing.T) {
	c, src := withText(t)
	f := &diskFile{room: -1}
	w, err := vmcore.NewELFWriter(f, elfHeaderOf(c, src), vmcore.ELFOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := copyPages(t, src, w, func(pfn uint64) bool { return pfn < 0x80100 }); err != nil {
		t.Fatal(err)
	}
	d, err := vmcore.New(bytes.NewReader(f.b), int64(len(f.b)))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p := make([]byte, 0x80*pg)
	if _, err := d.ReadPhys(p, 0x80080000); err != nil || !d.Incomplete() {
		t.Errorf("%v, incomplete %v", err, d.Incomplete())
	}
}

// More runs than a program header count of 16 bits has.
func TestELFManyRuns(t *testing.T) {
	c := vmcoretest.New(0x80000000, 140_000*pg)
	c.SetVMCoreInfo("PAGESIZE=4096\n")
	c.Put(0x80000000+139_998*pg, pattern(5))
	src := c.Open(t)
	f := &diskFile{room: -1}
	w, err := vmcore.NewELFWriter(f, elfHeaderOf(c, src), vmcore.ELFOptions{MaxRuns: 70_000})
	if err != nil {
		t.Fatal(err)
	}
	e := w.NewExtent(70_000)
	page := make([]byte, pg)
	for pfn := vmcore.PFN(0x80000); pfn < 0x80000+140_000; pfn += 2 {
		if _, err := src.ReadPhys(page, vmcore.PhysAddr(pfn)*pg); err != nil {
			t.Fatal(err)
		}
		if err := e.Add(pfn, page); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Write(e), w.Finish(true)); err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint16(f.b[56:]); n != 0xffff {
		t.Errorf("e_phnum = %#x; want PN_XNUM", n)
	}
	d, err := vmcore.New(bytes.NewReader(f.b), int64(len(f.b)))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if n := len(d.Segments()); n != 1+70_000 {
		t.Errorf("%d segments; want the memory's and 70000", n)
	}
	if _, err := d.ReadPhys(page, 0x80000000+139_998*pg); err != nil || !bytes.Equal(page, pattern(5)) {
		t.Errorf("the last page: %v", err)
	}

	w, err = vmcore.NewELFWriter(&diskFile{room: -1}, elfHeaderOf(c, src), vmcore.ELFOptions{MaxRuns: 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(e); err == nil {
		t.Error("70000 runs were taken where there is room for 10")
	}
}

func TestRawWriter(t *testing.T) {
	c, src := source(t)
	keep := func(pfn uint64) bool { return pfn%7 != 3 }
	f := &diskFile{room: -1}
	w, err := vmcore.NewRawWriter(f, src.Ranges(), pg)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(copyPages(t, src, w, keep), w.Finish(true)); err != nil {
		t.Fatal(err)
	}
	base := src.Ranges()[0].Start
	if w.Base() != base || uint64(len(f.b)) != uint64(src.MaxPFN())*pg-uint64(base) || w.Size() != uint64(len(f.b)) {
		t.Errorf("base %#x, %d bytes, size %d", w.Base(), len(f.b), w.Size())
	}
	want := make([]byte, pg)
	for a := base; a < vmcore.PhysAddr(src.MaxPFN())*pg; a += pg {
		if _, err := c.ReadPhys(want, a); err != nil || !keep(uint64(a)/pg) {
			clear(want)
		}
		if !bytes.Equal(f.b[a-base:][:pg], want) {
			t.Fatalf("not the memory at %#x", a)
		}
	}
}

func BenchmarkELFWriter(b *testing.B) {
	data := pages(b, 1024)
	w, err := vmcore.NewELFWriter(nowhere{}, vmcore.ELFHeader{PageSize: pg, Segments: []vmcore.Segment{
		{Phys: vmcore.Range{Start: 0, End: 1 << 50}}}}, vmcore.ELFOptions{WriteOnce: true})
	if err != nil {
		b.Fatal(err)
	}
	benchmarkWriter(b, w, data)
}

func BenchmarkKdumpWriter(b *testing.B) {
	data := pages(b, 1024)
	for name, share := range map[string]int{"alone": 0, "share": 1 << 16} {
		b.Run(name, func(b *testing.B) {
			w, err := vmcore.NewKdumpWriter(nowhere{}, vmcore.KdumpHeader{PageSize: pg, Compression: vmcore.CompressionNone},
				[]vmcore.Range{{Start: 1<<46 - pg, End: 1 << 46}}, 1<<40, vmcore.KdumpOptions{Share: share})
			if err != nil {
				b.Fatal(err)
			}
			benchmarkWriter(b, w, data)
		})
	}
}

// benchmarkWriter measures adding and writing a page.
func benchmarkWriter(b *testing.B, w vmcore.Writer, data []byte) {
	b.ReportAllocs()
	b.SetBytes(pg)
	e := w.NewExtent(1024)
	pfn := vmcore.PFN(0)
	for b.Loop() {
		if err := e.Add(pfn, data[pfn%1024*pg:][:pg]); err != nil {
			b.Fatal(err)
		}
		if pfn++; pfn%1024 == 0 {
			if err := w.Write(e); err != nil {
				b.Fatal(err)
			}
			e.Reset()
		}
	}
}

// nowhere takes what is written and keeps nothing.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
