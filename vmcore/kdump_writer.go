package vmcore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// KdumpWriter writes a kdump-compressed file in one pass and in little memory:
// extents of pages are compressed concurrently ([KdumpWriter.NewExtent]) and
// written in ascending order ([KdumpWriter.Write]).
//
// The file can be read at any moment, with the pages written so far, and says
// that it is incomplete until Finish. A page is entered in the second bitmap
// only when its descriptor and its data have been written. Where bits will be
// entered, zeros are written first, so that a full disk cannot keep them out.
type KdumpWriter struct {
	w      io.WriterAt
	header KdumpHeader
	layout kdumpLayout
	pack   *compressor

	zeroPage uint64 // file offset of the one page of zeros that all share
	dataEnd  uint64 // file offset
	maxPages uint64 // room for descriptors
	pages    uint64 // written
	nextPFN  PFN    // the next extent may not begin below

	block      []byte // of the second bitmap
	blockIndex uint64
	descs      []byte
	err        error // the first failure of Write
}

// NewKdumpWriter writes everything that stands before the pages: header, notes
// and bitmaps. present is the RAM of the machine, sorted, and maxPages the
// largest number of pages that will be written: room for their descriptors is
// kept free. The fields MaxPFN, CPUs and Incomplete of h are not used.
func NewKdumpWriter(w io.WriterAt, h KdumpHeader, present []Range, maxPages uint64) (*KdumpWriter, error) {
	if !validPageSize(h.PageSize) {
		return nil, fmt.Errorf("%w: page size %d", ErrUnsupported, h.PageSize)
	}
	if h.ByteOrder == nil {
		h.ByteOrder = binary.LittleEndian
	}
	h.Incomplete = true
	h.CPUs = 0
	for _, n := range h.Notes {
		if n.Name == "CORE" && n.Type == NotePRStatus {
			h.CPUs++
		}
	}
	// crash and libkdumpfile refuse 0.
	h.CPUs = max(h.CPUs, 1)
	bs := h.PageSize
	h.MaxPFN = 0
	for _, r := range present {
		if r.Start < r.End {
			h.MaxPFN = max(h.MaxPFN, PFN((uint64(r.End)-1)/bs+1))
		}
	}
	half := (uint64(h.MaxPFN) + 8*bs - 1) / (8 * bs) // blocks of one bitmap
	if h.MaxPFN == 0 || half > maxBitmapBytes/bs {
		return nil, fmt.Errorf("%w: memory up to page frame %#x", ErrUnsupported, uint64(h.MaxPFN))
	}
	kw := &KdumpWriter{w: w, header: h, maxPages: maxPages, block: make([]byte, bs)}
	kw.layout = kdumpLayout{blockSize: bs, bitmapBlocks: 2 * half}
	_, sub, err := h.encode(kw.layout)
	if err != nil {
		return nil, err
	}
	kw.layout.subHdrBlocks = (uint64(len(sub)) + bs - 1) / bs
	if kw.pack, err = newCompressor(h.Compression, int(bs)); err != nil {
		return nil, err
	}
	kw.zeroPage = (kw.layout.descs() + maxPages*kdumpDescSize + bs - 1) / bs * bs
	kw.dataEnd = kw.zeroPage + bs

	if err := kw.writeHeader(); err != nil {
		return nil, err
	}
	if _, err := w.WriteAt(sub, int64(bs)); err != nil {
		return nil, fmt.Errorf("dump sub header: %w", err)
	}
	if err := kw.writeBitmaps(present); err != nil {
		return nil, fmt.Errorf("dump bitmaps: %w", err)
	}
	if _, err := w.WriteAt(make([]byte, bs), int64(kw.zeroPage)); err != nil {
		return nil, fmt.Errorf("dump page of zeros: %w", err)
	}
	return kw, nil
}

func (kw *KdumpWriter) writeHeader() error {
	header, _, err := kw.header.encode(kw.layout)
	if err != nil {
		return err
	}
	if _, err := kw.w.WriteAt(header, 0); err != nil {
		return fmt.Errorf("dump header: %w", err)
	}
	return nil
}

// writeBitmaps writes the first bitmap, and zeros for the second wherever the
// first has bits. Blocks without bits stay holes.
func (kw *KdumpWriter) writeBitmaps(present []Range) error {
	bs := kw.layout.blockSize
	zero := make([]byte, bs)
	block := make([]byte, bs)
	index, dirty := uint64(0), false
	flush := func() error {
		if !dirty {
			return nil
		}
		dirty = false
		if _, err := kw.w.WriteAt(block, int64(kw.layout.bitmap1()+index*bs)); err != nil {
			return err
		}
		clear(block)
		_, err := kw.w.WriteAt(zero, int64(kw.layout.bitmap2()+index*bs))
		return err
	}
	for _, r := range present {
		if r.Start >= r.End {
			continue
		}
		last := (uint64(r.End)-1)/bs + 1
		for pfn := uint64(r.Start) / bs; pfn < last; {
			if i := pfn / (8 * bs); i != index {
				if i < index {
					return errors.New("ranges of memory are not sorted")
				}
				if err := flush(); err != nil {
					return err
				}
				index = i
			}
			dirty = true
			end := min(last, (index+1)*8*bs)
			setBits(block, pfn%(8*bs), end-pfn)
			pfn = end
		}
	}
	return flush()
}

// setBits sets n bits from bit first on.
func setBits(b []byte, first, n uint64) {
	for ; n > 0 && first%8 != 0; first, n = first+1, n-1 {
		b[first/8] |= 1 << (first % 8)
	}
	for ; n >= 8; first, n = first+8, n-8 {
		b[first/8] = 0xff
	}
	for ; n > 0; first, n = first+1, n-1 {
		b[first/8] |= 1 << (first % 8)
	}
}

