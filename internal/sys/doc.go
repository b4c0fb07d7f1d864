// Package sys is the only door to the running kernel: every system call, ioctl
// and mount of the project is made here, and nothing else imports
// golang.org/x/sys/unix. Functions are thin: they translate Go values to the
// kernel's and errors to *os.SyscallError, decide nothing and keep no state.
//
// Files ending in _linux.go do the work; sys_other.go has the same functions
// returning [ErrNotSupportedOnOS], so that whatever reads dumps builds and
// tests on any host.
package sys

import "errors"

// ErrNotSupportedOnOS is returned by every function of this package on an
// operating system other than Linux.
var ErrNotSupportedOnOS = errors.New("not supported on this operating system")

// KexecSegment is one segment for [KexecLoad]: Data is copied to the physical
// address Mem, and the rest up to MemSize bytes is zeroed by the kernel.
type KexecSegment struct {
	Data    []byte
	Mem     uint64 // physical address, page aligned
	MemSize uint64 // bytes, a multiple of the page size, at least len(Data)
}

// RebootCommand says what [Reboot] does to the machine.
type RebootCommand int

// The ways a machine can end, LINUX_REBOOT_CMD_* of reboot(2).
const (
	RebootRestart RebootCommand = iota
	RebootPowerOff
	RebootHalt
	// RebootKexec starts the kernel that kexec_load put into the reboot slot.
	RebootKexec
)

// Flags of kexec_file_load(2), include/uapi/linux/kexec.h.
const (
	KexecFileUnload      = 1
	KexecFileOnCrash     = 2
	KexecFileNoInitramfs = 4
)

// FSInfo is what statfs(2) tells about a filesystem, in bytes.
type FSInfo struct {
	Total     uint64
	Available uint64 // free for unprivileged users: what may be planned with
	Free      uint64 // free for root
	Block     uint64 // bytes of a block, f_bsize
	Magic     int64  // f_type, include/uapi/linux/magic.h
}

// ProcSuperMagic is the f_type of procfs, include/uapi/linux/magic.h.
const ProcSuperMagic = 0x9fa0

// NFSSuperMagic is that of NFS.
const NFSSuperMagic = 0x6969
