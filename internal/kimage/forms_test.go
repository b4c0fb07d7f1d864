package kimage

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// golden is the image of the tests, compressed by a real tool.
func golden(t testing.TB, suffix string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "Image."+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// goldens are the suffixes of golden with the codec.
var goldens = map[string]string{
	"gz": "gzip", "xz": "xz", "riscv.xz": "xz", "lzma": "lzma", "bz2": "bzip2",
	"legacy.lz4": "lz4", "lz4": "lz4", "lzo": "lzo", "zst": "zstd",
}

// writers compress with libraries.
var writers = map[string]func(io.Writer) (io.WriteCloser, error){
	"gzip": func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
	"zstd": func(w io.Writer) (io.WriteCloser, error) {
		return zstd.NewWriter(w, zstd.WithWindowSize(1<<20), zstd.WithEncoderConcurrency(1))
	},
	"xz":   func(w io.Writer) (io.WriteCloser, error) { return xz.WriterConfig{DictCap: 1 << 20}.NewWriter(w) },
	"lzma": func(w io.Writer) (io.WriteCloser, error) { return lzma.WriterConfig{DictCap: 1 << 20}.NewWriter(w) },
	"lz4":  func(w io.Writer) (io.WriteCloser, error) { return lz4.NewWriter(w), nil },
	"lz4 legacy": func(w io.Writer) (io.WriteCloser, error) {
		z := lz4.NewWriter(w)
		return z, z.Apply(lz4.LegacyOption(true))
	},
}

func compress(t testing.TB, how string, r io.Reader) []byte {
	t.Helper()
	return pack(t, writers[how], r)
}

func pack(t testing.TB, with func(io.Writer) (io.WriteCloser, error), r io.Reader) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := with(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(struct{ io.Writer }{w}, r); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// program makes an EFI program of sections, with a size in memory that is exact
// where that in the file is padded.
func program(sections ...[2]string) []byte {
	at := uint32(headBytes)
	var list []section
	for _, s := range sections {
		list = append(list, section{s[0], at, uint32(len(s[1])+511) &^ 511})
		at += list[len(list)-1].size
	}
	b := build(0x9000, peRISCV64, list...)
	clear(b[0x08:0x3c])
	clear(b[0x800:])
	for i, s := range sections {
		copy(b[list[i].at:], s[1])
		binary.LittleEndian.PutUint32(b[0x40+24+160+40*i+8:], uint32(len(s[1])))
	}
	return b
}

// zbootOf is an EFI zboot program as Makefile.zboot has it, with the length
// unpacked behind the payload.
func zbootOf(name string, payload []byte) []byte {
	b := program([2]string{".text", "code"}, [2]string{".data", string(payload) + "\x00\x68\x00\x00"})
	copy(b[4:], "zimg")
	at := binary.LittleEndian.Uint32(b[0x40+24+160+40+20:])
	binary.LittleEndian.PutUint32(b[8:], at)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(payload)))
	copy(b[0x18:], name)
	return b
}

func ukiOf(linux []byte) []byte {
	return program([2]string{".osrel", "ID=debian\n\x00"}, [2]string{".cmdline", "root=/dev/vda quiet\n\x00"}, [2]string{".uname", "6.12"},
		[2]string{".initrd", "070701 and so on"}, [2]string{".linux", string(linux)}, [2]string{".dtb", "\xd0\x0d\xfe\xed"}, [2]string{".cmdline", "of a profile"})
}

// vmlinux is an ELF file of the image: two PT_LOADs, the first with file offset
// 0x1000, the second with .bss behind it; addresses as Linux has them.
type vmlinux struct {
	loads   []elf.Prog64
	data    []byte // the memory
	entry   uint64
	kind    elf.Type
	debug   int64 // bytes behind
	dynamic *elf.Prog64
}

const linkAddress = 0xffffffff80000000

func newVmlinux() *vmlinux {
	v := &vmlinux{data: image(), entry: linkAddress, kind: elf.ET_EXEC}
	v.load(0, 0x3000, 0x3000)
	v.load(0x3000, 0x3800, 0x6000)
	return v
}

