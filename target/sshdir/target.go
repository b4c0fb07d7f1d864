package sshdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/panicroom-kdump/panicroom/target"
)

// Target is a directory of another machine. A crash is a directory in it that
// only its owner can enter (0700), its files only their owner can read (0600).
type Target struct {
	server *Server
	name   string
	ssh    *ssh.Client
	sftp   *sftp.Client
	stop   func() bool
	writes chan struct{} // a token per write on its way

	mu    sync.Mutex
	lost  error // why the connection was given up
	once  sync.Once
	ended chan struct{}
}

var _ target.Target = (*Target)(nil)

// ErrLost: the connection to the other machine is lost.
var ErrLost = errors.New("connection lost")

// Name is USER@HOST:DIR.
func (t *Target) Name() string { return t.name }

// Close ends the connection.
func (t *Target) Close() error {
	t.once.Do(func() {
		t.stop()
		close(t.ended)
		if t.sftp != nil {
			t.sftp.Close()
		}
		t.ssh.Close()
	})
	return nil
}

// Free is what the server says is free for the user, where it can.
func (t *Target) Free() (uint64, error) {
	v, err := t.sftp.StatVFS(t.server.Dir)
	if err != nil {
		return 0, t.explain(err, "", 0, 0)
	}
	return v.Bavail * v.Frsize, nil
}

// makeDir makes the directory and its parents, those that do not exist for
// their owner only.
func (t *Target) makeDir() error {
	_, missing, err := t.nearest()
	if err != nil {
		return err
	}
	for i := len(missing) - 1; i >= 0; i-- {
		if err := t.mkdir(missing[i]); err != nil {
			return fmt.Errorf("%s: %w", missing[i], err)
		}
	}
	return nil
}

// nearest is the directory, or the nearest above it that exists, and those that
// do not, the lowest first.
func (t *Target) nearest() (exists string, missing []string, err error) {
	dir := path.Clean(t.server.Dir)
	for ; dir != "/" && dir != "."; dir = path.Dir(dir) {
		info, err := t.sftp.Stat(dir)
		if err == nil && !info.IsDir() {
			return "", nil, fmt.Errorf("%s: %s is not a directory", t.name, dir)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", nil, err
		}
		missing = append(missing, dir)
	}
	return dir, missing, nil
}

// mkdir makes a directory for its owner only. Until it has its mode nothing is
// in it.
func (t *Target) mkdir(dir string) error {
	if err := t.sftp.Mkdir(dir); err != nil {
		return err
	}
	return t.sftp.Chmod(dir, 0o700)
}

// exists tells whether there is something of that name.
func (t *Target) exists(name string) (bool, error) {
	_, err := t.sftp.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// maxSame bounds the numbers tried when the name of a crash is taken.
const maxSame = 1000

// Begin makes the directory NAME-incomplete.
func (t *Target) Begin(ctx context.Context, name string) (target.Crash, error) {
	c, err := t.begin(ctx, name)
	// That is what OpenSSH's server makes of EINVAL (seen with 9.2).
	status, ok := errors.AsType[*sftp.StatusError](err)
	if plain := target.WithoutColons(name); ok && status.Code == fxBadMessage && plain != name {
		return t.begin(ctx, plain)
	}
	return c, err
}

func (t *Target) begin(ctx context.Context, name string) (target.Crash, error) {
	if err := target.CheckName(name); err != nil {
		return nil, err
	}
	for n := 1; n <= maxSame; n++ {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", t.name, context.Cause(ctx))
		}
		final := name
		if n > 1 {
			final += "." + strconv.Itoa(n)
		}
		// Making the incomplete directory reserves both names.
		now := final + target.IncompleteSuffix
		err := t.sftp.Mkdir(path.Join(t.server.Dir, now))
		if err != nil {
			// The protocol has no word for a name that is taken.
			taken, serr := t.exists(path.Join(t.server.Dir, now))
			if serr != nil || !taken {
				return nil, t.explain(err, "", 0, 0)
			}
			continue
		}
		if err := t.sftp.Chmod(path.Join(t.server.Dir, now), 0o700); err != nil {
			return nil, t.explain(err, "", 0, 0)
		}
		taken, err := t.exists(path.Join(t.server.Dir, final))
		if err != nil {
			return nil, t.explain(err, "", 0, 0)
		}
		if taken {
			if err := t.sftp.RemoveDirectory(path.Join(t.server.Dir, now)); err != nil {
				return nil, t.explain(err, "", 0, 0)
			}
			continue
		}
		return &crash{t: t, final: final, now: now}, nil
	}
	return nil, fmt.Errorf("%s: there are already %d crashes named %s", t.name, maxSame, name)
}

// Codes of SSH_FXP_STATUS: 4 stands for any failure in version 3 of the protocol,
// which OpenSSH speaks; the others came with later versions.
const (
	fxFailure    = 4
	fxBadMessage = 5
	fxReadOnly   = 12
	fxNoSpace    = 14
	fxOverQuota  = 15
)

