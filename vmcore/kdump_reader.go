package vmcore

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"sync"

	"github.com/anchore/go-lzo"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

const (
	// rankStep is the number of page frames between two entries of the table
	// of ranks: 8 bytes of table for 16 MiB of memory in pages of 4 KiB.
	rankStep = 4096
	// maxBitmapBytes bounds one bitmap of a file.
	maxBitmapBytes = MaxKdumpPFN / 8
	// maxRanges bounds the runs in the first bitmap. It shows the RAM of a
	// machine, not its pages.
	maxRanges = 1 << 20
	// sharedPages and readerPages are how many uncompressed pages are kept.
	sharedPages = 1024
	readerPages = 16
)

// MaxKdumpPFN is how many page frames a kdump-compressed file can have, to be
// read and written here: physical addresses of 46 bits in pages of 4 KiB.
const MaxKdumpPFN = 1 << 34

// newKdump opens a kdump-compressed file, or the parts of a split dump.
func newKdump(parts []Part, split bool) (*Dump, error) {
	var (
		h       *KdumpHeader
		l       kdumpLayout
		noteErr error
		f       *kdumpFile
		srcs    []source
		total   int64
	)
	for i, p := range parts {
		ph, pl, pNoteErr, err := decodeKdumpHeader(p.R, p.Size)
		if err != nil {
			return nil, inPart(i, split, err)
		}
		switch {
		case ph.Split.Part && !split:
			return nil, &hintedError{fmt.Errorf("%w: one part of a split dump", ErrUnsupported),
				[]string{"name all parts", "makedumpfile --reassemble PART1 PART2 ... DUMPFILE puts the parts together"}}
		case !ph.Split.Part && split:
			return nil, inPart(i, split, fmt.Errorf("%w: a dump that is not split", ErrUnsupported))
		case i == 0:
			h, l, noteErr = ph, pl, pNoteErr
			f = newKdumpFile(h, l)
		case pl != l || ph.MaxPFN != h.MaxPFN || ph.ByteOrder != h.ByteOrder || ph.Utsname != h.Utsname || ph.Timestamp != h.Timestamp:
			return nil, inPart(i, split, fmt.Errorf("%w: of another dump than part 1", ErrCorrupt))
		}
		part := kdumpReadPart{size: uint64(p.Size), index: i, end: uint64(h.MaxPFN)}
		if split {
			part.start, part.end = uint64(ph.Split.Start), uint64(ph.Split.End)
			h.Incomplete = h.Incomplete || ph.Incomplete
		}
		f.parts = append(f.parts, part)
		srcs = append(srcs, newSource(p.R, p.Size))
		total += p.Size
	}
	var err error
	// DecodeAllCapLimit: a page never grows beyond the buffer it is read to,
	// whatever the data say.
	f.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
		zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, err
	}
	m := &kdumpMemory{f: f, srcs: srcs, cache: newPageCache(sharedPages, l.blockSize)}
	d := &Dump{
		format:   FormatKdump,
		machine:  MachineByName(h.Utsname.Machine),
		order:    h.ByteOrder,
		pageSize: h.PageSize,
		header:   h,
		size:     total,
		memory:   m,

		incomplete: h.Incomplete,
	}
	d.setNotes(h.Notes, noteErr)
	if err := f.readParts(srcs); err != nil {
		return nil, errors.Join(err, m.close())
	}
	d.setRanges(f.ranges)
	if split && !d.incomplete {
		if d.incomplete, err = f.lacksPart(srcs[0]); err != nil {
			return nil, errors.Join(err, m.close())
		}
	}
	return d, nil
}

// inPart says in which part of a split dump an error is.
func inPart(i int, split bool, err error) error {
	if !split {
		return err
	}
	return fmt.Errorf("part %d of a split dump: %w", i+1, err)
}

// kdumpFile is what all readers of a kdump-compressed file share.
type kdumpFile struct {
	layout kdumpLayout
	order  binary.ByteOrder
	maxPFN PFN
	parts  []kdumpReadPart // by start
	ranges []Range         // from the first bitmap
	ranks  []uint64        // pages in the dump below each rankStep'th page frame

	zstd    *zstd.Decoder
	zlib    sync.Pool // of *zlibState
	scratch sync.Pool // of *[]byte, one block
}

// kdumpReadPart is one file of a dump, with the pages from start up to end.
type kdumpReadPart struct {
	index      int // among the sources
	start, end uint64
	rank       uint64 // of start
	size       uint64 // of the file
}

func newKdumpFile(h *KdumpHeader, l kdumpLayout) *kdumpFile {
	return &kdumpFile{
		layout:  l,
		order:   h.ByteOrder,
		maxPFN:  h.MaxPFN,
		scratch: sync.Pool{New: func() any { b := make([]byte, l.blockSize); return &b }},
		zlib:    sync.Pool{New: func() any { return new(zlibState) }},
	}
}

