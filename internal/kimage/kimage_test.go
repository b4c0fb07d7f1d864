package kimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testBanner = "Linux version 6.12.107+deb13-riscv64 (debian-kernel@lists.debian.org) (riscv64-linux-gnu-gcc-14) #1 SMP Debian 6.12.107-1 (2026-08-29)"

// section of a made-up PE program.
type section struct {
	name     string
	at, size uint32
}

// build makes an Image as Debian's is: header, PE header at 0x40 with optional
// header of 160 bytes, sections behind, a banner in the first.
func build(imageSize uint64, machine uint16, sections ...section) []byte {
	end := uint32(headBytes)
	for _, s := range sections {
		end = max(end, s.at+s.size)
	}
	b := make([]byte, end)
	copy(b, "MZo\x10")
	le := binary.LittleEndian
	le.PutUint64(b[0x08:], 0x200000)
	le.PutUint64(b[0x10:], imageSize)
	le.PutUint32(b[0x20:], 2)
	le.PutUint64(b[0x30:], magicRISCV)
	le.PutUint32(b[0x38:], magic2RISCV)
	le.PutUint32(b[0x3c:], 0x40)
	copy(b[0x40:], "PE\x00\x00")
	le.PutUint16(b[0x44:], machine)
	le.PutUint16(b[0x46:], uint16(len(sections)))
	le.PutUint16(b[0x54:], 160)
	for i, s := range sections {
		h := b[0x40+24+160+40*i:]
		copy(h[:8], s.name)
		le.PutUint32(h[16:], s.size)
		le.PutUint32(h[20:], s.at)
	}
	copy(b[0x800:], "Linux version %s (%s)\n\x00"+testBanner+"\n\x00")
	// Code that calls one function from many places: auipc, jalr; jal.
	for i := uint32(0); i < 32 && 0x1000+12*(i+1) <= end; i++ {
		at := 0x1000 + 12*i
		le.PutUint32(b[at:], 0x317|(0x20-i/16)<<12)
		le.PutUint32(b[at+4:], 0x300e7|(0x123-12*i)<<20)
		le.PutUint32(b[at+8:], 0xef|(0x400-12*i)>>1&0x3ff<<21)
	}
	return b
}

// image is a whole riscv64 kernel of 0x6800 bytes in 0x9000 of memory.
func image() []byte {
	return build(0x9000, peRISCV64, section{".text", 0x1000, 0x2000}, section{".data", 0x3000, 0x3800})
}

func inspect(b []byte) (*Image, error) { return Inspect(bytes.NewReader(b), int64(len(b)), nil) }

