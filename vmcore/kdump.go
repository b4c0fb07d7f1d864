package vmcore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// The kdump-compressed format, header version 6, as its readers define it:
// diskdump_mod.h and the IMPLEMENTATION document of makedumpfile 1.7.8,
// diskdump.h of crash 9.0.2. Numbers are in the byte order of the dumped
// machine. In blocks of the size of a page, the file is
//
//	0                                   header (464 bytes used)
//	1                                   sub header (104 bytes), notes
//	1+subHeaderBlocks                   first bitmap: pages that exist
//	... + bitmapBlocks/2                second bitmap: pages in this dump
//	1+subHeaderBlocks+bitmapBlocks      one descriptor per bit in the second
//	                                    bitmap, then page data
//
// Bit n of a bitmap, least significant bit of a byte first, is page frame n.
const (
	kdumpSignature    = "KDUMP   "
	diskdumpSignature = "DISKDUMP"
	kdumpVersion      = 6

	kdumpHeaderSize    = 464
	kdumpSubHeaderSize = 104
	kdumpDescSize      = 24
	utsFieldSize       = 65

	// Offsets in the header.
	kdumpOffVersion      = 8
	kdumpOffUtsname      = 12
	kdumpOffTimestamp    = 408 // struct timeval; tv_usec stays 0, see encode
	kdumpOffStatus       = 424
	kdumpOffBlockSize    = 428
	kdumpOffSubHdrSize   = 432
	kdumpOffBitmapBlocks = 436
	kdumpOffMaxMapNr     = 440
	kdumpOffNrCPUs       = 460
	// kdumpOffBlockSize32 is where 32-bit machines have the block size.
	kdumpOffBlockSize32 = 416

	// Offsets in the sub header; the header version that brought the field.
	kdumpOffPhysBase       = 0
	kdumpOffDumpLevel      = 8  // 1
	kdumpOffSplit          = 12 // 2
	kdumpOffVMCoreInfo     = 32 // 3
	kdumpOffVMCoreInfoSize = 40
	kdumpOffNote           = 48 // 4
	kdumpOffNoteSize       = 56
	kdumpOffStartPFN64     = 80 // 6; below version 6 at 16, 24
	kdumpOffEndPFN64       = 88
	kdumpOffMaxMapNr64     = 96
	kdumpOffStartPFN       = 16
	kdumpOffEndPFN         = 24
)

// Flags of a page descriptor; all that occur are in the header's status, too.
const (
	kdumpZlib   = 0x1
	kdumpLZO    = 0x2
	kdumpSnappy = 0x4
	kdumpZstd   = 0x20

	kdumpCompression = kdumpZlib | kdumpLZO | kdumpSnappy | kdumpZstd

	// kdumpIncomplete, in the status only: the dump was cut short.
	kdumpIncomplete = 0x8
)

// Utsname are the fields of uname(2) on the dumped machine.
type Utsname struct {
	Sysname, Nodename, Release, Version, Machine, Domainname string
}

// KdumpHeader is what a kdump-compressed file says of itself before its pages.
type KdumpHeader struct {
	ByteOrder  binary.ByteOrder // nil in a writer: little endian
	Utsname    Utsname          // Machine tells readers the architecture
	Timestamp  uint64           // of the crash, seconds since 1970, 0 if unknown
	PageSize   uint64           // of the dumped kernel, bytes
	PhysBase   uint64           // riscv64: phys_ram_base; other architectures see makedumpfile
	DumpLevel  int              // classes of pages left out, bits as of makedumpfile -d
	MaxPFN     PFN              // one more than the highest; a writer finds it itself
	CPUs       int              // number of CPUs with registers; a writer counts the notes
	Incomplete bool             // the dump was cut short; set by [KdumpWriter.Finish]
	// Compression of the pages that get smaller by it.
	Compression Compression
	Split       KdumpSplit
	Notes       []Note
}

// KdumpSplit is which part of a split dump a file is.
type KdumpSplit struct {
	Part       bool // it is one
	Start, End PFN  // the file has the pages from Start up to, not including, End
}

// kdumpLayout is where the regions of a file begin.
type kdumpLayout struct {
	blockSize    uint64
	subHdrBlocks uint64
	bitmapBlocks uint64 // of both
}

func (l kdumpLayout) bitmap1() uint64 { return (1 + l.subHdrBlocks) * l.blockSize }
func (l kdumpLayout) bitmap2() uint64 { return l.bitmap1() + l.bitmapBlocks/2*l.blockSize }
func (l kdumpLayout) descs() uint64   { return l.bitmap1() + l.bitmapBlocks*l.blockSize }

