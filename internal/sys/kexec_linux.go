package sys

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kexecSegment is struct kexec_segment of include/uapi/linux/kexec.h for
// 64-bit kernels: 32 bytes.
type kexecSegment struct {
	buf   unsafe.Pointer
	bufsz uint64
	mem   uint64
	memsz uint64
}

// KexecLoad calls kexec_load(2). entry is the physical address of the first
// instruction; no segments means unload. The kernel copies the data before the
// call returns. It frees the image loaded before in the same slot even when it
// then refuses the new one (Linux 7.2, kernel/kexec.c, do_kexec_load).
func KexecLoad(entry uint64, segments []KexecSegment, flags uint64) error {
	raw := make([]kexecSegment, len(segments))
	var pin runtime.Pinner
	defer pin.Unpin()
	for i, s := range segments {
		raw[i] = kexecSegment{bufsz: uint64(len(s.Data)), mem: s.Mem, memsz: s.MemSize}
		if len(s.Data) > 0 {
			pin.Pin(&s.Data[0])
			raw[i].buf = unsafe.Pointer(&s.Data[0])
		}
	}
	var first unsafe.Pointer
	if len(raw) > 0 {
		pin.Pin(&raw[0])
		first = unsafe.Pointer(&raw[0])
	}
	_, _, errno := unix.Syscall6(unix.SYS_KEXEC_LOAD, uintptr(entry), uintptr(len(raw)),
		uintptr(first), uintptr(flags), 0, 0)
	runtime.KeepAlive(segments)
	if errno != 0 {
		return os.NewSyscallError("kexec_load", errno)
	}
	return nil
}

// KexecFileLoad calls kexec_file_load(2): the kernel reads both files from
// their beginnings and copies them before the call returns. initrd is nil for
// none, with [KexecFileNoInitramfs] among the flags.
func KexecFileLoad(kernel, initrd *os.File, cmdline string, flags int) error {
	k, i := -1, -1
	if kernel != nil { // nil to unload
		k = int(kernel.Fd())
	}
	if initrd != nil {
		i = int(initrd.Fd())
	}
	err := unix.KexecFileLoad(k, i, cmdline, flags)
	runtime.KeepAlive(kernel)
	runtime.KeepAlive(initrd)
	if err != nil {
		return os.NewSyscallError("kexec_file_load", err)
	}
	return nil
}

// Memfd makes a file of size bytes that lies in memory and has no name in any
// directory (memfd_create(2)), and maps it to be written. Nobody else can open
// it. The mapping stays when the file is closed; [Munmap] ends it.
func Memfd(name string, size int) (*os.File, []byte, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Truncate(int64(size)); err != nil {
		f.Close()
		return nil, nil, err
	}
	b, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		f.Close()
		return nil, nil, os.NewSyscallError("mmap", err)
	}
	return f, b, nil
}