// load adds a PT_LOAD at an offset of memory.
func (v *vmlinux) load(at, filesz, memsz uint64) {
	v.loads = append(v.loads, elf.Prog64{Type: uint32(elf.PT_LOAD), Off: 0x1000 + at, Vaddr: linkAddress + at, Paddr: at, Filesz: filesz, Memsz: memsz})
}

// relocatable adds .dynamic and .rela.dyn, which has entries of a type.
func (v *vmlinux) relocatable(kind elf.R_RISCV) *vmlinux {
	const dynamic, rela = 0x4000, 0x4100
	le := binary.LittleEndian
	v.kind = elf.ET_DYN
	v.dynamic = &elf.Prog64{Type: uint32(elf.PT_DYNAMIC), Off: 0x1000 + dynamic, Vaddr: linkAddress + dynamic, Paddr: dynamic, Filesz: 64, Memsz: 64}
	for i, d := range [][2]uint64{{uint64(elf.DT_RELA), linkAddress + rela}, {uint64(elf.DT_RELASZ), 48}, {uint64(elf.DT_RELAENT), 24}, {}} {
		le.PutUint64(v.data[dynamic+16*i:], d[0])
		le.PutUint64(v.data[dynamic+16*i+8:], d[1])
	}
	if kind != elf.R_RISCV_NONE {
		for at := rela; at < rela+48; at += 24 {
			le.PutUint64(v.data[at:], linkAddress+0x100)
			le.PutUint64(v.data[at+8:], uint64(kind))
			le.PutUint64(v.data[at+16:], linkAddress+0x200)
		}
	}
	return v
}

// head is what stands before the memory in the file.
func (v *vmlinux) head() []byte {
	var b bytes.Buffer
	h := elf.Header64{Type: uint16(v.kind), Machine: uint16(elf.EM_RISCV), Version: 1, Entry: v.entry, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(v.loads))}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	list := v.loads
	if v.dynamic != nil {
		h.Phnum++
		list = append(slices.Clone(list), *v.dynamic)
	}
	for _, part := range []any{h, list} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	return append(b.Bytes(), make([]byte, 0x1000-b.Len())...)
}

func (v *vmlinux) file() []byte {
	return slices.Concat(v.head(), v.data, make([]byte, v.debug))
}

