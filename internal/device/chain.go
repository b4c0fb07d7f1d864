package device

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Block is a block device as sysfs shows it.
type Block struct {
	Major, Minor uint32
	Name         string // in /dev, like vda1 or mapper/home
	Path         string // of its directory below "/", like sys/devices/…/block/vda/vda1
}

// Driver is a driver that the way to a block device leads through.
type Driver struct {
	Device   string // sysfs directory of the device, like sys/devices/…/virtio0
	Name     string // of the driver, like virtio_blk
	Module   string // that holds it; "" when it is built into the kernel
	Modalias string // by which the kernel asks for a module for the device
}

// stackedError is the error of a device that cannot be built again.
type stackedError struct {
	name   string
	slaves []string
}

func (e *stackedError) Error() string {
	return fmt.Sprintf("%s: %v (%s)", e.name, ErrStacked, strings.Join(e.slaves, ", "))
}
func (e *stackedError) Unwrap() error { return ErrStacked }
func (e *stackedError) Hints() []string {
	return []string{"choose a directory on a plain disk or partition: device-mapper, RAID and loop devices are not supported as targets yet"}
}

// notBlockError is the error of a filesystem without a device.
type notBlockError struct{ mount Mount }

func (e *notBlockError) Error() string {
	return fmt.Sprintf("%s (%s from %s): %v", e.mount.Point, e.mount.Type, e.mount.Source, ErrNotBlock)
}
func (e *notBlockError) Unwrap() error { return ErrNotBlock }
func (e *notBlockError) Hints() []string {
	return []string{"choose a directory on a local disk"}
}

// BlockOf finds the block device that a filesystem is mounted from. Errors
// wrap [ErrNotBlock] where there is none.
func BlockOf(fsys fs.FS, m *Mount) (*Block, error) {
	major, minor := m.Major, m.Minor
	if major == 0 {
		// btrfs gives each mount a number of its own; the device is in the
		// source, by its name.
		name := strings.ReplaceAll(strings.TrimPrefix(m.Source, "/dev/"), "/", "!")
		switch {
		case strings.HasPrefix(m.Source, "/dev/mapper/"):
			return nil, &stackedError{m.Source, []string{"device-mapper"}}
		case !strings.HasPrefix(m.Source, "/dev/") || !fs.ValidPath(name):
			return nil, &notBlockError{*m}
		}
		text, err := readSmall(fsys, path.Join("sys/class/block", name, "dev"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &notBlockError{*m}
		} else if err != nil {
			return nil, err
		}
		if major, minor, err = ParseNumber(text); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return FindBlock(fsys, major, minor)
}

// FindBlock finds a block device by its number.
func FindBlock(fsys fs.FS, major, minor uint32) (*Block, error) {
	dir, err := resolve(fsys, fmt.Sprintf("sys/dev/block/%d:%d", major, minor))
	if err != nil {
		return nil, err
	}
	b := &Block{Major: major, Minor: minor, Path: dir, Name: devName(fsys, dir)}
	return b, nil
}

// devName is the name of a block device's file in /dev.
func devName(fsys fs.FS, dir string) string {
	text, _ := readSmall(fsys, path.Join(dir, "uevent"))
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "DEVNAME="); ok && fs.ValidPath(strings.TrimSpace(name)) {
			return strings.TrimSpace(name)
		}
	}
	return strings.ReplaceAll(path.Base(dir), "!", "/")
}

// maxDevices bounds the walk through suppliers: a chain is some ten devices
// long, a board has some hundred suppliers.
const maxDevices = 4096

// Drivers lists the drivers on the way from a block device to the hardware,
// those nearest to the hardware first: its parents in sysfs, and those that
// the kernel says must be there before (device links: clocks, regulators,
// resets, PHYs, pin control). The error wraps [ErrStacked] for a device that
// the crash environment cannot put together.
func Drivers(fsys fs.FS, b *Block) ([]Driver, error) {
	w := &walk{fsys: fsys, seen: map[string]bool{}}
	disk := b.Path
	if _, err := fs.Stat(fsys, path.Join(disk, "partition")); err == nil {
		disk = path.Dir(disk)
	}
	slaves, err := names(fsys, path.Join(disk, "slaves"))
	if err != nil {
		return nil, err
	}
	if len(slaves) > 0 {
		return nil, &stackedError{b.Name, slaves}
	}
	if _, err := fs.Stat(fsys, path.Join(disk, "loop")); err == nil {
		return nil, &stackedError{b.Name, []string{"a file"}}
	}
	if err := w.device(disk); err != nil {
		return nil, fmt.Errorf("%s: %w", b.Name, err)
	}
	return w.drivers, nil
}

// ClassDrivers lists the drivers under a device of a class, named by its link
// below /sys/class, like sys/class/watchdog/watchdog0; in the order of
// [Drivers].
func ClassDrivers(fsys fs.FS, link string) ([]Driver, error) {
	dir, err := resolve(fsys, link)
	if err != nil {
		return nil, err
	}
	w := &walk{fsys: fsys, seen: map[string]bool{}}
	err = w.device(dir)
	return w.drivers, err
}

