package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
)

// initramfs is what a guest's root is made of. Paths are absolute in the
// guest; directories come by themselves.
type initramfs struct {
	files map[string]string // path → file of this machine
	links map[string]string // path → target
	texts map[string][]byte // path → contents
}

func newInitramfs() *initramfs {
	return &initramfs{
		files: map[string]string{}, texts: map[string][]byte{},
		// A merged /usr, as Debian has it.
		links: map[string]string{"/bin": "usr/bin", "/sbin": "usr/sbin", "/lib": "usr/lib"},
	}
}

// script puts what the guest shall do.
func (i *initramfs) script(s *script.Script) error {
	text, err := json.MarshalIndent(s, "", "  ")
	i.texts[script.Path] = text
	return err
}

// tree puts every file below root, except where skip says no.
func (i *initramfs) tree(root string, skip func(path string) bool) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at := "/" + strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		switch {
		case at == "/":
		case skip != nil && skip(at):
			if d.IsDir() {
				return filepath.SkipDir
			}
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			i.links[at] = target
		case d.Type().IsRegular():
			i.files[at] = path
		}
		return nil
	})
}

// write makes the archive, uncompressed: unpacking costs more under emulation
// than reading.
func (i *initramfs) write(w io.Writer) error {
	c := cpio.NewWriter(w)
	made := map[string]bool{"/": true}
	var mkdir func(path string) error
	mkdir = func(path string) error {
		if made[path] {
			return nil
		}
		made[path] = true
		if err := mkdir(filepath.Dir(path)); err != nil {
			return err
		}
		return c.WriteHeader(&cpio.Header{Name: path[1:], Mode: cpio.TypeDir | 0o755, Links: 2})
	}
	for _, path := range slices.Sorted(maps.Keys(i.links)) {
		if err := mkdir(filepath.Dir(path)); err != nil {
			return err
		}
		target := i.links[path]
		if err := c.WriteHeader(&cpio.Header{Name: path[1:], Mode: cpio.TypeSymlink | 0o777, Links: 1, Size: int64(len(target))}); err != nil {
			return err
		}
		if _, err := io.WriteString(c, target); err != nil {
			return err
		}
	}
	for _, path := range slices.Sorted(maps.Keys(i.files)) {
		if err := mkdir(filepath.Dir(path)); err != nil {
			return err
		}
		if err := writeFile(c, path, i.files[path]); err != nil {
			return fmt.Errorf("initramfs: %s: %w", path, err)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(i.texts)) {
		if err := mkdir(filepath.Dir(path)); err != nil {
			return err
		}
		if err := c.WriteHeader(&cpio.Header{Name: path[1:], Mode: cpio.TypeReg | 0o644, Links: 1, Size: int64(len(i.texts[path]))}); err != nil {
			return err
		}
		if _, err := c.Write(i.texts[path]); err != nil {
			return err
		}
	}
	return c.Close()
}

func writeFile(c *cpio.Writer, path, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	mode := cpio.TypeReg | cpio.FileMode(st.Mode().Perm()|0o444)
	if err := c.WriteHeader(&cpio.Header{Name: path[1:], Mode: mode, Links: 1, Size: st.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(c, f)
	return err
}

func (i *initramfs) save(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = i.write(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
