package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// peer is a makedumpfile that runs on this machine and reads cores of riscv64.
type peer struct {
	Path    string
	Version string // as it says itself
	Origin  string // where it comes from, for people
}

// findPeer takes the makedumpfile that MAKEDUMPFILE names, builds the source in
// the folder MAKEDUMPFILE_SRC, or else builds Debian's newest. What is made of a
// folder goes to dir: the folder itself stays as it is.
func findPeer(ctx context.Context, dir string, say lab.Say) (*peer, error) {
	p := &peer{Path: os.Getenv("MAKEDUMPFILE"), Origin: "built by hand"}
	if src := os.Getenv("MAKEDUMPFILE_SRC"); src != "" && p.Path == "" {
		copied := filepath.Join(dir, "makedumpfile")
		if err := os.CopyFS(copied, os.DirFS(src)); err != nil {
			return nil, fmt.Errorf("MAKEDUMPFILE_SRC: %w", err)
		}
		var err error
		if p.Path, err = buildPeer(ctx, copied, say); err != nil {
			return nil, ui.Hint(fmt.Errorf("MAKEDUMPFILE_SRC=%s: %w", src, err), "it is a folder with makedumpfile's source, as its git or a release has it")
		}
		p.Origin = "built from a folder"
	}
	if p.Path == "" {
		dir, version, err := lab.FetchSourcePackage(ctx, "sid", "makedumpfile", say)
		if err != nil {
			return nil, ui.Hint(err, "not every mirror has source packages: another one is make bench DEBIAN_MIRROR=URL",
				"or fetch its source yourself: make bench MAKEDUMPFILE_SRC=FOLDER")
		}
		if p.Path, err = buildPeer(ctx, dir, say); err != nil {
			return nil, fmt.Errorf("makedumpfile %s of Debian: %w", version, err)
		}
		p.Origin = "Debian's source package " + version
	}
	// Relative to this directory, not to be looked for in PATH.
	path, err := filepath.Abs(p.Path)
	if err != nil {
		return nil, err
	}
	p.Path = path
	out, err := exec.CommandContext(ctx, p.Path, "-v").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s -v: %w: %s", p.Path, err, out)
	}
	m := peerVersion.FindSubmatch(out)
	if m == nil {
		return nil, fmt.Errorf("%s -v says no version: %q", p.Path, out)
	}
	p.Version = string(m[1])
	for _, c := range []string{"lzo", "snappy", "zstd"} {
		if !regexp.MustCompile(`(?m)^` + c + `\s+enabled`).Match(out) {
			return nil, ui.Hint(fmt.Errorf("%s was built without %s", p.Path, c),
				"USELZO=on USESNAPPY=on USEZSTD=on")
		}
	}
	return p, nil
}

var peerVersion = regexp.MustCompile(`makedumpfile: version (\S+)`)

// buildPeer builds the source in dir, unless that was done, for dumps of
// riscv64 with the compiler of this machine.
func buildPeer(ctx context.Context, dir string, say lab.Say) (string, error) {
	const name = "makedumpfile"
	program := filepath.Join(dir, name)
	done := filepath.Join(dir, ".built-for-riscv64")
	if _, err := os.Stat(done); !errors.Is(err, fs.ErrNotExist) {
		return program, err
	}
	say("building makedumpfile")
	// With this machine's own name undefined the C library's headers ask for
	// what its 32-bit package has.
	stubs := filepath.Join(dir, "no-multilib")
	if err := os.MkdirAll(filepath.Join(stubs, "gnu"), 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(stubs, "gnu", "stubs-32.h"), nil, 0o644); err != nil {
		return "", err
	}
	c := exec.CommandContext(ctx, "make", fmt.Sprintf("-j%d", runtime.NumCPU()), "TARGET=riscv64", "LINKTYPE=dynamic",
		"USELZO=on", "USESNAPPY=on", "USEZSTD=on", "CC=gcc -I"+stubs, name)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return "", fmt.Errorf("make in %s: %w\n%s", dir, err, strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
	return program, os.WriteFile(done, nil, 0o644)
}
