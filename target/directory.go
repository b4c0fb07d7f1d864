package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// Directory is a [Target] in a directory of a mounted filesystem. A crash is a
// directory in it that only its owner can enter (0700), its files only their
// owner can read (0600): a dump holds keys and passwords. Everything is opened
// below the root (os.Root), so that links in the directory lead nowhere else.
type Directory struct {
	path string
	name string
	root *os.Root
	// syncEach is after how many bytes a file is synced, 0 for never before its end.
	syncEach int64
}

// remoteSyncEach is syncEach where the disk is another machine's. NFS tells of what
// was written in vain, because the server is gone, in fsync(2) only (nfs_file_write,
// fs/nfs/file.c, Linux 7.2); until then each piece that the page cache has no room
// for waits for the server, one time-out after the other.
const remoteSyncEach = 4 << 20

var _ Target = (*Directory)(nil)

// NewDirectory opens the directory at path, which is made with its parents if
// it does not exist. Errors wrap [ErrReadOnly] or [ErrNoSpace] where they are
// the cause.
func NewDirectory(path string) (*Directory, error) {
	return NewDirectoryAs(path, filepath.Clean(path))
}

// NewDirectoryAs is NewDirectory for a directory that people know by another
// name: the crash environment has it mounted elsewhere.
func NewDirectoryAs(path, name string) (*Directory, error) {
	d := &Directory{path: filepath.Clean(path), name: name}
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return nil, d.explain(err, "", 0, 0)
	}
	var err error
	if d.root, err = os.OpenRoot(d.path); err != nil {
		return nil, err
	}
	if info, err := sys.StatFS(d.path); err == nil && info.Magic == sys.NFSSuperMagic {
		d.syncEach = remoteSyncEach
	}
	return d, nil
}

// Name is the path of the directory, or what [NewDirectoryAs] was told.
func (d *Directory) Name() string { return d.name }

// Close gives the directory back. Crashes begun in it must be finished.
func (d *Directory) Close() error { return d.root.Close() }

// Free is the free space of the filesystem; that reserved for root counts for
// root only.
func (d *Directory) Free() (uint64, error) {
	info, err := sys.StatFS(d.path)
	if err != nil {
		return 0, err
	}
	if os.Geteuid() != 0 {
		return info.Available, nil
	}
	return info.Free - min(info.Free, keptBack(info)), nil
}

// keptBack is free space that nobody gets, root neither: ext4 keeps clusters
// for its own metadata (ext4_calculate_resv_clusters, fs/ext4/super.c, Linux
// 7.2: a fiftieth, at most 4096).
func keptBack(info sys.FSInfo) uint64 {
	const ext4Magic = 0xef53
	if info.Magic != ext4Magic {
		return 0
	}
	return min(info.Total/50, 4096*info.Block)
}

// maxSame bounds the numbers tried when the name of a crash is taken.
const maxSame = 1000

// Begin makes the directory NAME-incomplete.
func (d *Directory) Begin(ctx context.Context, name string) (Crash, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	for n := 1; n <= maxSame; n++ {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", d.name, context.Cause(ctx))
		}
		final := name
		if n > 1 {
			final += "." + strconv.Itoa(n)
		}
		// Making the incomplete directory reserves both names: whoever else
		// wants them makes the same directory first.
		now := final + IncompleteSuffix
		if err := d.root.Mkdir(now, 0o700); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return nil, d.explain(err, "", 0, 0)
		}
		if _, err := d.root.Lstat(final); err == nil {
			d.root.Remove(now)
			continue
		}
		c := &directoryCrash{d: d, final: final, now: now}
		var err error
		if c.root, err = d.root.OpenRoot(now); err != nil {
			return nil, err
		}
		if err := d.sync(); err != nil {
			c.root.Close()
			return nil, err
		}
		return c, nil
	}
	return nil, fmt.Errorf("%s: there are already %d crashes named %s", d.name, maxSame, name)
}

// sync makes the names in the directory durable.
func (d *Directory) sync() error { return syncDir(d.root, d) }

func syncDir(r *os.Root, d *Directory) error {
	f, err := r.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return d.explain(f.Sync(), "", 0, 0)
}

