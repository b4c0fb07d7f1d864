package sys

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MmapRead maps length bytes of f from the page-aligned offset on, private and
// read-only. A page that the kernel cannot give faults when it is touched:
// use debug.SetPanicOnFault around every access.
func MmapRead(f *os.File, offset int64, length int) ([]byte, error) {
	b, err := unix.Mmap(int(f.Fd()), offset, length, unix.PROT_READ, unix.MAP_PRIVATE)
	return b, os.NewSyscallError("mmap", err)
}

// Munmap ends a mapping made by [MmapRead].
func Munmap(b []byte) error {
	return os.NewSyscallError("munmap", unix.Munmap(b))
}

// OpenDirect opens a file or device for writing past the page cache: what is
// written must be aligned, in memory too.
func OpenDirect(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
}

// MountFlags are the flags of mount(2) that the project uses.
type MountFlags uintptr

// Mount flags, include/uapi/linux/mount.h.
const (
	MountReadOnly MountFlags = unix.MS_RDONLY
	MountNoSuid   MountFlags = unix.MS_NOSUID
	MountNoDev    MountFlags = unix.MS_NODEV
	MountNoExec   MountFlags = unix.MS_NOEXEC
)

// Mount calls mount(2).
func Mount(source, target, fstype string, flags MountFlags, data string) error {
	return os.NewSyscallError("mount", unix.Mount(source, target, fstype, uintptr(flags), data))
}

// Unmount calls umount2(2) without flags.
func Unmount(target string) error {
	return os.NewSyscallError("umount", unix.Unmount(target, 0))
}

// SwitchRoot makes the filesystem that is mounted at dir the root, also of the
// calling process. What was mounted below the old root is out of sight.
func SwitchRoot(dir string) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	return os.NewSyscallError("chroot", unix.Chroot("."))
}

// UnmountNow calls umount2(2) so that it does not wait for a server that is gone
// (MNT_FORCE) or for whoever still uses the filesystem (MNT_DETACH).
func UnmountNow(target string) error {
	return os.NewSyscallError("umount", unix.Unmount(target, unix.MNT_FORCE|unix.MNT_DETACH))
}

// SetHostname calls sethostname(2).
func SetHostname(name string) error {
	return os.NewSyscallError("sethostname", unix.Sethostname([]byte(name)))
}

// FinitModule calls finit_module(2). compressed sets
// MODULE_INIT_COMPRESSED_FILE: the kernel unpacks the file itself, if it was
// built with MODULE_DECOMPRESS for the codec of the file.
func FinitModule(f *os.File, params string, compressed bool) error {
	flags := 0
	if compressed {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	return os.NewSyscallError("finit_module", unix.FinitModule(int(f.Fd()), params, flags))
}

// Reboot calls reboot(2). It does not sync; see [Sync].
func Reboot(cmd RebootCommand) error {
	var c int
	switch cmd {
	case RebootPowerOff:
		c = unix.LINUX_REBOOT_CMD_POWER_OFF
	case RebootKexec:
		c = unix.LINUX_REBOOT_CMD_KEXEC
	case RebootHalt:
		c = unix.LINUX_REBOOT_CMD_HALT
	default:
		c = unix.LINUX_REBOOT_CMD_RESTART
	}
	return os.NewSyscallError("reboot", unix.Reboot(c))
}

// Sync writes all dirty pages of all filesystems, sync(2).
func Sync() { unix.Sync() }

// SyncFS writes the dirty pages of the filesystem that f is on, syncfs(2).
func SyncFS(f *os.File) error {
	return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
}

// StatFS tells size and free space of the filesystem that path is on.
func StatFS(path string) (FSInfo, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return FSInfo{}, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	bs := uint64(s.Bsize)
	return FSInfo{Total: s.Blocks * bs, Available: s.Bavail * bs, Free: s.Bfree * bs, Block: bs, Magic: int64(s.Type)}, nil
}

// TakeOwner gives a file the owner and group of another one, where they differ.
func TakeOwner(f, like *os.File) error {
	var is, want unix.Stat_t
	if err := errors.Join(unix.Fstat(int(f.Fd()), &is), unix.Fstat(int(like.Fd()), &want)); err != nil {
		return &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	if is.Uid == want.Uid && is.Gid == want.Gid {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}

// KernelRelease is the release field of uname(2), like "6.12.107+deb13-riscv64".
func KernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", os.NewSyscallError("uname", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// UeventSocket opens a netlink socket on which the kernel announces devices
// (NETLINK_KOBJECT_UEVENT, group 1). Each Read of the file is one message.
func UeventSocket() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return os.NewFile(uintptr(fd), "uevent"), nil
}

// SetWatchdogTimeout asks a watchdog device for a timeout in seconds
// (WDIOC_SETTIMEOUT) and returns the one it took.
func SetWatchdogTimeout(f *os.File, seconds int) (int, error) {
	v := int32(seconds)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.WDIOC_SETTIMEOUT, uintptr(unsafe.Pointer(&v)))
	if errno != 0 {
		return 0, os.NewSyscallError("ioctl WDIOC_SETTIMEOUT", errno)
	}
	return int(v), nil
}

// KeepWatchdogAlive pets a watchdog device (WDIOC_KEEPALIVE).
func KeepWatchdogAlive(f *os.File) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.WDIOC_KEEPALIVE, 0)
	if errno != 0 {
		return os.NewSyscallError("ioctl WDIOC_KEEPALIVE", errno)
	}
	return nil
}

// TerminalWidth tells whether f is a terminal, and its width in columns.
func TerminalWidth(f *os.File) (columns int, ok bool) {
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	if ws.Col == 0 {
		return 80, true // a serial line does not say
	}
	return int(ws.Col), true
}

// DropCache asks the kernel to forget the cached pages of a range of f
// (POSIX_FADV_DONTNEED); dirty pages stay.
func DropCache(f *os.File, offset, length int64) error {
	return os.NewSyscallError("fadvise", unix.Fadvise(int(f.Fd()), offset, length, unix.FADV_DONTNEED))
}

// LockFile takes the advisory lock of an open file and waits until it is free,
// flock(2). Closing the file gives the lock back.
func LockFile(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			return os.NewSyscallError("flock", err)
		}
	}
}

// PinToCPU binds the calling thread to one CPU, sched_setaffinity(2). The
// caller must have locked its goroutine to the thread (runtime.LockOSThread).
func PinToCPU(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &set))
}

// DieWithParent makes a child process end when this one does, however that
// happens (PR_SET_PDEATHSIG).
func DieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// NewProcessGroup puts a child process, and what it starts, into a process group
// of its own, which [KillGroup] ends; it dies with this process.
func NewProcessGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// KillGroup kills the process group of a child that [NewProcessGroup] was for.
func KillGroup(pid int) error {
	return os.NewSyscallError("kill", unix.Kill(-pid, unix.SIGKILL))
}

// Owner tells which user and group a file belongs to; false if info is not of
// the filesystem of this machine.
func Owner(info fs.FileInfo) (uid, gid uint32, ok bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return s.Uid, s.Gid, true
}

// Allocated is what a file takes on the disk, in bytes; its size if that is not
// known.
func Allocated(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Blocks) * 512 // whatever the block size is, stat(2)
	}
	return uint64(max(0, info.Size()))
}
