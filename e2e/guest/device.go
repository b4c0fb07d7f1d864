package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// deviceLimit is how long a device may take to appear, under emulation on a
// busy machine.
const deviceLimit = 60 * time.Second

// uevents hears of new devices.
type uevents struct{ socket *os.File }

func newUevents() (*uevents, error) {
	s, err := sys.UeventSocket()
	if err != nil {
		return nil, err
	}
	return &uevents{s}, nil
}

func (u *uevents) close() { u.socket.Close() }

// wait calls found now and after each event until it gives a path.
func (u *uevents) wait(what string, found func() string) (string, error) {
	if err := u.socket.SetReadDeadline(time.Now().Add(deviceLimit)); err != nil {
		return "", err
	}
	message := make([]byte, 64<<10)
	for {
		if path := found(); path != "" {
			return path, nil
		}
		if _, err := u.socket.Read(message); err != nil {
			return "", fmt.Errorf("%s: waited for %s: %w", what, deviceLimit, err)
		}
	}
}

// openPort opens the virtio port with that name: the links by name that udev
// would make are not there.
func openPort(u *uevents, name string) (*os.File, error) {
	path, err := u.wait("virtio port "+name, func() string {
		return deviceWith("/sys/class/virtio-ports/*/name", name)
	})
	if err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}

// diskOf is the device of the disk with that serial, "" if there is none.
func diskOf(serial string) string { return deviceWith("/sys/block/*/serial", serial) }

// deviceWith is the device file of the device whose attribute has that value.
func deviceWith(pattern, value string) string {
	paths, _ := filepath.Glob(pattern)
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil || strings.TrimSpace(string(text)) != value {
			continue
		}
		dev := "/dev/" + filepath.Base(filepath.Dir(p))
		if _, err := os.Stat(dev); err == nil {
			return dev
		}
	}
	return ""
}

func mountDisk(u *uevents, m script.Mount) error {
	dev, err := u.wait("disk "+m.Serial, func() string { return diskOf(m.Serial) })
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.Target, 0o755); err != nil {
		return err
	}
	var flags sys.MountFlags
	if m.ReadOnly {
		flags |= sys.MountReadOnly
	}
	if err := sys.Mount(dev, m.Target, m.Type, flags, m.Data); err != nil {
		return fmt.Errorf("%s on %s: %w", dev, m.Target, err)
	}
	return nil
}

// mapDisk makes a device of a part of a disk, as LVM does, and mounts it.
func mapDisk(m *script.Map) error {
	number, err := diskNumber(m.Serial)
	if err != nil {
		return err
	}
	_, minor, err := sys.MapperCreate(m.Name, []sys.MapperTarget{{Length: m.Sectors, Type: "linear",
		Params: fmt.Sprintf("%d:%d %d", number[0], number[1], m.From)}})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.Target, 0o755); err != nil {
		return err
	}
	return sys.Mount(fmt.Sprintf("/dev/dm-%d", minor), m.Target, m.Type, 0, "")
}

// mirror makes a device of equal disks, as mdadm does, and mounts it.
func mirror(m *script.Mirror) error {
	var members [][2]uint32
	for _, s := range m.Serials {
		number, err := diskNumber(s)
		if err != nil {
			return err
		}
		members = append(members, number)
	}
	device, err := sys.RAIDAssemble(0, 2, members)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.Target, 0o755); err != nil {
		return err
	}
	return sys.Mount(device, m.Target, m.Type, 0, "")
}

// diskNumber is the number of the disk with that serial.
func diskNumber(serial string) (n [2]uint32, err error) {
	disk := diskOf(serial)
	if disk == "" {
		return n, fmt.Errorf("no disk %s", serial)
	}
	text, err := os.ReadFile("/sys/class/block/" + filepath.Base(disk) + "/dev")
	if err != nil {
		return n, err
	}
	_, err = fmt.Sscanf(string(text), "%d:%d", &n[0], &n[1])
	return n, err
}