// readParts reads the bitmaps and orders the parts of a split dump.
func (f *kdumpFile) readParts(srcs []source) error {
	if err := f.readBitmaps(srcs[0]); err != nil {
		return err
	}
	for i := range f.parts {
		p := &f.parts[i]
		p.start, p.end = min(p.start, uint64(f.maxPFN)), min(p.end, uint64(f.maxPFN))
		if p.start > p.end {
			return inPart(p.index, true, fmt.Errorf("%w: page frames %#x to %#x", ErrCorrupt, p.start, p.end))
		}
		if i > 0 {
			// The same dump has the same pages.
			if err := f.sameRanks(srcs[i]); err != nil {
				return inPart(p.index, true, err)
			}
		}
		var err error
		if p.start < p.end {
			if p.rank, _, err = f.rankBelow(srcs[0], p.start); err != nil {
				return err
			}
		}
	}
	slices.SortFunc(f.parts, func(a, b kdumpReadPart) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end)) })
	for i := 1; i < len(f.parts); i++ {
		if f.parts[i].start < f.parts[i-1].end {
			return inPart(f.parts[i].index, true, fmt.Errorf("%w: page frame %#x is in part %d, too", ErrCorrupt, f.parts[i].start, f.parts[i-1].index+1))
		}
	}
	return nil
}

// sameRanks compares the second bitmap of another part, as far as the number
// of pages tells.
func (f *kdumpFile) sameRanks(src source) error {
	rank := uint64(0)
	return f.eachWord(src, f.layout.bitmap2(), func(pfn, word uint64) error {
		if pfn%rankStep == 0 && f.ranks[pfn/rankStep] != rank {
			return fmt.Errorf("%w: its second bitmap is not that of part 1", ErrCorrupt)
		}
		rank += uint64(bits.OnesCount64(word))
		return nil
	})
}

// lacksPart tells whether there are pages in the second bitmap that no part has.
func (f *kdumpFile) lacksPart(src source) (bool, error) {
	lacks, i := false, 0
	err := f.eachWord(src, f.layout.bitmap2(), func(pfn, word uint64) error {
		for ; word != 0 && !lacks; word &= word - 1 {
			at := pfn + uint64(bits.TrailingZeros64(word))
			for i < len(f.parts) && f.parts[i].end <= at {
				i++
			}
			lacks = i == len(f.parts) || at < f.parts[i].start
		}
		return nil
	})
	return lacks, err
}

type zlibState struct {
	in  bytes.Reader
	out io.ReadCloser
}

