package boot

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"
)

// Archive writes an initramfs: a cpio archive in the "newc" format (kernel:
// Documentation/driver-api/early-userspace/buffer-format.rst, 6.12). The same
// calls give the same bytes: there are no times, owners or inode numbers of the
// machine in it.
//
// It is ours, and not that of cavaliergopher/cpio, because that one cannot
// write the number of a device node; the tests read the result with it.
type Archive struct {
	w     io.Writer
	size  int64
	files int64 // bytes of the files, rounded up to pages
	inode uint32
	known map[string]bool // names written; true for directories
	err   error           // of the writer: what is written is broken
}

// archivePage is what a file is rounded up to in the tmpfs that it is unpacked to.
const archivePage = 4096

// ErrArchive is wrapped by errors about what cannot be put into an archive.
var ErrArchive = errors.New("initramfs")

// Types of files, include/uapi/linux/stat.h.
const (
	typeMask    = 0o170000
	typeDir     = 0o040000
	typeChar    = 0o020000
	typeFile    = 0o100000
	typeSymlink = 0o120000
)

// maxName is the kernel's PATH_MAX, NUL included (init/initramfs.c do_header).
const maxName = 4096

// NewArchive begins an archive.
func NewArchive(w io.Writer) *Archive {
	return &Archive{w: w, known: map[string]bool{}}
}

// Size is the number of bytes of the archive so far.
func (a *Archive) Size() int64 { return a.size }

// Unpacked is the memory that the files take once the kernel has unpacked them,
// in bytes: whole pages.
func (a *Archive) Unpacked() int64 { return a.files }

// Dir adds a directory with mode 0755; one that is there already is left alone.
// Like all other calls it adds the missing directories above, too.
func (a *Archive) Dir(dir string) error {
	name, err := a.enter(dir)
	if err != nil || a.known[name] {
		return err
	}
	return a.entry(name, header{mode: typeDir | 0o755, links: 2}, nil, 0)
}

// File adds a regular file of exactly size bytes with the permissions perm.
func (a *Archive) File(file string, perm uint32, size int64, r io.Reader) error {
	name, err := a.enter(file)
	if err != nil {
		return err
	}
	if err := a.entry(name, header{mode: typeFile | perm&0o7777, links: 1}, r, size); err != nil {
		return err
	}
	a.files += (size + archivePage - 1) / archivePage * archivePage
	return nil
}

// Symlink adds a symbolic link to target.
func (a *Archive) Symlink(target, link string) error {
	name, err := a.enter(link)
	if err != nil {
		return err
	}
	if target == "" || len(target) >= maxName || strings.Contains(target, "\x00") {
		return fmt.Errorf("%w: link %s: target %q", ErrArchive, name, target)
	}
	return a.entry(name, header{mode: typeSymlink | 0o777, links: 1}, strings.NewReader(target), int64(len(target)))
}

// CharDevice adds a character device node.
//
// /dev/console (5, 1) belongs in every initramfs: the kernel opens it for PID 1
// before that runs (init/main.c console_on_rootfs, 6.12), and a Go program that
// starts without its three descriptors and without /dev/null aborts. The
// archive built into most kernels has the node (usr/default_cpio_list), but a
// kernel built with CONFIG_INITRAMFS_SOURCE need not.
func (a *Archive) CharDevice(file string, perm, major, minor uint32) error {
	name, err := a.enter(file)
	if err != nil {
		return err
	}
	return a.entry(name, header{mode: typeChar | perm&0o7777, links: 1, major: major, minor: minor}, nil, 0)
}

// Close writes the trailer. It does not close the writer below.
func (a *Archive) Close() error {
	if a.err != nil {
		return a.err
	}
	if err := a.raw("TRAILER!!!", header{links: 1}, nil, 0); err != nil {
		return err
	}
	a.err = fmt.Errorf("%w: archive is closed", ErrArchive)
	return nil
}

// enter checks a name ("init", "/init" and "./init" are the same) and adds the
// missing parents.
func (a *Archive) enter(name string) (string, error) {
	if a.err != nil {
		return "", a.err
	}
	clean := strings.TrimPrefix(path.Clean("/"+name), "/")
	// The kernel unpacks where it is told: no way out, and no way to end.
	if clean == "" || len(clean) >= maxName || strings.Contains(clean, "\x00") || clean == "TRAILER!!!" {
		return "", fmt.Errorf("%w: name %q", ErrArchive, name)
	}
	if parent := path.Dir(clean); parent != "." {
		if dir, ok := a.known[parent]; ok && !dir {
			return "", fmt.Errorf("%w: %s is below %s, which is no directory", ErrArchive, clean, parent)
		} else if !ok {
			if err := a.Dir(parent); err != nil {
				return "", err
			}
		}
	}
	return clean, nil
}

func (a *Archive) entry(name string, h header, body io.Reader, size int64) error {
	if _, ok := a.known[name]; ok {
		return fmt.Errorf("%w: %s is there already", ErrArchive, name)
	}
	a.known[name] = h.mode&typeMask == typeDir
	a.inode++
	h.inode = a.inode
	return a.raw(name, h, body, size)
}

// header is what varies in the header of an entry.
type header struct {
	inode, mode, links uint32
	major, minor       uint32 // of a device node
}

// raw writes one entry: 110 bytes of header in hexadecimal, the name and its
// NUL, the body; name and body end at multiples of 4 bytes. An error stays.
func (a *Archive) raw(name string, h header, body io.Reader, size int64) error {
	if size < 0 || size > math.MaxUint32 {
		return fmt.Errorf("%w: %s has %d bytes, the format ends at %d", ErrArchive, name, size, uint32(math.MaxUint32))
	}
	b := []byte("070701")
	for _, v := range [...]uint32{
		h.inode, h.mode, 0, 0, h.links, 0, uint32(size),
		0, 0, h.major, h.minor, uint32(len(name) + 1), 0,
	} {
		b = fmt.Appendf(b, "%08x", v)
	}
	b = append(b, name...)
	b = append(b, 0)
	b = append(b, make([]byte, -len(b)&3)...)
	a.write(name, b)
	if size > 0 && a.err == nil {
		n, err := io.CopyN(a.w, body, size)
		a.size += n
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			a.err = fmt.Errorf("%w: %s: %d of %d bytes: %w", ErrArchive, name, n, size, err)
		}
	}
	a.write(name, make([]byte, -size&3))
	return a.err
}

func (a *Archive) write(name string, b []byte) {
	if a.err != nil || len(b) == 0 {
		return
	}
	n, err := a.w.Write(b)
	a.size += int64(n)
	if err != nil {
		a.err = fmt.Errorf("%w: %s: %w", ErrArchive, name, err)
	}
}
