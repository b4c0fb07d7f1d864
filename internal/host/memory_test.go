package host

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// memory is a machine whose /proc/kcore has some pages, each filled with a
// byte of its own.
func memory(t *testing.T, pages ...uint64) (*Memory, error) {
	t.Helper()
	k := &kcore{machine: emRISCV, pages: map[uint64][]byte{}}
	for i, phys := range pages {
		k.pages[phys] = bytes.Repeat([]byte{byte(i + 1)}, kcorePage)
	}
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "proc"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "proc/kcore"), k.compact(), 0o600); err != nil {
		t.Fatal(err)
	}
	return OpenMemory(os.DirFS(root))
}

func TestMemory(t *testing.T) {
	m, err := memory(t, 0x80000000, 0x80001000, 0x80003000)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	got, err := io.ReadAll(m.Section(Range{0x80000ffe, 0x80001002}))
	if diff := cmp.Diff([]byte{1, 1, 2, 2}, got); diff != "" || err != nil {
		t.Errorf("over a border: %v\n%s", err, diff)
	}
	for name, c := range map[string]struct {
		at   int64
		size int
		read int
	}{
		"into a hole":    {0x80001ffe, 4, 2},
		"in a hole":      {0x80002000, 4, 0},
		"before":         {0x7ffffffe, 4, 0},
		"to beyond":      {0x80003ffe, 4, 2},
		"negative":       {-1, 4, 0},
		"nothing at all": {1<<63 - 1, 1, 0},
	} {
		n, err := m.ReadAt(make([]byte, c.size), c.at)
		if n != c.read || !errors.Is(err, ErrNoMemory) {
			t.Errorf("%s: ReadAt = %d, %v; want %d, ErrNoMemory", name, n, err, c.read)
		}
	}
}

// Segments that lie side by side are one memory, wherever they are in the file.
func TestMemoryOverSegments(t *testing.T) {
	k := &kcore{r: bytes.NewReader([]byte("33221155")), loads: []coreLoad{
		{4, Range{0x1000, 0x1002}}, {2, Range{0x1002, 0x1004}}, {0, Range{0x1004, 0x1006}}}}
	p := make([]byte, 5)
	if n, err := k.readAt(p, 0x1001); n != 5 || err != nil || string(p) != "12233" {
		t.Errorf("readAt = %d, %v, %q", n, err, p)
	}
}

func TestOpenMemoryRefuses(t *testing.T) {
	if _, err := OpenMemory(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no kcore: %v", err)
	}
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "proc"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "proc/kcore"), make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenMemory(os.DirFS(root)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("zeros: %v", err)
	}
}