// reader is the file without making it.
func (v *vmlinux) reader() io.Reader {
	return io.MultiReader(bytes.NewReader(v.head()), bytes.NewReader(v.data), io.LimitReader(zeros{}, v.debug))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// forms are the image of the tests in everything it may come in.
func forms(t testing.TB) map[string][]byte {
	all := map[string][]byte{
		"Image":              image(),
		"vmlinux":            newVmlinux().file(),
		"vmlinux with debug": func() []byte { v := newVmlinux(); v.debug = 10000; return v.file() }(),
		"UKI, Image":         ukiOf(image()),
		"UKI, vmlinux":       ukiOf(newVmlinux().file()),
	}
	for suffix, codec := range goldens {
		packed := golden(t, suffix)
		all[codec+", Image ("+suffix+")"] = packed
		all["zboot, "+codec+", Image ("+suffix+")"] = zbootOf(codec, packed)
	}
	for how := range writers {
		codec, _, _ := strings.Cut(how, " ")
		packed := compress(t, how, newVmlinux().reader())
		all[codec+", vmlinux ("+how+")"] = packed
	}
	all["UKI, gzip, Image"] = ukiOf(golden(t, "gz"))
	all["UKI, zboot, zstd, Image"] = ukiOf(zbootOf("zstd22", golden(t, "zst")))
	all["gzip, UKI, zboot, xz, Image"] = compress(t, "gzip", bytes.NewReader(ukiOf(zbootOf("xzkern", golden(t, "xz")))))
	all["gzip, UKI, vmlinux"] = compress(t, "gzip", bytes.NewReader(ukiOf(newVmlinux().file())))
	all["lz4, gzip, Image"] = compress(t, "lz4", bytes.NewReader(golden(t, "gz")))
	all["gzip, Image (and a signature)"] = append(golden(t, "gz"), "a signature"...)
	all["zstd, Image (and its length)"] = append(golden(t, "zst"), 0, 0x68, 0, 0)
	all["lz4, Image (and its length)"] = append(golden(t, "legacy.lz4"), 0, 0x68, 0, 0)
	all["lzma, Image (and its length)"] = append(golden(t, "lzma"), 0, 0x68, 0, 0)
	return all
}

// Every form of a kernel is the same memory.
func TestForms(t *testing.T) {
	for name, file := range forms(t) {
		img, err := inspect(file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want, _, _ := strings.Cut(name, " (")
		want = strings.TrimSuffix(strings.TrimSpace(want), " with debug")
		if img.Form() != want {
			t.Errorf("%s: is %q", name, img.Form())
		}
		if !bytes.Equal(img.Data, image()) || img.FileSize != 0x6800 || img.ImageSize != 0x9000 || img.Entry != 0 || img.Release != "6.12.107+deb13-riscv64" || !img.EFI {
			t.Errorf("%s: %d bytes, other than the image's: %+v", name, len(img.Data), img)
		}
		if strings.Contains(name, "UKI") {
			if u := img.Unified; u == nil || u.Cmdline != "root=/dev/vda quiet" || u.Uname != "6.12" || u.OSRelease != "ID=debian" || string(u.Initrd) != "070701 and so on" || u.InitrdSize != 16 || u.DTBSize != 4 {
				t.Errorf("%s: %+v", name, u)
			}
		} else if img.Unified != nil {
			t.Errorf("%s: %+v", name, img.Unified)
		}
		fit := img.Fit()
		if !fit.KexecLoad.Fit || !fit.KexecFileLoad.Fit || (fit.KexecFileLoad.AsIs != nil) != (len(img.Layers) == 0) {
			t.Errorf("%s: %+v", name, fit)
		}
	}
}

// Without a PE header nothing but its end tells how long an Image is.
func TestFormsWithoutEFI(t *testing.T) {
	b := image()
	copy(b, "\x13\x00\x00\x00")
	for name, file := range map[string][]byte{"Image": b, "gzip": compress(t, "gzip", bytes.NewReader(b)), "UKI": ukiOf(b), "gzip, UKI": compress(t, "gzip", bytes.NewReader(ukiOf(b)))} {
		img, err := inspect(file)
		if err != nil || !bytes.Equal(img.Data, b) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRelocations(t *testing.T) {
	noTable := newVmlinux().relocatable(elf.R_RISCV_RELATIVE)
	binary.LittleEndian.PutUint64(noTable.data[0x4000:], uint64(elf.DT_STRTAB))
	empty := newVmlinux().relocatable(elf.R_RISCV_RELATIVE)
	binary.LittleEndian.PutUint64(empty.data[0x4018:], 0)
	outside := newVmlinux().relocatable(elf.R_RISCV_RELATIVE)
	binary.LittleEndian.PutUint64(outside.data[0x4008:], linkAddress+0x8000) // .bss
	noDynamic := newVmlinux()
	noDynamic.kind = elf.ET_DYN
	for name, c := range map[string]struct {
		v    *vmlinux
		want Relocations
	}{
		"fixed":      {newVmlinux(), RelocationsFixed},
		"present":    {newVmlinux().relocatable(elf.R_RISCV_RELATIVE), RelocationsPresent},
		"zeros":      {newVmlinux().relocatable(elf.R_RISCV_NONE), RelocationsStripped},
		"others":     {newVmlinux().relocatable(elf.R_RISCV_64), RelocationsStripped},
		"no table":   {noTable, RelocationsStripped},
		"empty":      {empty, RelocationsStripped},
		"in .bss":    {outside, RelocationsStripped},
		"no dynamic": {noDynamic, RelocationsStripped},
	} {
		for form, file := range map[string][]byte{"plain": c.v.file(), "zstd": compress(t, "zstd", c.v.reader())} {
			img, err := inspect(file)
			if c.want != RelocationsStripped {
				if err != nil || img.Relocations != c.want {
					t.Errorf("%s, %s: %v; want relocations %q", name, form, err, c.want)
				}
				continue
			}
			if !errors.Is(err, ErrStripped) || img != nil {
				t.Errorf("%s, %s: %v; want ErrStripped", name, form, err)
			}
			img, err = Inspect(bytes.NewReader(file), int64(len(file)), &Options{Force: true})
			if err != nil || img.Relocations != c.want || img.Fit().KexecLoad.Fit || img.Fit().KexecFileLoad.Fit {
				t.Errorf("%s, %s, forced: %v", name, form, err)
			}
		}
	}
}

// The advice for a stripped vmlinux is a file that is there.
func TestStrippedHint(t *testing.T) {
	for _, sibling := range []string{"", "vmlinux.relocs", "arch/riscv/boot/Image", "Image"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "vmlinux")
		if err := os.WriteFile(path, newVmlinux().relocatable(elf.R_RISCV_NONE).file(), 0o600); err != nil {
			t.Fatal(err)
		}
		if sibling != "" {
			name := filepath.Join(dir, sibling)
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Open(path, nil)
		e, ok := errors.AsType[*Error](err)
		if !ok || !errors.Is(err, ErrStripped) {
			t.Fatalf("%s: %v; want ErrStripped", sibling, err)
		}
		hints := strings.Join(e.Hints(), "\n")
		if there := strings.Contains(hints, "there is "+filepath.Join(dir, sibling)+","); there != (sibling != "") {
			t.Errorf("%q beside it: hints %q", sibling, hints)
		}
	}
}

func TestVmlinuxRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*vmlinux)
		err    error
		says   string
	}{
		"overlap":        {func(v *vmlinux) { v.loads[1].Paddr = 0x2000 }, ErrCorrupt, "overlap at 0x2000"},
		"gap":            {func(v *vmlinux) { v.loads[1].Paddr = 0x3000 + 64<<20 }, ErrCorrupt, "64 MiB of nothing"},
		"span":           {func(v *vmlinux) { v.loads[1].Memsz = 3 << 30 }, ErrCorrupt, "2048 MiB"},
		"wraps":          {func(v *vmlinux) { v.loads[1].Memsz = 1<<64 - 1 }, ErrCorrupt, "2048 MiB"},
		"offset wraps":   {func(v *vmlinux) { v.loads[1].Off = 1<<64 - 1 }, ErrCorrupt, "in the file"},
		"more in file":   {func(v *vmlinux) { v.loads[1].Filesz = 0x7000 }, ErrCorrupt, "28672 bytes for 24576"},
		"beyond the end": {func(v *vmlinux) { v.loads[1].Off += 1 }, ErrTruncated, "1 are missing"},
		"entry":          {func(v *vmlinux) { v.entry += 4 }, ErrCorrupt, "entry point"},
		"entry nowhere":  {func(v *vmlinux) { v.entry = 1 }, ErrCorrupt, "entry point"},
		"core dump":      {func(v *vmlinux) { v.kind = elf.ET_CORE }, ErrNotKernel, "ET_CORE"},
		"no kernel":      {func(v *vmlinux) { clear(v.data[:64]) }, ErrNotKernel, "header of a kernel"},
		"interpreter":    {func(v *vmlinux) { v.dynamic = &elf.Prog64{Type: uint32(elf.PT_INTERP)} }, ErrNotKernel, "interpreter"},
		"nothing":        {func(v *vmlinux) { v.loads = nil; v.dynamic = &elf.Prog64{} }, ErrNotKernel, "nothing to load"},
		"no headers":     {func(v *vmlinux) { v.loads = nil }, ErrCorrupt, "0 program headers"},
		"small image":    {func(v *vmlinux) { binary.LittleEndian.PutUint64(v.data[0x10:], 0x8000) }, ErrCorrupt, "image_size is 32768"},
		"M-mode":         {func(v *vmlinux) { binary.LittleEndian.PutUint64(v.data[0x08:], 0) }, ErrNotLoadable, "M-mode"},
		"big endian":     {func(v *vmlinux) { v.data[0x18] = 1 }, ErrNotLoadable, "big-endian"},
	} {
		v := newVmlinux()
		c.change(v)
		img, err := inspect(v.file())
		if !errors.Is(err, c.err) || img != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %v with %q", name, err, c.err, c.says)
		}
	}
}

