package vmcore

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
)

// The ELF constants that a core uses; include/uapi/linux/elf.h (Linux 7.2).
const (
	elfMagic      = "\x7fELF"
	elfHeaderSize = 64
	elfPhdrSize   = 56
	elfShdrSize   = 64
	elfClass64    = 2
	elfData2LSB   = 1
	elfData2MSB   = 2
	elfTypeCore   = 4
	elfPTLoad     = 1
	elfPTNote     = 4
	// elfPNXNum in e_phnum says that the number is in sh_info of section 0.
	elfPNXNum = 0xffff
	// maxSegments bounds the program headers. /proc/vmcore has one per range
	// of RAM; makedumpfile -E one per run of excluded pages.
	maxSegments = 1 << 20
)

// elfMemory is the memory of an ELF core.
type elfMemory struct {
	src    source
	pieces []piece // sorted, disjoint
	ranges []Range // sorted, disjoint: memory that exists
	lost   []Range // sorted, disjoint: should be in the file, which is too short
}

// piece is memory that is in the file.
type piece struct {
	Range
	off int64
}

// newELF opens an ELF core.
//
// The layout is that of fs/proc/vmcore.c (Linux 7.2): ELF64, ET_CORE, program
// headers behind the ELF header, one merged PT_NOTE, a PT_LOAD per range of
// RAM, and one for the kernel's text that overlaps them. The standard
// debug/elf is not used because it does not know PN_XNUM.
func newELF(r io.ReaderAt, size int64) (*Dump, error) {
	var h [elfHeaderSize]byte
	if _, err := readFull(r, h[:], 0); err != nil {
		return nil, fmt.Errorf("ELF header: %w: %w", ErrCorrupt, err)
	}
	if h[4] != elfClass64 {
		return nil, fmt.Errorf("%w: ELF class %d, only 64-bit cores are read", ErrUnsupported, h[4])
	}
	d := &Dump{format: FormatELF, size: size}
	switch h[5] {
	case elfData2LSB:
		d.order = binary.LittleEndian
	case elfData2MSB:
		d.order = binary.BigEndian
	default:
		return nil, fmt.Errorf("%w: ELF data encoding %d", ErrCorrupt, h[5])
	}
	if t := d.order.Uint16(h[16:]); t != elfTypeCore {
		return nil, fmt.Errorf("%w: an ELF file of type %d, not a core", ErrUnrecognizedFormat, t)
	}
	d.machine = Machine(d.order.Uint16(h[18:]))
	d.incomplete = d.order.Uint32(h[48:])&elfIncomplete != 0

	headers, err := readProgramHeaders(r, size, h[:], d.order)
	if err != nil {
		return nil, err
	}
	var (
		notes   []Note
		noteErr error
		budget  = maxNoteBytes
	)
	for i, ph := range headers {
		switch ph.typ {
		case elfPTNote:
			if ph.offset > uint64(size) || ph.filesz > uint64(size)-ph.offset {
				noteErr = errors.Join(noteErr, fmt.Errorf("program header %d: %w: notes beyond the end of the file", i, ErrCorrupt))
				continue
			}
			var err error
			notes, err = readNotes(r, ph.offset, ph.filesz, d.order, notes, &budget)
			noteErr = errors.Join(noteErr, err)
		case elfPTLoad:
			if ph.memsz == 0 {
				continue
			}
			if ph.paddr+ph.memsz < ph.paddr || ph.offset+ph.filesz < ph.offset ||
				ph.offset+ph.filesz > 1<<63-1 || ph.filesz > ph.memsz {
				return nil, fmt.Errorf("program header %d: %w: physical address %#x, %#x bytes in memory, %#x in the file at %#x",
					i, ErrCorrupt, ph.paddr, ph.memsz, ph.filesz, ph.offset)
			}
			d.segments = append(d.segments, Segment{
				Phys:     Range{PhysAddr(ph.paddr), PhysAddr(ph.paddr + ph.memsz)},
				Virt:     ph.vaddr,
				Offset:   int64(ph.offset),
				FileSize: ph.filesz,
				Flags:    ph.flags,
			})
		}
	}
	for _, n := range notes {
		if !n.isMemory() {
			continue
		}
		memory, err := parseMemoryNote(n, d.order)
		noteErr = errors.Join(noteErr, err)
		d.segments = append(d.segments, memory...)
	}
	if len(d.segments) == 0 {
		return nil, fmt.Errorf("%w: a core without memory: no PT_LOAD in %d program headers", ErrCorrupt, len(headers))
	}
	d.setNotes(notes, noteErr)
	d.pageSize = 4096
	if n, ok := vmcoreInfoUint(d.vmcoreinfo, "PAGESIZE"); ok && validPageSize(n) {
		d.pageSize = n
	}
	m := newELFMemory(d.segments, size, d.pageSize)
	m.src = newSource(r, size)
	d.memory = m
	d.setRanges(m.ranges)
	return d, nil
}

