package targettest

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/panicroom-kdump/panicroom/target"
)

// Memory is a target in memory, for tests of what writes to targets. It is
// safe for concurrent use.
type Memory struct {
	mu      sync.Mutex
	limit   uint64
	used    uint64
	crashes map[string]map[string][]byte // by name at present, then by file
	fail    map[string]error             // of Create, by file
}

var (
	_ target.Target = (*Memory)(nil)
	_ target.Opener = (*memoryCrash)(nil)
)

// NewMemory makes an empty target that takes limit bytes.
func NewMemory(limit uint64) *Memory {
	return &Memory{limit: limit, crashes: map[string]map[string][]byte{}, fail: map[string]error{}}
}

// FailCreate lets Create of files named file fail with err.
func (m *Memory) FailCreate(file string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail[file] = err
}

// Crashes lists the names of all crashes, incomplete ones with their suffix,
// sorted.
func (m *Memory) Crashes() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.crashes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Files lists the files of a crash, sorted.
func (m *Memory) Files(crash string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.crashes[strings.TrimPrefix(crash, m.Name()+"/")] {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// File is a copy of a file; crash is a name of [Memory.Crashes] or a
// [target.Crash.Path].
func (m *Memory) File(crash, file string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.crashes[strings.TrimPrefix(crash, m.Name()+"/")][file]
	if !ok {
		return nil, fmt.Errorf("%s of %s: %w", file, crash, fs.ErrNotExist)
	}
	return slices.Clone(b), nil
}

// Name is "memory:".
func (m *Memory) Name() string { return "memory:" }

// Free is what is left of the limit.
func (m *Memory) Free() (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.limit - m.used, nil
}

// Begin makes an empty crash.
func (m *Memory) Begin(ctx context.Context, name string) (target.Crash, error) {
	if err := target.CheckName(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for n := 1; ; n++ {
		final := name
		if n > 1 {
			final += "." + strconv.Itoa(n)
		}
		now := final + target.IncompleteSuffix
		if m.crashes[final] == nil && m.crashes[now] == nil {
			m.crashes[now] = map[string][]byte{}
			return &memoryCrash{m: m, final: final, now: now}, nil
		}
	}
}

// memoryCrash is a crash of a Memory, whose lock guards it.
type memoryCrash struct {
	m          *Memory
	final, now string
	done       bool
	open       int
}

func (c *memoryCrash) Path() string {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.m.Name() + "/" + c.now
}

func (c *memoryCrash) Create(name string) (target.File, error) {
	if err := target.CheckName(name); err != nil {
		return nil, err
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if c.done {
		return nil, fmt.Errorf("%s: %w", c.final, target.ErrFinished)
	}
	if err := c.m.fail[name]; err != nil {
		return nil, err
	}
	if _, ok := c.m.crashes[c.now][name]; ok {
		return nil, fmt.Errorf("%s: %w", name, target.ErrExists)
	}
	c.m.crashes[c.now][name] = nil
	c.open++
	return &memoryFile{c: c, name: name}, nil
}

func (c *memoryCrash) Open(name string) (target.ReadFile, error) {
	b, err := c.m.File(c.Path(), name)
	if err != nil {
		return nil, err
	}
	return readFile{bytes.NewReader(b)}, nil
}

// readFile is what Open returns.
type readFile struct{ *bytes.Reader }

func (readFile) Close() error { return nil }

func (c *memoryCrash) Commit() error {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	switch {
	case c.done:
		return fmt.Errorf("%s: %w", c.final, target.ErrFinished)
	case c.open > 0:
		return fmt.Errorf("%s: %d files are still open", c.final, c.open)
	}
	c.m.crashes[c.final] = c.m.crashes[c.now]
	delete(c.m.crashes, c.now)
	c.now, c.done = c.final, true
	return nil
}

func (c *memoryCrash) Abort() error {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.done = true
	return nil
}

// memoryFile is a file of a memoryCrash.
type memoryFile struct {
	c      *memoryCrash
	name   string
	next   int64
	closed bool
}

func (f *memoryFile) Write(p []byte) (int, error) {
	f.c.m.mu.Lock()
	defer f.c.m.mu.Unlock()
	n, err := f.writeAt(p, f.next)
	f.next += int64(n)
	return n, err
}

func (f *memoryFile) WriteAt(p []byte, offset int64) (int, error) {
	f.c.m.mu.Lock()
	defer f.c.m.mu.Unlock()
	return f.writeAt(p, offset)
}

func (f *memoryFile) writeAt(p []byte, offset int64) (int, error) {
	m := f.c.m
	if f.closed {
		return 0, fs.ErrClosed
	}
	data := m.crashes[f.c.now][f.name]
	grow := uint64(max(0, offset+int64(len(p))-int64(len(data))))
	if free := m.limit - m.used; grow > free {
		return 0, &target.NoSpaceError{Target: m.Name(), File: f.name, Offset: offset, Length: len(p), Free: free}
	}
	m.used += grow
	data = append(data, make([]byte, grow)...)
	m.crashes[f.c.now][f.name] = data
	return copy(data[offset:], p), nil
}

func (f *memoryFile) Truncate(size int64) error {
	f.c.m.mu.Lock()
	defer f.c.m.mu.Unlock()
	data := f.c.m.crashes[f.c.now][f.name]
	if size < int64(len(data)) {
		f.c.m.used -= uint64(int64(len(data)) - size)
		f.c.m.crashes[f.c.now][f.name] = data[:size]
	}
	return nil
}

func (f *memoryFile) Sync() error { return nil }

func (f *memoryFile) Close() error {
	f.c.m.mu.Lock()
	defer f.c.m.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	f.closed = true
	f.c.open--
	return nil
}
