package vmcore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// Format is the file format of a dump.
type Format int

// The formats that are read.
const (
	FormatELF   Format = iota + 1 // ELF core: /proc/vmcore, makedumpfile -E
	FormatKdump                   // kdump-compressed, diskdump header version 6 and older
)

func (f Format) String() string {
	switch f {
	case FormatELF:
		return "ELF core"
	case FormatKdump:
		return "kdump-compressed"
	}
	return "unknown"
}

// Segment is a PT_LOAD of an ELF core, as the file has it, or memory of which
// an [ELFWriter] says that it was there.
type Segment struct {
	Phys     Range
	Virt     uint64 // p_vaddr: what the loader believed, wrong in many cores; derive addresses from VMCOREINFO
	Offset   int64  // file offset of the first byte
	FileSize uint64 // bytes in the file; the rest up to Phys.End was left out of the dump
	Flags    uint32 // p_flags
}

// Dump is an open dump. All methods may be called concurrently, except Close.
type Dump struct {
	// Immutable, may be shared.
	format     Format
	machine    Machine
	order      binary.ByteOrder
	pageSize   uint64
	segments   []Segment
	ranges     []Range
	maxPFN     PFN
	notes      []Note
	vmcoreinfo []byte
	noteErr    error
	header     *KdumpHeader
	size       int64
	flattened  bool
	incomplete bool
	live       bool

	memory memory
	closer io.Closer // the file, if Open opened it
}

// memory is the physical memory in a file of one format.
type memory interface {
	// readPhys is [Dump.ReadPhys].
	readPhys(p []byte, addr PhysAddr) (int, error)
	// nextPage looks through pages of memory as source.nextPage does.
	nextPage(page []byte, addr PhysAddr, most int) (zeros int, found bool, err error)
	// readFile gives bytes of the file, as source.readAt.
	readFile(p []byte, off int64) (int, error)
	// missing is [Dump.Missing].
	missing(addr PhysAddr) error
	// fork gives memory with caches of its own, for one goroutine.
	fork() memory
	close() error
}

// Open opens the dump in the named file, whatever its format, and reads its
// headers and notes. Of a split dump all files are named, in any order; what is
// in a file that is missing cannot be read. Memory is read through windows
// mapped from the file.
//
// The error wraps [ErrUnrecognizedFormat], [ErrUnsupported] or [ErrCorrupt] if
// the file is the trouble.
func Open(path string, more ...string) (*Dump, error) {
	var (
		files closers
		parts []Part
	)
	for _, path := range append([]string{path}, more...) {
		f, err := os.Open(path)
		if err != nil {
			return nil, errors.Join(err, files.Close())
		}
		files = append(files, f)
		size, err := fileSize(f)
		if err != nil {
			return nil, errors.Join(err, files.Close())
		}
		parts = append(parts, Part{f, size})
	}
	var d *Dump
	var err error
	if len(parts) == 1 {
		d, err = New(parts[0].R, parts[0].Size)
	} else {
		d, err = NewSplit(parts...)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), files.Close())
	}
	d.closer = files
	return d, nil
}

