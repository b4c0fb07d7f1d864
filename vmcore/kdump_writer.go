package vmcore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
)

// KdumpOptions are ways to write a kdump-compressed file that make no
// difference to who reads it. The zero value is the usual one.
type KdumpOptions struct {
	// Share is how many of the pages stored last are remembered, so that a page
	// of the same content shares their data; 48 bytes each, rounded up to a
	// power of two. 0 is none: then only pages of zeros share theirs.
	Share int
	// WriteOnce says that no byte of the file may be written twice, as of a
	// flattened one. Such a file cannot be read before Finish.
	WriteOnce bool
}

// KdumpWriter writes a kdump-compressed file, or several that together are a
// split dump.
//
// The file can be read at any moment, with the pages written so far, and says
// that it is incomplete until Finish. A page is entered in the second bitmap
// only when its descriptor and its data have been written. Where bits will be
// entered, zeros are written first, so that a full disk cannot keep them out.
type KdumpWriter struct {
	opts   KdumpOptions
	header KdumpHeader
	layout kdumpLayout
	pack   packing

	parts    []kdumpPart // one, if the dump is not split
	part     *kdumpPart  // that pages go to
	zeroPage uint64      // file offset of the one page of zeros that all share
	each     uint64      // pages for one part, about
	room     uint64      // descriptors that fit into one part
	pages    uint64      // written
	nextPFN  PFN         // the next extent may not begin below

	shared     []sharedPage // by digest
	block      []byte       // of the second bitmap
	blockIndex uint64
	blockDirty bool
	descs      []byte // not written yet
	err        error  // the first failure of Write
}

// kdumpPart is one file of a dump.
type kdumpPart struct {
	w       io.WriterAt
	start   PFN    // that its pages begin with
	pages   uint64 // written
	dataEnd uint64 // file offset
}

// sharedPage is data that is in the file, for further pages to share.
type sharedPage struct {
	part  *kdumpPart
	page  digest
	off   uint64
	size  uint32
	flags uint32
}

// descBuffer is how many bytes of descriptors are put together when they can
// be written only once.
const descBuffer = 1 << 20

// splitSlack is how many pages more than its share a part of a split dump may
// get, which is the largest extent.
const splitSlack = 64 << 10

// NewKdumpWriter writes everything that stands before the pages: header, notes
// and bitmaps. present is the RAM of the machine, sorted, and maxPages the
// largest number of pages that will be written: room for their descriptors is
// kept free. The fields MaxPFN, CPUs, Incomplete and Split of h are not used.
func NewKdumpWriter(w io.WriterAt, h KdumpHeader, present []Range, maxPages uint64, opts KdumpOptions) (*KdumpWriter, error) {
	return NewSplitKdumpWriter([]io.WriterAt{w}, h, present, maxPages, opts)
}

// NewSplitKdumpWriter writes a split dump, as makedumpfile --split does: the
// files have the same headers and bitmaps, and each the pages of a part of
// memory, about the same number. They are written one after the other.
//
// Parts begin at multiples of 64 page frames, so an extent must not begin in
// the 64 in which another one ends. It has at most 65536 pages.
func NewSplitKdumpWriter(files []io.WriterAt, h KdumpHeader, present []Range, maxPages uint64, opts KdumpOptions) (*KdumpWriter, error) {
	split := len(files) > 1
	if len(files) == 0 || split && opts.WriteOnce {
		return nil, fmt.Errorf("%w: %d files of a dump, written once: %v", ErrUnsupported, len(files), opts.WriteOnce)
	}
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
	kw := &KdumpWriter{opts: opts, header: h, each: maxPages, room: maxPages, block: make([]byte, bs)}
	if split {
		n := uint64(len(files))
		kw.each = (maxPages + n - 1) / n
		kw.room = min(maxPages, kw.each+splitSlack)
	}
	kw.layout = kdumpLayout{blockSize: bs, bitmapBlocks: 2 * half}
	_, sub, err := kw.header.encode(kw.layout)
	if err != nil {
		return nil, err
	}
	kw.layout.subHdrBlocks = (uint64(len(sub)) + bs - 1) / bs
	kw.pack = packing{kind: h.Compression, pageSize: int(bs), digests: opts.Share > 0}
	if opts.Share > 0 {
		kw.shared = make([]sharedPage, 1<<bits.Len(uint(opts.Share-1)))
	}
	kw.zeroPage = (kw.layout.descs() + kw.room*kdumpDescSize + bs - 1) / bs * bs
	for i, w := range files {
		p := kdumpPart{w: w, dataEnd: kw.zeroPage + bs}
		if i > 0 {
			p.start = h.MaxPFN // it has no pages yet
		}
		kw.parts = append(kw.parts, p)
	}
	kw.part = &kw.parts[0]
	if err := kw.begin(present, sub); err != nil {
		return nil, err
	}
	return kw, nil
}

