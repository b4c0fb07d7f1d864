package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

const modulePath = "github.com/panicroom-kdump/panicroom"

// Build builds a command of this module as it is released, static and
// stripped, for an architecture (Go's name; "" is this machine's) and returns
// the program's path. Go's build cache makes the second time quick.
func Build(ctx context.Context, command, goarch string) (string, error) {
	return build(ctx, command, filepath.Base(command), goarch, "build")
}

// BuildTest builds the tests of a package of this module, to be run elsewhere.
func BuildTest(ctx context.Context, pkg, goarch string) (string, error) {
	return build(ctx, pkg, filepath.Base(pkg)+".test", goarch, "test", "-c")
}

func build(ctx context.Context, pkg, name, goarch string, command ...string) (string, error) {
	out, err := OutDir()
	if err != nil {
		return "", err
	}
	if goarch != "" {
		name += "-" + goarch
	}
	unlock, err := lock(out, "build-"+name) // test binaries run side by side
	if err != nil {
		return "", err
	}
	defer unlock()
	program := filepath.Join(out, "bin", name)
	c := exec.CommandContext(ctx, "go", append(command, "-trimpath", "-ldflags=-s -w", "-o", program, modulePath+"/"+pkg)...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if goarch != "" {
		c.Env = append(c.Env, "GOOS=linux", "GOARCH="+goarch)
	}
	if c.Dir, err = moduleRoot(); err != nil {
		return "", err
	}
	if text, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s %s: %w\n%s", command[0], pkg, err, text)
	}
	return program, nil
}

// OutDir is where runs leave their files: $OUT, or out in the module.
func OutDir() (string, error) {
	if dir := os.Getenv("OUT"); dir != "" {
		return filepath.Abs(dir)
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "out"), nil
}

// moduleRoot is the directory of go.mod above the current one.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod above the current directory")
		}
		dir = up
	}
}

// program finds a program of the machine, also where only root's PATH leads.
func program(name, pkg string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name), nil
		}
	}
	return "", &missing{name, pkg, err}
}

// missing is the error of a program that is not installed.
type missing struct {
	name, pkg string
	err       error
}

func (e *missing) Error() string { return fmt.Sprintf("%s is not installed: %v", e.name, e.err) }
func (e *missing) Unwrap() error { return e.err }
func (e *missing) Hints() []string {
	return []string{fmt.Sprintf("apt-get install %s (make deps does it)", e.pkg)}
}

// lastLines keeps the end of what is written to it.
type lastLines struct{ buf []byte }

func (l *lastLines) Write(p []byte) (int, error) {
	const keep = 4 << 10
	l.buf = append(l.buf, p...)
	if len(l.buf) > 2*keep {
		l.buf = slices.Clone(l.buf[len(l.buf)-keep:])
	}
	return len(p), nil
}

// text is the last lines, no more than a screen can show.
func (l *lastLines) text() string {
	lines := bytes.Split(bytes.TrimSpace(l.buf), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}
