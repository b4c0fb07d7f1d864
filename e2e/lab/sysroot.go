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
	install := func(flag string) ([]byte, error) {
		return a.run(ctx, a.dir, append([]string{"apt-get", "install", "-qq", "-y", flag}, packages...)...)
	}
	// apt's own solver says what belongs to it, on a system with nothing
	// installed; each line is 'URI' FILE SIZE HASH.
	out, err := install("--print-uris")
	if err != nil {
		return nil, err
	}
	s := &sysroot{}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) >= 3 && strings.HasPrefix(f[0], "'") {
			s.Packages = append(s.Packages, strings.TrimSuffix(f[1], ".deb"))
		}
	}
	slices.Sort(s.Packages)
	s.Root = filepath.Join(cache, "sysroots", opts.Arch+"-"+opts.Suite+"-"+digest(strings.Join(s.Packages, " ")))
	if _, err := os.Stat(s.Root); !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	opts.Say("fetching %s (%s %s, %d packages in all)", strings.Join(packages, ", "), opts.Suite, opts.Arch, len(s.Packages))
	if _, err := install("--download-only"); err != nil {
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

func digest(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:6])
}