// Pages is the number of pages written.
func (kw *KdumpWriter) Pages() uint64 { return kw.pages }

// Size is the size of the file up to the end of the data, in bytes, holes
// included.
func (kw *KdumpWriter) Size() uint64 { return kw.dataEnd }

// Extent is compressed pages on their way into the file. An extent is used by
// one goroutine at a time; different ones concurrently.
type Extent struct {
	pack  *compressor
	pages []extentPage
	data  []byte
	zeros int
}

type extentPage struct {
	pfn   PFN
	size  uint32 // 0: the page of zeros
	flags uint32
}

// NewExtent makes an empty extent with room for the given number of pages.
func (kw *KdumpWriter) NewExtent(pages int) *Extent {
	return newExtent(kw.pack, pages)
}

func newExtent(pack *compressor, pages int) *Extent {
	return &Extent{
		pack:  pack,
		pages: make([]extentPage, 0, pages),
		data:  make([]byte, 0, pages*pack.pageSize+pack.room()),
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
	if n := len(e.pages); n > 0 && e.pages[n-1].pfn >= pfn {
		return fmt.Errorf("page frame %#x after %#x", uint64(pfn), uint64(e.pages[n-1].pfn))
	}
	if isZero(page) {
		e.zeros++
		e.pages = append(e.pages, extentPage{pfn: pfn})
		return nil
	}
	before := len(e.data)
	var flags uint32
	e.data, flags = e.pack.append(e.data, page)
	e.pages = append(e.pages, extentPage{pfn, uint32(len(e.data) - before), flags})
	return nil
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

// Write writes an extent. Extents must be written in ascending order, by one
// goroutine. After an error, of a full disk for instance, whole pages that got
// through are in the dump, nothing more can be written, and Finish(false)
// leaves a dump that can be read.
func (kw *KdumpWriter) Write(e *Extent) error {
	if kw.err == nil {
		kw.err = kw.write(e)
	}
	return kw.err
}

func (kw *KdumpWriter) write(e *Extent) error {
	if len(e.pages) == 0 {
		return nil
	}
	first, last := e.pages[0].pfn, e.pages[len(e.pages)-1].pfn
	if first < kw.nextPFN || last >= kw.header.MaxPFN {
		return fmt.Errorf("extent of page frames %#x to %#x: outside of %#x to %#x",
			uint64(first), uint64(last), uint64(kw.nextPFN), uint64(kw.header.MaxPFN))
	}
	if kw.pages+uint64(len(e.pages)) > kw.maxPages {
		return fmt.Errorf("more than the %d pages there is room for", kw.maxPages)
	}
	o := kw.header.ByteOrder
	kw.descs = kw.descs[:0]
	off := kw.dataEnd
	for _, p := range e.pages {
		var desc [kdumpDescSize]byte
		if p.size == 0 {
			o.PutUint64(desc[0:], kw.zeroPage)
			o.PutUint32(desc[8:], uint32(kw.layout.blockSize))
		} else {
			o.PutUint64(desc[0:], off)
			o.PutUint32(desc[8:], p.size)
			o.PutUint32(desc[12:], p.flags)
			off += uint64(p.size)
		}
		kw.descs = append(kw.descs, desc[:]...)
	}
	pages := e.pages
	n, err := kw.w.WriteAt(kw.descs, int64(kw.layout.descs()+kw.pages*kdumpDescSize))
	if err != nil {
		err = fmt.Errorf("dump page descriptors: %w", err)
		pages = pages[:max(n, 0)/kdumpDescSize]
	}
	if err == nil && len(e.data) > 0 {
		if n, err = kw.w.WriteAt(e.data, int64(kw.dataEnd)); err != nil {
			err = fmt.Errorf("dump pages: %w", err)
			// Pages that are whole on the disk count.
			room := uint64(max(n, 0))
			for i, p := range pages {
				if uint64(p.size) > room {
					pages = pages[:i]
					break
				}
				room -= uint64(p.size)
			}
		}
	} else if err != nil {
		// Of pages with a descriptor and no data only zeros are whole.
		for i, p := range pages {
			if p.size != 0 {
				pages = pages[:i]
				break
			}
		}
	}
	for _, p := range pages {
		kw.dataEnd += uint64(p.size)
	}
	return errors.Join(err, kw.enter(pages))
}

// enter sets the bits of pages in the second bitmap.
func (kw *KdumpWriter) enter(pages []extentPage) error {
	perBlock := 8 * kw.layout.blockSize
	for len(pages) > 0 {
		index := uint64(pages[0].pfn) / perBlock
		if index != kw.blockIndex {
			clear(kw.block)
			kw.blockIndex = index
		}
		from := uint64(pages[0].pfn) % perBlock / 8
		to := from
		n := 0
		for n < len(pages) && uint64(pages[n].pfn)/perBlock == index {
			bit := uint64(pages[n].pfn) % perBlock
			kw.block[bit/8] |= 1 << (bit % 8)
			to = bit / 8
			n++
		}
		if _, err := kw.w.WriteAt(kw.block[from:to+1], int64(kw.layout.bitmap2()+index*kw.layout.blockSize+from)); err != nil {
			return fmt.Errorf("dump bitmap: %w", err)
		}
		kw.pages += uint64(n)
		kw.nextPFN = pages[n-1].pfn + 1
		pages = pages[n:]
	}
	return nil
}

// Finish writes the final header. complete says that every page is in the file
// that should be; if Write failed, the dump is marked incomplete in any case.
// The file is not synced.
func (kw *KdumpWriter) Finish(complete bool) error {
	kw.header.Incomplete = !complete || kw.err != nil
	return errors.Join(kw.writeHeader(), kw.pack.close())
}