// explain gives errors that a person can do something about their own type.
func (d *Directory) explain(err error, file string, offset int64, length int) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		free, _ := d.Free()
		return &NoSpaceError{Target: d.name, File: file, Offset: offset, Length: length, Free: free, Err: err}
	case errors.Is(err, syscall.EROFS):
		return &ReadOnlyError{Target: d.name, Err: err}
	}
	return err
}

// directoryCrash is a crash of a Directory.
type directoryCrash struct {
	d     *Directory
	root  *os.Root // of the crash
	final string   // name after Commit

	mu   sync.Mutex
	now  string // name at present
	done bool   // committed or aborted
	open int    // files
}

var _ Opener = (*directoryCrash)(nil)

func (c *directoryCrash) Path() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return filepath.Join(c.d.path, c.now)
}

func (c *directoryCrash) Create(name string) (File, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return nil, fmt.Errorf("%s: %w", c.final, ErrFinished)
	}
	f, err := c.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s: %w", filepath.Join(c.d.path, c.now, name), ErrExists)
	} else if err != nil {
		return nil, c.d.explain(err, name, 0, 0)
	}
	// The name is durable at once, so that a file that was synced is found
	// after whatever happens next.
	if err := syncDir(c.root, c.d); err != nil {
		f.Close()
		return nil, err
	}
	c.open++
	return &directoryFile{c: c, f: f, name: name}, nil
}

func (c *directoryCrash) Open(name string) (ReadFile, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return nil, fmt.Errorf("%s: %w", c.final, ErrFinished)
	}
	f, err := c.root.Open(name)
	if err != nil {
		return nil, err // not a nil *os.File in an interface
	}
	return f, nil
}

func (c *directoryCrash) Commit() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return fmt.Errorf("%s: %w", c.final, ErrFinished)
	}
	if c.open > 0 {
		return fmt.Errorf("%s: %d files are still open", c.final, c.open)
	}
	if err := syncDir(c.root, c.d); err != nil {
		return err
	}
	// A rename replaces an empty directory without a word.
	if _, err := c.d.root.Lstat(c.final); err == nil {
		return fmt.Errorf("%s: %w", filepath.Join(c.d.path, c.final), ErrExists)
	}
	if err := c.d.root.Rename(c.now, c.final); err != nil {
		return c.d.explain(err, "", 0, 0)
	}
	c.now, c.done = c.final, true
	c.root.Close()
	return c.d.sync()
}

func (c *directoryCrash) Abort() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return nil
	}
	c.done = true
	return c.root.Close()
}

// directoryFile is a file of a directoryCrash.
type directoryFile struct {
	c      *directoryCrash
	f      *os.File
	name   string
	next   atomic.Int64 // offset of the next Write, for error texts
	closed atomic.Bool
	// unsynced are the bytes that were written since it was synced, where that counts.
	unsynced atomic.Int64
}

func (f *directoryFile) Write(p []byte) (int, error) {
	n, err := f.f.Write(p)
	if err == nil {
		err = f.wrote(n)
	}
	at := f.next.Add(int64(n))
	return n, f.c.d.explain(err, f.name, at, len(p)-n)
}

func (f *directoryFile) WriteAt(p []byte, offset int64) (int, error) {
	n, err := f.f.WriteAt(p, offset)
	if err == nil {
		err = f.wrote(n)
	}
	return n, f.c.d.explain(err, f.name, offset+int64(n), len(p)-n)
}

// wrote syncs when so much was written that it is time to.
func (f *directoryFile) wrote(n int) error {
	each := f.c.d.syncEach
	if each == 0 || f.unsynced.Add(int64(n)) < each {
		return nil
	}
	f.unsynced.Store(0)
	return f.f.Sync()
}

func (f *directoryFile) Truncate(size int64) error {
	return f.c.d.explain(f.f.Truncate(size), f.name, size, 0)
}

func (f *directoryFile) Sync() error {
	return f.c.d.explain(f.f.Sync(), f.name, 0, 0)
}

func (f *directoryFile) Close() error {
	if f.closed.Swap(true) {
		return fs.ErrClosed
	}
	// Delayed allocation tells about a full disk only here.
	err := f.Sync()
	err = errors.Join(err, f.f.Close())
	f.c.mu.Lock()
	f.c.open--
	f.c.mu.Unlock()
	return err
}
