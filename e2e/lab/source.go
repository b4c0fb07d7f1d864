package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// source is the kernel source of a suite: the archive that Debian's
// linux-source package has in it, with Debian's patches applied.
type source struct {
	Suite   string
	Version string // of the package, like 6.12.107-1
	Archive string // path of the tar archive
}

// fetchSource follows linux-source to the package of the one version that it
// stands for today, and fetches that unless the cache has it.
func fetchSource(ctx context.Context, cache, suite string, say Say) (*source, error) {
	a, err := openArchive(ctx, cache, suite, "riscv64", say)
	if err != nil {
		return nil, err
	}
	version, pkg, err := a.resolveSource(ctx)
	if err != nil {
		return nil, err
	}
	s := &source{Suite: suite, Version: version}
	sources := filepath.Join(cache, "sources")
	dir := filepath.Join(sources, pkg+"_"+version)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		say("fetching the source of %s: %s (%s)", suite, pkg, version)
		if err := os.MkdirAll(sources, 0o755); err != nil {
			return nil, err
		}
		tmp, err := os.MkdirTemp(sources, ".new-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(tmp)
		if err := a.download(ctx, tmp, []string{pkg + "=" + version}); err != nil {
			return nil, err
		}
		if err := unpack(ctx, tmp, filepath.Join(tmp, "root")); err != nil {
			return nil, err
		}
		if err := os.Rename(filepath.Join(tmp, "root"), dir); err != nil {
			return nil, err
		}
		// An older one is 150 MB that nothing asks for any more.
		old, err := filepath.Glob(filepath.Join(sources, pkg+"_*"))
		if err != nil {
			return nil, err
		}
		for _, o := range old {
			if o == dir {
				continue
			}
			if err := os.RemoveAll(o); err != nil {
				return nil, err
			}
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "usr", "src", pkg+".tar.*"))
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("package %s %s has source archives %q; want one", pkg, version, found)
	}
	s.Archive = found[0]
	return s, nil
}

// resolveSource gives the package with the source, like linux-source-6.12, and
// its version.
func (a *archive) resolveSource(ctx context.Context) (version, pkg string, err error) {
	const meta = "linux-source"
	top, err := a.show(ctx, meta)
	if err != nil {
		return "", "", err
	}
	parts := top.pinned()
	i := slices.IndexFunc(parts, func(name string) bool { return strings.HasPrefix(name, meta+"-") })
	if i < 0 {
		return "", "", fmt.Errorf("package %s %s of %s: no linux-source-VERSION among its dependencies %q",
			meta, top["Version"], a.suite, top["Depends"])
	}
	return top["Version"], parts[i], nil
}
