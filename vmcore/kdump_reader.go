package vmcore

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
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

// newKdump opens a kdump-compressed file.
func newKdump(r io.ReaderAt, size int64) (*Dump, error) {
	h, l, noteErr, err := decodeKdumpHeader(r, size)
	if err != nil {
		return nil, err
	}
	f := &kdumpFile{
		layout:  l,
		order:   h.ByteOrder,
		size:    uint64(size),
		maxPFN:  h.MaxPFN,
		scratch: sync.Pool{New: func() any { b := make([]byte, l.blockSize); return &b }},
		zlib:    sync.Pool{New: func() any { return new(zlibState) }},
	}
	// DecodeAllCapLimit: a page never grows beyond the buffer it is read to,
	// whatever the data say.
	f.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
		zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, err
	}
	d := &Dump{
		format:   FormatKdump,
		machine:  MachineByName(h.Utsname.Machine),
		order:    h.ByteOrder,
		pageSize: h.PageSize,
		header:   h,
		size:     size,
	}
	d.setNotes(h.Notes, noteErr)
	src := newSource(r, size)
	if err := f.readBitmaps(src); err != nil {
		f.zstd.Close()
		return nil, errors.Join(err, src.close())
	}
	d.setRanges(f.ranges)
	d.memory = &kdumpMemory{f: f, src: src, cache: newPageCache(sharedPages, l.blockSize)}
	return d, nil
}

// kdumpFile is what all readers of a kdump-compressed file share.
type kdumpFile struct {
	layout kdumpLayout
	order  binary.ByteOrder
	size   uint64
	maxPFN PFN
	ranges []Range  // from the first bitmap
	ranks  []uint64 // pages in the dump below each rankStep'th page frame

	zstd    *zstd.Decoder
	zlib    sync.Pool // of *zlibState
	scratch sync.Pool // of *[]byte, one block
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

// rank gives the index of the descriptor of pfn.
func (f *kdumpFile) rank(src source, pfn uint64) (uint64, error) {
	var buf [rankStep / 8]byte
	start := pfn &^ (rankStep - 1)
	words := (pfn-start)/64 + 1
	b := buf[:words*8]
	if _, err := src.readAt(b, int64(f.layout.bitmap2()+start/8)); err != nil {
		return 0, err
	}
	n := f.ranks[pfn/rankStep]
	for ; len(b) > 8; b = b[8:] {
		n += uint64(bits.OnesCount64(binary.LittleEndian.Uint64(b)))
	}
	last := binary.LittleEndian.Uint64(b)
	bit := uint64(1) << (pfn % 64)
	if last&bit == 0 {
		return 0, ErrExcluded
	}
	return n + uint64(bits.OnesCount64(last&(bit-1))), nil
}

// readPage uncompresses a page into p. kind is the sentinel of an AddrError.
func (f *kdumpFile) readPage(src source, p []byte, pfn uint64) (kind, cause error) {
	// The first bitmap is in memory, as ranges.
	if pfn >= uint64(f.maxPFN) || !inRanges(f.ranges, PhysAddr(pfn*f.layout.blockSize)) {
		return ErrHole, nil
	}
	index, err := f.rank(src, pfn)
	if err == ErrExcluded {
		return ErrExcluded, nil
	} else if err != nil {
		return ErrUnreadable, err
	}
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
	case off > f.size || size > f.size-off:
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

var errLost = errors.New("the dump was cut short before this page")

// kdumpMemory is the memory of a kdump-compressed file.
type kdumpMemory struct {
	f     *kdumpFile
	src   source
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
			if kind, cause := m.f.readPage(m.src, part, pfn); kind != nil {
				return done, &AddrError{PhysAddr(at), kind, cause}
			}
		} else if !m.cache.get(part, pfn, off) {
			page := m.f.scratch.Get().(*[]byte)
			kind, cause := m.f.readPage(m.src, *page, pfn)
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

func (m *kdumpMemory) fork() memory {
	return &kdumpMemory{f: m.f, src: m.src.fork(kdumpReaderWindows), cache: newPageCache(readerPages, m.f.layout.blockSize), forks: true}
}

func (m *kdumpMemory) close() error {
	if !m.forks {
		m.f.zstd.Close()
	}
	return m.src.close()
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