// A stream only goes forward.
func TestVmlinuxOutOfOrder(t *testing.T) {
	v := newVmlinux()
	v.data = append(v.data, v.data...)
	v.loads[0].Off += 0x6800 // the first PT_LOAD behind the second
	if img, err := inspect(v.file()); err != nil || !bytes.Equal(img.Data, image()) {
		t.Errorf("plain: %v", err)
	}
	_, err := inspect(compress(t, "gzip", v.reader()))
	if !errors.Is(err, ErrNotLoadable) || !strings.Contains(err.Error(), "order") {
		t.Errorf("compressed: %v; want ErrNotLoadable", err)
	}
}

func TestTooManyLayers(t *testing.T) {
	b := golden(t, "gz")
	for range maxLayers - 1 {
		b = compress(t, "gzip", bytes.NewReader(b))
	}
	if _, err := inspect(b); err != nil {
		t.Errorf("%d layers: %v", maxLayers, err)
	}
	if _, err := inspect(compress(t, "gzip", bytes.NewReader(b))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%d layers: %v; want ErrTooLarge", maxLayers+1, err)
	}
	if _, err := inspect(ukiOf(ukiOf(image()))); !errors.Is(err, ErrNotLoadable) {
		t.Errorf("UKI in a UKI: %v; want ErrNotLoadable", err)
	}
}

