package sys

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxMapperTable bounds a table, in bytes: a line has some fifty.
const maxMapperTable = 1 << 20

// mapperCall makes a call to the device mapper's control device, whose buffer
// begins with a struct dm_ioctl (include/uapi/linux/dm-ioctl.h).
func mapperCall(name string, request uintptr, buf []byte) (*unix.DmIoctl, error) {
	f, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
	h.Version = [3]uint32{4, 0, 0} // all that is used here is older
	h.Data_size, h.Data_start = uint32(len(buf)), unix.SizeofDmIoctl
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(h)))
	runtime.KeepAlive(buf)
	if errno != 0 {
		return nil, os.NewSyscallError("ioctl "+name, errno)
	}
	return h, nil
}

// MapperTable reads the table of a device of the device mapper.
func MapperTable(major, minor uint32) ([]MapperTarget, error) {
	buf := make([]byte, 16<<10)
	for {
		h := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
		h.Dev, h.Flags = unix.Mkdev(major, minor), unix.DM_STATUS_TABLE_FLAG
		h, err := mapperCall("DM_TABLE_STATUS", unix.DM_TABLE_STATUS, buf)
		if err != nil {
			return nil, err
		}
		if h.Flags&unix.DM_BUFFER_FULL_FLAG != 0 {
			if len(buf) >= maxMapperTable {
				return nil, fmt.Errorf("table of device %d:%d is larger than %d bytes", major, minor, maxMapperTable)
			}
			buf = make([]byte, 4*len(buf))
			continue
		}
		return mapperTable(buf, h.Data_start, h.Target_count)
	}
}

// mapperTable reads struct dm_target_spec, one after the other, each followed by
// its parameters; Next counts from the first.
func mapperTable(buf []byte, start, count uint32) ([]MapperTarget, error) {
	const size = 40
	var table []MapperTarget
	at := uint64(start)
	for range count {
		if at+size > uint64(len(buf)) {
			return nil, fmt.Errorf("table ends at %d, after %d of %d lines", len(buf), len(table), count)
		}
		b := buf[at:]
		ne := binary.NativeEndian
		params := b[size:]
		if i := bytes.IndexByte(params, 0); i >= 0 {
			params = params[:i]
		}
		table = append(table, MapperTarget{Start: ne.Uint64(b), Length: ne.Uint64(b[8:]), Type: unix.ByteSliceToString(b[24:40]), Params: string(params)})
		at = uint64(start) + uint64(ne.Uint32(b[20:]))
	}
	return table, nil
}

// MapperCreate makes a device with a table and turns it on.
func MapperCreate(name string, table []MapperTarget) (major, minor uint32, err error) {
	header := func() []byte {
		buf := make([]byte, unix.SizeofDmIoctl)
		copy((*unix.DmIoctl)(unsafe.Pointer(&buf[0])).Name[:], name)
		return buf
	}
	h, err := mapperCall("DM_DEV_CREATE", unix.DM_DEV_CREATE, header())
	if err != nil {
		return 0, 0, err
	}
	dev := h.Dev
	buf := header()
	for _, t := range table {
		// Next counts from this line, and lines begin at multiples of 8.
		length := (40 + len(t.Params) + 1 + 7) &^ 7
		b := make([]byte, length)
		ne := binary.NativeEndian
		ne.PutUint64(b, t.Start)
		ne.PutUint64(b[8:], t.Length)
		ne.PutUint32(b[20:], uint32(length))
		copy(b[24:39], t.Type)
		copy(b[40:], t.Params)
		buf = append(buf, b...)
	}
	(*unix.DmIoctl)(unsafe.Pointer(&buf[0])).Target_count = uint32(len(table))
	if _, err = mapperCall("DM_TABLE_LOAD", unix.DM_TABLE_LOAD, buf); err == nil {
		// Without the flag of suspending this resumes.
		_, err = mapperCall("DM_DEV_SUSPEND", unix.DM_DEV_SUSPEND, header())
	}
	if err != nil {
		_, _ = mapperCall("DM_DEV_REMOVE", unix.DM_DEV_REMOVE, header())
		return 0, 0, err
	}
	return unix.Major(dev), unix.Minor(dev), nil
}
