package zstdpage_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/panicroom-kdump/panicroom/internal/zstdpage"
)

const pageSize = 4096

// memory makes n bytes as kernels have them: structures of one size in arrays,
// with pointers into a few places, small numbers, flags, text, and zeros.
func memory(rnd *rand.Rand, n int) []byte {
	words := []string{"kworker", "ext4_inode_cache", "/usr/lib/", "systemd", "of_node", "\x7fELF", "compatible", "0123456789abcdef"}
	b := make([]byte, 0, n+1024)
	for len(b) < n {
		switch rnd.IntN(6) {
		case 0:
			b = append(b, make([]byte, rnd.IntN(200))...)
		case 1:
			for range rnd.IntN(20) {
				b = append(b, words[rnd.IntN(len(words))]...)
			}
		case 2:
			for range rnd.IntN(100) {
				b = append(b, byte(rnd.Uint32()))
			}
		case 3: // code: symbols of very different frequency
			for range rnd.IntN(400) {
				b = append(b, byte(1<<rnd.IntN(9)-rnd.IntN(1+rnd.IntN(16))))
			}
		default:
			base := 0xff60000000000000 + uint64(rnd.Uint32())&^0xfff
			fields := 2 + rnd.IntN(14)
			kinds := make([]int, fields)
			for i := range kinds {
				kinds[i] = rnd.IntN(5)
			}
			for range rnd.IntN(40) {
				for _, k := range kinds {
					b = binary.LittleEndian.AppendUint64(b, []uint64{0, base + uint64(rnd.IntN(1<<16))&^7,
						uint64(rnd.IntN(8)), ^uint64(0), base}[k])
				}
			}
		}
	}
	return b[:n]
}

// pages are what an encoder can go wrong with, by name.
func pages(t testing.TB) map[string][]byte {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300<<10)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	m := map[string][]byte{
		"empty":       {},
		"zeros":       make([]byte, pageSize),
		"many zeros":  make([]byte, 256<<10),
		"poison":      bytes.Repeat([]byte{0x6b}, pageSize),
		"noise":       noise[:pageSize],
		"much noise":  noise[:256<<10],
		"same twice":  append(bytes.Clone(noise[:2000]), noise[:2096]...),
		"noise, data": append(bytes.Clone(noise[:64<<10]), memory(rnd, 64<<10)...),
		"data, noise, data": slices.Concat(memory(rnd, 64<<10), noise[:64<<10], memory(rnd, 64<<10),
			memory(rnd, 64<<10)),
	}
	for n := 0; n < 300; n += 1 + n/16 {
		m[fmt.Sprintf("%d zeros", n)] = make([]byte, n)
		m[fmt.Sprintf("%d bytes", n)] = memory(rnd, n)
	}
	for n := 4096; n <= 256<<10; n *= 2 {
		for i := range 3 {
			m[fmt.Sprintf("%d bytes, %d", n, i)] = memory(rnd, n)
		}
		m[fmt.Sprintf("%d bytes", n-1)] = memory(rnd, n-1)
		m[fmt.Sprintf("%d bytes", n+1)] = memory(rnd, n+1)
	}
	for i := range 100 {
		m[fmt.Sprintf("memory %d", i)] = memory(rnd, pageSize)
	}
	// Literals of every number of kinds, so that trees of every form are
	// made: alike, and each half as frequent as the one before.
	for kinds := 1; kinds <= 256; kinds += 1 + kinds/16 {
		alike, steep := make([]byte, pageSize), make([]byte, pageSize)
		for i := range alike {
			alike[i] = byte(rnd.IntN(kinds))
			steep[i] = byte(int(rnd.ExpFloat64()*float64(kinds)/8) % kinds)
		}
		m[fmt.Sprintf("%d kinds", kinds)], m[fmt.Sprintf("%d kinds, steep", kinds)] = alike, steep
		rare := bytes.Repeat([]byte{255}, pageSize)
		for i := range kinds {
			rare[rnd.IntN(pageSize)] = byte(i)
		}
		m[fmt.Sprintf("%d rare kinds", kinds)] = rare
	}
	// Matches and literals of every length, and every distance that a power
	// of two is near to.
	var lengths, literals, distances []byte
	for n := 1; n < 600; n++ {
		lengths = append(lengths, noise[:n]...)
		lengths = append(lengths, byte(n), byte(n>>8))
		literals = append(literals, noise[n*256:n*256+n%300]...)
		literals = append(literals, "the same words"...)
	}
	for d := 8; d < 1<<15; d *= 2 {
		for _, d := range []int{d - 3, d - 1, d, d + 1} {
			distances = append(distances, noise[d:d+max(d-20, 0)]...)
			distances = append(distances, noise[100:120]...)
		}
	}
	m["every length"], m["every literal"], m["every distance"] = lengths, literals, distances
	m["256 kinds"] = noise[:pageSize:pageSize]
	m["one long match"] = append(bytes.Clone(noise[:100]), make([]byte, 65000)...)
	return m
}