// encode makes header and sub header with the notes behind it.
func (h *KdumpHeader) encode(l kdumpLayout) (header, sub []byte, err error) {
	o := h.ByteOrder
	appendOrder, ok := o.(binary.AppendByteOrder)
	if !ok {
		return nil, nil, fmt.Errorf("%w: byte order %v", ErrUnsupported, o)
	}
	if !h.Compression.valid() {
		return nil, nil, fmt.Errorf("%w: %v", ErrUnsupported, h.Compression)
	}
	header = make([]byte, kdumpHeaderSize)
	copy(header, kdumpSignature)
	o.PutUint32(header[kdumpOffVersion:], kdumpVersion)
	u := &h.Utsname
	for i, s := range []string{u.Sysname, u.Nodename, u.Release, u.Version, u.Machine, u.Domainname} {
		// The last byte stays NUL.
		copy(header[kdumpOffUtsname+i*utsFieldSize:][:utsFieldSize-1], s)
	}
	// tv_usec must be 0: libkdumpfile tries the layout of 32-bit machines
	// first, where the block size stands at that place.
	o.PutUint64(header[kdumpOffTimestamp:], h.Timestamp)
	status := compressions[h.Compression].flag
	if h.Incomplete {
		status |= kdumpIncomplete
	}
	o.PutUint32(header[kdumpOffStatus:], status)
	o.PutUint32(header[kdumpOffBlockSize:], uint32(l.blockSize))
	o.PutUint32(header[kdumpOffSubHdrSize:], uint32(l.subHdrBlocks))
	o.PutUint32(header[kdumpOffBitmapBlocks:], uint32(l.bitmapBlocks))
	o.PutUint32(header[kdumpOffMaxMapNr:], uint32(min(h.MaxPFN, 1<<32-1)))
	o.PutUint32(header[kdumpOffNrCPUs:], uint32(h.CPUs))

	sub = make([]byte, kdumpSubHeaderSize)
	o.PutUint64(sub[kdumpOffPhysBase:], h.PhysBase)
	o.PutUint32(sub[kdumpOffDumpLevel:], uint32(h.DumpLevel))
	if s := h.Split; s.Part {
		o.PutUint32(sub[kdumpOffSplit:], 1)
		o.PutUint64(sub[kdumpOffStartPFN:], uint64(min(s.Start, 1<<32-1)))
		o.PutUint64(sub[kdumpOffEndPFN:], uint64(min(s.End, 1<<32-1)))
		o.PutUint64(sub[kdumpOffStartPFN64:], uint64(s.Start))
		o.PutUint64(sub[kdumpOffEndPFN64:], uint64(s.End))
	}
	for _, n := range h.Notes {
		sub = AppendNote(sub, appendOrder, n)
	}
	notes := l.blockSize + kdumpSubHeaderSize
	if text, off := findVMCoreInfo(h.Notes); text != nil {
		o.PutUint64(sub[kdumpOffVMCoreInfo:], notes+off)
		o.PutUint64(sub[kdumpOffVMCoreInfoSize:], uint64(len(text)))
	}
	if size := uint64(len(sub) - kdumpSubHeaderSize); size > 0 {
		o.PutUint64(sub[kdumpOffNote:], notes)
		o.PutUint64(sub[kdumpOffNoteSize:], size)
	}
	o.PutUint64(sub[kdumpOffMaxMapNr64:], uint64(h.MaxPFN))
	return header, sub, nil
}