// explain gives errors that a person can do something about their own type. A
// full disk is a mere failure to OpenSSH, which then says that nothing is free.
func (t *Target) explain(err error, file string, offset int64, length int) error {
	if err == nil {
		return nil
	}
	t.mu.Lock()
	lost := t.lost
	t.mu.Unlock()
	if lost != nil {
		return fmt.Errorf("%s: %w: %w", t.name, ErrLost, lost)
	}
	if errors.Is(err, sftp.ErrSSHFxConnectionLost) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", t.name, ErrLost)
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	status, ok := errors.AsType[*sftp.StatusError](err)
	if !ok {
		return err
	}
	switch status.Code {
	case fxReadOnly:
		return &target.ReadOnlyError{Target: t.name, Err: err}
	case fxNoSpace, fxOverQuota:
		free, _ := t.Free()
		return &target.NoSpaceError{Target: t.name, File: file, Offset: offset, Length: length, Free: free, Err: err}
	case fxFailure:
		v, verr := t.sftp.StatVFS(t.server.Dir)
		switch {
		case verr != nil:
		case v.Flag&1 != 0: // SSH_FXE_STATVFS_ST_RDONLY
			return &target.ReadOnlyError{Target: t.name, Err: err}
		case v.Bavail*v.Frsize < max(uint64(length), 1)+nearlyFull, v.Files > 0 && v.Favail == 0:
			return &target.NoSpaceError{Target: t.name, File: file, Offset: offset, Length: length, Free: v.Bavail * v.Frsize, Err: err}
		}
	}
	return fmt.Errorf("%s: %w", t.name, err)
}

// nearlyFull is what a filesystem may say is free and yet not give: it rounds,
// and needs some for itself.
const nearlyFull = 64 << 10

// crash is a crash on the other machine.
type crash struct {
	t     *Target
	final string // name after Commit

	mu   sync.Mutex
	now  string // name at present
	done bool   // committed or aborted
	open int    // files
}

var _ target.Opener = (*crash)(nil)

func (c *crash) path() string { return path.Join(c.t.server.Dir, c.now) }

func (c *crash) Path() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.path()
}

func (c *crash) Create(name string) (target.File, error) {
	if err := target.CheckName(name); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return nil, fmt.Errorf("%s: %w", c.final, target.ErrFinished)
	}
	at := path.Join(c.path(), name)
	f, err := c.t.sftp.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
	if err != nil {
		if taken, serr := c.t.exists(at); serr == nil && taken {
			return nil, fmt.Errorf("%s: %w", at, target.ErrExists)
		}
		return nil, c.t.explain(err, name, 0, 0)
	}
	// Nothing is in it yet.
	if err := f.Chmod(0o600); err != nil {
		f.Close()
		return nil, c.t.explain(err, name, 0, 0)
	}
	c.open++
	return &file{c: c, f: f, name: name}, nil
}

func (c *crash) Open(name string) (target.ReadFile, error) {
	if err := target.CheckName(name); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return nil, fmt.Errorf("%s: %w", c.final, target.ErrFinished)
	}
	f, err := c.t.sftp.Open(path.Join(c.path(), name))
	if err != nil {
		return nil, c.t.explainOpen(err)
	}
	return f, nil
}

// explainOpen keeps what says that there is no such file.
func (t *Target) explainOpen(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return t.explain(err, "", 0, 0)
}

func (c *crash) Commit() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return fmt.Errorf("%s: %w", c.final, target.ErrFinished)
	}
	if c.open > 0 {
		return fmt.Errorf("%s: %d files are still open", c.final, c.open)
	}
	final := path.Join(c.t.server.Dir, c.final)
	taken, err := c.t.exists(final)
	if err != nil {
		return c.t.explain(err, "", 0, 0)
	}
	if taken {
		return fmt.Errorf("%s: %w", final, target.ErrExists)
	}
	rename := c.t.sftp.Rename
	if _, ok := c.t.sftp.HasExtension("posix-rename@openssh.com"); ok {
		rename = c.t.sftp.PosixRename
	}
	if err := rename(c.path(), final); err != nil {
		return c.t.explain(err, "", 0, 0)
	}
	c.now, c.done = c.final, true
	return nil
}

func (c *crash) Abort() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = true
	return nil
}

// file is a file of a crash.
type file struct {
	c      *crash
	f      *sftp.File
	name   string
	next   atomic.Int64 // offset of the next Write, for error texts
	closed atomic.Bool
}

// bounded waits until a write may be made.
func (f *file) bounded(write func() (int, error)) (int, error) {
	f.c.t.writes <- struct{}{}
	defer func() { <-f.c.t.writes }()
	return write()
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.bounded(func() (int, error) { return f.f.Write(p) })
	at := f.next.Add(int64(n))
	return n, f.c.t.explain(err, f.name, at, len(p)-n)
}

func (f *file) WriteAt(p []byte, offset int64) (int, error) {
	n, err := f.bounded(func() (int, error) { return f.f.WriteAt(p, offset) })
	return n, f.c.t.explain(err, f.name, offset+int64(n), len(p)-n)
}

func (f *file) Truncate(size int64) error {
	return f.c.t.explain(f.f.Truncate(size), f.name, size, 0)
}

// Sync makes the other machine's disk have it, if its server can.
func (f *file) Sync() error {
	if v, ok := f.c.t.sftp.HasExtension("fsync@openssh.com"); !ok || v != "1" {
		return nil
	}
	return f.c.t.explain(f.f.Sync(), f.name, 0, 0)
}

func (f *file) Close() error {
	if f.closed.Swap(true) {
		return fs.ErrClosed
	}
	err := f.Sync()
	err = errors.Join(err, f.c.t.explain(f.f.Close(), f.name, 0, 0))
	f.c.mu.Lock()
	f.c.open--
	f.c.mu.Unlock()
	return err
}
