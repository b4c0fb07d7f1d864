package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// Disk is a filesystem in an image file; nothing here needs root.
type Disk struct {
	SizeMiB int
	// Type is ext4, which "" is too, xfs, btrfs, f2fs or vfat. What is on the others
	// is only seen by a guest: [Outcome.Files] and Files are of ext4.
	Type     string
	Serial   string // how the guest finds it
	ReadOnly bool   // the disk itself refuses to be written
	Features string // of mkfs.ext4 -O, like "^metadata_csum"
	// Files are on it from the start: name → path on this machine.
	Files map[string]string
	// Image is a disk of an earlier run, which is moved here instead of making
	// one; nothing else but Type counts then.
	Image string
}

// makers are the programs that make filesystems, and their Debian packages.
var makers = map[string]struct {
	name, pkg string
	args      []string
}{
	"ext4":  {"mkfs.ext4", "e2fsprogs", []string{"-q", "-F", "-m", "0", "-E", "root_owner=0:0"}},
	"xfs":   {"mkfs.xfs", "xfsprogs", []string{"-q"}},
	"btrfs": {"mkfs.btrfs", "btrfs-progs", []string{"-q"}},
	"f2fs":  {"mkfs.f2fs", "f2fs-tools", []string{"-q"}},
	"vfat":  {"mkfs.vfat", "dosfstools", []string{"-F", "32"}},
}

// FilesystemModules are the modules that a kernel needs to mount a filesystem.
// Debian's kernels have vfat's character sets as modules, and mount asks for those of
// the configuration (CONFIG_FAT_DEFAULT_CODEPAGE and _IOCHARSET).
func FilesystemModules(kind string) []string {
	if kind == "vfat" {
		return []string{"nls_cp437", "nls_ascii", "vfat"}
	}
	return []string{kind}
}

// filesystem is Type with its default.
func (d *Disk) filesystem() string {
	if d.Type == "" {
		return "ext4"
	}
	return d.Type
}

// make makes the image: a sparse file.
func (d *Disk) make(ctx context.Context, path string) error {
	if d.Image != "" {
		return os.Rename(d.Image, path)
	}
	maker, ok := makers[d.filesystem()]
	if !ok {
		return fmt.Errorf("disk: no way to make %s here", d.Type)
	}
	mkfs, err := program(maker.name, maker.pkg)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(int64(d.SizeMiB) << 20)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	args := slices.Clone(maker.args)
	if d.Features != "" {
		args = append(args, "-O", d.Features)
	}
	if len(d.Files) > 0 {
		root := path + ".root"
		defer os.RemoveAll(root)
		if err := d.lay(root); err != nil {
			return err
		}
		args = append(args, "-d", root)
	}
	if _, err := exec.CommandContext(ctx, mkfs, append(args, path)...).Output(); err != nil {
		return fmt.Errorf("%s: %w", maker.name, exitText(err))
	}
	return nil
}

// lay makes the directory that the disk's files are copied from, without copies.
func (d *Disk) lay(root string) error {
	for name, from := range d.Files {
		at := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := os.Link(from, at); err == nil {
			continue
		}
		// The cache may lie on another filesystem.
		if err := copyFile(at, from); err != nil {
			return err
		}
	}
	return nil
}

// recoverDisk brings a filesystem that was not unmounted to the state of its
// journal, as the next mount would. It tells whether that was not needed.
func recoverDisk(ctx context.Context, image string) (clean bool, err error) {
	fsck, err := program("e2fsck", "e2fsprogs")
	if err != nil {
		return false, err
	}
	out, err := exec.CommandContext(ctx, fsck, "-p", image).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 {
		return false, nil // something was corrected
	}
	if err != nil {
		return false, fmt.Errorf("e2fsck: %w: %s", err, out)
	}
	return !bytes.Contains(out, []byte("recovering journal")), nil
}

// ExtractDisk copies everything in a filesystem into a directory. It tells
// whether the filesystem had been unmounted and is whole.
func ExtractDisk(ctx context.Context, image, dir string) (clean bool, err error) {
	debugfs, err := program("debugfs", "e2fsprogs")
	if err != nil {
		return false, err
	}
	if clean, err = recoverDisk(ctx, image); err != nil {
		return false, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	abs, err := filepath.Abs(image)
	if err != nil {
		return false, err
	}
	c := exec.CommandContext(ctx, debugfs, "-R", "rdump / .", abs)
	c.Dir = dir // so that no path needs quoting in debugfs's language
	// debugfs cannot give files away without root and says so for each; its
	// exit code tells nothing either way.
	if out, err := c.CombinedOutput(); err != nil {
		return false, fmt.Errorf("debugfs: %w: %s", err, out)
	}
	return clean, nil
}