// decodeKdumpHeader reads header, sub header and notes. noteErr is why notes
// are missing.
func decodeKdumpHeader(r io.ReaderAt, size int64) (h *KdumpHeader, l kdumpLayout, noteErr, err error) {
	fail := func(err error) (*KdumpHeader, kdumpLayout, error, error) {
		return nil, kdumpLayout{}, nil, err
	}
	b := make([]byte, kdumpHeaderSize)
	if _, err := readFull(r, b, 0); err != nil {
		return fail(fmt.Errorf("kdump header: %w: %w", ErrCorrupt, err))
	}
	if hasPrefix(b, diskdumpSignature) {
		return fail(fmt.Errorf("%w: diskdump, the format before kdump", ErrUnsupported))
	}
	h = &KdumpHeader{ByteOrder: binary.LittleEndian}
	version := binary.LittleEndian.Uint32(b[kdumpOffVersion:])
	if version > 0xffff {
		h.ByteOrder = binary.BigEndian
		version = binary.BigEndian.Uint32(b[kdumpOffVersion:])
	}
	o := h.ByteOrder
	if version < 1 || version > kdumpVersion {
		return fail(fmt.Errorf("%w: kdump header version %d, known are 1 to %d", ErrUnsupported, version, kdumpVersion))
	}
	l.blockSize = uint64(o.Uint32(b[kdumpOffBlockSize:]))
	if !validPageSize(l.blockSize) {
		if validPageSize(uint64(o.Uint32(b[kdumpOffBlockSize32:]))) {
			return fail(fmt.Errorf("%w: kdump file of a 32-bit machine", ErrUnsupported))
		}
		return fail(fmt.Errorf("kdump header: %w: block size %d", ErrCorrupt, l.blockSize))
	}
	l.subHdrBlocks = uint64(o.Uint32(b[kdumpOffSubHdrSize:]))
	l.bitmapBlocks = uint64(o.Uint32(b[kdumpOffBitmapBlocks:]))
	if l.subHdrBlocks == 0 || l.bitmapBlocks == 0 || l.bitmapBlocks%2 != 0 || l.descs() > uint64(size) {
		return fail(fmt.Errorf("kdump header: %w: %d blocks of sub header and %d of bitmaps in a file of %d bytes",
			ErrCorrupt, l.subHdrBlocks, l.bitmapBlocks, size))
	}
	for i, s := range []*string{&h.Utsname.Sysname, &h.Utsname.Nodename, &h.Utsname.Release,
		&h.Utsname.Version, &h.Utsname.Machine, &h.Utsname.Domainname} {
		field, _, _ := bytes.Cut(b[kdumpOffUtsname+i*utsFieldSize:][:utsFieldSize], []byte{0})
		*s = string(field)
	}
	status := o.Uint32(b[kdumpOffStatus:])
	h.Compression = compressionOf(status)
	h.Timestamp = o.Uint64(b[kdumpOffTimestamp:])
	h.PageSize = l.blockSize
	h.Incomplete = status&kdumpIncomplete != 0
	h.CPUs = int(o.Uint32(b[kdumpOffNrCPUs:]))
	h.MaxPFN = PFN(o.Uint32(b[kdumpOffMaxMapNr:]))

	sub := make([]byte, kdumpSubHeaderSize)
	if _, err := readFull(r, sub, l.blockSize); err != nil {
		return fail(fmt.Errorf("kdump sub header: %w: %w", ErrCorrupt, err))
	}
	h.PhysBase = o.Uint64(sub[kdumpOffPhysBase:])
	h.DumpLevel = int(o.Uint32(sub[kdumpOffDumpLevel:]))
	if version >= 2 && o.Uint32(sub[kdumpOffSplit:]) != 0 {
		h.Split = KdumpSplit{Part: true, Start: PFN(o.Uint64(sub[kdumpOffStartPFN:])), End: PFN(o.Uint64(sub[kdumpOffEndPFN:]))}
		if version >= 6 {
			h.Split.Start, h.Split.End = PFN(o.Uint64(sub[kdumpOffStartPFN64:])), PFN(o.Uint64(sub[kdumpOffEndPFN64:]))
		}
	}
	if version >= 6 {
		h.MaxPFN = PFN(o.Uint64(sub[kdumpOffMaxMapNr64:]))
	}
	if half := l.bitmapBlocks / 2 * l.blockSize; uint64(h.MaxPFN) > half*8 {
		return fail(fmt.Errorf("kdump header: %w: %d pages in bitmaps of %d bytes", ErrCorrupt, h.MaxPFN, half))
	}
	if version >= 4 {
		off, n := o.Uint64(sub[kdumpOffNote:]), o.Uint64(sub[kdumpOffNoteSize:])
		if off > uint64(size) || n > uint64(size)-off {
			noteErr = fmt.Errorf("kdump sub header: %w: %d bytes of notes at %#x in a file of %d bytes", ErrCorrupt, n, off, size)
		} else {
			budget := maxNoteBytes
			h.Notes, noteErr = readNotes(r, off, n, o, nil, &budget)
		}
	}
	if text, _ := findVMCoreInfo(h.Notes); text == nil && version >= 3 {
		// Before version 4 there was VMCOREINFO and no notes.
		off, n := o.Uint64(sub[kdumpOffVMCoreInfo:]), o.Uint64(sub[kdumpOffVMCoreInfoSize:])
		if n > 0 && n <= 1<<20 && off <= uint64(size) && n <= uint64(size)-off {
			desc := make([]byte, n)
			if _, err := readFull(r, desc, off); err == nil {
				h.Notes = append(h.Notes, Note{Name: "VMCOREINFO", Desc: desc})
			}
		}
	}
	return h, l, noteErr, nil
}