func decoder(t testing.TB) *zstd.Decoder {
	t.Helper()
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// frame checks what every frame has: a single segment without checksum, with
// its size.
func checkHeader(t *testing.T, data []byte, size int) {
	t.Helper()
	var h zstd.Header
	if err := h.Decode(data); err != nil {
		t.Fatal(err)
	}
	if !h.SingleSegment || h.HasCheckSum || !h.HasFCS || h.FrameContentSize != uint64(size) || h.DictionaryID != 0 {
		t.Errorf("header %+v; want a single segment of %d bytes", h, size)
	}
}

func TestAppend(t *testing.T) {
	e, d := zstdpage.NewEncoder(), decoder(t)
	for name, page := range pages(t) {
		data := e.Append([]byte("before"), page)
		if !bytes.HasPrefix(data, []byte("before")) {
			t.Fatalf("%s: what stood in dst is gone", name)
		}
		data = data[len("before"):]
		checkHeader(t, data, len(page))
		if most := len(page) + 12 + 3*(len(page)>>16); len(data) > most {
			t.Errorf("%s: %d bytes of %d; want at most %d", name, len(data), len(page), most)
		}
		got, err := d.DecodeAll(data, nil)
		if err != nil || !bytes.Equal(got, page) {
			t.Errorf("%s: %d bytes, %v; want the %d of the page", name, len(got), err, len(page))
		}
	}
}

// Pages become as small as the format lets them.
func TestSizes(t *testing.T) {
	e := zstdpage.NewEncoder()
	all := pages(t)
	for name, most := range map[string]int{
		"zeros":          20,
		"many zeros":     60,
		"poison":         20,
		"same twice":     2150,
		"one long match": 130,
		"2 kinds":        pageSize/8 + 500,
		"16 kinds":       pageSize/2 + 100,
		"every length":   7000, // of 180 KiB, in blocks that do not see each other
	} {
		if n := len(e.Append(nil, all[name])); n > most {
			t.Errorf("%s: %d bytes become %d; want at most %d", name, len(all[name]), n, most)
		}
	}
}

// No more than the encoder of the library makes at its fastest, which is what
// was used before.
func TestSmallerThanBefore(t *testing.T) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	e := zstdpage.NewEncoder()
	rnd := rand.New(rand.NewPCG(3, 4))
	ours, theirs := 0, 0
	for range 500 {
		page := memory(rnd, pageSize)
		ours += len(e.Append(nil, page))
		theirs += len(w.EncodeAll(page, nil))
	}
	if ours > theirs {
		t.Errorf("%d bytes; the library makes %d", ours, theirs)
	}
}

// What an encoder compressed before does not show.
func TestPagesAreIndependent(t *testing.T) {
	used := zstdpage.NewEncoder()
	for name, page := range pages(t) {
		if !bytes.Equal(used.Append(nil, page), zstdpage.NewEncoder().Append(nil, page)) {
			t.Errorf("%s: a used encoder writes something else", name)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	e := zstdpage.NewEncoder()
	all := pages(t)
	buf := e.Append(make([]byte, 0, zstdpage.MaxSize(300<<10)), make([]byte, 300<<10))
	for name, page := range all {
		room := buf[:0:zstdpage.MaxSize(len(page))]
		if n := testing.AllocsPerRun(1, func() { e.Append(room, page) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// libzstd wrote the format; zstd is it with a command line.
func TestLibzstd(t *testing.T) {
	program, err := exec.LookPath("zstd")
	if errors.Is(err, exec.ErrNotFound) {
		if os.Getenv("CI") != "" {
			t.Fatal("no zstd: scripts/prerequisites forms installs it")
		}
		t.Skip("no zstd")
	}
	e := zstdpage.NewEncoder()
	var file, want []byte
	add := func(page []byte) {
		file = e.Append(file, page)
		want = append(want, page...)
	}
	for _, page := range pages(t) {
		add(page)
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		add(memory(rnd, pageSize))
	}
	cmd := exec.Command(program, "-dc")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(file), os.Stderr
	got, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("zstd makes %d other bytes of it; want %d", len(got), len(want))
	}
}

// PANICROOM_PAGES names a file of real pages to be compressed instead of those
// made here: docs/decisions/0013-zstd-encoder.md says how to make one.
func BenchmarkAppend(b *testing.B) {
	rnd := rand.New(rand.NewPCG(7, 8))
	noise := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	sets := map[string][]byte{"memory": memory(rnd, 4<<20), "noise": noise}
	if name := os.Getenv("PANICROOM_PAGES"); name != "" {
		data, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		sets = map[string][]byte{"file": data}
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	e := zstdpage.NewEncoder()
	for name, data := range sets {
		for _, by := range []struct {
			name   string
			append func(dst, page []byte) []byte
		}{
			{"zstdpage", e.Append},
			{"library", func(dst, page []byte) []byte { return w.EncodeAll(page, dst) }},
		} {
			b.Run(name+"/"+by.name, func(b *testing.B) {
				buf := make([]byte, 0, zstdpage.MaxSize(pageSize))
				n, size := len(data)/pageSize, 0
				b.ReportAllocs()
				b.SetBytes(int64(n) * pageSize)
				for b.Loop() {
					size = 0
					for i := range n {
						buf = by.append(buf[:0], data[i*pageSize:][:pageSize])
						size += min(len(buf), pageSize)
					}
				}
				b.ReportMetric(float64(size), "bytes")
			})
		}
	}
}

func FuzzAppend(f *testing.F) {
	for _, b := range pages(f) {
		if len(b) <= pageSize {
			f.Add(b)
		}
	}
	e, d := zstdpage.NewEncoder(), decoder(f)
	f.Fuzz(func(t *testing.T, page []byte) {
		data := e.Append(nil, page)
		if most := len(page) + 12 + 3*(len(page)>>16); len(data) > most {
			t.Fatalf("%d bytes become %d", len(page), len(data))
		}
		got, err := d.DecodeAll(data, nil)
		if err != nil || !bytes.Equal(got, page) {
			t.Fatalf("%v: differs when uncompressed", err)
		}
	})
}
