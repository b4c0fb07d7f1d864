package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// SysrootOptions say which packages are wanted from which suite.
type SysrootOptions struct {
	Suite    string // of Debian; "" is sid
	Arch     string // "" is amd64
	Packages []string
	Refresh  bool
	Say      Say
}

// FetchSysroot unpacks packages with everything they depend on into a
// directory of the cache, for running somebody else's programs beside those of
// this machine without installing them. Like [FetchKernel] it asks the archive
// once a day and falls back to what is cached.
func FetchSysroot(ctx context.Context, opts SysrootOptions) (root string, err error) {
	if opts.Suite == "" {
		opts.Suite = "sid"
	}
	if opts.Arch == "" {
		opts.Arch = "amd64"
	}
	if opts.Say == nil {
		opts.Say = func(string, ...any) {}
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	unlock, err := lock(cache, opts.Arch+"-"+opts.Suite)
	if err != nil {
		return "", err
	}
	defer unlock()

	packages := slices.Clone(opts.Packages)
	slices.Sort(packages)
	name := strings.Join(packages, " ")
	pointer := filepath.Join(cache, "sysroots", opts.Arch+"-"+opts.Suite+"-"+digest(name)+".json")
	var cached sysroot
	checked, err := readPointer(pointer, &cached)
	if err == nil {
		_, err = os.Stat(cached.Root)
	}
	have := err == nil
	if have && !opts.Refresh && time.Since(checked) < fresh {
		return cached.Root, nil
	}
	s, err := fetchSysroot(ctx, cache, packages, opts)
	if err != nil {
		if !have || ctx.Err() != nil {
			return "", fmt.Errorf("packages %s: %w", name, err)
		}
		opts.Say("packages %s: using those cached on %s, since the archive cannot be asked: %v",
			name, checked.Format(time.DateOnly), firstLine(err))
		return cached.Root, nil
	}
	return s.Root, writePointer(pointer, s)
}

// sysroot is what the cache remembers of unpacked packages.
type sysroot struct {
	Root     string
	Packages []string // name_version_arch of all that were unpacked
}

func fetchSysroot(ctx context.Context, cache string, packages []string, opts SysrootOptions) (*sysroot, error) {
	a, err := openArchive(ctx, cache, opts.Suite, opts.Arch, opts.Say)
	if err != nil {
		return nil, err
	}
	s := &sysroot{}
	if s.Packages, err = a.closure(ctx, packages); err != nil {
		return nil, err
	}
	s.Root = filepath.Join(cache, "sysroots", opts.Arch+"-"+opts.Suite+"-"+digest(strings.Join(s.Packages, " ")))
	if _, err := os.Stat(s.Root); !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	opts.Say("fetching %s (%s %s, %d packages in all)", strings.Join(packages, ", "), opts.Suite, opts.Arch, len(s.Packages))
	if _, err := a.solve(ctx, "--download-only", packages); err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp(filepath.Join(cache, "apt"), ".new-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	fresh := filepath.Join(tmp, "root")
	// The C library's loader and libraries are under /usr in the packages of
	// suites with a merged /usr, and programs ask for them below /lib.
	for _, d := range []string{"usr/bin", "usr/sbin", "usr/lib"} {
		if err := os.MkdirAll(filepath.Join(fresh, d), 0o755); err != nil {
			return nil, err
		}
		if err := os.Symlink(d, filepath.Join(fresh, filepath.Base(d))); err != nil {
			return nil, err
		}
	}
	if err := unpack(ctx, filepath.Join(a.dir, "archives"), fresh); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(s.Root), 0o755); err != nil {
		return nil, err
	}
	return s, os.Rename(fresh, s.Root)
}

// solve has apt's own solver say what belongs to packages, on a system with
// nothing installed.
func (a *archive) solve(ctx context.Context, flag string, packages []string) ([]byte, error) {
	return a.run(ctx, a.dir, append([]string{"apt-get", "install", "-qq", "-y", flag}, packages...)...)
}

// closure is name_version_arch of packages and of everything they depend on.
func (a *archive) closure(ctx context.Context, packages []string) ([]string, error) {
	out, err := a.solve(ctx, "--print-uris", packages)
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(out)) { // 'URI' FILE SIZE HASH
		if f := strings.Fields(line); len(f) >= 3 && strings.HasPrefix(f[0], "'") {
			all = append(all, strings.TrimSuffix(f[1], ".deb"))
		}
	}
	slices.Sort(all)
	return all, nil
}

// FetchDebs returns the files of packages of riscv64 and of everything they depend
// on, for a system of the suite to install.
func FetchDebs(ctx context.Context, suite string, packages []string, say Say) ([]string, error) {
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	unlock, err := lock(cache, "riscv64-"+suite)
	if err != nil {
		return nil, err
	}
	defer unlock()
	a, err := openArchive(ctx, cache, suite, "riscv64", say)
	if err != nil {
		return nil, err
	}
	names, err := a.closure(ctx, packages)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "systems", "debs", digest(strings.Join(names, " ")))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if _, err := a.solve(ctx, "--download-only", packages); err != nil {
			return nil, err
		}
		tmp := dir + ".new"
		if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o755)); err != nil {
			return nil, err
		}
		found, err := filepath.Glob(filepath.Join(a.dir, "archives", "*.deb"))
		if err != nil {
			return nil, err
		}
		for _, deb := range found {
			if err := os.Rename(deb, filepath.Join(tmp, filepath.Base(deb))); err != nil {
				return nil, err
			}
		}
		if err := os.Rename(tmp, dir); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(dir, "*.deb"))
}

func digest(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:6])
}