// What unpacks for ever ends.
func TestBombs(t *testing.T) {
	bomb := compress(t, "gzip", io.MultiReader(bytes.NewReader(image()), io.LimitReader(zeros{}, 4<<20)))
	open := func(b []byte, budget int64) error {
		o := &opener{opts: &Options{}, size: int64(len(b)), budget: budget}
		_, err := o.open(fileSource(bytes.NewReader(b), o.size))
		return err
	}
	if err := open(bomb, 5<<20); err != nil {
		t.Errorf("5 MiB: %v", err)
	}
	if err := open(bomb, 4<<20); !errors.Is(err, ErrTooLarge) {
		t.Errorf("4 MiB: %v; want ErrTooLarge", err)
	}
	// The layers share.
	if err := open(compress(t, "gzip", bytes.NewReader(bomb)), 4<<20+0x6800); !errors.Is(err, ErrTooLarge) {
		t.Errorf("twice: %v; want ErrTooLarge", err)
	}
	// A small file that says it is a large kernel gets no memory for it.
	v := newVmlinux()
	v.loads[1].Filesz, v.loads[1].Memsz = 1<<30, 1<<30
	binary.LittleEndian.PutUint64(v.data[0x10:], 2<<30)
	b := compress(t, "gzip", v.reader())
	_, err := Inspect(bytes.NewReader(b), int64(len(b)), &Options{Alloc: func(size int) ([]byte, error) {
		t.Errorf("asked for %d bytes", size)
		return nil, errors.New("no")
	}})
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("large claim: %v; want ErrTooLarge", err)
	}
}

// A dictionary that a decompressor would have to keep is limited, whatever the
// file says.
func TestLargeWindows(t *testing.T) {
	lz := golden(t, "lzma")
	binary.LittleEndian.PutUint32(lz[1:], 1<<30)
	// zstd with a window of 1 GiB: magic, no sizes, exponent.
	zst := []byte("\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00")
	x := compress(t, "xz", bytes.NewReader(image()))
	big := bytes.Clone(x)
	at := bytes.Index(big[12:24], []byte{xzLZMA2, 1}) + 12
	big[at+2] = 40 // 4 GiB
	end := 12 + int(big[12])*4
	binary.LittleEndian.PutUint32(big[end:], crc32.ChecksumIEEE(big[12:end]))
	for name, b := range map[string][]byte{"lzma": lz, "zstd": zst, "xz": big} {
		if _, err := inspect(b); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v; want ErrTooLarge", name, err)
		}
	}
}

