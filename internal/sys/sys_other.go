//go:build !linux

package sys

import (
	"io/fs"
	"os"
	"syscall"
)

// MountFlags are the flags of mount(2) that the project uses.
type MountFlags uintptr

// Mount flags, include/uapi/linux/mount.h.
const (
	MountReadOnly MountFlags = 1 << iota
	MountNoSuid
	MountNoDev
	MountNoExec
)

// Each function below is documented in the files for Linux.

func KexecLoad(uint64, []KexecSegment, uint64) error     { return ErrNotSupportedOnOS }
func KexecFileLoad(_, _ *os.File, _ string, _ int) error { return ErrNotSupportedOnOS }
func Memfd(string, int) (*os.File, []byte, error)        { return nil, nil, ErrNotSupportedOnOS }
func MmapRead(*os.File, int64, int) ([]byte, error)      { return nil, ErrNotSupportedOnOS }
func OpenDirect(string) (*os.File, error)                { return nil, ErrNotSupportedOnOS }
func Munmap([]byte) error                                { return ErrNotSupportedOnOS }
func Mount(_, _, _ string, _ MountFlags, _ string) error { return ErrNotSupportedOnOS }
func Unmount(string) error                               { return ErrNotSupportedOnOS }
func SwitchRoot(string) error                            { return ErrNotSupportedOnOS }
func UnmountNow(string) error                            { return ErrNotSupportedOnOS }
func SetHostname(string) error                           { return ErrNotSupportedOnOS }
func FinitModule(*os.File, string, bool) error           { return ErrNotSupportedOnOS }
func Reboot(RebootCommand) error                         { return ErrNotSupportedOnOS }
func Sync()                                              {}
func SyncFS(*os.File) error                              { return ErrNotSupportedOnOS }
func StatFS(string) (FSInfo, error)                      { return FSInfo{}, ErrNotSupportedOnOS }
func TakeOwner(_, _ *os.File) error                      { return ErrNotSupportedOnOS }
func KernelRelease() (string, error)                     { return "", ErrNotSupportedOnOS }
func UeventSocket() (*os.File, error)                    { return nil, ErrNotSupportedOnOS }
func SetWatchdogTimeout(*os.File, int) (int, error)      { return 0, ErrNotSupportedOnOS }
func KeepWatchdogAlive(*os.File) error                   { return ErrNotSupportedOnOS }
func TerminalWidth(*os.File) (columns int, ok bool)      { return 0, false }
func DropCache(*os.File, int64, int64) error             { return ErrNotSupportedOnOS }
func LockFile(*os.File) error                            { return ErrNotSupportedOnOS }
func PinToCPU(int) error                                 { return ErrNotSupportedOnOS }
func DieWithParent() *syscall.SysProcAttr                { return nil }
func NewProcessGroup() *syscall.SysProcAttr              { return nil }
func KillGroup(int) error                                { return ErrNotSupportedOnOS }
func Owner(fs.FileInfo) (uid, gid uint32, ok bool)       { return 0, 0, false }
func Allocated(info fs.FileInfo) uint64                  { return uint64(max(0, info.Size())) }

func RAIDAssemble(uint32, int, [][2]uint32) (string, error) { return "", ErrNotSupportedOnOS }
func MapperTable(_, _ uint32) ([]MapperTarget, error)       { return nil, ErrNotSupportedOnOS }
func MapperCreate(string, []MapperTarget) (major, minor uint32, err error) {
	return 0, 0, ErrNotSupportedOnOS
}

// KernelLog is documented in the files for Linux.
type KernelLog struct{}

func ReadKernelLog(int) ([]string, error) { return nil, ErrNotSupportedOnOS }
func OpenKernelLog() (*KernelLog, error)  { return nil, ErrNotSupportedOnOS }
func (*KernelLog) New(limit int) []string { return nil }
func (*KernelLog) Close() error           { return nil }
