package vmcore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
)

// liveNoPhys is p_paddr of what has no physical address of its own: vmalloc and
// vmemmap.
const liveNoPhys = 1<<64 - 1

// OpenLive opens /proc/kcore, the memory of the running machine, as a dump that
// changes while it is read. Ranges in without are left out: memory that is
// reserved for a panic kernel is in no dump either.
func OpenLive(path string, without []Range) (*Dump, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	d, err := NewLive(f, without)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	d.closer = f
	return d, nil
}

// NewLive is OpenLive of a file that is open.
//
// /proc/kcore is an ELF core of the kernel's address space, fs/proc/kcore.c
// (Linux 7.2). The linear map and the kernel's image have physical addresses
// there since 4.11. The size of the file says nothing; offsets are virtual
// addresses less the lowest of the linear map, so that what lies below it has
// offsets that no read can name. Memory is read(2), not mapped: the kernel
// cannot map it.
func NewLive(r io.ReaderAt, without []Range) (*Dump, error) {
	h := make([]byte, elfHeaderSize)
	if _, err := readFull(r, h, 0); err != nil {
		return nil, fmt.Errorf("ELF header: %w: %w", ErrCorrupt, err)
	}
	if !hasPrefix(h, elfMagic) || h[4] != elfClass64 || h[5] != elfData2LSB {
		return nil, fmt.Errorf("%w: not the memory of a running 64-bit machine", ErrUnrecognizedFormat)
	}
	order := binary.LittleEndian
	headers, err := readProgramHeaders(r, math.MaxInt64, h, order)
	if err != nil {
		return nil, err
	}
	f := &liveFile{r: r, header: h}
	count := 0
	add := func(ph programHeader) {
		count++
		f.end = max(f.end, int64(ph.offset+ph.filesz))
		f.table = order.AppendUint32(f.table, ph.typ)
		f.table = order.AppendUint32(f.table, ph.flags)
		for _, v := range []uint64{ph.offset, ph.vaddr, ph.paddr, ph.filesz, ph.memsz, 0} {
			f.table = order.AppendUint64(f.table, v)
		}
	}
	for _, ph := range headers {
		named := ph.offset < 1<<61 && ph.filesz < 1<<61
		switch {
		case ph.typ == elfPTNote && named:
			add(ph)
		case ph.typ == elfPTLoad && named && ph.paddr != liveNoPhys && ph.paddr+ph.filesz >= ph.paddr:
			at := Range{PhysAddr(ph.paddr), PhysAddr(ph.paddr + ph.filesz)}
			for _, part := range subtractRanges(at, without) {
				p := ph
				skip := uint64(part.Start - at.Start)
				p.offset, p.vaddr, p.paddr = ph.offset+skip, ph.vaddr+skip, uint64(part.Start)
				p.filesz, p.memsz = part.Size(), part.Size()
				add(p)
			}
		}
	}
	if count >= elfPNXNum {
		return nil, fmt.Errorf("%w: %d pieces of memory", ErrUnsupported, count)
	}
	// The new table stands behind everything.
	order.PutUint64(h[32:], uint64(f.end))
	order.PutUint16(h[54:], elfPhdrSize)
	order.PutUint16(h[56:], uint16(count))
	d, err := newELF(f, f.end+int64(len(f.table)))
	if err != nil {
		return nil, err
	}
	d.live = true
	return d, nil
}

// subtractRanges is what is left of r without others.
func subtractRanges(r Range, without []Range) []Range {
	left := []Range{r}
	for _, w := range without {
		var next []Range
		for _, l := range left {
			if w.End <= l.Start || w.Start >= l.End || w.Start >= w.End {
				next = append(next, l)
				continue
			}
			if l.Start < w.Start {
				next = append(next, Range{l.Start, w.Start})
			}
			if w.End < l.End {
				next = append(next, Range{w.End, l.End})
			}
		}
		left = next
	}
	return left
}

// liveFile is /proc/kcore with other headers.
type liveFile struct {
	// mu: reads of one open /proc/kcore share a buffer in the kernel, which two at
	// a time overwrite for each other (private_data of the file, open_kcore and
	// read_kcore_iter in fs/proc/kcore.c, Linux 6.12 and 7.2).
	mu     sync.Mutex
	r      io.ReaderAt
	header []byte // at 0
	table  []byte // program headers, at end
	end    int64
}

// ReadAt is io.ReaderAt.
func (f *liveFile) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case off < 0:
		return 0, io.ErrUnexpectedEOF
	case off < elfHeaderSize:
		n := copy(p, f.header[off:])
		if n == len(p) {
			return n, nil
		}
		m, err := f.ReadAt(p[n:], elfHeaderSize)
		return n + m, err
	case off >= f.end:
		from := min(off-f.end, int64(len(f.table)))
		n := copy(p, f.table[from:])
		if n < len(p) {
			return n, io.EOF
		}
		return n, nil
	case int64(len(p)) > f.end-off:
		n, err := f.read(p[:f.end-off], off)
		if err != nil {
			return n, err
		}
		m, err := f.ReadAt(p[n:], f.end)
		return n + m, err
	}
	return f.read(p, off)
}

func (f *liveFile) read(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return readFull(f.r, p, uint64(off))
}