// Alloc's memory is where Data lies.
func TestAlloc(t *testing.T) {
	for name, file := range forms(t) {
		var mine []byte
		img, err := Inspect(bytes.NewReader(file), int64(len(file)), &Options{Alloc: func(size int) ([]byte, error) {
			if mine != nil {
				t.Errorf("%s: asked for memory twice", name)
			}
			mine = make([]byte, size)
			return mine, nil
		}})
		if err != nil || &img.Data[0] != &mine[0] {
			t.Errorf("%s: %v", name, err)
		}
		failed := errors.New("no memory")
		_, err = Inspect(bytes.NewReader(file), int64(len(file)), &Options{Alloc: func(int) ([]byte, error) { return nil, failed }})
		if _, ok := errors.AsType[*Error](err); ok || !errors.Is(err, failed) {
			t.Errorf("%s without memory: %v", name, err)
		}
	}
}

// stride goes through a file in steps that take seconds over all forms; fuzzing
// goes on from there.
func stride(name string, size int) int {
	steps := 150
	if strings.Contains(name, "legacy") {
		steps = 10 // each costs 24 MiB
	}
	return 1 + size/steps
}

// Whatever is cut off, there is an error of the package, or nothing was lost.
func TestCut(t *testing.T) {
	for name, file := range forms(t) {
		var cuts []int
		for at := 0; at < len(file); at += stride(name, len(file)) {
			cuts = append(cuts, at)
		}
		for at := max(0, len(file)-16); at < len(file); at++ {
			cuts = append(cuts, at)
		}
		for _, at := range cuts {
			img, err := inspect(file[:at])
			if err == nil {
				if !bytes.Equal(img.Data, image()) {
					t.Errorf("%s cut at %d of %d: other data, and no error", name, at, len(file))
				}
				continue
			}
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("%s cut at %d of %d: %v", name, at, len(file), err)
			}
		}
	}
	// Of what has an end, the end is missed.
	for suffix := range goldens {
		file := golden(t, suffix)
		for _, at := range []int{len(file) / 2, len(file) - 20, len(file) - 1} {
			_, err := inspect(file[:at])
			if suffix == "legacy.lz4" && at > len(file)/2 || suffix == "lzma" && at == len(file)-1 {
				continue // the one has no end, the other's last byte is of no use
			}
			if !errors.Is(err, ErrTruncated) || !strings.Contains(err.Error(), goldens[suffix]+": ") {
				t.Errorf("%s cut at %d of %d: %v; want ErrTruncated with the layer", suffix, at, len(file), err)
			}
		}
	}
}

// A bit that is wrong is found, or did not matter, where there are checksums;
// elsewhere it is no reason to fall over.
func TestFlippedBits(t *testing.T) {
	for name, file := range forms(t) {
		checked := strings.Contains(name, "gzip") || strings.Contains(name, "xz") || strings.Contains(name, "bz2") || strings.Contains(name, "zst") ||
			strings.Contains(name, "(lzo)") || strings.Contains(name, "(lz4)")
		if strings.Contains(name, "zboot") || strings.Contains(name, "UKI") || strings.Contains(name, "lz4, vmlinux") || strings.Contains(name, "zstd, vmlinux") {
			checked = false // may become something else
		}
		for at := 0; at < len(file); at += stride(name, len(file)) {
			bit := byte(1) << (at % 8)
			b := bytes.Clone(file)
			b[at] ^= bit
			img, err := inspect(b)
			if err != nil {
				if _, ok := errors.AsType[*Error](err); !ok {
					t.Errorf("%s with %#x flipped at %d: %v", name, bit, at, err)
				}
			} else if checked && !bytes.Equal(img.Data, image()) {
				t.Errorf("%s with %#x flipped at %d: other data, and no error", name, bit, at)
			}
		}
	}
}