type programHeader struct {
	typ, flags                          uint32
	offset, vaddr, paddr, filesz, memsz uint64
}

func readProgramHeaders(r io.ReaderAt, size int64, h []byte, order binary.ByteOrder) ([]programHeader, error) {
	off := order.Uint64(h[32:])
	entry := order.Uint16(h[54:])
	count := uint64(order.Uint16(h[56:]))
	if count == elfPNXNum {
		var section [elfShdrSize]byte
		if _, err := readFull(r, section[:], order.Uint64(h[40:])); err != nil {
			return nil, fmt.Errorf("ELF section header 0, which has the number of program headers: %w: %w", ErrCorrupt, err)
		}
		count = uint64(order.Uint32(section[44:]))
	}
	if entry != elfPhdrSize {
		return nil, fmt.Errorf("%w: program headers of %d bytes, want %d", ErrCorrupt, entry, elfPhdrSize)
	}
	if off > uint64(size) || count > (uint64(size)-off)/elfPhdrSize || count > maxSegments {
		return nil, fmt.Errorf("%w: %d program headers at %#x in a file of %d bytes", ErrCorrupt, count, off, size)
	}
	headers := make([]programHeader, 0, min(count, 1024))
	buf := make([]byte, min(count, 1024)*elfPhdrSize)
	for done := uint64(0); done < count; {
		n := min(count-done, 1024)
		b := buf[:n*elfPhdrSize]
		if _, err := readFull(r, b, off+done*elfPhdrSize); err != nil {
			return nil, fmt.Errorf("program header %d: %w: %w", done, ErrCorrupt, err)
		}
		for ; len(b) > 0; b = b[elfPhdrSize:] {
			headers = append(headers, programHeader{
				typ:    order.Uint32(b[0:]),
				flags:  order.Uint32(b[4:]),
				offset: order.Uint64(b[8:]),
				vaddr:  order.Uint64(b[16:]),
				paddr:  order.Uint64(b[24:]),
				filesz: order.Uint64(b[32:]),
				memsz:  order.Uint64(b[40:]),
			})
		}
		done += n
	}
	return headers, nil
}

// newELFMemory sorts out which byte of memory is where in the file. Where
// segments overlap, both copies are the same page, and the segment that begins
// first serves it.
func newELFMemory(segments []Segment, size int64, pageSize uint64) *elfMemory {
	m := &elfMemory{}
	byStart := slices.Clone(segments)
	slices.SortStableFunc(byStart, func(a, b Segment) int {
		return cmp.Or(cmp.Compare(a.Phys.Start, b.Phys.Start), -cmp.Compare(a.FileSize, b.FileSize))
	})
	extendToPages(byStart, size, pageSize)
	var inFile []Range
	for _, s := range byStart {
		m.ranges = appendMerged(m.ranges, s.Phys)
		if s.FileSize > 0 {
			inFile = append(inFile, Range{s.Phys.Start, s.Phys.Start + PhysAddr(s.FileSize)})
		}
		there := min(s.FileSize, uint64(max(size-s.Offset, 0)))
		p := piece{Range{s.Phys.Start, s.Phys.Start + PhysAddr(there)}, s.Offset}
		if n := len(m.pieces); n > 0 && p.Start < m.pieces[n-1].End {
			cut := min(m.pieces[n-1].End, p.End)
			p.off += int64(cut - p.Start)
			p.Start = cut
		}
		if p.Start < p.End {
			m.pieces = append(m.pieces, p)
		}
	}
	// What a segment says to be in the file and no piece has is lost.
	var claimed []Range
	for _, r := range inFile {
		claimed = appendMerged(claimed, r)
	}
	for _, r := range claimed {
		i := sort.Search(len(m.pieces), func(i int) bool { return m.pieces[i].End > r.Start })
		for at := r.Start; at < r.End; i++ {
			if i >= len(m.pieces) || m.pieces[i].Start >= r.End {
				m.lost = appendMerged(m.lost, Range{at, r.End})
				break
			}
			if at < m.pieces[i].Start {
				m.lost = appendMerged(m.lost, Range{at, m.pieces[i].Start})
			}
			at = m.pieces[i].End
		}
	}
	return m
}

