package partition

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/panicroom-kdump/panicroom/target"
)

// disk is what a partition is on: a block device, or an image.
type disk interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Target is a partition for crashes.
type Target struct {
	name string
	disk disk
	c    io.Closer
	head *header

	mu       sync.Mutex
	table    table
	sequence uint64
	used     []bool // chunks
	free     int    // number of chunks that are not used
	next     int    // where to look for one first
	files    []*file
}

var _ target.Target = (*Target)(nil)

// Open opens a partition that [Init] has prepared; name is how people know it.
func Open(path, name string) (*Target, error) {
	f, err := openDevice(path, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	t, err := open(f, f, name)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

// openDevice opens a partition for ourselves alone: the kernel refuses one that
// is mounted or part of something (open(2), O_EXCL).
func openDevice(path string, flags int) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeDevice != 0 {
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, syscall.EBUSY) {
		return nil, fmt.Errorf("%w: it is mounted or part of something else", err)
	}
	return f, err
}

func open(d disk, c io.Closer, name string) (*Target, error) {
	head, err := readHeader(d)
	if err != nil {
		return nil, err
	}
	tab, sequence, err := newestTable(d, head)
	if err != nil {
		return nil, err
	}
	t := &Target{name: name, disk: d, c: c, head: head, table: *tab, sequence: sequence, used: make([]bool, head.Chunks), free: int(head.Chunks)}
	for _, c := range t.table.Crashes {
		for _, f := range c.Files {
			for _, r := range f.Runs {
				for i := range r.Count {
					t.used[r.On+i] = true
					t.free--
				}
			}
		}
	}
	return t, nil
}

// Name is what Open was told.
func (t *Target) Name() string { return t.name }

// UUID names the partition.
func (t *Target) UUID() string { return t.head.id() }

// Close gives the partition back.
func (t *Target) Close() error {
	if t.c == nil {
		return nil
	}
	return t.c.Close()
}

// Free is what no crash has taken.
func (t *Target) Free() (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return uint64(t.free) << t.head.Shift, nil
}

// Begin adds a crash to the table.
func (t *Target) Begin(ctx context.Context, name string) (target.Crash, error) {
	if err := target.CheckName(name); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", t.name, context.Cause(ctx))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	final := name
	for n := 2; slices.ContainsFunc(t.table.Crashes, func(c tableCrash) bool { return c.Name == final }); n++ {
		final = name + "." + strconv.Itoa(n)
	}
	if len(t.table.Crashes) == maxCrashes {
		return nil, &target.NoSpaceError{Target: t.name, Free: uint64(t.free) << t.head.Shift,
			Err: fmt.Errorf("there are %d crashes that no boot has unpacked", maxCrashes)}
	}
	t.table.Crashes = append(t.table.Crashes, tableCrash{Name: final})
	if err := t.save(); err != nil {
		t.table.Crashes = t.table.Crashes[:len(t.table.Crashes)-1]
		return nil, t.explain(err, "", 0, 0)
	}
	return &crash{t: t, name: final}, nil
}

// entry finds the table's entry of a crash.
func (t *Target) entry(name string) *tableCrash {
	for i := range t.table.Crashes {
		if t.table.Crashes[i].Name == name {
			return &t.table.Crashes[i]
		}
	}
	return nil
}

// save writes the table, once what it speaks of is on the disk. The caller has
// the lock.
func (t *Target) save() error {
	for _, f := range t.files {
		if err := f.settle(); err != nil {
			return err
		}
		f.enter()
	}
	b, err := t.table.marshal(t.sequence + 1)
	if err != nil {
		return err
	}
	if err := t.disk.Sync(); err != nil {
		return err
	}
	if _, err := t.disk.WriteAt(b, headerSize+int64((t.sequence+1)%2)*tableSize); err != nil {
		return err
	}
	t.sequence++
	return t.disk.Sync()
}

// take takes a chunk that is free. The caller has the lock.
func (t *Target) take() (uint32, bool) {
	for range t.used {
		i := t.next
		t.next = (t.next + 1) % len(t.used)
		if !t.used[i] {
			t.used[i] = true
			t.free--
			return uint32(i), true
		}
	}
	return 0, false
}

func (t *Target) give(i uint32) {
	t.used[i] = false
	t.free++
	t.next = min(t.next, int(i))
}

// offset is where a chunk is on the partition.
func (t *Target) offset(chunk uint32) int64 { return dataStart + int64(chunk)<<t.head.Shift }

// explain gives errors that a person can do something about their own type.
func (t *Target) explain(err error, file string, offset int64, length int) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errTooLarge) || errors.Is(err, syscall.ENOSPC):
		return &target.NoSpaceError{Target: t.name, File: file, Offset: offset, Length: length, Free: uint64(t.free) << t.head.Shift, Err: err}
	case errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES):
		return &target.ReadOnlyError{Target: t.name, Err: err}
	}
	return fmt.Errorf("%s: %w", t.name, err)
}

// crash is one in the table.
type crash struct {
	t    *Target
	name string
	done bool // committed or aborted; under the target's lock, as is open
	open int
}

var _ target.Opener = (*crash)(nil)

func (c *crash) Path() string {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	path := c.t.name + "/" + c.name
	if e := c.t.entry(c.name); e == nil || !e.Complete {
		path += target.IncompleteSuffix
	}
	return path
}

func (c *crash) Create(name string) (target.File, error) {
	if err := target.CheckName(name); err != nil {
		return nil, err
	}
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	e := c.t.entry(c.name)
	switch {
	case c.done || e == nil:
		return nil, fmt.Errorf("%s: %w", c.name, target.ErrFinished)
	case slices.ContainsFunc(e.Files, func(f tableFile) bool { return f.Name == name }):
		return nil, fmt.Errorf("%s: %w", name, target.ErrExists)
	case len(e.Files) == maxFiles:
		return nil, fmt.Errorf("%s: there are already %d files", c.name, maxFiles)
	}
	e.Files = append(e.Files, tableFile{Name: name})
	f := &file{c: c, name: name}
	c.t.files = append(c.t.files, f)
	if err := c.t.save(); err != nil {
		e.Files = e.Files[:len(e.Files)-1]
		c.t.forget(f)
		return nil, c.t.explain(err, name, 0, 0)
	}
	c.open++
	return f, nil
}

// forget takes a file off those that are open.
func (t *Target) forget(f *file) {
	t.files = slices.DeleteFunc(t.files, func(g *file) bool { return g == f })
}

// Open opens a file as the table knows it.
func (c *crash) Open(name string) (target.ReadFile, error) {
	if err := target.CheckName(name); err != nil {
		return nil, err
	}
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	e := c.t.entry(c.name)
	if c.done || e == nil {
		return nil, fmt.Errorf("%s: %w", c.name, target.ErrFinished)
	}
	for _, f := range c.t.files {
		if f.c == c && f.name == name {
			if err := f.settle(); err != nil {
				return nil, err
			}
			f.enter()
		}
	}
	return openFile(c.t.disk, c.t.head, e, name)
}

func (c *crash) Commit() error {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	e := c.t.entry(c.name)
	switch {
	case c.done || e == nil:
		return fmt.Errorf("%s: %w", c.name, target.ErrFinished)
	case c.open > 0:
		return fmt.Errorf("%s: %d files are still open", c.name, c.open)
	}
	e.Complete = true
	if err := c.t.save(); err != nil {
		e.Complete = false
		return c.t.explain(err, "", 0, 0)
	}
	c.done = true
	return nil
}

func (c *crash) Abort() error {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	if c.done {
		return nil
	}
	c.done = true
	return c.t.explain(c.t.save(), "", 0, 0)
}
