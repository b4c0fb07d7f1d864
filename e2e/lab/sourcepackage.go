package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// FetchSourcePackage unpacks the newest source package of that name in a suite,
// Debian's patches applied, into a directory of the cache, which is the
// caller's to build in. The archive is asked each time; what is there already
// is not fetched again.
func FetchSourcePackage(ctx context.Context, suite, name string, say Say) (dir, version string, err error) {
	cache, err := CacheDir()
	if err != nil {
		return "", "", err
	}
	unlock, err := lock(cache, sourceArch+"-"+suite)
	if err != nil {
		return "", "", err
	}
	defer unlock()
	a, err := openArchive(ctx, cache, suite, sourceArch, say)
	if err != nil {
		return "", "", err
	}
	if version, err = a.sourceVersion(ctx, name); err != nil {
		return "", "", err
	}
	sources := filepath.Join(cache, "sources")
	dir = filepath.Join(sources, name+"_"+strings.ReplaceAll(version, ":", "%3a"))
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return dir, version, err
	}
	say("fetching the source of %s %s", name, version)
	if err := os.MkdirAll(sources, 0o755); err != nil {
		return "", "", err
	}
	tmp, err := os.MkdirTemp(sources, ".new-")
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(tmp)
	// apt checks what it fetches against the signed index.
	if _, err := a.run(ctx, tmp, "apt-get", "-q", "source", "--download-only", name+"="+version); err != nil {
		return "", "", fmt.Errorf("source package %s %s: %w", name, version, err)
	}
	found, err := filepath.Glob(filepath.Join(tmp, "*.dsc"))
	if err != nil {
		return "", "", err
	}
	if len(found) != 1 {
		return "", "", fmt.Errorf("source package %s %s has descriptions %q; want one", name, version, found)
	}
	unpacker, err := program("dpkg-source", "dpkg-dev")
	if err != nil {
		return "", "", err
	}
	root := filepath.Join(tmp, "root")
	if _, err := exec.CommandContext(ctx, unpacker, "--no-check", "-x", found[0], root).Output(); err != nil {
		return "", "", fmt.Errorf("dpkg-source -x %s: %w", filepath.Base(found[0]), exitText(err))
	}
	return dir, version, os.Rename(root, dir)
}

// sourceVersion is the newest version of a source package.
func (a *archive) sourceVersion(ctx context.Context, name string) (string, error) {
	// Binary packages may have the name of another source package.
	out, err := a.run(ctx, a.dir, "apt-cache", "showsrc", "--only-source", name)
	if err != nil {
		return "", fmt.Errorf("source package %s in %s: %w", name, a.suite, err)
	}
	newest := ""
	for stanza := range strings.SplitSeq(string(out), "\n\n") {
		v := parseControl([]byte(strings.TrimLeft(stanza, "\n")))["Version"]
		if v == "" {
			continue
		}
		if newest != "" && exec.CommandContext(ctx, "dpkg", "--compare-versions", v, "le", newest).Run() == nil {
			continue
		}
		newest = v
	}
	if newest == "" {
		return "", fmt.Errorf("source package %s in %s: not there", name, a.suite)
	}
	return newest, nil
}
