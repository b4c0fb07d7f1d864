package crashenv

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/target/partition"
)

func TestUnpack(t *testing.T) {
	root, dir := t.TempDir(), filepath.Join(t.TempDir(), "crash")
	if err := os.MkdirAll(filepath.Join(root, "dev", "disk", "by-partuuid"), 0o755); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(root, "dev", "vdb1")
	if err := os.WriteFile(image, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../vdb1", filepath.Join(root, "dev", "disk", "by-partuuid", "0a1b")); err != nil {
		t.Fatal(err)
	}
	if _, err := partition.Init(image); err != nil {
		t.Fatal(err)
	}
	tgt, err := partition.Open(image, "PARTUUID=0a1b")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Save(t.Context(), SaveOptions{Input: VMCore, Target: tgt, Level: 31, open: func(*SaveOptions) (deadKernel, error) { return &testDead{}, nil }})
	if err != nil || !m.Complete {
		t.Fatalf("Save = %+v, %v", m, err)
	}
	if err := tgt.Close(); err != nil {
		t.Fatal(err)
	}
	targets := []config.Target{{Dir: "/var/crash"}, {Partition: "PARTUUID=ffff"}, {Partition: "PARTUUID=0a1b"}}
	paths, err := Unpack(t.Context(), root, targets, dir)
	if want := []string{filepath.Join(dir, m.Name)}; !slices.Equal(paths, want) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Unpack = %q, %v; want %q, and an error for the partition that is not there", paths, err, want)
	}
	text, err := os.ReadFile(filepath.Join(dir, m.Name, ManifestFile))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseManifest(text); err != nil || !got.Complete || got.Files[0].SHA256 == "" {
		t.Errorf("manifest %+v, %v", got, err)
	}
	if paths, err := Unpack(t.Context(), root, targets[2:], dir); err != nil || len(paths) > 0 {
		t.Errorf("second Unpack = %q, %v; want nothing", paths, err)
	}
}
