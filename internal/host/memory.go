package host

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// ErrNoMemory: physical memory that /proc/kcore does not show. It shows what
// is System RAM, the memory reserved for a panic kernel included, and neither
// devices nor what belongs to the firmware.
var ErrNoMemory = errors.New("not in /proc/kcore")

// Memory is the running machine's memory by physical address, read through the
// kernel's linear map in /proc/kcore. A page that the kernel took out of use
// (hardware poison, balloons) reads as zeros.
type Memory struct {
	core *kcore
	file io.Closer
}

// OpenMemory opens the memory of the machine whose files fsys has. Only
// root may, and under lockdown=confidentiality nobody: fs.ErrPermission.
func OpenMemory(fsys fs.FS) (*Memory, error) {
	f, err := fsys.Open("proc/kcore")
	if err != nil {
		return nil, err
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		f.Close()
		return nil, errors.New("/proc/kcore: cannot be read at an offset")
	}
	core, err := openKcore(at)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("/proc/kcore: %w", err)
	}
	return &Memory{core, f}, nil
}

// ReadAt reads memory from the physical address phys on. The error of what is
// not there is [ErrNoMemory]; what precedes it has been read then.
func (m *Memory) ReadAt(p []byte, phys int64) (int, error) {
	if phys < 0 {
		return 0, fmt.Errorf("memory at %#x: %w", uint64(phys), ErrNoMemory)
	}
	return m.core.readAt(p, uint64(phys))
}

// Section reads the memory of r from its beginning to its end.
func (m *Memory) Section(r Range) io.Reader {
	return io.NewSectionReader(m, int64(r.Start), int64(r.Size()))
}

// Close closes /proc/kcore.
func (m *Memory) Close() error { return m.file.Close() }
