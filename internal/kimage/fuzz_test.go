package kimage

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"testing"
)

// sound inspects data and checks what must hold of any answer.
func sound(t *testing.T, b []byte) {
	t.Helper()
	const limit = 64 << 20
	img, err := Inspect(bytes.NewReader(b), int64(len(b)), &Options{Force: true, Alloc: func(size int) ([]byte, error) {
		if size > limit {
			return nil, &Error{Err: ErrTooLarge}
		}
		return make([]byte, size), nil
	}})
	if (err == nil) != (img != nil) {
		t.Fatalf("Inspect = %v, %v", img, err)
	}
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Err == nil {
			t.Fatalf("error without a sentinel: %v", err)
		}
		_ = e.Hints()
		return
	}
	if img.FileSize != uint64(len(img.Data)) || img.FileSize > img.ImageSize || img.FileSize == 0 || img.ImageSize > maxImageSize || img.Entry >= img.FileSize {
		t.Fatalf("%d bytes of %d into %d, entry %#x", len(img.Data), img.FileSize, img.ImageSize, img.Entry)
	}
	if len(img.Layers) > maxLayers {
		t.Fatalf("%d layers", len(img.Layers))
	}
	_ = img.Fit()
}

func FuzzInspect(f *testing.F) {
	f.Add(image()[:0x2000])
	for _, file := range forms(f) {
		f.Add(file)
	}
	f.Fuzz(sound)
}

func FuzzVmlinux(f *testing.F) {
	f.Add(newVmlinux().file())
	f.Add(newVmlinux().relocatable(elf.R_RISCV_RELATIVE).file())
	f.Add(newVmlinux().relocatable(elf.R_RISCV_NONE).file())
	f.Fuzz(sound)
}

// The image inside is not compressed, so that the libraries take no time.
func FuzzUKI(f *testing.F) {
	f.Add(ukiOf(image()))
	f.Add(ukiOf(newVmlinux().file()))
	f.Fuzz(sound)
}

func FuzzZBoot(f *testing.F) {
	f.Add(zbootOf("gzip", golden(f, "gz")))
	f.Add(zbootOf("lzo", golden(f, "lzo")))
	f.Fuzz(sound)
}

// unpackAll reads a container of ours to its end.
func unpackAll(t *testing.T, codec string, b []byte) {
	t.Helper()
	budget := int64(16 << 20)
	c := codecOf(b)
	if c == nil || c.name != codec {
		return
	}
	u := newUnpacker(c, bytes.NewReader(b), &budget, nil)
	defer u.close()
	_, err := io.Copy(io.Discard, struct{ io.Reader }{u})
	if _, ok := errors.AsType[*Error](err); err != nil && !ok {
		t.Fatalf("error without a sentinel: %v", err)
	}
}

func FuzzLZOP(f *testing.F) {
	f.Add(golden(f, "lzo"))
	f.Fuzz(func(t *testing.T, b []byte) { unpackAll(t, "lzo", b) })
}

func FuzzXZ(f *testing.F) {
	f.Add(golden(f, "xz"))
	f.Add(golden(f, "riscv.xz"))
	f.Fuzz(func(t *testing.T, b []byte) { unpackAll(t, "xz", b) })
}
