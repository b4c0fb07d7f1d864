package lab

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// Vmlinux is the kernel as an ELF with its debug data, for programs that must
// have it, like crash. A kernel that was built here has one; Debian's lies in a
// package of 1 GB, most of it the debug data of modules, of which the one file
// (300 MB) stays in the cache.
func (k *Kernel) Vmlinux(ctx context.Context, say Say) (string, error) {
	if k.Built != nil {
		return filepath.Join(k.Root, k.Built.Vmlinux), nil
	}
	if say == nil {
		say = func(string, ...any) {}
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	arch := k.GoArch()
	dir := filepath.Join(cache, "vmlinux", arch+"-"+k.Suite)
	path := filepath.Join(dir, filepath.Base(k.Root))
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	unlock, err := lock(cache, arch+"-"+k.Suite)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	a, err := openArchive(ctx, cache, k.Suite, arch, say)
	if err != nil {
		return "", err
	}
	// That of an older kernel is 300 MB that nothing asks for any more.
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	pkg := fmt.Sprintf("linux-image-%s-dbg=%s", k.Release, k.Version)
	say("fetching the debug data of %s (1 GB)", k.Release)
	if err := a.download(ctx, tmp, []string{pkg}); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("package %s: apt fetched %d files, %w", pkg, len(debs), errors.Join(err, fs.ErrNotExist))
	}
	fresh := filepath.Join(tmp, "vmlinux")
	// As trixie has it and as sid does, where the first is a link to the second.
	names := []string{"./usr/lib/debug/boot/vmlinux-" + k.Release, "./usr/lib/debug/lib/modules/" + k.Release + "/vmlinux"}
	if err := extractOne(ctx, debs[0], names, fresh); err != nil {
		return "", err
	}
	return path, os.Rename(fresh, path)
}

// extractOne writes to path the first file in a package that has one of the names,
// and unpacks no more than comes before.
func extractOne(ctx context.Context, deb string, names []string, path string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	stream, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return fmt.Errorf("dpkg-deb: %w", err)
	}
	// It is stopped when the file is there: how it ends says nothing then.
	defer c.Wait()
	defer cancel()
	for r := tar.NewReader(stream); ; {
		h, err := r.Next()
		if err != nil {
			return fmt.Errorf("%q in %s: %w", names, filepath.Base(deb), err)
		}
		if !slices.Contains(names, h.Name) || h.Typeflag != tar.TypeReg {
			continue
		}
		out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		defer out.Close()
		if _, err := io.Copy(out, r); err != nil {
			return fmt.Errorf("%s in %s: %w", h.Name, filepath.Base(deb), err)
		}
		return out.Close()
	}
}
