package vmcore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

var everyCompression = []vmcore.Compression{vmcore.CompressionZstd, vmcore.CompressionLZO,
	vmcore.CompressionSnappy, vmcore.CompressionZlib, vmcore.CompressionNone}

func TestCompressionNames(t *testing.T) {
	for _, c := range everyCompression {
		if got, err := vmcore.ParseCompression(c.String()); err != nil || got != c {
			t.Errorf("ParseCompression(%q) = %v, %v", c.String(), got, err)
		}
	}
	for _, name := range []string{"", "gzip", "compression 9"} {
		if c, err := vmcore.ParseCompression(name); err == nil {
			t.Errorf("ParseCompression(%q) = %v", name, c)
		}
	}
}

// Each compression is what it says, in descriptors and header, and is read
// back; pages that do not get smaller are stored.
func TestCompressions(t *testing.T) {
	flags := map[vmcore.Compression]uint32{vmcore.CompressionZstd: 0x20, vmcore.CompressionLZO: 2,
		vmcore.CompressionSnappy: 4, vmcore.CompressionZlib: 1, vmcore.CompressionNone: 0}
	c, src := source(t)
	for _, compression := range everyCompression {
		f := &diskFile{room: -1}
		kw, err := writeWith(t, src, f, compression, func(uint64) bool { return true })
		if err != nil {
			t.Fatalf("%v: %v", compression, err)
		}
		if err := kw.Finish(true); err != nil {
			t.Fatal(err)
		}
		d, err := vmcore.New(bytes.NewReader(f.b), int64(len(f.b)))
		if err != nil {
			t.Fatalf("%v: %v", compression, err)
		}
		if got := d.KdumpHeader().Compression; got != compression {
			t.Errorf("%v: the header says %v", compression, got)
		}
		if n := compare(t, c, d, func(uint64) error { return nil }); uint64(n) != kw.Pages() {
			t.Errorf("%v: %d pages of %d", compression, n, kw.Pages())
		}
		d.Close()

		le := binary.LittleEndian
		if got := le.Uint32(f.b[424:]); got != flags[compression] {
			t.Errorf("%v: status %#x; want %#x", compression, got, flags[compression])
		}
		descs := f.b[uint64(1+le.Uint32(f.b[432:])+le.Uint32(f.b[436:]))*pg:]
		raw, packed := 0, 0
		for i := range kw.Pages() {
			size, flag := le.Uint32(descs[24*i+8:]), le.Uint32(descs[24*i+12:])
			switch {
			case flag == 0 && size == pg:
				raw++
			case flag == flags[compression] && size < pg:
				packed++
			default:
				t.Errorf("%v: descriptor %d: %d bytes, flags %#x", compression, i, size, flag)
			}
		}
		if (packed > 0) != (compression != vmcore.CompressionNone) || raw == 0 {
			t.Errorf("%v: %d pages compressed and %d stored", compression, packed, raw)
		}
	}
}

// The largest pages that a dump can have are compressed and read back, too.
func TestLargestPages(t *testing.T) {
	const size = 256 << 10
	text := pages(t, 2*size/pg)
	for _, compression := range everyCompression {
		f := &diskFile{room: -1}
		kw, err := vmcore.NewKdumpWriter(f, vmcore.KdumpHeader{PageSize: size, Compression: compression},
			[]vmcore.Range{{Start: 0x80000000, End: 0x80000000 + 2*size}}, 2, vmcore.KdumpOptions{})
		if err != nil {
			t.Fatal(err)
		}
		e := kw.NewExtent(2)
		for i := range 2 {
			if err := e.Add(vmcore.PFN(0x80000000/size+i), text[i*size:][:size]); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(kw.Write(e), kw.Finish(true)); err != nil {
			t.Fatalf("%v: %v", compression, err)
		}
		d, err := vmcore.New(bytes.NewReader(f.b), int64(len(f.b)))
		if err != nil {
			t.Fatalf("%v: %v", compression, err)
		}
		got := make([]byte, 2*size)
		if _, err := d.NewReader().ReadPhys(got, 0x80000000); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%v: two pages of %d bytes are read as others, %v", compression, size, err)
		}
		d.Close()
	}
}

// pages of a kernel are about as compressible as machine code and tables.
func pages(t testing.TB, n int) []byte {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil || len(text) < n*pg {
		t.Fatalf("%d bytes of test program: %v", len(text), err)
	}
	return text[:n*pg]
}

func compressingWriter(t testing.TB, c vmcore.Compression) *vmcore.KdumpWriter {
	t.Helper()
	kw, err := vmcore.NewKdumpWriter(&diskFile{room: -1}, vmcore.KdumpHeader{PageSize: pg, Compression: c},
		[]vmcore.Range{{Start: 0x80000000, End: 0x81000000}}, 1000, vmcore.KdumpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return kw
}

// Compressing allocates nothing, not even for pages that grow by it.
func TestAddDoesNotAllocate(t *testing.T) {
	data := pages(t, 64)
	rand.NewChaCha8([32]byte{}).Read(data[:16*pg])
	clear(data[16*pg : 32*pg])
	for _, c := range everyCompression {
		e := compressingWriter(t, c).NewExtent(64)
		n := testing.AllocsPerRun(20, func() {
			e.Reset()
			for i := range 64 {
				if err := e.Add(vmcore.PFN(0x80000+i), data[i*pg:][:pg]); err != nil {
					t.Fatal(err)
				}
			}
		})
		// The pools of compressors may be emptied by a garbage collection.
		if n > 2 {
			t.Errorf("%v: %v allocations for 64 pages; want none", c, n)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	noise := make([]byte, 256*pg)
	rand.NewChaCha8([32]byte{}).Read(noise)
	for _, kind := range []struct {
		name string
		data []byte
	}{{"program", pages(b, 256)}, {"noise", noise}, {"zeros", make([]byte, 256*pg)}} {
		for _, c := range everyCompression {
			b.Run(kind.name+"/"+c.String(), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(pg)
				e := compressingWriter(b, c).NewExtent(256)
				var in, out int
				for i := 0; b.Loop(); i++ {
					if i%256 == 0 {
						in, out = in+e.Pages()*pg, out+e.Size()
						e.Reset()
					}
					if err := e.Add(vmcore.PFN(0x80000+i%256), kind.data[i%256*pg:][:pg]); err != nil {
						b.Fatal(err)
					}
				}
				if in > 0 {
					b.ReportMetric(float64(out)/float64(in), "ratio")
				}
			})
		}
	}
}