// begin writes what stands before the pages of each part.
func (kw *KdumpWriter) begin(present []Range, sub []byte) error {
	if !kw.opts.WriteOnce {
		if err := kw.writeHeaders(); err != nil {
			return err
		}
	} else if _, err := kw.part.w.WriteAt(sub, int64(kw.layout.blockSize)); err != nil {
		return fmt.Errorf("dump sub header: %w", err)
	}
	for i := range kw.parts {
		w := kw.parts[i].w
		if err := kw.writeBitmaps(w, present); err != nil {
			return fmt.Errorf("dump bitmaps: %w", err)
		}
		if _, err := w.WriteAt(make([]byte, kw.layout.blockSize), int64(kw.zeroPage)); err != nil {
			return fmt.Errorf("dump page of zeros: %w", err)
		}
	}
	return nil
}

// writeHeaders writes header and sub header of each part.
func (kw *KdumpWriter) writeHeaders() error {
	for i := range kw.parts {
		part := &kw.parts[i]
		if len(kw.parts) > 1 {
			kw.header.Split = KdumpSplit{Start: part.start, End: kw.header.MaxPFN, Part: true}
			if i+1 < len(kw.parts) {
				kw.header.Split.End = kw.parts[i+1].start
			}
		}
		header, sub, err := kw.header.encode(kw.layout)
		if err != nil {
			return err
		}
		if _, err := part.w.WriteAt(header, 0); err != nil {
			return fmt.Errorf("dump header: %w", err)
		}
		if kw.opts.WriteOnce {
			continue
		}
		if _, err := part.w.WriteAt(sub, int64(kw.layout.blockSize)); err != nil {
			return fmt.Errorf("dump sub header: %w", err)
		}
	}
	return nil
}

