package sys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Calls of MD and what they take, include/uapi/linux/raid/md_u.h.
const (
	mdMajor        = 9
	mdSetArrayInfo = 0x40480923
	mdAddNewDisk   = 0x40140921
	mdRunArray     = 0x400c0930
)

type mdArrayInfo struct {
	major, minor, patch int32 // of the metadata
	_                   [15]int32
}

type mdDiskInfo struct{ number, major, minor, raidDisk, state int32 }

// RAIDAssemble starts an array of MD with metadata of version 1.minor as
// /dev/mdNUMBER, of members by their device numbers; all else stands in their
// superblocks. The driver of the array's level must be there.
func RAIDAssemble(number uint32, minor int, members [][2]uint32) (device string, err error) {
	device = fmt.Sprintf("/dev/md%d", number)
	// Opening the node makes the device.
	if err := unix.Mknod(device, unix.S_IFBLK|0o600, int(unix.Mkdev(mdMajor, number))); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", &os.PathError{Op: "mknod", Path: device, Err: err}
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	call := func(name string, request uintptr, arg unsafe.Pointer) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
			return os.NewSyscallError("ioctl "+name, errno)
		}
		return nil
	}
	// Without a number of disks this says only where superblocks are.
	info := &mdArrayInfo{major: 1, minor: int32(minor)}
	if err := call("SET_ARRAY_INFO", mdSetArrayInfo, unsafe.Pointer(info)); err != nil {
		return "", err
	}
	for _, m := range members {
		disk := &mdDiskInfo{major: int32(m[0]), minor: int32(m[1])}
		if err := call("ADD_NEW_DISK", mdAddNewDisk, unsafe.Pointer(disk)); err != nil {
			return "", fmt.Errorf("device %d:%d: %w", m[0], m[1], err)
		}
	}
	return device, call("RUN_ARRAY", mdRunArray, nil)
}
