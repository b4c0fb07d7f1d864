//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/e2e/referee"
	dead "github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// cutFile is a file on a disk on which a number of bytes fits.
type cutFile struct {
	*os.File
	room int
}

var errCut = errors.New("no room")

func (f *cutFile) WriteAt(p []byte, at int64) (int, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if at+int64(len(p)) <= st.Size() {
		return f.File.WriteAt(p, at) // its blocks are there
	}
	n := min(len(p), f.room)
	f.room -= n
	if n < len(p) {
		n, err := f.File.WriteAt(p[:n], at)
		return n, errors.Join(errCut, err)
	}
	return f.File.WriteAt(p, at)
}

// Dumps that end early, wherever the disk was full, open in libkdumpfile, and
// each page that it finds is the machine's.
func TestCutDumps(t *testing.T) {
	t.Parallel()
	const ram = 32 << 20
	m := kerneltest.New(1)
	m.RAM[0].End = kerneltest.Base + ram
	m.SetFree(kerneltest.BasePFN+4096, 10)
	noise := make([]byte, 16<<20)
	rand.NewChaCha8([32]byte{7}).Read(noise)
	m.Put(kerneltest.Base+9<<20, noise)
	m.Finish()
	dir := t.TempDir()
	memory := make([]byte, ram)
	if _, err := m.ReadPhys(memory, kerneltest.Base); err != nil {
		t.Fatal(err)
	}
	memoryFile := filepath.Join(dir, "memory")
	if err := os.WriteFile(memoryFile, memory, 0o600); err != nil {
		t.Fatal(err)
	}
	d := m.Open(t)
	k, err := dead.Open(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	var dumps []string
	var saved []uint64
	cut := 0
	for _, format := range []capture.Format{capture.FormatKdump, capture.FormatELF} {
		for _, compression := range []vmcore.Compression{vmcore.CompressionZstd, vmcore.CompressionLZO, vmcore.CompressionZlib} {
			if format == capture.FormatELF && compression != vmcore.CompressionZstd {
				continue // it has none
			}
			for room := 1 << 20; room < 24<<20; room += 7<<20 + 4321 {
				name := filepath.Join(dir, fmt.Sprintf("%s-%v-%d", format, compression, room))
				file, err := os.Create(name)
				if err != nil {
					t.Fatal(err)
				}
				res, err := capture.Run(context.Background(), d, k, &cutFile{file, room},
					capture.Options{Level: capture.LevelAll, Format: format, Compression: compression})
				file.Close()
				if res == nil {
					t.Fatalf("%s: %v", name, err)
				}
				if !res.Complete {
					cut++
				}
				dumps, saved = append(dumps, name), append(saved, res.Pages.Saved)
			}
		}
	}
	if cut == 0 || cut == len(dumps) {
		t.Errorf("%d of %d dumps were cut", cut, len(dumps))
	}
	answers, err := referee.Open(t.Context(), memoryFile, uint64(kerneltest.Base), dumps, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range answers {
		if a.Error != "" || a.Wrong > 0 || uint64(a.Pages) != saved[i] {
			t.Errorf("%s: %+v; %d pages were saved", filepath.Base(dumps[i]), a, saved[i])
		}
	}
}
