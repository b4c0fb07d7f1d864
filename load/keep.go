package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// The last good plan lies in a directory of its own, plan.json and one file
// per segment; the link "last-good" points to it once it is complete. Only root may look: the
// initramfs can hold keys, the device tree a seed.
const (
	lastGood = "last-good"
	planFile = "plan.json"
	lockFile = "lock"
)

// lock makes sure that only one process loads or unloads.
func (l *loader) lock() (unlock func(), err error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, stateError(err)
	}
	if err := os.Chmod(l.dir, 0o700); err != nil {
		return nil, stateError(err)
	}
	f, err := os.OpenFile(filepath.Join(l.dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, stateError(err)
	}
	if err := sys.LockFile(f); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

func stateError(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", err, ErrNotRoot)
	}
	return err
}

// keep makes p the last good plan. The one before goes first: the kernel has
// freed its image, and two at a time may be more than /run has room for.
func (l *loader) keep(p *Plan) error {
	if err := l.forget(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(l.dir, "plan-")
	if err != nil {
		return err
	}
	if err = l.fill(dir, p); err == nil {
		err = os.Symlink(filepath.Base(dir), filepath.Join(l.dir, lastGood))
	}
	if err != nil {
		os.RemoveAll(dir)
	}
	return err
}

func (l *loader) fill(dir string, p *Plan) error {
	b, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, planFile), b, 0o600); err != nil {
		return err
	}
	for _, s := range p.Segments {
		if err := writeFile(filepath.Join(dir, s.Name), s.Data); err != nil {
			return err
		}
	}
	return nil
}

// writeChunk is how much is written at once. tmpfs of 6.12 touches all that a
// write still has to give, up to megabytes, for each page that it takes, so one
// large write is quadratic: 30 MiB took 17 s under emulation.
const writeChunk = 64 << 10

func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(data, writeChunk) {
		if _, err := f.Write(chunk); err != nil {
			f.Close()
			return err
		}
	}
	return f.Close()
}

// errNoLastGood: nothing was kept.
var errNoLastGood = errors.New("it was not loaded by panicroom since the machine started, so there is no copy of it")

// kept reads the last good plan back.
func (l *loader) kept() (*Plan, error) {
	p, err := l.keptPlan()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(l.dir, lastGood)
	for i := range p.Segments {
		s := &p.Segments[i]
		switch s.Name {
		case SegmentKernel, SegmentInitramfs, SegmentTree, SegmentHeader:
		default:
			return nil, fmt.Errorf("%s: segment %q", dir, s.Name)
		}
		if s.Data, err = os.ReadFile(filepath.Join(dir, s.Name)); err != nil {
			return nil, err
		}
		if uint64(len(s.Data)) != s.Size {
			return nil, fmt.Errorf("%s/%s has %d bytes instead of %d", dir, s.Name, len(s.Data), s.Size)
		}
	}
	return p, nil
}

// keptPlan reads the last good plan without the data of its segments.
func (l *loader) keptPlan() (*Plan, error) {
	b, err := os.ReadFile(filepath.Join(l.dir, lastGood, planFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoLastGood
	}
	if err != nil {
		return nil, stateError(err)
	}
	p := &Plan{}
	if err := json.Unmarshal(b, p); err != nil {
		return nil, fmt.Errorf("%s/%s/%s: %w", l.dir, lastGood, planFile, err)
	}
	return p, nil
}

// forget removes the last good plan, and what somebody who was interrupted left
// of one.
func (l *loader) forget() error {
	if err := os.Remove(filepath.Join(l.dir, lastGood)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	left, err := filepath.Glob(filepath.Join(l.dir, "plan-*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}
