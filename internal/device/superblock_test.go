package device

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// superblock is the first 68 KiB of a filesystem made by its own mkfs
// (e2fsprogs 1.47.0, xfsprogs 6.1.0, btrfs-progs 6.2, dosfstools 4.2,
// f2fs-tools 1.15.0, util-linux 2.38.1).
func superblock(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "superblocks", name+".gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestIdentify(t *testing.T) {
	const uuid = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
	for name, want := range map[string]Filesystem{ // as blkid sees them
		"ext2":   {"ext2", uuid, "old", 64 << 20, 1},
		"ext3":   {"ext3", uuid, "", 64 << 20, 1},
		"ext4":   {"ext4", uuid, "crashes", 512 << 20, 1},
		"xfs":    {"xfs", uuid, "crashes", 512 << 20, 1},
		"btrfs":  {"btrfs", uuid, "crashes", 512 << 20, 1},
		"f2fs":   {"f2fs", uuid, "crashes", 512 << 20, 1},
		"vfat":   {"vfat", "1234-ABCD", "CRASHES", 64 << 20, 1},
		"vfat16": {"vfat", "0001-0002", "", 16 << 20, 1},
	} {
		got, err := Identify(bytes.NewReader(superblock(t, name)))
		if err != nil {
			t.Errorf("Identify(%s): %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Identify(%s) (-want +got):\n%s", name, diff)
		}
	}
}

func TestIdentifyNothing(t *testing.T) {
	for name, image := range map[string][]byte{
		"empty": nil, "zeros": make([]byte, 128<<10), "swap": superblock(t, "swap"),
		"short": superblock(t, "ext4")[:1500],
	} {
		if got, err := Identify(bytes.NewReader(image)); err != ErrUnknownFilesystem {
			t.Errorf("Identify(%s) = %v, %v; want ErrUnknownFilesystem", name, got, err)
		}
	}
}

func TestIdentifyAmbiguous(t *testing.T) {
	// An ext4 made where a btrfs was, by a mkfs that wiped nothing.
	image := superblock(t, "btrfs")
	copy(image[1024:2048], superblock(t, "ext4")[1024:])
	_, err := Identify(bytes.NewReader(image))
	if !errors.Is(err, ErrAmbiguous) || !strings.Contains(err.Error(), "ext4") || !strings.Contains(err.Error(), "btrfs") {
		t.Errorf("Identify of ext4 over btrfs: %v; want ErrAmbiguous naming both", err)
	}
}

type brokenDisk struct{}

var errBroken = errors.New("input/output error")

func (brokenDisk) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

func TestIdentifyReadError(t *testing.T) {
	if _, err := Identify(brokenDisk{}); !errors.Is(err, errBroken) {
		t.Errorf("Identify of a broken disk: %v; want the disk's error", err)
	}
}

func FuzzIdentify(f *testing.F) {
	for _, name := range []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "vfat", "vfat16", "swap"} {
		f.Add(superblock(f, name))
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		got, err := Identify(bytes.NewReader(image))
		if (err == nil) == (got == Filesystem{}) {
			t.Errorf("Identify = %+v, %v; want one of both", got, err)
		}
		if err == nil && got.UUID == "" {
			t.Errorf("%+v has no UUID", got)
		}
		if strings.ContainsFunc(got.Label, func(r rune) bool { return r < ' ' }) {
			t.Errorf("label %q has control characters", got.Label)
		}
	})
}