// A vmlinux with far more debug data than kernel costs the memory of the
// kernel, whether it has to be unpacked or not.
func TestMemoryOfLargeVmlinux(t *testing.T) {
	const size = 16 << 20
	v := newVmlinux()
	v.data = build(size+0x1000, peRISCV64, section{".text", 0x1000, size - 0x1000})
	v.loads = nil
	v.load(0, size, size+0x1000)
	v.debug = 256 << 20
	dir := t.TempDir()
	plain := filepath.Join(dir, "vmlinux")
	if err := os.WriteFile(plain, append(v.head(), v.data...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(plain, 0x1000+size+v.debug); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"plain": plain}
	for _, how := range []string{"gzip", "zstd"} {
		files[how] = filepath.Join(dir, how)
		if err := os.WriteFile(files[how], compress(t, how, v.reader()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		img, err := Open(files[name], nil)
		runtime.ReadMemStats(&after)
		if err != nil || !bytes.Equal(img.Data, v.data) {
			t.Fatalf("%s: %v", name, err)
		}
		// All that was ever allocated, not only what was needed at once.
		if got := after.TotalAlloc - before.TotalAlloc; got > size*3/2 {
			t.Errorf("%s: %d MiB for a kernel of %d", name, got>>20, size>>20)
		}
	}
}

// large is an image of some megabytes that does not pack well.
func large(size uint32) []byte {
	b := build(uint64(size)+0x1000, peRISCV64, section{".text", 0x1000, size - 0x1000})
	for at, x := 0x2000, uint32(1); at+4 <= len(b); at += 200 {
		x = x*1664525 + 1013904223
		binary.LittleEndian.PutUint32(b[at:], x)
	}
	return b
}

// Whatever the form, a kernel costs at most half of its own memory beside that,
// although xz and lzma look back further than it is long.
func TestMemoryOfForms(t *testing.T) {
	const size = 12 << 20
	image := large(size)
	v := newVmlinux()
	v.data, v.loads = image, nil
	v.load(0, size/2, size/2)
	v.load(size/2, size/2, size/2+0x1000)
	v.debug = 1 << 19
	elf := v.file()
	binary.LittleEndian.PutUint64(elf[40:], uint64(len(elf)-64))
	binary.LittleEndian.PutUint16(elf[58:], 64)
	binary.LittleEndian.PutUint16(elf[60:], 1)

	writers := maps.Clone(writers)
	writers["xz"] = func(w io.Writer) (io.WriteCloser, error) { return xz.WriterConfig{DictCap: 32 << 20}.NewWriter(w) }
	writers["zstd"] = func(w io.Writer) (io.WriteCloser, error) {
		return zstd.NewWriter(w, zstd.WithWindowSize(64<<20), zstd.WithEncoderConcurrency(1))
	}
	writers["lzma"] = func(w io.Writer) (io.WriteCloser, error) { return lzma.WriterConfig{DictCap: 64 << 20}.NewWriter(w) }
	check := func(name string, file []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		img, err := inspect(file)
		runtime.ReadMemStats(&after)
		if err != nil || !bytes.Equal(img.Data, image) {
			t.Errorf("%s: %v", name, err)
			return
		}
		got := after.TotalAlloc - before.TotalAlloc
		bound := uint64(size * 3 / 2)
		if strings.Contains(name, "xz") || strings.Contains(name, "lzma") || strings.Contains(name, "legacy") {
			bound = size * 9 / 8 // what is unpacked is the window, or that is small
		}
		if got > bound {
			t.Errorf("%s: %d MiB for a kernel of %d", name, got>>20, size>>20)
		}
	}
	for _, how := range slices.Sorted(maps.Keys(writers)) {
		packed := pack(t, writers[how], bytes.NewReader(image))
		check(how+", Image", packed)
		check("zboot, "+how+", Image", zbootOf(how, packed))
		check("UKI, zboot, "+how+", Image", ukiOf(zbootOf(how, packed)))
		check(how+", vmlinux", pack(t, writers[how], bytes.NewReader(elf)))
	}
}

func BenchmarkOpen(b *testing.B) {
	const size = 32 << 20
	file := build(40<<20, peRISCV64, section{".text", 0x1000, size})
	for at := 0x2000; at < len(file); at += 24 { // something to unpack
		binary.LittleEndian.PutUint32(file[at:], uint32(at)*2654435761)
	}
	clear(file[0x800:0x1000]) // no banner: all of it is searched
	dir := b.TempDir()
	for name, data := range map[string][]byte{"plain": file, "zstd": compress(b, "zstd", bytes.NewReader(file))} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(file)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Open(path, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