// NetDrivers lists the drivers under a network device, in the order of
// [Drivers]. That of its PHY is among them, which hangs on another bus, and that
// of the physical function which a virtual one is part of.
func NetDrivers(fsys fs.FS, name string) ([]Driver, error) {
	if !fs.ValidPath(name) || strings.Contains(name, "/") {
		return nil, fmt.Errorf("network device %q", name)
	}
	return ClassDrivers(fsys, path.Join("sys/class/net", name))
}

// walk collects the drivers of devices, each once.
type walk struct {
	fsys    fs.FS
	seen    map[string]bool
	drivers []Driver
}

// device visits the parents of a device, then its suppliers, then itself.
func (w *walk) device(dir string) error {
	const top = "sys/devices"
	if dir == top || !strings.HasPrefix(dir, top+"/") || w.seen[dir] {
		return nil
	}
	if len(w.seen) >= maxDevices {
		return fmt.Errorf("more than %d devices are needed", maxDevices)
	}
	w.seen[dir] = true
	if err := w.device(path.Dir(dir)); err != nil {
		return err
	}
	links, err := names(w.fsys, dir)
	if err != nil {
		return err
	}
	for _, name := range links {
		var next string
		switch {
		case strings.HasPrefix(name, "supplier:"):
			// A link to a device of class devlink, which has a link to the
			// supplier (drivers/base/core.c, Linux 7.2).
			link, err := resolve(w.fsys, path.Join(dir, name))
			if err != nil {
				continue
			}
			next, err = resolve(w.fsys, path.Join(link, "supplier"))
			if err != nil {
				continue
			}
		case name == "phydev" || name == "physfn":
			if next, err = resolve(w.fsys, path.Join(dir, name)); err != nil {
				continue
			}
		case path.Base(path.Dir(dir)) == "nvme-subsystem" && strings.HasPrefix(name, "nvme"):
			// A namespace with several paths hangs on no controller but on a
			// virtual subsystem with links to them.
			if next, err = resolve(w.fsys, path.Join(dir, name)); err != nil {
				continue
			}
		default:
			continue
		}
		if err := w.device(next); err != nil {
			return err
		}
	}
	driver, err := resolve(w.fsys, path.Join(dir, "driver"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	d := Driver{Device: dir, Name: path.Base(driver)}
	if module, err := resolve(w.fsys, path.Join(driver, "module")); err == nil && loadable(w.fsys, module) {
		d.Module = path.Base(module)
	}
	alias, err := readSmall(w.fsys, path.Join(dir, "modalias"))
	if err == nil {
		d.Modalias = strings.TrimSpace(alias)
	}
	w.drivers = append(w.drivers, d)
	return nil
}

// names lists a directory, sorted; one that does not exist has none.
func names(fsys fs.FS, dir string) ([]string, error) {
	entries, err := fs.ReadDir(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	slices.Sort(all)
	return all, err
}

// resolve follows one symbolic link of sysfs, whose targets are relative and
// have no links in them.
func resolve(fsys fs.FS, link string) (string, error) {
	to, err := fs.ReadLink(fsys, link)
	if err != nil {
		return "", err
	}
	p := path.Join(path.Dir(link), to)
	if path.IsAbs(to) || !fs.ValidPath(p) {
		return "", fmt.Errorf("link %s leads to %q", link, to)
	}
	return p, nil
}

// maxAttribute is one page, the most that a file of sysfs holds.
const maxAttribute = 4096

func readSmall(fsys fs.FS, name string) (string, error) {
	text, err := fs.ReadFile(fsys, name)
	if len(text) > maxAttribute {
		text = text[:maxAttribute]
	}
	return string(text), err
}

// Modules lists kernel modules that a filesystem asks for by name while it is
// mounted, beside its own: in the crash kernel there is no modprobe to answer.
func (m *Mount) Modules() []string {
	all := []string{"fs-" + m.Type}
	switch m.Type {
	case "vfat", "msdos", "fat":
		// fs/fat/inode.c (Linux 7.2) loads both character sets or fails.
		for _, o := range []struct{ option, prefix string }{{"codepage", "nls_cp"}, {"iocharset", "nls_"}} {
			if v, ok := m.Option(o.option); ok && v != "" {
				all = append(all, o.prefix+v)
			}
		}
	}
	return all
}

// loadable tells whether the directory of a module below /sys/module is one of
// a file that was loaded. What is built in may have a directory too, for its
// parameters or, since Linux 7.0, for its drivers; only a loaded one has a state
// (kernel/module/main.c, modinfo_attrs, Linux 7.2).
func loadable(fsys fs.FS, module string) bool {
	_, err := fs.Stat(fsys, path.Join(module, "initstate"))
	return err == nil
}
