package kimage

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"testing"

	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"
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

// referee compares a decompressor of ours with a library: what both take is
// the same, and so is what both can tell before something is wrong.
func referee(t *testing.T, ours, theirs func(io.Reader) (io.Reader, error), b []byte) {
	t.Helper()
	const limit = 256 << 10
	read := func(open func(io.Reader) (io.Reader, error)) ([]byte, error) {
		r, err := open(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(io.LimitReader(r, limit))
	}
	want, bad := func() (b []byte, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = errors.New("panic")
			}
		}()
		return read(theirs)
	}()
	got, err := read(ours)
	if err == nil && bad == nil && !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, the library has %d others", len(got), len(want))
	}
	r, broken := ours(bytes.NewReader(b))
	if w, ok := r.(toMemory); ok && broken == nil {
		to := make([]byte, limit)
		n, werr := w.whole(to, int64(len(b)))
		if werr == errMore {
			return
		}
		if (werr == nil) != (err == nil) || err == nil && !bytes.Equal(to[:n], got) {
			t.Fatalf("whole: %d bytes, %v; read: %d, %v", n, werr, len(got), err)
		}
	}
}

func FuzzLZMA(f *testing.F) {
	f.Add(golden(f, "lzma"))
	f.Add(compress(f, "lzma", bytes.NewReader(large(0x8000))))
	f.Fuzz(func(t *testing.T, b []byte) {
		referee(t, func(r io.Reader) (io.Reader, error) { return newLZMA(r) },
			func(r io.Reader) (io.Reader, error) { return lzma.ReaderConfig{DictCap: 16 << 20}.NewReader(r) }, b)
	})
}

func FuzzLZMA2(f *testing.F) {
	var packed bytes.Buffer
	w, err := lzma.NewWriter2(&packed)
	if err != nil {
		f.Fatal(err)
	}
	w.Write(large(0x9000))
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(packed.Bytes())
	f.Add([]byte("\x01\x00\x02abc\x02\x00\x00d\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		const dictionary = 1 << 20
		referee(t, func(r io.Reader) (io.Reader, error) { return newLZMA2(r, dictionary), nil },
			func(r io.Reader) (io.Reader, error) { return lzma.Reader2Config{DictCap: dictionary}.NewReader2(r) }, b)
	})
}

func FuzzLZ4(f *testing.F) {
	f.Add(golden(f, "legacy.lz4"))
	f.Add(append(golden(f, "legacy.lz4"), 0, 0x68, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if !bytes.HasPrefix(b, []byte(lz4LegacyMagic)) {
			return
		}
		referee(t, func(r io.Reader) (io.Reader, error) { return newLZ4Legacy(r) },
			func(r io.Reader) (io.Reader, error) { return lz4.NewReader(r), nil }, b)
	})
}

// What is unpacked to memory is what comes of reading.
func FuzzZstd(f *testing.F) {
	f.Add(golden(f, "zst"))
	f.Add(append(golden(f, "zst"), 0, 0x68, 0, 0))
	f.Add(compress(f, "zstd", bytes.NewReader(large(0x60000))))
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1 << 20
		if !bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd")) {
			return
		}
		open := func() *unpacker {
			budget := int64(2 * limit)
			return newUnpacker(codecOf(b), bytes.NewReader(b), &budget, nil)
		}
		u := open()
		defer u.close()
		read, err := io.ReadAll(io.LimitReader(u, limit+1))
		w := open()
		defer w.close()
		to := make([]byte, limit)
		n, werr := w.whole(to, int64(len(b)))
		if werr == nil && (err != nil || !bytes.Equal(read, to[:n])) {
			t.Fatalf("whole: %d bytes; read: %d, %v", n, len(read), err)
		}
	})
}
