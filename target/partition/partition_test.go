package partition

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/device"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/target"
	"github.com/panicroom-kdump/panicroom/target/targettest"
)

// image makes an image of a partition that is prepared for crashes. What lay
// there before is not zeros, as on real disks.
func image(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "partition")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(path); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	old := bytes.Repeat([]byte("old "), 16<<10)
	for at := int64(dataStart); at < size; at += int64(len(old)) {
		if _, err := f.WriteAt(old[:min(int64(len(old)), size-at)], at); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func openImage(t *testing.T, path string) *Target {
	t.Helper()
	tgt, err := Open(path, "PARTUUID=1234")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tgt.Close() })
	return tgt
}

// readFrom reads a file of a crash with nothing but what is on the partition.
func readFrom(d io.ReaderAt, path, name string) ([]byte, error) {
	h, err := readHeader(d)
	if err != nil {
		return nil, err
	}
	tab, _, err := newestTable(d, h)
	if err != nil {
		return nil, err
	}
	for _, c := range tab.Crashes {
		now := c.Name
		if !c.Complete {
			now += target.IncompleteSuffix
		}
		if now == filepath.Base(path) {
			r, err := openFile(d, h, &c, name)
			if err != nil {
				return nil, err
			}
			return io.ReadAll(r)
		}
	}
	return nil, fmt.Errorf("no crash %s among %d", path, len(tab.Crashes))
}

func TestTarget(t *testing.T) {
	targettest.Run(t, targettest.Subject{
		New: func(t *testing.T) target.Target { return openImage(t, image(t, 16<<20)) },
		Read: func(_ *testing.T, tgt target.Target, path, file string) ([]byte, error) {
			return readFrom(tgt.(*Target).disk, path, file)
		},
		Full: func(t *testing.T) target.Target { return openImage(t, image(t, dataStart+512<<10)) },
	})
}

// Whatever was on the partition, a file reads as zeros where nothing was written,
// and what many write at once, in any order, is there.
func TestOldData(t *testing.T) {
	tgt := openImage(t, image(t, 16<<20))
	c, err := tgt.Begin(t.Context(), "random")
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Create("vmcore")
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 3<<20+777)
	r := rand.New(rand.NewPCG(1, 2))
	var g sync.WaitGroup
	var writes [][2]int
	for at := 0; at < len(want)-50_000; at += 1 + r.IntN(100_000) {
		n := 1 + r.IntN(40_000)
		for i := range n {
			want[at+i] = byte(at + i*3)
		}
		writes = append(writes, [2]int{at, n})
		at += n
	}
	copy(want[len(want)-9:], "the end!!")
	writes = append(writes, [2]int{len(want) - 9, 9})
	r.Shuffle(len(writes), func(i, j int) { writes[i], writes[j] = writes[j], writes[i] })
	for _, part := range [][][2]int{writes[:len(writes)/2], writes[len(writes)/2:]} {
		for _, w := range part {
			g.Go(func() {
				if _, err := f.WriteAt(want[w[0]:w[0]+w[1]], int64(w[0])); err != nil {
					t.Error(err)
				}
			})
		}
		g.Wait()
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := readFrom(tgt.disk, c.Path(), "vmcore")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v; they differ from the %d written", len(got), err, len(want))
	}
}

// A file that is cut and grows again has no old bytes in it, and what it gave
// back can be used again.
func TestTruncateGrow(t *testing.T) {
	tgt := openImage(t, image(t, dataStart+1<<20))
	c, err := tgt.Begin(t.Context(), "cut")
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Create("vmcore")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, err := f.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, 900<<10), 0); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if err := f.Truncate(100); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{99}, 200<<10); err != nil {
			t.Fatal(err)
		}
		want := append(bytes.Repeat([]byte{byte(i + 1)}, 100), make([]byte, 200<<10-100+1)...)
		want[200<<10] = 99
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if got, err := readFrom(tgt.disk, c.Path(), "vmcore"); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("round %d: %d bytes, %v, differ from the %d that should be there", i, len(got), err, len(want))
		}
	}
}

