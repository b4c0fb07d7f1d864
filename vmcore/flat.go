package vmcore

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
)

// The flattened format carries a dump of any format through a pipe;
// makedumpfile.h and write_buffer() of makedumpfile 1.7.8 as far as its
// IMPLEMENTATION document tells: a header of 4096 bytes, then blocks, each with
// its offset in the dump, in any order. What no block has is zero. All numbers
// are big endian.
const (
	flatSignature  = "makedumpfile\x00\x00\x00\x00"
	flatHeaderSize = 4096
	flatType       = 1
	flatVersion    = 1
	flatBlockSize  = 16 // of the head of a block: offset and size

	// flatMeanBlock is how large the blocks of a file must be on the mean,
	// which bounds the index of them to 5 % of the file. makedumpfile writes
	// blocks of 64 KiB.
	flatMeanBlock = 512
)

// Flattener makes a flattened dump: what is written at an offset becomes a
// block of it. makedumpfile -R and [Rearrange] make the dump itself of it, and
// all readers but makedumpfile open it as it is.
//
// No byte may be written twice, since readers differ in which one they take,
// and blocks should be large. Close ends the dump; without it readers refuse.
type Flattener struct {
	w   io.Writer
	err error
}

// NewFlattener writes the header of a flattened dump to w.
func NewFlattener(w io.Writer) (*Flattener, error) {
	h := make([]byte, flatHeaderSize)
	copy(h, flatSignature)
	binary.BigEndian.PutUint64(h[16:], flatType)
	binary.BigEndian.PutUint64(h[24:], flatVersion)
	if _, err := w.Write(h); err != nil {
		return nil, fmt.Errorf("flattened dump: %w", err)
	}
	return &Flattener{w: w}, nil
}

// WriteAt writes a block. It must not be called concurrently. After an error
// nothing more can be written.
func (f *Flattener) WriteAt(p []byte, off int64) (int, error) {
	if f.err != nil || len(p) == 0 {
		return 0, f.err
	}
	if off < 0 {
		return 0, fmt.Errorf("flattened dump: offset %d", off)
	}
	var head [flatBlockSize]byte
	binary.BigEndian.PutUint64(head[0:], uint64(off))
	binary.BigEndian.PutUint64(head[8:], uint64(len(p)))
	if _, f.err = f.w.Write(head[:]); f.err != nil {
		return 0, f.err
	}
	n, err := f.w.Write(p)
	f.err = err
	return n, err
}

// Close writes the mark of the end. It does not close the writer below.
func (f *Flattener) Close() error {
	if f.err != nil {
		return f.err
	}
	_, err := f.w.Write(flatEnd())
	return err
}

// flatEnd is the head of the block that ends a file.
func flatEnd() []byte {
	b := make([]byte, flatBlockSize)
	for i := range b {
		b[i] = 0xff
	}
	return b
}

// flatHead takes the head of a block apart.
func flatHead(b []byte) (off, size uint64, end bool, err error) {
	off, size = binary.BigEndian.Uint64(b[0:]), binary.BigEndian.Uint64(b[8:])
	if off == 1<<64-1 && size == 1<<64-1 {
		return 0, 0, true, nil
	}
	if off > 1<<62 || size == 0 || size > 1<<62 {
		return 0, 0, false, fmt.Errorf("flattened dump: %w: a block of %d bytes for offset %#x", ErrCorrupt, size, off)
	}
	return off, size, false, nil
}

func checkFlatHeader(h []byte) error {
	t, v := binary.BigEndian.Uint64(h[16:]), binary.BigEndian.Uint64(h[24:])
	if !hasPrefix(h, flatSignature) {
		return fmt.Errorf("%w: not a flattened dump", ErrUnrecognizedFormat)
	}
	if t != flatType || v != flatVersion {
		return fmt.Errorf("%w: flattened dump of type %d, version %d", ErrUnsupported, t, v)
	}
	return nil
}

var errNoEnd = errors.New("it has no end mark, so it was cut short")

// Rearrange reads a flattened dump from r and writes the dump that it carries
// to w, which must be empty: what no block has is not written. It gives the
// size of the dump. If the flattened dump is damaged or cut short, what came
// before has been written; the error wraps [ErrCorrupt].
func Rearrange(w io.WriterAt, r io.Reader) (int64, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	h := make([]byte, flatHeaderSize)
	if _, err := io.ReadFull(in, h); err != nil {
		return 0, fmt.Errorf("header of a flattened dump: %w: %w", ErrUnrecognizedFormat, err)
	}
	if err := checkFlatHeader(h); err != nil {
		return 0, err
	}
	size := int64(0)
	buf := make([]byte, 1<<20)
	for {
		if _, err := io.ReadFull(in, h[:flatBlockSize]); err != nil {
			return size, fmt.Errorf("flattened dump: %w: %w: %w", ErrCorrupt, errNoEnd, err)
		}
		off, n, end, err := flatHead(h)
		if end || err != nil {
			return size, err
		}
		for n > 0 {
			part := buf[:min(n, uint64(len(buf)))]
			got, err := io.ReadFull(in, part)
			if _, werr := w.WriteAt(part[:got], int64(off)); werr != nil {
				return size, werr
			}
			off, n = off+uint64(got), n-uint64(got)
			size = max(size, int64(off))
			if err != nil {
				return size, fmt.Errorf("flattened dump: %w: %w: %w", ErrCorrupt, errNoEnd, err)
			}
		}
	}
}

