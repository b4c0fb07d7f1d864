// Package device finds what stands between a directory and the hardware: the
// mount, the block device, the chain of drivers under it as sysfs shows it,
// and the filesystem's own name (UUID). The healthy system asks these
// questions, so that the crash kernel gets a plan; there, where devices come
// up in any order under any name, [Wait] finds the filesystem again.
//
// Everything is read through an fs.FS that is rooted at "/", so that a
// recorded machine answers like a running one.
package device

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

var (
	// ErrNotBlock: the filesystem is on no block device of its own: tmpfs, NFS,
	// overlay and the like.
	ErrNotBlock = errors.New("not on a block device")
	// ErrStacked: the block device is made of others in a way that the crash
	// environment cannot build again.
	ErrStacked = errors.New("block device is made of others")
	// ErrUnknownFilesystem: no superblock of a known filesystem was found.
	ErrUnknownFilesystem = errors.New("no known filesystem")
)

// Mount is one line of /proc/PID/mountinfo, proc_pid_mountinfo(5).
type Mount struct {
	Major, Minor uint32
	Root         string // what of the filesystem is mounted, "/" is all
	Point        string // where it is mounted
	Options      string // of this mount
	Type         string // of the filesystem, like ext4
	Source       string // like /dev/vda1
	SuperOptions string // of the filesystem
}

// Option is the value of an option of the filesystem, like the "437" of
// "codepage=437".
func (m *Mount) Option(name string) (value string, ok bool) {
	for o := range strings.SplitSeq(m.SuperOptions, ",") {
		if k, v, _ := strings.Cut(o, "="); k == name {
			return v, true
		}
	}
	return "", false
}

// ReadOnly tells whether the mount or its filesystem is read-only.
func (m *Mount) ReadOnly() bool {
	for _, options := range []string{m.Options, m.SuperOptions} {
		for o := range strings.SplitSeq(options, ",") {
			if o == "ro" {
				return true
			}
		}
	}
	return false
}

// maxMountLine bounds a line of mountinfo; overlay mounts list many
// directories.
const maxMountLine = 1 << 20

// ParseMounts reads the text of mountinfo, in the order in which it shadows:
// of two mounts on one point, the later hides the earlier.
func ParseMounts(r io.Reader) ([]Mount, error) {
	var mounts []Mount
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxMountLine)
	for n := 1; s.Scan(); n++ {
		m, err := parseMount(s.Text())
		if err != nil {
			return nil, fmt.Errorf("mountinfo line %d: %w", n, err)
		}
		mounts = append(mounts, m)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("mountinfo: %w", err)
	}
	return mounts, nil
}

// parseMount reads "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3
// /dev/root rw,errors=continue": after six fields any number of optional ones
// up to a lone hyphen.
func parseMount(line string) (Mount, error) {
	f := strings.Split(line, " ")
	if len(f) < 10 {
		return Mount{}, fmt.Errorf("%d fields, at least 10 expected", len(f))
	}
	hyphen := 6
	for hyphen < len(f) && f[hyphen] != "-" {
		hyphen++
	}
	if hyphen+3 >= len(f) {
		return Mount{}, errors.New("no separator with three fields after it")
	}
	major, minor, err := ParseNumber(f[2])
	if err != nil {
		return Mount{}, err
	}
	return Mount{
		Major: major, Minor: minor,
		Root: unescape(f[3]), Point: unescape(f[4]), Options: unescape(f[5]),
		Type: unescape(f[hyphen+1]), Source: unescape(f[hyphen+2]),
		SuperOptions: unescape(f[hyphen+3]),
	}, nil
}

// ParseNumber reads a device number as the kernel writes it, MAJOR:MINOR.
func ParseNumber(s string) (major, minor uint32, err error) {
	a, b, ok := strings.Cut(strings.TrimSpace(s), ":")
	x, err1 := strconv.ParseUint(a, 10, 32)
	y, err2 := strconv.ParseUint(b, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("device number %q is not MAJOR:MINOR", s)
	}
	return uint32(x), uint32(y), nil
}

// unescape undoes mangle() of fs/proc_namespace.c (Linux 7.2): space, tab,
// newline, backslash and hash stand as \ooo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// FindMount says on which mount the absolute path dir is, and which path dir
// has within that filesystem. dir must be free of symbolic links.
func FindMount(fsys fs.FS, dir string) (m *Mount, inside string, err error) {
	text, err := fs.ReadFile(fsys, "proc/self/mountinfo")
	if err != nil {
		return nil, "", err
	}
	mounts, err := ParseMounts(bytes.NewReader(text))
	if err != nil {
		return nil, "", err
	}
	return findMount(mounts, dir)
}

func findMount(mounts []Mount, dir string) (m *Mount, inside string, err error) {
	if !path.IsAbs(dir) {
		return nil, "", fmt.Errorf("%s: not an absolute path", dir)
	}
	dir = path.Clean(dir)
	for i := range mounts {
		if rel, ok := below(dir, mounts[i].Point); ok && (m == nil || len(mounts[i].Point) >= len(m.Point)) {
			m, inside = &mounts[i], path.Join("/", mounts[i].Root, rel)
		}
	}
	if m == nil {
		return nil, "", fmt.Errorf("%s: on no mount", dir)
	}
	return m, inside, nil
}

// below gives the path of dir below point, if it is there.
func below(dir, point string) (string, bool) {
	if point == "/" {
		return dir, true
	}
	rel, ok := strings.CutPrefix(dir, point)
	return rel, ok && (rel == "" || rel[0] == '/')
}