func TestOpenAgain(t *testing.T) {
	path := image(t, 16<<20)
	for i := range 3 {
		tgt, err := Open(path, "p")
		if err != nil {
			t.Fatal(err)
		}
		c, err := tgt.Begin(t.Context(), "same")
		if err != nil {
			t.Fatal(err)
		}
		f, err := c.Create("n")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(bytes.Repeat([]byte{byte(i)}, 100<<10)); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Close(), c.Commit(), tgt.Close()); err != nil {
			t.Fatal(err)
		}
	}
	tgt := openImage(t, path)
	for i, name := range []string{"same", "same.2", "same.3"} {
		if got, err := readFrom(tgt.disk, name, "n"); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(i)}, 100<<10)) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if free, _ := tgt.Free(); free != 16<<20-dataStart-3*2*minChunk {
		t.Errorf("%d bytes free", free)
	}
}

// memory is a disk of which every write can be the last, and half done.
type memory struct {
	b      []byte
	writes []write
}

type write struct {
	at int64
	b  []byte
}

func (m *memory) ReadAt(p []byte, at int64) (int, error) {
	return bytes.NewReader(m.b).ReadAt(p, at)
}
func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	m.writes = append(m.writes, write{at, bytes.Clone(p)})
	return copy(m.b[at:], p), nil
}
func (m *memory) Sync() error { return nil }