// flatFile is the dump that a flattened one carries.
type flatFile struct {
	r      io.ReaderAt
	rSize  int64
	blocks []flatBlock // by offset, disjoint
	size   int64       // of the dump
}

// flatBlock is a piece of the dump and where it is in the file.
type flatBlock struct{ off, size, pos uint64 }

func (b flatBlock) end() uint64 { return b.off + b.size }

// newFlatFile finds the blocks of the flattened dump in r.
func newFlatFile(r io.ReaderAt, size int64) (*flatFile, error) {
	h := make([]byte, flatHeaderSize)
	if _, err := readFull(r, h, 0); err != nil {
		return nil, fmt.Errorf("header of a flattened dump: %w: %w", ErrCorrupt, err)
	}
	if err := checkFlatHeader(h); err != nil {
		return nil, err
	}
	f := &flatFile{r: r, rSize: size}
	most := int(size/flatMeanBlock) + 1024
	for pos := uint64(flatHeaderSize); ; {
		if _, err := readFull(r, h[:flatBlockSize], pos); err != nil {
			return nil, &hintedError{fmt.Errorf("flattened dump: %w: %w: %w", ErrCorrupt, errNoEnd, err),
				[]string{"copy it again from where it was written"}}
		}
		off, n, end, err := flatHead(h)
		if err != nil {
			return nil, err
		}
		if end {
			break
		}
		pos += flatBlockSize
		if n > uint64(size)-min(pos, uint64(size)) {
			return nil, fmt.Errorf("flattened dump: %w: a block of %d bytes at file offset %#x: %w", ErrCorrupt, n, pos, errNoEnd)
		}
		if len(f.blocks) == most {
			return nil, fmt.Errorf("flattened dump: %w: more than %d blocks in %d bytes", ErrCorrupt, most, size)
		}
		f.blocks = append(f.blocks, flatBlock{off, n, pos})
		f.size = max(f.size, int64(off+n))
		pos += n
	}
	f.blocks = layFlat(f.blocks)
	return f, nil
}

// layFlat sorts blocks by offset. Where they overlap the later one in the file
// counts, as for a reader that writes them out one after the other.
func layFlat(blocks []flatBlock) []flatBlock {
	byOffset := func(a, b flatBlock) int {
		return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(a.pos, b.pos))
	}
	slices.SortFunc(blocks, byOffset)
	overlap := false
	for i := 1; i < len(blocks); i++ {
		overlap = overlap || blocks[i].off < blocks[i-1].end()
	}
	if !overlap {
		return blocks
	}
	var out []flatBlock
	var open laterFirst // blocks that reach to the current offset
	at := uint64(0)
	for i := 0; i < len(blocks) || len(open) > 0; {
		if len(open) == 0 {
			at = max(at, blocks[i].off)
		}
		for i < len(blocks) && blocks[i].off <= at {
			heap.Push(&open, blocks[i])
			i++
		}
		for len(open) > 0 && open[0].end() <= at {
			heap.Pop(&open)
		}
		if len(open) == 0 {
			continue
		}
		b := open[0]
		end := b.end()
		if i < len(blocks) {
			end = min(end, blocks[i].off)
		}
		pos := b.pos + at - b.off
		if n := len(out); n > 0 && out[n-1].end() == at && out[n-1].pos+out[n-1].size == pos {
			out[n-1].size += end - at
		} else {
			out = append(out, flatBlock{at, end - at, pos})
		}
		at = end
	}
	return out
}

// laterFirst is a heap of blocks, the one that stands last in the file first.
type laterFirst []flatBlock

func (h laterFirst) Len() int           { return len(h) }
func (h laterFirst) Less(i, j int) bool { return h[i].pos > h[j].pos }
func (h laterFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *laterFirst) Push(x any)        { *h = append(*h, x.(flatBlock)) }
func (h *laterFirst) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// readThrough fills p with the dump from off on, the blocks' bytes by read.
func (f *flatFile) readThrough(p []byte, off int64, read func([]byte, int64) (int, error)) (int, error) {
	done := 0
	i := sort.Search(len(f.blocks), func(i int) bool { return f.blocks[i].end() > uint64(off) })
	for done < len(p) {
		at := uint64(off) + uint64(done)
		if off < 0 || at >= uint64(f.size) {
			return done, io.EOF
		}
		// There is a block: the size is the end of one.
		b := f.blocks[i]
		if at < b.off {
			n := min(uint64(len(p)-done), b.off-at)
			clear(p[done : done+int(n)])
			done += int(n)
			continue
		}
		n := int(min(uint64(len(p)-done), b.end()-at))
		n, err := read(p[done:done+n], int64(b.pos+at-b.off))
		done += n
		if err != nil {
			return done, err
		}
		i++
	}
	return done, nil
}

// ReadAt is io.ReaderAt, of the dump.
func (f *flatFile) ReadAt(p []byte, off int64) (int, error) {
	return f.readThrough(p, off, func(p []byte, off int64) (int, error) { return readFull(f.r, p, uint64(off)) })
}

// flatSource is the source of a flatFile.
type flatSource struct {
	f     *flatFile
	below source
}

func (s *flatSource) readAt(p []byte, off int64) (int, error) {
	n, err := s.f.readThrough(p, off, s.below.readAt)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (s *flatSource) fork(windows int) source { return &flatSource{s.f, s.below.fork(windows)} }
func (s *flatSource) close() error            { return s.below.close() }
