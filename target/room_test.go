package target

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

func TestRoom(t *testing.T) {
	for _, c := range []struct {
		name string
		info sys.FSInfo
		root bool
		want uint64
	}{
		{"root's share", sys.FSInfo{Free: 100, Available: 50}, true, 100},
		{"not root", sys.FSInfo{Free: 100, Available: 50}, false, 50},
		{"ext4 keeps a fiftieth", sys.FSInfo{Magic: ext4Magic, Total: 5000, Free: 1000, Block: 4096}, true, 900},
		{"ext4 keeps what it has", sys.FSInfo{Magic: ext4Magic, Total: 5000, Free: 10, Block: 4096}, true, 0},
		{"ext4 keeps 4096 clusters", sys.FSInfo{Magic: ext4Magic, Total: 1 << 40, Free: 1 << 39, Block: 4096}, true, 1<<39 - 4096*4096},
		{"vfat has no larger files", sys.FSInfo{Magic: fatMagic, Free: 1 << 40, Available: 1 << 40}, true, 1<<32 - 1},
		{"vfat", sys.FSInfo{Magic: fatMagic, Free: 1 << 20}, true, 1 << 20},
	} {
		if got := room(c.info, c.root); got != c.want {
			t.Errorf("%s: %d; want %d", c.name, got, c.want)
		}
	}
	dir := t.TempDir()
	got, err := RoomFor(filepath.Join(dir, "not", "yet"))
	want, werr := sys.StatFS(dir)
	if err != nil || werr != nil || got == 0 || got > want.Free+1<<30 {
		t.Errorf("RoomFor = %d, %v; want what %s has (%d, %v)", got, err, dir, want.Free, werr)
	}
	// A file larger than the filesystem takes is no room, and old crashes are not to
	// blame.
	e := &NoSpaceError{Target: "/dumps", Err: syscall.EFBIG}
	if h := strings.Join(e.Hints(), ""); !strings.Contains(h, "larger files") {
		t.Errorf("hints %q", h)
	}
}

func TestWithoutColons(t *testing.T) {
	if got := WithoutColons("2026-11-25T12:00:00Z-6.12"); got != "2026-11-25T12-00-00Z-6.12" || CheckName(got) != nil {
		t.Errorf("WithoutColons = %q", got)
	}
}