// readBitmaps goes through both bitmaps once: the RAM of the machine, and the
// table of ranks.
func (f *kdumpFile) readBitmaps(src source) error {
	n := (uint64(f.maxPFN) + 7) / 8
	if n > maxBitmapBytes {
		return fmt.Errorf("%w: bitmaps of %d bytes, at most %d are read", ErrUnsupported, n, maxBitmapBytes)
	}
	add := func(start, end uint64) {
		f.ranges = appendMerged(f.ranges, Range{PhysAddr(start * f.layout.blockSize), PhysAddr(end * f.layout.blockSize)})
	}
	err := f.eachWord(src, f.layout.bitmap1(), func(pfn, word uint64) error {
		for word != 0 {
			first := uint64(bits.TrailingZeros64(word))
			length := uint64(bits.TrailingZeros64(^(word >> first)))
			add(pfn+first, pfn+first+length)
			if length == 64 {
				break
			}
			word &^= (1<<length - 1) << first
		}
		if len(f.ranges) > maxRanges {
			return fmt.Errorf("first bitmap: %w: more than %d ranges of memory", ErrCorrupt, maxRanges)
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.ranks = make([]uint64, 0, uint64(f.maxPFN)/rankStep+1)
	rank := uint64(0)
	return f.eachWord(src, f.layout.bitmap2(), func(pfn, word uint64) error {
		if pfn%rankStep == 0 {
			f.ranks = append(f.ranks, rank)
		}
		rank += uint64(bits.OnesCount64(word))
		return nil
	})
}

// eachWord calls do with each 64 bits of the bitmap at off; bits of page
// frames that are none are 0.
func (f *kdumpFile) eachWord(src source, off uint64, do func(pfn, word uint64) error) error {
	buf := make([]byte, 64<<10)
	max := uint64(f.maxPFN)
	for pfn := uint64(0); pfn < max; {
		n := min(uint64(len(buf)), (max-pfn+63)/64*8)
		// The bitmap is whole blocks, so whole words of it are in the file.
		if m, err := src.readAt(buf[:n], int64(off+pfn/8)); err != nil {
			return fmt.Errorf("bitmap at file offset %#x: %w: %w", off+pfn/8+uint64(m), ErrCorrupt, err)
		}
		for b := buf[:n]; len(b) > 0; b = b[8:] {
			word := binary.LittleEndian.Uint64(b)
			if max-pfn < 64 {
				word &= 1<<(max-pfn) - 1
			}
			if err := do(pfn, word); err != nil {
				return err
			}
			pfn += 64
		}
	}
	return nil
}

// rankBelow gives the number of pages in the dump below pfn, and whether pfn
// is in it.
func (f *kdumpFile) rankBelow(src source, pfn uint64) (uint64, bool, error) {
	var buf [rankStep / 8]byte
	start := pfn &^ (rankStep - 1)
	words := (pfn-start)/64 + 1
	b := buf[:words*8]
	if _, err := src.readAt(b, int64(f.layout.bitmap2()+start/8)); err != nil {
		return 0, false, err
	}
	n := f.ranks[pfn/rankStep]
	for ; len(b) > 8; b = b[8:] {
		n += uint64(bits.OnesCount64(binary.LittleEndian.Uint64(b)))
	}
	last := binary.LittleEndian.Uint64(b)
	bit := uint64(1) << (pfn % 64)
	return n + uint64(bits.OnesCount64(last&(bit-1))), last&bit != 0, nil
}

// partOf finds the file that has the data of pfn.
func (f *kdumpFile) partOf(pfn uint64) *kdumpReadPart {
	for i := range f.parts {
		if p := &f.parts[i]; pfn >= p.start && pfn < p.end {
			return p
		}
	}
	return nil
}

// find finds the descriptor of a page: the part that it is in and its index
// there. kind is the sentinel of an AddrError.
func (f *kdumpFile) find(srcs []source, pfn uint64) (part *kdumpReadPart, index uint64, kind, cause error) {
	// The first bitmap is in memory, as ranges.
	if pfn >= uint64(f.maxPFN) || !inRanges(f.ranges, PhysAddr(pfn*f.layout.blockSize)) {
		return nil, 0, ErrHole, nil
	}
	part = f.partOf(pfn)
	src := srcs[0]
	if part != nil {
		src = srcs[part.index]
	}
	index, in, err := f.rankBelow(src, pfn)
	switch {
	case err != nil:
		return nil, 0, ErrUnreadable, err
	case !in:
		return nil, 0, ErrExcluded, nil
	case part == nil:
		return nil, 0, ErrUnreadable, errOtherPart
	case index < part.rank:
		return nil, 0, ErrUnreadable, fmt.Errorf("%w: bitmaps of the parts differ", ErrCorrupt)
	}
	return part, index - part.rank, nil, nil
}

// readPage uncompresses a page into p. kind is the sentinel of an AddrError.
func (f *kdumpFile) readPage(srcs []source, p []byte, pfn uint64) (kind, cause error) {
	part, index, kind, cause := f.find(srcs, pfn)
	if kind != nil {
		return kind, cause
	}
	src := srcs[part.index]
	var desc [kdumpDescSize]byte
	if _, err := src.readAt(desc[:], int64(f.layout.descs()+index*kdumpDescSize)); err != nil {
		return ErrUnreadable, err
	}
	off := f.order.Uint64(desc[0:])
	size := uint64(f.order.Uint32(desc[8:]))
	flags := f.order.Uint32(desc[12:])
	switch {
	case off == 0:
		return ErrUnreadable, errLost
	case size == 0 || size > f.layout.blockSize:
		return ErrUnreadable, fmt.Errorf("%w: %d bytes of data for a page", ErrCorrupt, size)
	case off > part.size || size > part.size-off:
		return ErrUnreadable, errTruncated
	}
	if flags&kdumpCompression == 0 {
		if size != uint64(len(p)) {
			return ErrUnreadable, fmt.Errorf("%w: %d bytes of data for a page that is not compressed", ErrCorrupt, size)
		}
		if _, err := src.readAt(p, int64(off)); err != nil {
			return ErrUnreadable, err
		}
		return nil, nil
	}
	scratch := f.scratch.Get().(*[]byte)
	defer f.scratch.Put(scratch)
	data := (*scratch)[:size]
	if _, err := src.readAt(data, int64(off)); err != nil {
		return ErrUnreadable, err
	}
	switch flags & kdumpCompression {
	case kdumpZstd:
		out, err := f.zstd.DecodeAll(data, p[:0:len(p)])
		if err != nil {
			return ErrUnreadable, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if len(out) != len(p) || &out[0] != &p[0] {
			return ErrUnreadable, fmt.Errorf("%w: a page of %d bytes", ErrCorrupt, len(out))
		}
	case kdumpZlib:
		if err := f.inflate(p, data); err != nil {
			return ErrUnreadable, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	case kdumpSnappy:
		if n, err := s2.DecodedLen(data); err != nil || n != len(p) {
			return ErrUnreadable, fmt.Errorf("%w: snappy data of a page of %d bytes: %v", ErrCorrupt, n, err)
		}
		if _, err := s2.Decode(p, data); err != nil {
			return ErrUnreadable, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	case kdumpLZO:
		if n, err := lzo.Decompress(data, p); err != nil || n != len(p) {
			return ErrUnreadable, fmt.Errorf("%w: LZO data of a page of %d bytes: %v", ErrCorrupt, n, err)
		}
	default:
		return ErrUnreadable, fmt.Errorf("%w: flags %#x of a page", ErrCorrupt, flags)
	}
	return nil, nil
}

func (f *kdumpFile) inflate(p, data []byte) error {
	z := f.zlib.Get().(*zlibState)
	defer f.zlib.Put(z)
	z.in.Reset(data)
	if z.out == nil {
		out, err := zlib.NewReader(&z.in)
		if err != nil {
			return err
		}
		z.out = out
	} else if err := z.out.(zlib.Resetter).Reset(&z.in, nil); err != nil {
		return err
	}
	_, err := io.ReadFull(z.out, p)
	return err
}

var (
	errLost      = errors.New("the dump was cut short before this page")
	errOtherPart = errors.New("it is in a part of the split dump that is not here")
)

// kdumpMemory is the memory of a kdump-compressed file.
type kdumpMemory struct {
	f     *kdumpFile
	srcs  []source // one for each file
	cache *pageCache
	forks bool // made by fork: the decoder is not ours to close
}

func (m *kdumpMemory) readPhys(p []byte, addr PhysAddr) (int, error) {
	size := m.f.layout.blockSize
	done := 0
	for done < len(p) {
		at := uint64(addr) + uint64(done)
		if at < uint64(addr) {
			return done, &AddrError{PhysAddr(at), ErrHole, nil}
		}
		pfn, off := at/size, at%size
		n := int(min(uint64(len(p)-done), size-off))
		part := p[done : done+n]
		if uint64(n) == size {
			// Whole pages are read by those who go through memory once.
			if kind, cause := m.f.readPage(m.srcs, part, pfn); kind != nil {
				return done, &AddrError{PhysAddr(at), kind, cause}
			}
		} else if !m.cache.get(part, pfn, off) {
			page := m.f.scratch.Get().(*[]byte)
			kind, cause := m.f.readPage(m.srcs, *page, pfn)
			if kind == nil {
				copy(part, (*page)[off:])
				m.cache.put(*page, pfn)
			}
			m.f.scratch.Put(page)
			if kind != nil {
				return done, &AddrError{PhysAddr(at), kind, cause}
			}
		}
		done += n
	}
	return done, nil
}

func (m *kdumpMemory) missing(addr PhysAddr) error {
	if _, _, kind, cause := m.f.find(m.srcs, uint64(addr)/m.f.layout.blockSize); kind != nil {
		return &AddrError{addr, kind, cause}
	}
	return nil
}

func (m *kdumpMemory) fork() memory {
	srcs := make([]source, len(m.srcs))
	for i, s := range m.srcs {
		srcs[i] = s.fork(kdumpReaderWindows)
	}
	return &kdumpMemory{f: m.f, srcs: srcs, cache: newPageCache(readerPages, m.f.layout.blockSize), forks: true}
}

func (m *kdumpMemory) close() error {
	if !m.forks {
		m.f.zstd.Close()
	}
	var errs []error
	for _, s := range m.srcs {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// pageCache keeps uncompressed pages, each at the one place its number gives.
type pageCache struct {
	pageSize uint64

	mu    sync.Mutex
	tags  []uint64 // page frame number + 1
	pages [][]byte
}

func newPageCache(n int, pageSize uint64) *pageCache {
	return &pageCache{pageSize: pageSize, tags: make([]uint64, n), pages: make([][]byte, n)}
}

// get copies from the page to p, if the page is there.
func (c *pageCache) get(p []byte, pfn, off uint64) bool {
	i := pfn % uint64(len(c.tags))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tags[i] != pfn+1 {
		return false
	}
	copy(p, c.pages[i][off:])
	return true
}

func (c *pageCache) put(page []byte, pfn uint64) {
	i := pfn % uint64(len(c.tags))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pages[i] == nil {
		c.pages[i] = make([]byte, c.pageSize)
	}
	copy(c.pages[i], page)
	c.tags[i] = pfn + 1
}
