package target_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/target"
	"github.com/panicroom-kdump/panicroom/target/targettest"
)

func newDirectory(t *testing.T, path string) target.Target {
	t.Helper()
	d, err := target.NewDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// mount mounts a small filesystem in memory, where that is allowed.
func mount(t *testing.T, flags sys.MountFlags) string {
	t.Helper()
	dir := t.TempDir()
	if err := sys.Mount("tmpfs", dir, "tmpfs", flags, "size=256k"); err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, sys.ErrNotSupportedOnOS) {
			if os.Getenv("CI") != "" {
				t.Fatalf("only root can mount, and in CI nothing is left out: %v", err)
			}
			t.Skipf("only root can mount: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sys.Unmount(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestDirectory(t *testing.T) {
	targettest.Run(t, targettest.Subject{
		New: func(t *testing.T) target.Target { return newDirectory(t, filepath.Join(t.TempDir(), "var", "crash")) },
		Read: func(_ *testing.T, _ target.Target, path, file string) ([]byte, error) {
			return os.ReadFile(filepath.Join(path, file))
		},
		Full: func(t *testing.T) target.Target { return newDirectory(t, mount(t, 0)) },
	})
}

func TestDirectoryModes(t *testing.T) {
	root := filepath.Join(t.TempDir(), "crash")
	c, err := newDirectory(t, root).Begin(t.Context(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Create("vmcore")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for path, want := range map[string]os.FileMode{root: 0o700, c.Path(): 0o700, filepath.Join(c.Path(), "vmcore"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %s = %o; want %o", path, got, want)
		}
	}
}

// A link left in the directory by somebody else must not lead a dump away.
func TestDirectoryLinks(t *testing.T) {
	root, elsewhere := t.TempDir(), t.TempDir()
	c, err := newDirectory(t, root).Begin(t.Context(), "linked")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(elsewhere, "stolen"), filepath.Join(c.Path(), "vmcore")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create("vmcore"); err == nil {
		t.Error("Create through a link: nil; want an error")
	}
	if _, err := os.Stat(filepath.Join(elsewhere, "stolen")); err == nil {
		t.Error("the dump was led away")
	}
}

func TestDirectoryReadOnly(t *testing.T) {
	root := mount(t, sys.MountReadOnly)
	_, err := newDirectory(t, root).Begin(t.Context(), "nowhere")
	if !errors.Is(err, target.ErrReadOnly) {
		t.Errorf("Begin on a read-only filesystem: %v; want ErrReadOnly", err)
	}
	if len(ui.Hints(err)) == 0 {
		t.Error("no hint")
	}
	if _, err := target.NewDirectory(filepath.Join(root, "sub")); !errors.Is(err, target.ErrReadOnly) {
		t.Errorf("NewDirectory below a read-only filesystem: %v; want ErrReadOnly", err)
	}
}

func TestDirectoryAs(t *testing.T) {
	d, err := target.NewDirectoryAs(mount(t, sys.MountReadOnly), "/var/crash")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	_, err = d.Begin(t.Context(), "nowhere")
	if d.Name() != "/var/crash" || err == nil || err.Error() != "/var/crash: target is read-only" {
		t.Errorf("name %q, Begin: %v; want /var/crash in both", d.Name(), err)
	}
}

func TestNoSpaceError(t *testing.T) {
	err := error(&target.NoSpaceError{Target: "/var/crash", File: "vmcore", Offset: 4096, Length: 8192, Free: 512, Err: syscall.ENOSPC})
	want := "/var/crash: no space left for vmcore: 8 KiB at offset 4096 did not fit (512 B free)"
	if err.Error() != want {
		t.Errorf("Error = %q; want %q", err, want)
	}
	if !errors.Is(err, target.ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) {
		t.Error("error is not ErrNoSpace and ENOSPC")
	}
}