// writeBitmaps writes the first bitmap, and zeros for the second wherever the
// first has bits. Blocks without bits stay holes.
func (kw *KdumpWriter) writeBitmaps(w io.WriterAt, present []Range) error {
	bs := kw.layout.blockSize
	zero := make([]byte, bs)
	block := make([]byte, bs)
	index, dirty := uint64(0), false
	flush := func() error {
		if !dirty {
			return nil
		}
		dirty = false
		if _, err := w.WriteAt(block, int64(kw.layout.bitmap1()+index*bs)); err != nil {
			return err
		}
		clear(block)
		if kw.opts.WriteOnce {
			return nil
		}
		_, err := w.WriteAt(zero, int64(kw.layout.bitmap2()+index*bs))
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

// Pages is [Writer.Pages].
func (kw *KdumpWriter) Pages() uint64 { return kw.pages }

// Size is [Writer.Size].
func (kw *KdumpWriter) Size() uint64 {
	n := uint64(0)
	for i := range kw.parts {
		n += kw.parts[i].dataEnd
	}
	return n
}

// NewExtent is [Writer.NewExtent].
func (kw *KdumpWriter) NewExtent(pages int) *Extent { return newExtent(kw.pack, pages) }

// Write is [Writer.Write]. After an error, of a full disk for instance, whole
// pages that got through are in the dump, and Finish(false) leaves a dump that
// can be read.
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
	if err := kw.choosePart(first); err != nil {
		return err
	}
	part := kw.part
	if part.pages+uint64(len(e.pages)) > kw.room {
		return fmt.Errorf("more than the %d pages there is room for", kw.room)
	}
	kw.place(e)
	pages := e.pages
	err := kw.writeDescs(&pages)
	end := part.dataEnd
	if err == nil && len(e.data) > 0 {
		var n int
		if n, err = part.w.WriteAt(e.data, int64(end)); err != nil {
			err = fmt.Errorf("dump pages: %w", err)
		}
		end += uint64(max(n, 0))
	}
	// Pages that are whole on the disk count.
	for i, p := range pages {
		if p.off+uint64(p.size) > end {
			pages = pages[:i]
			break
		}
		part.dataEnd = max(part.dataEnd, p.off+uint64(p.size))
	}
	return errors.Join(err, kw.enter(pages))
}

// choosePart goes on to the next part of a split dump when this one has its
// share.
func (kw *KdumpWriter) choosePart(first PFN) error {
	i := 0
	for kw.part != &kw.parts[i] {
		i++
	}
	start := first &^ 63 // crash looks for the first bit in words of 64
	if i+1 == len(kw.parts) || kw.part.pages < kw.each || start < kw.nextPFN {
		return nil
	}
	kw.part = &kw.parts[i+1]
	kw.part.start = start
	return kw.writeHeaders()
}

// place gives each page of the extent its place in the file, and takes data
// out of the extent that is in the file already.
func (kw *KdumpWriter) place(e *Extent) {
	off, from, to := kw.part.dataEnd, 0, 0
	for i := range e.pages {
		p := &e.pages[i]
		if p.size == 0 {
			p.off = kw.zeroPage
			continue
		}
		size := int(p.size)
		if kw.shared != nil {
			s := &kw.shared[binary.LittleEndian.Uint64(p.digest[:])%uint64(len(kw.shared))]
			if s.part == kw.part && s.page == p.digest && s.size == p.size && s.flags == p.flags {
				p.off = s.off
				from += size
				continue
			}
			*s = sharedPage{kw.part, p.digest, off, p.size, p.flags}
		}
		if from != to {
			copy(e.data[to:], e.data[from:from+size])
		}
		p.off = off
		off, from, to = off+uint64(size), from+size, to+size
	}
	e.data = e.data[:to]
}

// writeDescs writes the descriptors of pages, and cuts off those for which it
// fails.
func (kw *KdumpWriter) writeDescs(pages *[]extentPage) error {
	o := kw.header.ByteOrder
	if !kw.opts.WriteOnce {
		kw.descs = kw.descs[:0]
	}
	at := kw.layout.descs() + kw.part.pages*kdumpDescSize - uint64(len(kw.descs))
	for _, p := range *pages {
		// In place: an array would be allocated for each page.
		n := len(kw.descs)
		kw.descs = slices.Grow(kw.descs, kdumpDescSize)[:n+kdumpDescSize]
		desc := kw.descs[n:]
		clear(desc)
		o.PutUint64(desc[0:], p.off)
		if p.size == 0 {
			o.PutUint32(desc[8:], uint32(kw.layout.blockSize))
		} else {
			o.PutUint32(desc[8:], p.size)
			o.PutUint32(desc[12:], p.flags)
		}
	}
	if kw.opts.WriteOnce && len(kw.descs) < descBuffer {
		return nil
	}
	n, err := kw.part.w.WriteAt(kw.descs, int64(at))
	if err != nil {
		*pages = (*pages)[:min(len(*pages), max(n, 0)/kdumpDescSize)]
		return fmt.Errorf("dump page descriptors: %w", err)
	}
	kw.descs = kw.descs[:0]
	return nil
}

// enter sets the bits of pages in the second bitmap.
func (kw *KdumpWriter) enter(pages []extentPage) error {
	perBlock := 8 * kw.layout.blockSize
	for len(pages) > 0 {
		index := uint64(pages[0].pfn) / perBlock
		if index != kw.blockIndex {
			if err := kw.flushBlock(); err != nil {
				return err
			}
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
		kw.blockDirty = true
		if !kw.opts.WriteOnce {
			if err := kw.writeBlock(from, to+1); err != nil {
				return err
			}
		}
		kw.part.pages += uint64(n)
		kw.pages += uint64(n)
		kw.nextPFN = pages[n-1].pfn + 1
		pages = pages[n:]
	}
	return nil
}

// writeBlock writes a part of the block of the second bitmap, to every file.
func (kw *KdumpWriter) writeBlock(from, to uint64) error {
	at := kw.layout.bitmap2() + kw.blockIndex*kw.layout.blockSize + from
	for i := range kw.parts {
		if _, err := kw.parts[i].w.WriteAt(kw.block[from:to], int64(at)); err != nil {
			return fmt.Errorf("dump bitmap: %w", err)
		}
	}
	kw.blockDirty = false
	return nil
}

// flushBlock writes the block if it was not written yet.
func (kw *KdumpWriter) flushBlock() error {
	if !kw.blockDirty {
		return nil
	}
	return kw.writeBlock(0, kw.layout.blockSize)
}

// Finish is [Writer.Finish].
func (kw *KdumpWriter) Finish(complete bool) error {
	var err error
	if kw.opts.WriteOnce && kw.err == nil {
		err = kw.flushBlock()
		if len(kw.descs) > 0 && err == nil {
			at := kw.layout.descs() + kw.pages*kdumpDescSize - uint64(len(kw.descs))
			if _, err = kw.part.w.WriteAt(kw.descs, int64(at)); err != nil {
				err = fmt.Errorf("dump page descriptors: %w", err)
			}
		}
	}
	kw.header.Incomplete = !complete || kw.err != nil || err != nil
	return errors.Join(err, kw.writeHeaders())
}
