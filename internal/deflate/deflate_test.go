package deflate_test

import (
	"bytes"
	"compress/zlib"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/deflate"
)

// blocks are what an encoder can go wrong with, by name.
func blocks() map[string][]byte {
	rnd := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 300<<10)
	rnd.Read(noise)
	m := map[string][]byte{
		"empty":          {},
		"one":            {1},
		"eleven":         noise[:11],
		"thirteen":       make([]byte, 13),
		"zeros":          make([]byte, 4096),
		"many zeros":     make([]byte, 256<<10),
		"noise":          noise[:4096],
		"much noise":     noise,
		"a chunk":        noise[:32<<10],
		"zeros, a chunk": append(make([]byte, 32<<10), 1),
	}
	var lengths, distances, fibonacci []byte
	for n := 1; n < 600; n++ {
		lengths = append(lengths, noise[:n]...)
		lengths = append(lengths, byte(n), byte(n>>8))
	}
	for n := 4; n < 32<<10; n += n/2 + 1 {
		distances = append(distances, noise[n:n+n-4]...)
		distances = append(distances, "look"...)
	}
	// Symbols as often as Fibonacci's numbers have the longest codes of all.
	a, b := 1, 1
	for s := byte(0); a < 20000; s++ {
		fibonacci = append(fibonacci, bytes.Repeat([]byte{s * 11}, a)...)
		a, b = b, a+b
	}
	rand.New(rnd).Shuffle(len(fibonacci), func(i, j int) { fibonacci[i], fibonacci[j] = fibonacci[j], fibonacci[i] })
	m["every length"], m["every distance"], m["long codes"] = lengths, distances, fibonacci
	m["long codes, a page"] = fibonacci[:4096]
	for bits := range 9 {
		few := bytes.Clone(noise[:4096])
		for i := range few {
			few[i] &= 1<<bits - 1
		}
		m["noise of bits "+string(rune('0'+bits))] = few
	}
	return m
}

func decode(t *testing.T, data []byte) []byte {
	t.Helper()
	in := bytes.NewReader(data)
	r, err := zlib.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil || in.Len() != 0 {
		t.Fatalf("%v, %d bytes left over", err, in.Len())
	}
	return b
}

func TestAppendZlib(t *testing.T) {
	var e deflate.Encoder
	for name, block := range blocks() {
		t.Run(name, func(t *testing.T) {
			data := e.AppendZlib([]byte("before"), block)
			if !bytes.HasPrefix(data, []byte("before")) {
				t.Fatal("what stood in dst is gone")
			}
			data = data[len("before"):]
			if len(data) > deflate.MaxSize(len(block)) {
				t.Errorf("%d bytes of %d; MaxSize says %d", len(data), len(block), deflate.MaxSize(len(block)))
			}
			if !bytes.Equal(decode(t, data), block) {
				t.Error("differs when uncompressed")
			}
			var fresh deflate.Encoder
			if !bytes.Equal(fresh.AppendZlib(nil, block), data) {
				t.Error("a used encoder writes something else")
			}
		})
	}
}

// What can be compressed of a page is, about as the fastest level of another
// encoder does.
func TestSizes(t *testing.T) {
	var e deflate.Encoder
	for name, block := range blocks() {
		block = block[:min(len(block), 4096)]
		var other bytes.Buffer
		w, err := zlib.NewWriterLevel(&other, zlib.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(block)
		w.Close()
		if n := len(e.AppendZlib(nil, block)); n > other.Len()+other.Len()/20+100 {
			t.Errorf("%s: %d bytes become %d; compress/zlib makes %d of them", name, len(block), n, other.Len())
		}
	}
}

func TestAllocations(t *testing.T) {
	var e deflate.Encoder
	page := blocks()["long codes, a page"]
	dst := make([]byte, 0, deflate.MaxSize(len(page)))
	e.AppendZlib(dst, page)
	if n := testing.AllocsPerRun(10, func() { e.AppendZlib(dst, page) }); n > 0 {
		t.Errorf("%v allocations for a page", n)
	}
}

func FuzzAppendZlib(f *testing.F) {
	for _, block := range blocks() {
		f.Add(block[:min(len(block), 8192)])
	}
	var e deflate.Encoder
	f.Fuzz(func(t *testing.T, block []byte) {
		data := e.AppendZlib(nil, block)
		if len(data) > deflate.MaxSize(len(block)) {
			t.Errorf("%d bytes become %d", len(block), len(data))
		}
		if !bytes.Equal(decode(t, data), block) {
			t.Error("differs when uncompressed")
		}
	})
}

func BenchmarkPage(b *testing.B) {
	var e deflate.Encoder
	page := blocks()["long codes, a page"]
	dst := make([]byte, 0, deflate.MaxSize(len(page)))
	b.SetBytes(int64(len(page)))
	for b.Loop() {
		e.AppendZlib(dst, page)
	}
}
