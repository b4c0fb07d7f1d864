package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// ReadUint32 reads a 32-bit integer of the dead kernel.
func (k *Kernel) ReadUint32(va VirtAddr) (uint32, error) {
	var b [4]byte
	err := k.ReadVirt(b[:], va)
	return binary.LittleEndian.Uint32(b[:]), err
}

// ReadUint64 reads a 64-bit integer of the dead kernel.
func (k *Kernel) ReadUint64(va VirtAddr) (uint64, error) {
	var b [8]byte
	err := k.ReadVirt(b[:], va)
	return binary.LittleEndian.Uint64(b[:]), err
}

// ReadPointer reads a pointer of the dead kernel.
func (k *Kernel) ReadPointer(va VirtAddr) (VirtAddr, error) {
	n, err := k.ReadUint64(va)
	return VirtAddr(n), err
}

// cString is b up to its first NUL.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// chunkSize is what a window reads at once: enough to make small reads cheap,
// little enough to be nothing in a crash kernel's memory.
const chunkSize = 4096

// window reads a stretch of kernel memory in small pieces, front to back or
// around, through one buffer.
type window struct {
	k     *Kernel
	start VirtAddr
	size  uint64 // nothing is read outside start..start+size

	buf   []byte // valid bytes
	at    uint64 // offset of buf in the stretch
	store []byte
}

func newWindow(k *Kernel, start VirtAddr, size uint64) *window {
	return &window{k: k, start: start, size: min(size, -uint64(start)-1)}
}

// bytes returns n bytes at an offset of the stretch, n at most chunkSize. They
// are valid until the next call.
func (w *window) bytes(off, n uint64) ([]byte, error) {
	if off > w.size || n > w.size-off || n > chunkSize {
		return nil, fmt.Errorf("%d bytes at offset %d of %d: %w", n, off, w.size, ErrCorrupt)
	}
	if off >= w.at && off-w.at <= uint64(len(w.buf)) && n <= uint64(len(w.buf))-(off-w.at) {
		return w.buf[off-w.at:][:n], nil
	}
	if w.store == nil {
		w.store = make([]byte, chunkSize)
	}
	w.buf = nil
	// Up to the next page boundary but one, so that a page that cannot be
	// read costs no more than itself; more only when n needs it.
	va := w.start + VirtAddr(off)
	length := chunkSize - uint64(va)%chunkSize
	if length < n {
		length = n
	}
	length = min(length, w.size-off)
	if err := w.k.ReadVirt(w.store[:length], va); err != nil {
		return nil, err
	}
	w.buf, w.at = w.store[:length], off
	return w.buf[:n], nil
}

// cString is the string at an offset, without its NUL and cut off at limit. It
// is valid until the next call; nil when memory cannot be read.
func (w *window) cString(off, limit uint64) []byte {
	for n := uint64(0); n < limit; n++ {
		b, err := w.bytes(off, n+1)
		if err != nil {
			return nil
		}
		if b[n] == 0 {
			return b[:n]
		}
	}
	b, _ := w.bytes(off, limit)
	return b
}
