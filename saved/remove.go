package saved

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrNotOurs: a directory is not, or no longer, a crash that panicroom has saved.
var ErrNotOurs = errors.New("not a crash that panicroom has saved")

// removing begins the name of a crash on its way out. If that ends halfway, Sweep
// finds it.
const removing = ".removing-"

// Remove takes the crash of that name out of a directory. No link is followed.
// The error wraps [ErrNotOurs] if it is not what [List] took it for.
func Remove(dir, name string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	bad := fmt.Errorf("%s: %w", filepath.Join(dir, name), ErrNotOurs)
	if info, err := root.Lstat(name); err != nil {
		return err
	} else if !info.IsDir() {
		return bad
	}
	if c, ok, err := look(root, name); err != nil {
		return err
	} else if !ok || !c.Ours {
		return bad
	}
	// From here on it is no crash to anybody, whatever happens to its files.
	if err := root.Rename(name, removing+name); err != nil {
		return err
	}
	return empty(root, removing+name)
}

// Sweep takes away what earlier calls of [Remove] have left, in a directory that
// may not exist.
func Sweep(dir string) error {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer root.Close()
	entries, err := readDir(root, ".")
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), removing); !ok || !e.IsDir() || !left(root, e.Name(), name) {
			continue
		}
		errs = append(errs, empty(root, e.Name()))
	}
	return errors.Join(errs...)
}

// left tells whether a directory is what Remove has left of a crash: its manifest
// goes last.
func left(root *os.Root, now, name string) bool {
	entries, err := readDir(root, now)
	if err != nil || len(entries) == 0 {
		return err == nil
	}
	sub, err := root.OpenRoot(now)
	if err != nil {
		return false
	}
	defer sub.Close()
	text, err := readFile(sub, manifestFile, maxManifest)
	if err != nil {
		return false
	}
	c, err := parse(name, text, nil)
	return err == nil && c.Ours
}

// empty removes a directory of root, its manifest last.
func empty(root *os.Root, name string) error {
	entries, err := readDir(root, name)
	if err != nil {
		return err
	}
	sub, err := root.OpenRoot(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	for _, e := range entries {
		if e.Name() == manifestFile {
			continue
		}
		if err := sub.RemoveAll(e.Name()); err != nil {
			return err
		}
	}
	if err := sub.Remove(manifestFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return root.Remove(name)
}
