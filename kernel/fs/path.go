package fs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Bounds of a path: PATH_MAX and NAME_MAX of include/uapi/linux/limits.h. A
// path has a name for each directory and passes a mount for some.
const (
	maxPath  = 4096
	maxName  = 255
	maxSteps = 2 * maxPath
)

// Paths finds the names of files that a dead kernel had open or mounted: struct
// path, include/linux/path.h, struct dentry, include/linux/dcache.h, struct
// mount, fs/mount.h (Linux 6.1 to 7.2).
type Paths struct {
	k                                         *kernel.Kernel
	mount, vfsmount, dentry, qstr, path, file *kernel.StructReader
}

// NewPaths prepares to find paths. The error is that of [kernel.Kernel.Struct].
func NewPaths(k *kernel.Kernel) (*Paths, error) {
	p := &Paths{k: k}
	for _, s := range []struct {
		r       **kernel.StructReader
		name    string
		members []string
	}{
		{&p.mount, "mount", []string{"mnt_parent", "mnt_mountpoint", "mnt", "mnt_devname"}},
		{&p.vfsmount, "vfsmount", []string{"mnt_root", "mnt_sb", "mnt_flags"}},
		{&p.dentry, "dentry", []string{"d_parent", "d_name"}},
		{&p.qstr, "qstr", []string{"len", "name"}},
		{&p.path, "path", []string{"mnt", "dentry"}},
		{&p.file, "file", []string{"f_path"}},
	} {
		var err error
		if *s.r, err = k.Struct(s.name, s.members...); err != nil {
			return nil, fmt.Errorf("paths: %w", err)
		}
	}
	return p, nil
}

// File is the path of an open file, by the address of its struct file. What is
// in no directory, like a pipe or memory with a name, has a name that does not
// begin with "/"; it may be empty.
func (p *Paths) File(file kernel.VirtAddr) (string, error) {
	o, err := p.file.At(file)
	if err != nil {
		return "", err
	}
	at := p.path.In(o, "f_path", 0)
	return p.Of(at.Pointer("mnt"), at.Pointer("dentry"))
}

// Of is the path that a struct path leads to: its vfsmount and its dentry. It
// is absolute in the mount namespace of the vfsmount.
func (p *Paths) Of(mnt, dentry kernel.VirtAddr) (string, error) {
	s, err := p.walk(mnt-kernel.VirtAddr(p.mount.Offset("mnt")), dentry)
	if err != nil {
		return "", fmt.Errorf("path of dentry %v: %w", dentry, err)
	}
	return s, nil
}

// walk goes from a dentry in a mount to the root.
func (p *Paths) walk(mount, dentry kernel.VirtAddr) (string, error) {
	m, err := p.mount.At(mount)
	if err != nil {
		return "", err
	}
	root := p.vfsmount.In(m, "mnt", 0).Pointer("mnt_root")
	var names []string // the last one first
	length := 0
	for range maxSteps {
		if dentry == root {
			up := m.Pointer("mnt_parent")
			if up == 0 || up == mount {
				return "/" + joined(names), nil
			}
			mount, dentry = up, m.Pointer("mnt_mountpoint")
			if m, err = p.mount.At(mount); err != nil {
				return "", err
			}
			root = p.vfsmount.In(m, "mnt", 0).Pointer("mnt_root")
			continue
		}
		d, err := p.dentry.At(dentry)
		if err != nil {
			return "", err
		}
		name, err := p.name(d)
		if err != nil {
			return "", err
		}
		names = append(names, name)
		if length += len(name) + 1; length > maxPath {
			return "", fmt.Errorf("longer than %d bytes: %w", maxPath, kernel.ErrCorrupt)
		}
		up := d.Pointer("d_parent")
		if up == dentry {
			// It hangs in no directory of the mount.
			return joined(names), nil
		}
		dentry = up
	}
	return "", fmt.Errorf("more than %d steps from the root: %w", maxSteps, kernel.ErrCorrupt)
}

func joined(names []string) string {
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// name is the name of a dentry. Short names lie in the dentry itself, long ones
// elsewhere; the pointer leads to either.
func (p *Paths) name(dentry kernel.Object) (string, error) {
	q := p.qstr.In(dentry, "d_name", 0)
	n := q.Uint("len")
	if n > maxName {
		return "", fmt.Errorf("name of %d bytes in dentry %v: %w", n, dentry.Addr, kernel.ErrCorrupt)
	}
	name, err := p.k.ReadString(q.Pointer("name"), int(n))
	if err != nil {
		return "", fmt.Errorf("name in dentry %v: %w", dentry.Addr, err)
	}
	return name, nil
}
