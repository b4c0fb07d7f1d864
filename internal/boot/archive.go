package boot

import (
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/cavaliergopher/cpio"
)

// Archive writes an initramfs: a cpio archive in "newc" format, as
// Documentation/driver-api/early-userspace/buffer-format.rst of Linux 7.2
// describes it. The same calls make the same bytes: there are no times, owners
// or inode numbers of this machine in it.
//
// There are no device nodes: the archive that is built into every kernel has
// /dev/console (usr/default_cpio_list), and devtmpfs has the rest.
type Archive struct {
	w     *cpio.Writer
	count *countingWriter
	dirs  map[string]bool
	inode int64
	files int64 // bytes of the files, rounded up to pages
}

// archivePage is what a file is rounded up to in the tmpfs that it is unpacked to.
const archivePage = 4096

// NewArchive begins an archive.
func NewArchive(w io.Writer) *Archive {
	count := &countingWriter{w: w}
	return &Archive{w: cpio.NewWriter(count), count: count, dirs: map[string]bool{}}
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// name takes an absolute path to the archive's form, without the first slash.
func (a *Archive) name(file string) (string, error) {
	clean := path.Clean("/" + file)
	if clean == "/" || len(clean) > 1024 || strings.ContainsRune(clean, 0) {
		return "", fmt.Errorf("initramfs: %q cannot be the name of a file", file)
	}
	return clean[1:], nil
}

func (a *Archive) header(name string, mode cpio.FileMode, size int64, link string) error {
	a.inode++
	links := 1
	if mode&cpio.ModeType == cpio.TypeDir {
		links = 2
	}
	return a.w.WriteHeader(&cpio.Header{
		Name: name, Linkname: link, Links: links, Size: size, Mode: mode, Inode: a.inode,
	})
}

// Dir adds a directory with mode 0755, and those above it. One that is there
// already is left alone.
func (a *Archive) Dir(dir string) error {
	name, err := a.name(dir)
	if err != nil {
		return err
	}
	if a.dirs[name] {
		return nil
	}
	if up := path.Dir(name); up != "." {
		if err := a.Dir(up); err != nil {
			return err
		}
	}
	if err := a.header(name, cpio.TypeDir|0o755, 0, ""); err != nil {
		return fmt.Errorf("initramfs: directory %s: %w", name, err)
	}
	a.dirs[name] = true
	return nil
}

// parents adds the directories above name.
func (a *Archive) parents(name string) error {
	if up := path.Dir(name); up != "." {
		return a.Dir(up)
	}
	return nil
}

// File adds a regular file of exactly size bytes with the permissions perm, and
// the directories above it.
func (a *Archive) File(file string, perm uint32, size int64, r io.Reader) error {
	name, err := a.name(file)
	if err != nil {
		return err
	}
	if size < 0 || size > 1<<32-1 {
		return fmt.Errorf("initramfs: %s: %d bytes do not fit the archive's 32-bit sizes", name, size)
	}
	if err := a.parents(name); err != nil {
		return err
	}
	if err := a.header(name, cpio.TypeReg|cpio.FileMode(perm&0o7777), size, ""); err != nil {
		return fmt.Errorf("initramfs: %s: %w", name, err)
	}
	n, err := io.Copy(a.w, io.LimitReader(r, size))
	if err != nil {
		return fmt.Errorf("initramfs: %s: %w", name, err)
	}
	if n != size {
		return fmt.Errorf("initramfs: %s ended after %d of %d bytes: %w", name, n, size, io.ErrUnexpectedEOF)
	}
	a.files += (size + archivePage - 1) / archivePage * archivePage
	return nil
}

// Symlink adds a symbolic link to target.
func (a *Archive) Symlink(target, link string) error {
	name, err := a.name(link)
	if err != nil {
		return err
	}
	if err := a.parents(name); err != nil {
		return err
	}
	// The target is the content.
	err = a.header(name, cpio.TypeSymlink|0o777, int64(len(target)), target)
	if err == nil {
		_, err = io.WriteString(a.w, target)
	}
	if err != nil {
		return fmt.Errorf("initramfs: link %s: %w", name, err)
	}
	return nil
}

// Size is the number of bytes of the archive so far.
func (a *Archive) Size() int64 { return a.count.n }

// Unpacked is the memory that the files take once the kernel has unpacked them,
// in bytes: whole pages.
func (a *Archive) Unpacked() int64 { return a.files }

// Close ends the archive. It does not close the writer below.
func (a *Archive) Close() error {
	if err := a.w.Close(); err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	return nil
}