// extendToPages widens segments that begin or end within a page to whole
// pages, as /proc/vmcore does: the rest of the page is in the file, beside the
// segment (process_ptload_program_headers_elf64 in fs/proc/vmcore.c, Linux
// 7.2). It is not done where another segment's bytes stand there.
func extendToPages(segments []Segment, size int64, pageSize uint64) {
	mask := pageSize - 1
	byOffset := make([]int, 0, len(segments))
	for i := range segments {
		if segments[i].FileSize > 0 {
			byOffset = append(byOffset, i)
		}
	}
	slices.SortFunc(byOffset, func(a, b int) int { return cmp.Compare(segments[a].Offset, segments[b].Offset) })
	var before int64 // end of the file's bytes that are taken
	for n, i := range byOffset {
		s := &segments[i]
		end := s.Offset + int64(s.FileSize)
		if uint64(s.Offset)&mask == uint64(s.Phys.Start)&mask {
			if head := uint64(s.Phys.Start) & mask; head > 0 && s.Offset-int64(head) >= before {
				s.Phys.Start -= PhysAddr(head)
				s.Offset -= int64(head)
				s.FileSize += head
			}
			next := size
			if n+1 < len(byOffset) {
				next = min(next, segments[byOffset[n+1]].Offset)
			}
			if tail := -uint64(s.Phys.End) & mask; tail > 0 && s.FileSize == s.Phys.Size() && end+int64(tail) <= next {
				s.Phys.End += PhysAddr(tail)
				s.FileSize += tail
				end += int64(tail)
			}
		}
		before = max(before, end)
	}
	// Widening may have changed the order among neighbours.
	slices.SortStableFunc(segments, func(a, b Segment) int {
		return cmp.Or(cmp.Compare(a.Phys.Start, b.Phys.Start), -cmp.Compare(a.FileSize, b.FileSize))
	})
}

// appendMerged appends r to sorted ranges; r begins not before the last one.
func appendMerged(ranges []Range, r Range) []Range {
	if n := len(ranges); n > 0 && r.Start <= ranges[n-1].End {
		ranges[n-1].End = max(ranges[n-1].End, r.End)
		return ranges
	}
	return append(ranges, r)
}

// inRanges tells whether addr lies in one of the sorted ranges.
func inRanges(ranges []Range, addr PhysAddr) bool {
	i := sort.Search(len(ranges), func(i int) bool { return ranges[i].End > addr })
	return i < len(ranges) && ranges[i].Start <= addr
}

func (m *elfMemory) readPhys(p []byte, addr PhysAddr) (int, error) {
	done := 0
	for done < len(p) {
		at := addr + PhysAddr(done)
		i := sort.Search(len(m.pieces), func(i int) bool { return m.pieces[i].End > at })
		if at < addr || i == len(m.pieces) || m.pieces[i].Start > at {
			return done, m.why(at)
		}
		piece := &m.pieces[i]
		n := int(min(uint64(len(p)-done), uint64(piece.End-at)))
		n, err := m.src.readAt(p[done:done+n], piece.off+int64(at-piece.Start))
		done += n
		if err != nil {
			return done, &AddrError{addr + PhysAddr(done), ErrUnreadable, err}
		}
	}
	return done, nil
}

func (m *elfMemory) missing(addr PhysAddr) error {
	i := sort.Search(len(m.pieces), func(i int) bool { return m.pieces[i].End > addr })
	if i < len(m.pieces) && m.pieces[i].Start <= addr {
		return nil
	}
	return m.why(addr)
}

// why says why the file has no byte for addr.
func (m *elfMemory) why(addr PhysAddr) error {
	switch {
	case inRanges(m.lost, addr):
		return &AddrError{addr, ErrUnreadable, errTruncated}
	case inRanges(m.ranges, addr):
		return &AddrError{addr, ErrExcluded, nil}
	}
	return &AddrError{addr, ErrHole, nil}
}

// errTruncated is the cause of an error when the file ends too early.
var errTruncated = errors.New("the file is truncated")

func (m *elfMemory) fork() memory {
	f := *m
	f.src = m.src.fork(elfReaderWindows)
	return &f
}

func (m *elfMemory) close() error { return m.src.close() }