// closers are files that are closed together.
type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, f := range c {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// fileSize is the size of a file or a block device.
func fileSize(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if st.IsDir() {
		return 0, fmt.Errorf("%s is a directory: %w", f.Name(), ErrUnrecognizedFormat)
	}
	if st.Size() > 0 || st.Mode().IsRegular() {
		return st.Size(), nil
	}
	return f.Seek(0, io.SeekEnd)
}

// New opens the dump in the first size bytes of r. If r is an *os.File its
// memory is mapped, else read. Closing the Dump does not close r.
func New(r io.ReaderAt, size int64) (*Dump, error) {
	return open(r, size, false)
}

func open(r io.ReaderAt, size int64, flattened bool) (*Dump, error) {
	magic := make([]byte, 16)
	n, err := readFull(r, magic, 0)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	magic = magic[:n]
	switch {
	case hasPrefix(magic, elfMagic):
		return newELF(r, size)
	case hasPrefix(magic, kdumpSignature), hasPrefix(magic, diskdumpSignature):
		return newKdump([]Part{{r, size}}, false)
	case hasPrefix(magic, flatSignature) && !flattened:
		flat, err := newFlatFile(r, size)
		if err != nil {
			return nil, err
		}
		d, err := open(flat, flat.size, true)
		if err != nil {
			return nil, fmt.Errorf("flattened dump: %w", err)
		}
		d.flattened = true
		return d, nil
	}
	return nil, ErrUnrecognizedFormat
}

// Part is one file of a split dump, the first Size bytes of R.
type Part struct {
	R    io.ReaderAt
	Size int64
}

// NewSplit opens a split dump, as New does one file. Its parts may be
// flattened, and stand in any order. A part that is missing costs its pages:
// reading them gives [ErrUnreadable].
func NewSplit(parts ...Part) (*Dump, error) {
	var flattened bool
	in := slices.Clone(parts)
	for i, p := range in {
		magic := make([]byte, len(flatSignature))
		if _, err := readFull(p.R, magic, 0); err != nil {
			return nil, fmt.Errorf("part %d of a split dump: %w: %w", i+1, ErrUnrecognizedFormat, err)
		}
		if hasPrefix(magic, flatSignature) {
			flat, err := newFlatFile(p.R, p.Size)
			if err != nil {
				return nil, fmt.Errorf("part %d of a split dump: %w", i+1, err)
			}
			in[i] = Part{flat, flat.size}
			flattened = true
		} else if !hasPrefix(magic, kdumpSignature) {
			return nil, fmt.Errorf("part %d of a split dump: %w", i+1, ErrUnrecognizedFormat)
		}
	}
	d, err := newKdump(in, true)
	if err != nil {
		return nil, err
	}
	d.flattened = flattened
	return d, nil
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// Format is the format of the file.
func (d *Dump) Format() Format { return d.format }

// Machine is the architecture of the dumped machine.
func (d *Dump) Machine() Machine { return d.machine }

// ByteOrder is the byte order of the dumped machine.
func (d *Dump) ByteOrder() binary.ByteOrder { return d.order }

// PageSize is the page size of the dumped kernel in bytes, a power of two:
// PAGESIZE of VMCOREINFO or the block size of the file, 4096 if neither tells.
func (d *Dump) PageSize() uint64 { return d.pageSize }

// Flattened tells that the dump came in the flattened format, which Format says
// nothing of.
func (d *Dump) Flattened() bool { return d.flattened }

// Incomplete tells that the dump says of itself that it was cut short, or that
// a part of a split dump is missing.
func (d *Dump) Incomplete() bool { return d.incomplete }

// Live tells that this is the memory of the running machine: it changes while it
// is read.
func (d *Dump) Live() bool { return d.live }

// Size is the size of the dump in bytes: of the file, of all files of a split
// dump, of what a flattened file carries.
func (d *Dump) Size() int64 { return d.size }

// Ranges is the RAM of the machine as far as the dump knows it, sorted and
// merged. Whether a page is in the dump only reading it tells. Do not modify.
func (d *Dump) Ranges() []Range { return d.ranges }

// Segments are the PT_LOADs of an ELF core in the order of the file, nil for
// other formats. They may overlap: the kernel's text has one of its own. In a
// core that an [ELFWriter] wrote the memory of the machine comes first, in
// segments without a byte in the file.
func (d *Dump) Segments() []Segment { return d.segments }

// MaxPFN is one more than the highest page frame number of Ranges.
func (d *Dump) MaxPFN() PFN { return d.maxPFN }

// Notes are the ELF notes of the dump, registers of the CPUs among them, in
// the order of the file. Do not modify.
func (d *Dump) Notes() []Note { return d.notes }

// NotesErr is why notes are missing from Notes, nil if they are complete: a
// broken note area does not keep a dump from being opened.
func (d *Dump) NotesErr() error { return d.noteErr }

// RawNotes are the notes as they stand in a PT_NOTE segment.
func (d *Dump) RawNotes() []byte {
	order, ok := d.order.(binary.AppendByteOrder)
	if !ok {
		return nil
	}
	var b []byte
	for _, n := range d.notes {
		b = AppendNote(b, order, n)
	}
	return b
}

// VMCoreInfo is the text of VMCOREINFO, lines of KEY=value; nil if the dump
// has none.
func (d *Dump) VMCoreInfo() []byte { return d.vmcoreinfo }

// KdumpHeader is the header of a kdump-compressed file, nil for other formats.
func (d *Dump) KdumpHeader() *KdumpHeader { return d.header }

// ReadPhys fills p with physical memory from addr on. It returns fewer bytes
// only with an error, an [*AddrError] with the address of the first missing
// byte: the next page may be readable again.
func (d *Dump) ReadPhys(p []byte, addr PhysAddr) (int, error) {
	return d.memory.readPhys(p, addr)
}

// Missing says why the dump does not have the page at addr: the error wraps
// [ErrHole] or [ErrExcluded], or [ErrUnreadable] if that is known without
// reading the page. nil says that it should be there.
func (d *Dump) Missing(addr PhysAddr) error { return d.memory.missing(addr) }

// Close gives up all mappings, and the file if Open opened it. Nothing may use
// the Dump or its Readers any more.
func (d *Dump) Close() error {
	err := d.memory.close()
	if d.closer != nil {
		err = errors.Join(err, d.closer.Close())
	}
	return err
}

// Reader reads the memory of a dump from one goroutine, without contending
// with others for windows and caches. It is made for going through memory in
// order.
type Reader struct {
	memory memory
}

// NewReader makes a Reader. It must be closed before the Dump.
func (d *Dump) NewReader() *Reader { return &Reader{d.memory.fork()} }

// ReadPhys is [Dump.ReadPhys].
func (r *Reader) ReadPhys(p []byte, addr PhysAddr) (int, error) {
	return r.memory.readPhys(p, addr)
}

// Close gives up the Reader's windows and caches.
func (r *Reader) Close() error { return r.memory.close() }

// setNotes takes over the notes and what they tell.
func (d *Dump) setNotes(notes []Note, err error) {
	// What was written for this format says nothing in another one.
	notes = slices.DeleteFunc(notes, Note.isMemory)
	d.notes, d.noteErr = notes, err
	d.vmcoreinfo, _ = findVMCoreInfo(notes)
}

// setRanges takes over the RAM, sorted and merged.
func (d *Dump) setRanges(ranges []Range) {
	d.ranges = ranges
	if n := len(ranges); n > 0 {
		d.maxPFN = PFN((uint64(ranges[n-1].End)-1)/d.pageSize + 1)
	}
}

// validPageSize tells whether n can be a page size: a power of two that some
// kernel has. libkdumpfile takes 4 KiB to 256 KiB.
func validPageSize(n uint64) bool {
	return n >= 4096 && n <= 256<<10 && n&(n-1) == 0
}
