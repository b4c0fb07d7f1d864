package lzo_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/adler32"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	golzo "github.com/anchore/go-lzo"

	"github.com/panicroom-kdump/panicroom/internal/lzo"
)

// blocks are what an encoder can go wrong with, by name.
func blocks(t testing.TB) map[string][]byte {
	t.Helper()
	rnd := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 300<<10)
	rnd.Read(noise)
	far := func(distance, length int) []byte {
		// The same bytes at a distance, zeros between them.
		b := make([]byte, distance+length, distance+length+20)
		copy(b, noise[:length])
		copy(b[distance:], noise[:length])
		return append(b, noise[1000:1020]...)
	}
	m := map[string][]byte{
		"empty":         {},
		"zeros":         make([]byte, 4096),
		"many zeros":    make([]byte, 256<<10),
		"noise":         noise[:4096],
		"one literal":   {1},
		"2k M2":         far(2048, 8),
		"2k M3":         far(2049, 8),
		"2k long":       far(2048, 9),
		"16k M3":        far(16384, 40),
		"16k M4":        far(16385, 9),
		"16k M4 long":   far(16385, 10),
		"32k":           far(32768, 5),
		"48k":           far(16384+0x7ffe, 300),
		"too far":       far(16384+0x7fff, 300),
		"every length":  nil,
		"every literal": nil,
	}
	var lengths, literals []byte
	for n := 1; n < 600; n++ {
		lengths = append(lengths, noise[:n]...)
		lengths = append(lengths, byte(n), byte(n>>8))
		literals = append(literals, noise[n*256:n*256+n%300]...)
		literals = append(literals, "the same words"...)
	}
	m["every length"], m["every literal"] = lengths, literals
	for n := range 300 {
		m["first literals "+string(rune('0'+n))] = append(bytes.Clone(noise[:n]), make([]byte, 50)...)
	}
	return m
}

func decode(t *testing.T, data []byte, size int) []byte {
	t.Helper()
	out := make([]byte, size)
	n, err := golzo.Decompress(data, out)
	if err != nil || n != size {
		t.Fatalf("%d bytes, %v; want %d", n, err, size)
	}
	return out
}

func TestAppend(t *testing.T) {
	var e lzo.Encoder
	for name, block := range blocks(t) {
		t.Run(name, func(t *testing.T) {
			data := e.Append([]byte("before"), block)
			if !bytes.HasPrefix(data, []byte("before")) {
				t.Fatal("what stood in dst is gone")
			}
			data = data[len("before"):]
			if len(data) > lzo.MaxSize(len(block)) {
				t.Errorf("%d bytes of %d; MaxSize says %d", len(data), len(block), lzo.MaxSize(len(block)))
			}
			if !bytes.Equal(decode(t, data, len(block)), block) {
				t.Error("differs when uncompressed")
			}
		})
	}
}

// The matches that were put in are found: the instructions for far copies are
// written, not only readable.
func TestMatchesAreFound(t *testing.T) {
	var e lzo.Encoder
	all := blocks(t)
	for name, most := range map[string]int{
		"zeros":        40,
		"16k M3":       40 + 16384/255 + 60,
		"48k":          300 + 49150/255 + 60,
		"every length": 100 << 10, // of 180 KiB, most of it beyond reach
	} {
		if n := len(e.Append(nil, all[name])); n > most {
			t.Errorf("%s: %d bytes become %d; want at most %d", name, len(all[name]), n, most)
		}
	}
	if n := len(e.Append(nil, all["too far"])); n < 600 {
		t.Errorf("300 bytes from too far away became %d", n)
	}
}

// What an encoder compressed before does not show, nor that the table has only
// the low half of positions.
func TestBlocksAreIndependent(t *testing.T) {
	var used lzo.Encoder
	all := blocks(t)
	for range 3 {
		used.Append(nil, make([]byte, lzo.MaxBlock))
	}
	for name, block := range all {
		var fresh lzo.Encoder
		if !bytes.Equal(used.Append(nil, block), fresh.Append(nil, block)) {
			t.Errorf("%s: a used encoder writes something else", name)
		}
	}
}

// liblzo2 is the library that wrote the format; lzop is it with a container.
func TestLiblzo2(t *testing.T) {
	lzop, err := exec.LookPath("lzop")
	if errors.Is(err, exec.ErrNotFound) {
		if os.Getenv("CI") != "" {
			t.Fatal("no lzop: scripts/prerequisites forms installs it")
		}
		t.Skip("no lzop")
	}
	const method = 1 // LZO1X-1
	be := binary.BigEndian
	file := []byte("\x89LZO\x00\r\n\x1a\n")
	header := be.AppendUint16(nil, 0x1030)
	header = be.AppendUint16(header, 0x2080)
	header = be.AppendUint16(header, 0x0940)
	header = append(header, method, 5)
	header = be.AppendUint32(header, 1) // Adler-32 of uncompressed data
	header = append(header, make([]byte, 12)...)
	header = append(header, 0) // no name
	file = append(file, header...)
	file = be.AppendUint32(file, adler32.Checksum(header))
	var want []byte
	var e lzo.Encoder
	for _, block := range blocks(t) {
		data := e.Append(nil, block)
		if len(data) >= len(block) || len(block) > 256<<10 {
			continue // lzop stores these
		}
		want = append(want, block...)
		file = be.AppendUint32(file, uint32(len(block)))
		file = be.AppendUint32(file, uint32(len(data)))
		file = be.AppendUint32(file, adler32.Checksum(block))
		file = append(file, data...)
	}
	file = be.AppendUint32(file, 0)
	cmd := exec.Command(lzop, "-dc")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(file), os.Stderr
	got, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("lzop makes %d other bytes of it; want %d", len(got), len(want))
	}
}

func BenchmarkAppend(b *testing.B) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil || len(text) < 1<<20 {
		b.Fatalf("%d bytes of test program: %v", len(text), err)
	}
	noise := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	for _, data := range []struct {
		name string
		b    []byte
	}{{"program", text[:1<<20]}, {"noise", noise}} {
		b.Run(data.name, func(b *testing.B) {
			var e lzo.Encoder
			buf := make([]byte, 0, lzo.MaxSize(4096))
			b.ReportAllocs()
			b.SetBytes(4096)
			for i := 0; b.Loop(); i = (i + 1) % (len(data.b) / 4096) {
				buf = e.Append(buf[:0], data.b[i*4096:][:4096])
			}
		})
	}
}

func FuzzAppend(f *testing.F) {
	for _, b := range blocks(f) {
		if len(b) <= 4096 {
			f.Add(b)
		}
	}
	var e lzo.Encoder
	f.Fuzz(func(t *testing.T, block []byte) {
		if len(block) > lzo.MaxBlock {
			return
		}
		data := e.Append(nil, block)
		if len(data) > lzo.MaxSize(len(block)) {
			t.Fatalf("%d bytes become %d", len(block), len(data))
		}
		if !bytes.Equal(decode(t, data, len(block)), block) {
			t.Fatal("differs when uncompressed")
		}
	})
}