// Wherever the machine dies, the partition can be read, and what was durable
// before is there.
func TestTorn(t *testing.T) {
	const size = dataStart + 1<<20
	m := &memory{b: make([]byte, size)}
	if _, err := format(m, size); err != nil {
		t.Fatal(err)
	}
	begun := bytes.Clone(m.b)
	m.writes = nil
	tgt, err := open(m, nil, "p")
	if err != nil {
		t.Fatal(err)
	}
	c, err := tgt.Begin(t.Context(), "torn")
	if err != nil {
		t.Fatal(err)
	}
	log, err := c.Create("dmesg.txt")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Write([]byte("the kernel said this")); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	saved := len(m.writes)
	core, err := c.Create("vmcore")
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(6) {
		if _, err := core.WriteAt(bytes.Repeat([]byte{7}, 100<<10), i*100<<10); err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 {
			if err := core.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(core.Close(), c.Commit()); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for i := range m.writes {
		for range 3 {
			torn := bytes.Clone(begun)
			for _, w := range m.writes[:i] {
				copy(torn[w.at:], w.b)
			}
			last := m.writes[i]
			copy(torn[last.at:], last.b[:r.IntN(len(last.b))])
			if i > 0 && r.IntN(2) == 0 { // sectors may be written in any order
				half := len(last.b) / 2
				copy(torn[last.at+int64(half):], last.b[half:])
			}
			d := &memory{b: torn}
			again, err := open(d, nil, "p")
			if err != nil {
				t.Fatalf("after %d writes: %v", i, err)
			}
			if i < saved {
				continue
			}
			got, err := readFrom(d, again.table.Crashes[0].Name+target.IncompleteSuffix, "dmesg.txt")
			if again.table.Crashes[0].Complete {
				got, err = readFrom(d, "torn", "dmesg.txt")
			}
			if err != nil || string(got) != "the kernel said this" {
				t.Fatalf("after %d writes of %d: log %q, %v", i, len(m.writes), got, err)
			}
			for _, f := range again.table.Crashes[0].Files {
				if f.Name == "vmcore" {
					b, err := io.ReadAll(&reader{disk: d, head: again.head, file: f})
					if err != nil || bytes.ContainsFunc(b, func(r rune) bool { return r != 7 }) {
						t.Fatalf("after %d writes: %d bytes of the dump, %v, with others than were written", i, len(b), err)
					}
				}
			}
		}
	}
}

func TestInit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	fresh := func(at int64, text string) {
		t.Helper()
		b := make([]byte, 16<<20)
		copy(b[at:], text)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fresh(0, "")
	id, err := Init(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fs, err := device.Identify(f); err != nil || fs.Type != device.DumpsType || fs.UUID != id || fs.Size != 16<<20-dataStart {
		t.Errorf("Identify = %+v, %v; want type %s, UUID %s", fs, err, device.DumpsType, id)
	}
	if again, err := Init(path); err != nil || again != id {
		t.Errorf("Init again = %q, %v; want what is there", again, err)
	}
	tgt := openImage(t, path)
	if _, err := tgt.Begin(t.Context(), "waiting"); err != nil {
		t.Fatal(err)
	}
	if s, err := Look(path); s.Waiting != 1 || err != nil {
		t.Errorf("Look = %+v, %v; want one crash waiting", s, err)
	}
	if _, err := Init(path); !errors.Is(err, ErrInUse) || !strings.Contains(fmt.Sprint(ui.Hints(err)), "target unpack") {
		t.Errorf("Init over a crash: %v, %q; want ErrInUse", err, ui.Hints(err))
	}
	for at, text := range map[int64]string{0: "LUKS\xba\xbe", 4086: "SWAPSPACE2", 100: "something", 16<<20 - 4: "end"} {
		fresh(at, text)
		if _, err := Init(path); !errors.Is(err, ErrInUse) || len(ui.Hints(err)) == 0 {
			t.Errorf("Init of a partition with %q: %v; want ErrInUse and a hint", text, err)
		}
	}
	fresh(0, "")
	if err := os.Truncate(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(path); err == nil {
		t.Error("Init of 1 MiB: nil; want an error")
	}
	if _, err := Open(path, "p"); !errors.Is(err, ErrNotOurs) {
		t.Errorf("Open of an empty partition: %v; want ErrNotOurs", err)
	}
}

// Chunks grow with the partition, so that their number does not.
func TestLayout(t *testing.T) {
	for size, chunk := range map[int64]uint64{dataStart + 4*minChunk: minChunk, 512 << 20: minChunk, 1 << 40: 64 << 20, 16 << 40: 1 << 30} {
		h, err := newHeader(size, [16]byte{})
		if err != nil {
			t.Errorf("%d bytes: %v", size, err)
			continue
		}
		if uint64(1)<<h.Shift != chunk || h.Chunks > maxChunks || dataStart+h.Chunks<<h.Shift > uint64(size) || dataStart+(h.Chunks+1)<<h.Shift <= uint64(size) {
			t.Errorf("%d bytes: %d chunks of %d", size, h.Chunks, uint64(1)<<h.Shift)
		}
	}
	for _, size := range []int64{0, dataStart, 64 << 40} {
		if h, err := newHeader(size, [16]byte{}); err == nil {
			t.Errorf("%d bytes: %+v; want an error", size, h)
		}
	}
}

// crashWith saves a crash whose manifest knows the digests of its files.
func crashWith(t *testing.T, tgt target.Target, name string, complete bool, spoil func(string) string) {
	t.Helper()
	c, err := tgt.Begin(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	core := strings.Repeat("memory of "+name, 20_000)
	sum := sha256.Sum256([]byte(spoil(core)))
	for _, f := range []struct{ name, text string }{
		{"dmesg.txt", "log of " + name}, {"vmcore", core},
		{"manifest.json", fmt.Sprintf(`{"files":[{"name":"dmesg.txt","size":11},{"name":"vmcore","size":%d,"sha256":%q}]}`, len(core), hex.EncodeToString(sum[:]))},
	} {
		w, err := c.Create(f.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if complete {
		err = c.Commit()
	} else {
		err = c.Abort()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestUnpack(t *testing.T) {
	path, dir := image(t, 16<<20), filepath.Join(t.TempDir(), "var", "crash")
	if paths, err := Unpack(t.Context(), path, dir); err != nil || paths != nil {
		t.Errorf("Unpack of nothing = %q, %v", paths, err)
	}
	same := func(s string) string { return s }
	tgt := openImage(t, path)
	crashWith(t, tgt, "one", true, same)
	crashWith(t, tgt, "two", false, same)
	crashWith(t, tgt, "three", true, func(s string) string { return "not " + s })
	if err := tgt.Close(); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Unpack(cancelled, path, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("Unpack with a cancelled context: %v", err)
	}
	paths, err := Unpack(t.Context(), path, dir)
	if !errors.Is(err, ErrDigest) || !strings.Contains(err.Error(), "three") {
		t.Errorf("Unpack: %v; want ErrDigest of three", err)
	}
	want := []string{filepath.Join(dir, "one"), filepath.Join(dir, "two-incomplete"), filepath.Join(dir, "three-incomplete")}
	if !slices.Equal(paths, want) {
		t.Fatalf("Unpack = %q; want %q", paths, want)
	}
	for _, p := range paths {
		name := strings.TrimSuffix(filepath.Base(p), target.IncompleteSuffix)
		if got, err := os.ReadFile(filepath.Join(p, "vmcore")); err != nil || string(got) != strings.Repeat("memory of "+name, 20_000) {
			t.Errorf("vmcore of %s: %d bytes, %v", p, len(got), err)
		}
		for at, mode := range map[string]os.FileMode{p: 0o700, filepath.Join(p, "vmcore"): 0o600} {
			if info, err := os.Stat(at); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: %v, %v; want mode %o", at, info.Mode(), err, mode)
			}
		}
	}
	if paths, err := Unpack(t.Context(), path, dir); err != nil || paths != nil {
		t.Errorf("second Unpack = %q, %v; want nothing left", paths, err)
	}
}

func FuzzOpen(f *testing.F) {
	const size = dataStart + 4*minChunk
	m := &memory{b: make([]byte, size)}
	h, err := format(m, size)
	if err != nil {
		f.Fatal(err)
	}
	for _, tab := range []*table{
		{},
		{Crashes: []tableCrash{{Name: "x", Complete: true, Files: []tableFile{{Name: "vmcore", Size: 100_000, Runs: []run{{0, 1, 2}}}}}}},
		{Crashes: []tableCrash{{Name: "../x", Files: []tableFile{{Name: "vmcore", Size: 1 << 60, Runs: []run{{9, 9, 0xffffffff}}}}}}},
	} {
		b, err := tab.marshal(2)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(h.marshal(), b[tableHead:])
	}
	f.Fuzz(func(t *testing.T, head, text []byte) {
		d := make([]byte, size)
		copy(d[:headerSize], head)
		// The checksum is a guard against accidents, not against anybody.
		tab := append(make([]byte, tableHead), text[:min(len(text), tableSize-tableHead)]...)
		copy(tab, tableMagic)
		tab[8] = 1
		tab[16], tab[17], tab[18] = byte(len(tab)-tableHead), byte((len(tab)-tableHead)>>8), byte((len(tab)-tableHead)>>16)
		sum := tableSum(tab)
		tab[20], tab[21], tab[22], tab[23] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		copy(d[headerSize:], tab)
		tgt, err := open(&memory{b: d}, nil, "p")
		if err != nil {
			return
		}
		for _, c := range tgt.table.Crashes {
			if target.CheckName(c.Name) != nil {
				t.Errorf("crash %q", c.Name)
			}
			for _, file := range c.Files {
				if target.CheckName(file.Name) != nil {
					t.Errorf("file %q", file.Name)
				}
				r := &reader{disk: tgt.disk, head: tgt.head, file: file}
				if n, err := r.ReadAt(make([]byte, 100), file.Size-50); file.Size >= 50 && err == nil || n > 50 {
					t.Errorf("read %d bytes behind the end, %v", n, err)
				}
			}
		}
	})
}
