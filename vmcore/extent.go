package vmcore

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Writer writes a dump in one pass and in little memory: extents of pages are
// filled concurrently (NewExtent) and written in ascending order (Write). What
// a Writer writes can be opened whatever happened before Finish, except where
// it says otherwise.
type Writer interface {
	// NewExtent makes an empty extent with room for the given number of pages.
	NewExtent(pages int) *Extent
	// Write writes an extent, by one goroutine, in ascending order. What is in
	// the extent afterwards is of no use: Reset it. After an error nothing
	// more can be written.
	Write(*Extent) error
	// Finish writes what says how the dump ends. complete says that every page
	// is in the file that should be; if Write failed, the dump is marked
	// incomplete in any case, where its format has a mark. Files are neither
	// synced nor closed.
	Finish(complete bool) error
	// Pages is the number of pages written.
	Pages() uint64
	// Size is the size of all files up to the end of the data, in bytes, holes
	// included.
	Size() uint64
}

// Extent is compressed pages on their way into the file. An extent is used by
// one goroutine at a time; different ones concurrently.
type Extent struct {
	pack   packing
	encode encode // nil: pages are stored as they are
	pages  []extentPage
	data   []byte
	zeros  int
	page   []byte // for Fill
}

type extentPage struct {
	pfn    PFN
	size   uint32 // of its data; 0: nothing but zeros
	flags  uint32
	off    uint64 // in the file, once written
	digest digest // of its data, if pages share them
}

// digest tells data apart: the first half of a SHA-256.
type digest [16]byte

func newExtent(pack packing, pages int) *Extent {
	return &Extent{
		pack:   pack,
		encode: compressions[pack.kind].encoder(),
		pages:  make([]extentPage, 0, pages),
		data:   make([]byte, 0, pack.room(pages)),
	}
}

// Reset empties the extent.
func (e *Extent) Reset() { e.pages, e.data, e.zeros = e.pages[:0], e.data[:0], 0 }

// Pages is the number of pages in the extent.
func (e *Extent) Pages() int { return len(e.pages) }

// Zeros is how many of them are zero.
func (e *Extent) Zeros() int { return e.zeros }

// Size is the size of the data in bytes.
func (e *Extent) Size() int { return len(e.data) }

// Add compresses a page and appends it. Page frame numbers must ascend. The
// page may be reused when Add returns.
func (e *Extent) Add(pfn PFN, page []byte) error {
	if len(page) != e.pack.pageSize {
		return fmt.Errorf("page frame %#x: %d bytes in a dump with pages of %d", uint64(pfn), len(page), e.pack.pageSize)
	}
	if err := e.follows(pfn); err != nil {
		return err
	}
	if isZero(page) {
		e.zeros++
		e.pages = append(e.pages, extentPage{pfn: pfn})
		return nil
	}
	e.add(pfn, page)
	return nil
}

// follows checks that pfn may be the next page.
func (e *Extent) follows(pfn PFN) error {
	if n := len(e.pages); n > 0 && e.pages[n-1].pfn >= pfn {
		return fmt.Errorf("page frame %#x after %#x", uint64(pfn), uint64(e.pages[n-1].pfn))
	}
	return nil
}

// add appends a page that is not zero, compressed if that is smaller.
func (e *Extent) add(pfn PFN, page []byte) {
	before := len(e.data)
	var flags uint32
	if e.encode != nil {
		e.data, flags = e.encode(e.data, page), compressions[e.pack.kind].flag
	}
	if n := len(e.data) - before; n == 0 || n >= len(page) {
		e.data, flags = append(e.data[:before], page...), 0
	}
	p := extentPage{pfn: pfn, size: uint32(len(e.data) - before), flags: flags}
	if e.pack.digests {
		sum := sha256.Sum256(e.data[before:])
		p.digest = digest(sum[:])
	}
	e.pages = append(e.pages, p)
}

// Keep takes the pages out of the extent of which keep says no.
func (e *Extent) Keep(keep func(pfn PFN, zero bool) bool) {
	pages, data := e.pages[:0], e.data[:0]
	from := 0
	for _, p := range e.pages {
		end := from + int(p.size)
		switch {
		case keep(p.pfn, p.size == 0):
			pages = append(pages, p)
			data = append(data, e.data[from:end]...)
		case p.size == 0:
			e.zeros--
		}
		from = end
	}
	e.pages, e.data = pages, data
}

// isZero tells whether a page is zero, eight bytes at a time. Pages that are
// not mostly show it in the first words.
func isZero(p []byte) bool {
	for len(p) >= 64 {
		if binary.LittleEndian.Uint64(p[0:])|binary.LittleEndian.Uint64(p[8:])|
			binary.LittleEndian.Uint64(p[16:])|binary.LittleEndian.Uint64(p[24:])|
			binary.LittleEndian.Uint64(p[32:])|binary.LittleEndian.Uint64(p[40:])|
			binary.LittleEndian.Uint64(p[48:])|binary.LittleEndian.Uint64(p[56:]) != 0 {
			return false
		}
		p = p[64:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