func TestInspect(t *testing.T) {
	want := Image{
		Kind: Flat, Machine: RISCV, TextOffset: 0x200000, ImageSize: 0x9000, FileSize: 0x6800,
		Version: 2, EFI: true, Banner: testBanner, Release: "6.12.107+deb13-riscv64",
	}
	noEFI := image()
	copy(noEFI, "\x13\x00\x00\x00")
	wantNoEFI := want
	wantNoEFI.EFI = false
	noBanner := bytes.ReplaceAll(image(), []byte("Linux version"), []byte("Tinux version"))
	wantNoBanner := want
	wantNoBanner.Banner, wantNoBanner.Release = "", ""

	for name, c := range map[string]struct {
		file []byte
		want Image
	}{
		"EFI":        {image(), want},
		"signed":     {append(image(), "a signature"...), want},
		"without":    {noEFI, wantNoEFI},
		"no banner":  {noBanner, wantNoBanner},
		"early copy": {bytes.Replace(image(), []byte("Linux version %s"), []byte("Linux version 6. # SMP\n"), 1), want},
	} {
		got, err := inspect(c.file)
		if err != nil {
			t.Errorf("%s: Inspect: %v", name, err)
			continue
		}
		c.want.Data = c.file[:c.want.FileSize]
		if diff := cmp.Diff(c.want, *got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestInspectNoEFIFillsMemoryAtMost(t *testing.T) {
	b := image()
	copy(b, "\x13\x00\x00\x00")
	b = append(b, make([]byte, 0x9000)...)
	got, err := inspect(b)
	if err != nil {
		t.Fatal(err)
	}
	if got.FileSize != 0x9000 {
		t.Errorf("FileSize = %#x; want image_size, the kernel refuses more", got.FileSize)
	}
}

func TestInspectRefuses(t *testing.T) {
	le := binary.LittleEndian
	u32 := func(at int, v uint32) []byte { b := image(); le.PutUint32(b[at:], v); return b }
	u64 := func(at int, v uint64) []byte { b := image(); le.PutUint64(b[at:], v); return b }
	u16 := func(at int, v uint16) []byte { b := image(); le.PutUint16(b[at:], v); return b }
	pe := func(machine uint16, name string) []byte {
		b := build(0x9000, machine, section{name, 0x1000, 0x2000})
		clear(b[0x08:0x3c])
		return b
	}
	zboot := func(machine uint16, codec string, size uint32) []byte {
		b := pe(machine, ".text")
		copy(b[4:], "zimg")
		le.PutUint32(b[8:], 0x1000)
		le.PutUint32(b[12:], size)
		copy(b[0x18:], codec)
		return b
	}
	elf := func(class, order byte, machine uint16) []byte {
		b := make([]byte, 64)
		copy(b, "\x7fELF")
		b[4], b[5] = class, order
		if order == 2 {
			binary.BigEndian.PutUint16(b[18:], machine)
		} else {
			le.PutUint16(b[18:], machine)
		}
		return b
	}
	bz := make([]byte, 0x400)
	copy(bz, "MZ")
	copy(bz[0x1fe:], "\x55\xaa")
	copy(bz[0x202:], "HdrS")
	zimage := make([]byte, 64)
	le.PutUint32(zimage[0x24:], 0x016f2818)

	for name, c := range map[string]struct {
		file []byte
		err  error
		kind Kind
		says string // in the message
		hint string // in a hint
	}{
		"empty":            {nil, ErrTruncated, Unknown, "nothing in it", "/boot/vmlinux"},
		"cut by one":       {image()[:0x67ff], ErrTruncated, Flat, "the file has 26623 bytes, its sections end at 26624: 1 are missing", "df FILE"},
		"cut to a page":    {image()[:0x1000], ErrTruncated, Flat, "22528 are missing", ""},
		"cut in table":     {image()[:0x40+24+160+40], ErrTruncated, Flat, "headers", ""},
		"cut in COFF":      {image()[:0x50], ErrTruncated, Flat, "headers", ""},
		"cut in header":    {image()[:20], ErrTruncated, Unknown, "20 bytes", ""},
		"one byte":         {[]byte{'M'}, ErrNotKernel, Unknown, "", ""},
		"random":           {[]byte(strings.Repeat("\x63\x17\x90\xf7", 1000)), ErrNotKernel, Unknown, "4000 bytes that begin with 631790f7631790f7", "/boot/vmlinux"},
		"text":             {[]byte("<html>not found</html>"), ErrNotKernel, Unknown, "", ""},
		"arm64":            {u32(0x38, magic2ARM64), ErrWrongMachine, Flat, "arm64 Image", "uname"},
		"arm":              {zimage, ErrWrongMachine, Flat, "arm zImage", ""},
		"x86":              {bz, ErrWrongMachine, BzImage, "x86 bzImage", ""},
		"riscv64 ELF":      {elf(2, 1, 243), ErrNotKernel, ELF, "ET_NONE", ""},
		"riscv32 ELF":      {elf(1, 1, 243), ErrWrongMachine, ELF, "riscv32", ""},
		"x86_64 ELF":       {elf(2, 1, 62), ErrWrongMachine, ELF, "x86_64", ""},
		"s390 ELF":         {elf(2, 2, 22), ErrWrongMachine, ELF, "machine 22", ""},
		"cut ELF":          {elf(2, 1, 243)[:19], ErrTruncated, ELF, "", ""},
		"uImage":           {[]byte("\x27\x05\x19\x56 and more"), ErrNotLoadable, Unknown, "uImage", "tail -c +65 FILE"},
		"device tree":      {[]byte("\xd0\x0d\xfe\xed and more"), ErrNotKernel, Unknown, "device tree", "dumpimage"},
		"zboot":            {zboot(peRISCV64, "gzip", 0x1234), ErrCorrupt, ZBoot, `"gzip" and begins with 1703`, ""},
		"zboot empty":      {zboot(peRISCV64, "new", 0), ErrCorrupt, ZBoot, "payload of 0 bytes", ""},
		"zboot cut":        {zboot(peRISCV64, "gzip", 0x123456), ErrTruncated, ZBoot, "payload ends", ""},
		"zboot arm64":      {zboot(0xaa64, "gzip", 0x1234), ErrWrongMachine, ZBoot, "arm64", ""},
		"UKI of nothing":   {pe(peRISCV64, ".linux"), ErrNotKernel, Unknown, "8192 bytes that begin with 1703", ""},
		"UKI x86_64":       {pe(0x8664, ".linux"), ErrWrongMachine, UKI, "x86_64", ""},
		"EFI program":      {pe(peRISCV64, ".text"), ErrNotKernel, Unknown, "EFI", ""},
		"DOS program":      {append([]byte("MZ"), make([]byte, 100)...), ErrNotKernel, Unknown, "DOS", ""},
		"big endian":       {u64(0x18, 1), ErrNotLoadable, Flat, "big-endian", ""},
		"old header":       {u32(0x20, 1), ErrNotLoadable, Flat, "0.1", "5.6"},
		"new header":       {u32(0x20, 0x10000), ErrNotLoadable, Flat, "1.0", ""},
		"oldest header":    {u32(0x38, 0), ErrNotLoadable, Flat, "older", ""},
		"M-mode":           {u64(0x08, 0), ErrNotLoadable, Flat, "M-mode", "CONFIG_RISCV_M_MODE"},
		"rv32":             {u64(0x08, 0x400000), ErrNotLoadable, Flat, "text_offset is 0x400000", ""},
		"no size":          {u64(0x10, 0), ErrNotLoadable, Flat, "image_size", ""},
		"huge size":        {u64(0x10, 1<<63), ErrNotLoadable, Flat, "image_size", ""},
		"size too small":   {u64(0x10, 0x6000), ErrNotKernel, Flat, "outside of the image", ""},
		"riscv32 PE":       {u16(0x44, 0x5032), ErrWrongMachine, Flat, "0x5032", ""},
		"PE nowhere":       {u32(0x3c, 0xfffffffc), ErrNotKernel, Flat, "broken header", ""},
		"PE unsigned":      {u32(0x40, 0), ErrNotKernel, Flat, "broken header", ""},
		"no sections":      {u16(0x46, 0), ErrNotKernel, Flat, "broken header", ""},
		"many sections":    {u16(0x46, 0xffff), ErrNotKernel, Flat, "broken header", ""},
		"table far away":   {u16(0x54, 0xffff), ErrNotKernel, Flat, "broken header", ""},
		"sections of zero": {build(0x9000, peRISCV64, section{".text", 0x1000, 0}), ErrNotKernel, Flat, "end at 0", ""},
	} {
		img, err := inspect(c.file)
		var e *Error
		if !errors.Is(err, c.err) || img != nil || !errors.As(err, &e) {
			t.Errorf("%s: Inspect = %v, %v; want %v", name, img, err, c.err)
			continue
		}
		if e.Kind != c.kind || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: kind %q, %q; want %q, %q", name, e.Kind, err, c.kind, c.says)
		}
		if c.hint != "" && !slices.ContainsFunc(e.Hints(), func(h string) bool { return strings.Contains(h, c.hint) }) {
			t.Errorf("%s: hints %q; want one with %q", name, e.Hints(), c.hint)
		}
		for _, h := range e.Hints() {
			if strings.Contains(h, "%!") || strings.Contains(h, "%s") {
				t.Errorf("%s: hint %q is broken", name, h)
			}
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "vmlinux"), filepath.Join(dir, "vmlinux.gz")
	for path, b := range map[string][]byte{good: image(), bad: []byte("\x1f\x8b\x08")} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	img, err := Open(good, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(img.Data, image()) || img.ImageSize != 0x9000 {
		t.Errorf("Open = %d bytes, %+v", len(img.Data), img)
	}
	_, err = Open(bad, nil)
	e, ok := errors.AsType[*Error](err)
	if !ok || !strings.Contains(err.Error(), bad) || !strings.Contains(e.Hints()[0], bad) {
		t.Errorf("Open(%s) = %v; want the path in error and hint", bad, err)
	}
	if _, err := Open(dir, nil); !errors.Is(err, ErrNotKernel) {
		t.Errorf("Open(directory): %v; want ErrNotKernel", err)
	}
	if _, err := Open(filepath.Join(dir, "absent"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open(absent): %v; want ErrNotExist", err)
	}
}

func TestReadError(t *testing.T) {
	failed := errors.New("disk on fire")
	for _, from := range []int64{0, headBytes} {
		r := failingReader{bytes.NewReader(image()), from, failed}
		if img, err := Inspect(r, 0x6800, nil); !errors.Is(err, failed) || img != nil {
			t.Errorf("reading fails from %d: Inspect = %v, %v", from, img, err)
		}
	}
}

type failingReader struct {
	io.ReaderAt
	from int64
	err  error
}

func (f failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from && f.from == 0 || off >= f.from {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p[:min(int64(len(p)), f.from-off)], off)
}
