package after

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// trust is a user and a group that are trusted beside root's; the zero value is
// root's again.
type trust struct{ uid, gid uint32 }

// maxLinks bounds a chain of links.
const maxLinks = 10

// program resolves the name of a program that root shall run. The error says why
// not: somebody else than root may change it, or a directory on the way to it.
func (t trust) program(path string) (string, error) {
	for range maxLinks {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", err
		}
		if err := t.directory(dir); err != nil {
			return "", err
		}
		path = filepath.Join(dir, filepath.Base(path))
		info, err := os.Lstat(path)
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			return path, t.check(path, info)
		}
		to, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if path = to; !filepath.IsAbs(to) {
			path = filepath.Join(dir, to)
		}
	}
	return "", errors.New("too many links")
}

// directory checks a directory without links in its name, and those above it.
func (t trust) directory(dir string) error {
	for {
		info, err := os.Lstat(dir)
		if err != nil {
			return err
		}
		if err := t.check(dir, info); err != nil {
			return err
		}
		up := filepath.Dir(dir)
		if up == dir {
			return nil
		}
		dir = up
	}
}

// check checks one file or directory.
func (t trust) check(path string, info fs.FileInfo) error {
	uid, gid, ok := sys.Owner(info)
	if !ok {
		return fmt.Errorf("the owner of %s is not known", path)
	}
	return t.permits(path, uid, gid, info.Mode())
}

func (t trust) permits(path string, uid, gid uint32, mode fs.FileMode) error {
	// In a directory like /tmp nobody can replace what is another's.
	sticky := mode.IsDir() && mode&fs.ModeSticky != 0
	switch {
	case uid != 0 && uid != t.uid:
		return fmt.Errorf("%s belongs to user %d, not to root", path, uid)
	case mode&0o002 != 0 && !sticky:
		return fmt.Errorf("everybody may write to %s (mode %04o)", path, mode.Perm())
	case mode&0o020 != 0 && gid != 0 && gid != t.gid && !sticky:
		return fmt.Errorf("group %d may write to %s (mode %04o)", gid, path, mode.Perm())
	}
	return nil
}
