package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Live is the machine that this runs on.
func Live() Machine { return live{} }

type live struct{}

func (live) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }

func (live) Mkdir(name string, mode fs.FileMode) error {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(name, mode); err != nil {
		return err
	}
	return os.Chmod(name, mode) // whatever the umask is
}

func (l live) Create(name string, data []byte, mode fs.FileMode) error {
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", name, fs.ErrExist)
	}
	return l.Replace(name, data, mode)
}

func (live) Replace(name string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

func (live) Set(name, value string) error { return os.WriteFile(name, []byte(value), 0) }

func (live) Remove(name string) error { return os.Remove(name) }

func (live) Hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

func (live) Systemctl(ctx context.Context, args ...string) error {
	_, err := systemctl(ctx, args...)
	return err
}

// systemctl runs systemd's own command and returns what it says.
func systemctl(ctx context.Context, args ...string) (string, error) {
	path := "/usr/bin/systemctl"
	if _, err := os.Stat(path); err != nil {
		path = "/bin/systemctl"
	}
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		w.Close()
		return "", err
	}
	defer null.Close()
	p, err := os.StartProcess(path, append([]string{"systemctl"}, args...), &os.ProcAttr{Files: []*os.File{null, w, w}, Env: append(os.Environ(), "LC_ALL=C")})
	w.Close()
	if err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { p.Signal(os.Interrupt) })
	defer stop()
	said, rerr := io.ReadAll(io.LimitReader(r, 1<<20))
	state, err := p.Wait()
	if err == nil && !state.Success() {
		err = fmt.Errorf("systemctl %s: %v: %s", strings.Join(args, " "), state, strings.TrimSpace(string(said)))
	}
	return string(said), errors.Join(err, rerr)
}

// Unit is what systemd says of a unit.
type Unit struct {
	Active string // active, inactive, failed, ...
	Result string // success, exit-code, ...
}

// ReadUnits asks systemd about units; nil where it does not answer.
func ReadUnits(ctx context.Context, names ...string) map[string]Unit {
	said, err := systemctl(ctx, append([]string{"show", "--property=Id,ActiveState,Result"}, names...)...)
	if err != nil {
		return nil
	}
	return parseUnits(said)
}

// parseUnits reads NAME=VALUE lines, a blank one between units.
func parseUnits(text string) map[string]Unit {
	units := map[string]Unit{}
	for block := range strings.SplitSeq(text, "\n\n") {
		var u Unit
		id := ""
		for line := range strings.Lines(block) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			switch name {
			case "Id":
				id = value
			case "ActiveState":
				u.Active = value
			case "Result":
				u.Result = value
			}
		}
		if id != "" {
			units[id] = u
		}
	}
	return units
}
