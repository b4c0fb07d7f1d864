package initramfs

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// archive is a newc archive of a few files, by somebody else's writer.
func archive(t testing.TB, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := cpio.NewWriter(&b)
	for i, name := range names {
		data := bytes.Repeat([]byte{byte('a' + i)}, 5000*i+1)
		if err := w.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeReg | 0o755, Links: 1, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compressed(t testing.TB, codec string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch codec {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "xz":
		w, err = xz.WriterConfig{CheckSum: xz.CRC32, DictCap: 1 << 16}.NewWriter(&b)
	case "zstd":
		w, err = zstd.NewWriter(&b)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// withSum is one file of the kind that has a checksum, by hand.
func withSum(data string, sum int) []byte {
	one := func(name, data string, sum int) string {
		s := fmt.Sprintf("070702%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			1, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, sum, name)
		s += strings.Repeat("\x00", -len(s)&3) + data
		return s + strings.Repeat("\x00", -len(s)&3)
	}
	return []byte(one("f", data, sum) + one(trailer, "", 0))
}

func TestCheck(t *testing.T) {
	plain := archive(t, "bin/sh", "init")
	for name, c := range map[string]struct {
		data []byte
		want Contents
	}{
		"plain":   {plain, Contents{Archives: 1, Files: 2, Unpacked: 3 * 4096, Init: true}},
		"padded":  {join(plain, make([]byte, 1000)), Contents{Archives: 1, Files: 2, Unpacked: 3 * 4096, Init: true}},
		"gzip":    {compressed(t, "gzip", plain), Contents{Archives: 1, Codecs: []string{"gzip"}, Files: 2, Unpacked: 3 * 4096, Init: true}},
		"xz":      {compressed(t, "xz", plain), Contents{Archives: 1, Codecs: []string{"xz"}, Files: 2, Unpacked: 3 * 4096, Init: true}},
		"zstd":    {compressed(t, "zstd", plain), Contents{Archives: 1, Codecs: []string{"zstd"}, Files: 2, Unpacked: 3 * 4096, Init: true}},
		"early":   {join(archive(t, "kernel/x"), make([]byte, 512), compressed(t, "gzip", plain)), Contents{Archives: 2, Codecs: []string{"gzip"}, Files: 3, Unpacked: 4 * 4096, Init: true}},
		"no init": {archive(t, "sbin/init"), Contents{Archives: 1, Files: 1, Unpacked: 4096}},
		"sums":    {withSum("abc", 'a'+'b'+'c'), Contents{Archives: 1, Files: 1, Unpacked: 4096}},
	} {
		got, err := Check(bytes.NewReader(c.data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.want, *got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	plain := archive(t, "init")
	badHex := bytes.Replace(plain, []byte("070701"), []byte("070701zz"), 1)[:len(plain)]
	badName := bytes.Replace(plain, []byte("init\x00"), []byte("initX"), 1)
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":          {nil, ErrTruncated},
		"zeros":            {make([]byte, 4096), ErrTruncated},
		"text":             {[]byte("hello"), ErrCorrupt},
		"random":           {bytes.Repeat([]byte{0xa5, 0x13, 0x77}, 1000), ErrCorrupt},
		"old cpio":         {[]byte("070707" + strings.Repeat("0", 200)), ErrCorrupt},
		"no hex":           {badHex, ErrCorrupt},
		"no end of a name": {badName, ErrCorrupt},
		"wrong sum":        {withSum("abc", 1), ErrCorrupt},
		"junk behind":      {join(plain, []byte("junk")), ErrCorrupt},
		"gzip of text":     {compressed(t, "gzip", []byte("hello, world")), ErrCorrupt},
		"gzip of nothing":  {compressed(t, "gzip", nil), ErrTruncated},
	} {
		got, err := Check(bytes.NewReader(c.data))
		if !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: %+v, %v; want %v", name, got, err, c.want)
		}
	}
}

// Wherever an initramfs is cut it is refused, and so is any flipped bit of what
// has a checksum.
func TestCheckDamaged(t *testing.T) {
	plain := archive(t, "a", "init")
	for _, codec := range []string{"", "gzip", "xz", "zstd"} {
		whole := plain
		if codec != "" {
			whole = compressed(t, codec, plain)
		}
		step := max(1, len(whole)/200)
		// The zeros behind the trailer are padding.
		for n := 0; n < len(bytes.TrimRight(whole, "\x00")); n += step {
			if got, err := Check(bytes.NewReader(whole[:n])); err == nil {
				t.Errorf("%q cut to %d of %d bytes: %+v", codec, n, len(whole), got)
			}
		}
		if codec == "" {
			continue
		}
		for at := 0; at < len(whole); at += step {
			bad := bytes.Clone(whole)
			bad[at] ^= 0x10
			got, err := Check(bytes.NewReader(bad))
			if err != nil {
				continue
			}
			// gzip does not check its header's time and system, for instance.
			if want, _ := Check(bytes.NewReader(whole)); !cmp.Equal(want, got) {
				t.Errorf("%q with byte %d of %d flipped: %+v", codec, at, len(whole), got)
			}
		}
	}
}

func FuzzCheck(f *testing.F) {
	plain := archive(f, "a", "init")
	f.Add(plain)
	f.Add(withSum("abc", 'a'+'b'+'c'))
	f.Add(join(plain[:600], compressed(f, "gzip", plain)))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Check(bytes.NewReader(b))
		if (err == nil) != (c != nil) {
			t.Fatalf("Check = %+v, %v", c, err)
		}
		if err != nil && !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
			t.Fatalf("error without a sentinel: %v", err)
		}
	})
}
