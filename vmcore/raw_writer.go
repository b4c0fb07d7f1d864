package vmcore

import (
	"fmt"
	"io"
)

// RawWriter writes memory as it lies in the machine: the byte at physical
// address Base + n is at offset n of the file. There are no headers, so a reader
// has to be told Base (crash takes FILE@BASE), and what is not memory, left out
// or zero is a hole of the file and reads as zeros. Nothing marks such a file
// as incomplete.
type RawWriter struct {
	w        io.WriterAt
	base     PhysAddr
	end      uint64 // of memory, in the file
	written  uint64 // end of what was written
	pageSize uint64
	pages    uint64
	nextPFN  PFN
	err      error
}

// NewRawWriter writes the memory of a machine with the given RAM, sorted, in
// pages of pageSize bytes. Every byte is written once.
func NewRawWriter(w io.WriterAt, present []Range, pageSize uint64) (*RawWriter, error) {
	if !validPageSize(pageSize) {
		return nil, fmt.Errorf("%w: page size %d", ErrUnsupported, pageSize)
	}
	if len(present) == 0 || present[0].Start >= present[len(present)-1].End {
		return nil, fmt.Errorf("%w: a machine without memory", ErrUnsupported)
	}
	base := present[0].Start &^ PhysAddr(pageSize-1)
	end := (uint64(present[len(present)-1].End-base) + pageSize - 1) / pageSize * pageSize
	if end > 1<<62 {
		return nil, fmt.Errorf("%w: a raw file of %d bytes", ErrUnsupported, end)
	}
	return &RawWriter{w: w, base: base, end: end, pageSize: pageSize}, nil
}

// Base is the physical address of the first byte of the file.
func (rw *RawWriter) Base() PhysAddr { return rw.base }

// Pages is [Writer.Pages].
func (rw *RawWriter) Pages() uint64 { return rw.pages }

// Size is [Writer.Size].
func (rw *RawWriter) Size() uint64 { return rw.end }

// NewExtent is [Writer.NewExtent].
func (rw *RawWriter) NewExtent(pages int) *Extent {
	return newExtent(packing{kind: CompressionNone, pageSize: int(rw.pageSize)}, pages)
}

// Write is [Writer.Write].
func (rw *RawWriter) Write(e *Extent) error {
	if rw.err == nil {
		rw.err = rw.write(e)
	}
	return rw.err
}

func (rw *RawWriter) write(e *Extent) error {
	for g := range groups(e, rw.pageSize) {
		at := uint64(g.first)*rw.pageSize - uint64(rw.base)
		size := g.pages * rw.pageSize
		if g.first < rw.nextPFN || uint64(g.first)*rw.pageSize < uint64(rw.base) || at+size > rw.end {
			return fmt.Errorf("page frame %#x: %w", uint64(g.first), ErrHole)
		}
		if g.bytes != nil {
			n, err := rw.w.WriteAt(g.bytes, int64(at))
			if err != nil {
				rw.pages += uint64(max(n, 0)) / rw.pageSize
				return fmt.Errorf("raw memory: %w", err)
			}
			rw.written = at + size
		}
		rw.pages += g.pages
		rw.nextPFN = g.first + PFN(g.pages)
	}
	return nil
}

// Finish is [Writer.Finish].
func (rw *RawWriter) Finish(bool) error {
	var err error
	if rw.written < rw.end {
		if _, err = rw.w.WriteAt([]byte{0}, int64(rw.end-1)); err != nil {
			err = fmt.Errorf("raw memory: %w", err)
		}
	}
	return err
}
