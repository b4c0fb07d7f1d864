package sshdir

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"golang.org/x/crypto/ssh"
)

// State is what a look at a directory of another machine has shown.
type State struct {
	// Missing tells that the directory does not exist yet; the next crash makes it.
	Missing bool
	// Free is how many bytes it takes, if the server says so, which Known tells.
	Free  uint64
	Known bool
}

// lookLimit is the least time that one of several addresses gets.
const lookLimit = time.Second

// Look logs in as the panic kernel would and sees whether a crash could be saved:
// it makes an empty directory where the crash would be, or where the directory that is
// missing would be made, and takes it away again. ctx bounds all of it.
func Look(ctx context.Context, s *Server, key []byte) (State, error) {
	client, err := login(ctx, s, key, func(left int) time.Duration {
		deadline, ok := ctx.Deadline()
		if !ok {
			return connectLimit
		}
		return max(lookLimit, time.Until(deadline)/time.Duration(left))
	})
	if err != nil {
		return State{}, err
	}
	t, err := newTarget(ctx, s, client, 0)
	if err != nil {
		return State{}, err
	}
	defer t.Close()
	return t.look(key)
}

func (t *Target) look(key []byte) (State, error) {
	dir, missing, err := t.nearest()
	if err != nil {
		return State{}, t.explain(err, "", 0, 0)
	}
	// What follows is about the directory that exists.
	there := *t.server
	there.Dir = dir
	t.server = &there
	state := State{Missing: len(missing) > 0}
	if err := t.try(dir, key); err != nil {
		return state, err
	}
	if _, ok := t.sftp.HasExtension("statvfs@openssh.com"); !ok {
		return state, nil
	}
	state.Free, err = t.Free()
	state.Known = err == nil
	return state, err
}

// try makes an empty directory and takes it away again. It has the same name each
// time, and one for each key: should the line break in between, the next look takes
// it away.
func (t *Target) try(dir string, key []byte) error {
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(signer.PublicKey().Marshal())
	name := path.Join(dir, ".panicroom-status-"+hex.EncodeToString(sum[:4]))
	if err := t.sftp.Mkdir(name); err != nil {
		if left, serr := t.exists(name); serr != nil || !left {
			return t.cannot(dir, err)
		}
	}
	// Somebody who looks at the same time may have done it.
	if err := t.sftp.RemoveDirectory(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %s stays: %w", t.name, name, t.explain(err, "", 0, 0))
	}
	return nil
}

// cannot says that nothing can be made in a directory.
func (t *Target) cannot(dir string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: %s may not write to %s: %w", t.name, t.server.User, dir, fs.ErrPermission)
	}
	return t.explain(err, "", 0, 0)
}
