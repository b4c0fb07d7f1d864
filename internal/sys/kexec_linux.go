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
