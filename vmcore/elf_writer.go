package vmcore

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ELFHeader is what an ELF core says of itself before its memory.
type ELFHeader struct {
	ByteOrder binary.ByteOrder // nil in a writer: little endian
	Machine   Machine
	PageSize  uint64 // of the dumped kernel, bytes
	Notes     []Note
	// Segments is the memory of the machine and where the kernel has it mapped:
	// of each Phys, Virt and Flags count. Where segments overlap, as the
	// kernel's text does with RAM, their pages are in the file once.
	Segments []Segment
}

// ELFOptions are ways to write an ELF core that make no difference to who
// reads it.
type ELFOptions struct {
	// MaxRuns is how many runs of pages with pages left out between them there
	// is room for, 56 bytes each in the file and 48 in memory; 0 is 1024.
	// Each range of memory counts as one more.
	MaxRuns int
	// WriteOnce is as in [KdumpOptions].
	WriteOnce bool
}

// ELFWriter writes an ELF core with a PT_LOAD for each run of pages. Memory that
// is left out is in no PT_LOAD: makedumpfile -E has it in one that ends in the
// file before it ends in memory, and readers take it for zeros then, which it
// was not. Where the machine had memory says a note of our own, which others
// skip. It was a program header for each range once, and crash 9.0.2 takes all
// but the first for PT_LOAD.
//
// Pages of zeros are holes of the file, but in one that is written once: of a
// flattened file libkdumpfile 0.5.6 reads other pages where there is a gap. The file can be read at any moment,
// with the pages written so far, and says that it is incomplete until Finish.
type ELFWriter struct {
	w      io.WriterAt
	opts   ELFOptions
	header ELFHeader
	order  binary.AppendByteOrder
	pack   packing

	memory  []elfRun // of the machine, disjoint, by address
	aliases []elfRun // memory that is mapped again
	at      int      // memory that pages go to
	runs    []elfRun // in the file, by address, and at last mapped again
	first   int      // of the runs in memory[at]
	clean   int      // runs before this one are in the file's headers
	room    int      // program headers

	noteSize   uint64
	noteOff    uint64 // in the file
	dataEnd    uint64
	fileEnd    uint64 // of what was written; beyond it is a hole
	incomplete bool
	pages      uint64
	nextPFN    PFN
	err        error
}

// elfRun is memory that is mapped in one piece.
type elfRun struct {
	start PFN
	mem   uint64 // pages
	off   uint64 // of the file, if it is there
	virt  uint64 // of start
	flags uint32
}

func (r elfRun) end() PFN { return r.start + PFN(r.mem) }

// elfIncomplete in e_flags says that the dump was cut short; DUMP_ELF_INCOMPLETE
// of makedumpfile 1.7.8.
const elfIncomplete = 1

// NewELFWriter writes everything that stands before the memory.
func NewELFWriter(w io.WriterAt, h ELFHeader, opts ELFOptions) (*ELFWriter, error) {
	if !validPageSize(h.PageSize) {
		return nil, fmt.Errorf("%w: page size %d", ErrUnsupported, h.PageSize)
	}
	if h.ByteOrder == nil {
		h.ByteOrder = binary.LittleEndian
	}
	ew := &ELFWriter{w: w, opts: opts, header: h, incomplete: true}
	var ok bool
	if ew.order, ok = h.ByteOrder.(binary.AppendByteOrder); !ok {
		return nil, fmt.Errorf("%w: byte order %v", ErrUnsupported, h.ByteOrder)
	}
	ew.layMemory()
	if len(ew.memory) == 0 {
		return nil, fmt.Errorf("%w: a machine without memory", ErrUnsupported)
	}
	if ew.opts.MaxRuns <= 0 {
		ew.opts.MaxRuns = 1024
	}
	// Memory mapped again takes as many headers as there are runs in it, mostly
	// one.
	ew.room = 1 + ew.opts.MaxRuns + len(ew.memory) + 2*len(ew.aliases)
	if ew.room > maxSegments {
		return nil, fmt.Errorf("%w: an ELF core with %d program headers, at most %d are written", ErrUnsupported, ew.room, maxSegments)
	}
	ew.pack = packing{kind: CompressionNone, pageSize: int(h.PageSize)}
	var notes []byte
	for _, n := range h.Notes {
		notes = AppendNote(notes, ew.order, n)
	}
	notes = AppendNote(notes, ew.order, ew.memoryNote())
	ew.noteSize = uint64(len(notes))
	ew.noteOff = elfHeaderSize + uint64(ew.room)*elfPhdrSize + elfShdrSize
	ew.dataEnd = (ew.noteOff + ew.noteSize + h.PageSize - 1) / h.PageSize * h.PageSize
	if !opts.WriteOnce {
		// So that a full disk cannot keep the headers out.
		if err := ew.writeZeros(0, ew.noteOff); err != nil {
			return nil, fmt.Errorf("dump headers: %w", err)
		}
	}
	ew.fileEnd = ew.noteOff + ew.noteSize
	if _, err := w.WriteAt(notes, int64(ew.noteOff)); err != nil {
		return nil, fmt.Errorf("dump notes: %w", err)
	}
	if opts.WriteOnce {
		return ew, nil
	}
	return ew, ew.writeHeaders()
}

func (ew *ELFWriter) writeZeros(at, n uint64) error {
	zeros := make([]byte, min(n, 1<<20))
	for end := at + n; at < end; {
		part := zeros[:min(uint64(len(zeros)), end-at)]
		if _, err := ew.w.WriteAt(part, int64(at)); err != nil {
			return err
		}
		at += uint64(len(part))
	}
	return nil
}

// layMemory makes disjoint memory of the segments, in whole pages, and puts
// aside what is there already.
func (ew *ELFWriter) layMemory() {
	size := ew.header.PageSize
	segments := slices.Clone(ew.header.Segments)
	slices.SortStableFunc(segments, func(a, b Segment) int {
		return cmp.Or(cmp.Compare(a.Phys.Start, b.Phys.Start), -cmp.Compare(a.Phys.End, b.Phys.End))
	})
	for _, s := range segments {
		if s.Phys.Start >= s.Phys.End {
			continue
		}
		first := uint64(s.Phys.Start) / size
		last := (uint64(s.Phys.End)-1)/size + 1
		r := elfRun{start: PFN(first), mem: last - first, virt: s.Virt - uint64(s.Phys.Start)%size, flags: s.Flags}
		if n := len(ew.memory); n > 0 && r.start < ew.memory[n-1].end() {
			cut := min(uint64(ew.memory[n-1].end()-r.start), r.mem)
			m := &ew.memory[n-1]
			same := r.virt-m.virt == uint64(r.start-m.start)*size
			// A page at the edges of two ranges is no mapping of its own.
			if (cut > 1 || r.mem == 1) && !same {
				alias := r
				alias.mem = cut
				ew.aliases = append(ew.aliases, alias)
			}
			r.start, r.mem, r.virt = r.start+PFN(cut), r.mem-cut, r.virt+cut*size
		}
		if r.mem > 0 {
			ew.memory = append(ew.memory, r)
		}
	}
}

// memoryNote says where the machine had memory.
func (ew *ELFWriter) memoryNote() Note {
	n := Note{Name: noteOwner, Type: noteMemory}
	size := ew.header.PageSize
	for _, m := range ew.memory {
		for _, v := range []uint64{uint64(m.start) * size, m.virt, m.mem * size, uint64(m.flags)} {
			n.Desc = ew.order.AppendUint64(n.Desc, v)
		}
	}
	return n
}

// Pages is [Writer.Pages].
func (ew *ELFWriter) Pages() uint64 { return ew.pages }

// Size is [Writer.Size].
func (ew *ELFWriter) Size() uint64 { return ew.dataEnd }

// NewExtent is [Writer.NewExtent].
func (ew *ELFWriter) NewExtent(pages int) *Extent { return newExtent(ew.pack, pages) }

// Write is [Writer.Write].
func (ew *ELFWriter) Write(e *Extent) error {
	if ew.err != nil {
		return ew.err
	}
	if ew.err = ew.write(e); ew.err != nil {
		ew.takeBack()
	}
	if !ew.opts.WriteOnce && len(e.pages) > 0 {
		ew.err = errors.Join(ew.err, ew.writeHeaders())
	}
	return ew.err
}

func (ew *ELFWriter) write(e *Extent) error {
	size := ew.header.PageSize
	for data := range groups(e, size) {
		if data.first < ew.nextPFN {
			return fmt.Errorf("page frame %#x after %#x", uint64(data.first), uint64(ew.nextPFN))
		}
		whole := data.pages
		var err error
		if data.bytes == nil && ew.opts.WriteOnce {
			if err := ew.writeZeros(ew.dataEnd, data.pages*size); err != nil {
				return fmt.Errorf("dump pages: %w", err)
			}
			ew.fileEnd = ew.dataEnd + data.pages*size
		}
		if data.bytes != nil {
			var n int
			if n, err = ew.w.WriteAt(data.bytes, int64(ew.dataEnd)); n > 0 {
				ew.fileEnd = ew.dataEnd + uint64(n)
			}
			if err != nil {
				err = fmt.Errorf("dump pages: %w", err)
				whole = uint64(max(n, 0)) / size
			}
		}
		for i := range whole {
			if aerr := ew.add(data.first + PFN(i)); aerr != nil {
				return errors.Join(err, aerr)
			}
		}
		if err != nil {
			return err
		}
	}
	if !ew.opts.WriteOnce {
		return ew.closeHole()
	}
	return nil
}

// takeBack takes back pages of zeros in a hole at the end that could not be
// closed.
func (ew *ELFWriter) takeBack() {
	for i := len(ew.runs) - 1; i >= 0 && ew.dataEnd > ew.fileEnd; i-- {
		r := &ew.runs[i]
		there := uint64(0)
		if ew.fileEnd > r.off {
			there = (ew.fileEnd - r.off) / ew.header.PageSize
		}
		lost := r.mem - min(there, r.mem)
		r.mem -= lost
		ew.pages -= lost
		ew.dataEnd -= lost * ew.header.PageSize
		ew.clean = min(ew.clean, i)
		if lost == 0 {
			break
		}
		if r.mem == 0 {
			ew.runs = ew.runs[:i]
		}
	}
}

// closeHole makes the file as long as its data when it ends in a hole.
func (ew *ELFWriter) closeHole() error {
	if ew.fileEnd >= ew.dataEnd {
		return nil
	}
	if _, err := ew.w.WriteAt([]byte{0}, int64(ew.dataEnd-1)); err != nil {
		return fmt.Errorf("dump pages: %w", err)
	}
	ew.fileEnd = ew.dataEnd
	return nil
}

// group is pages of an extent that stand behind each other, in memory and in
// a file.
type group struct {
	first PFN
	pages uint64
	bytes []byte // nil: zeros
}

// groups yields the pages of an extent that is not compressed.
func groups(e *Extent, pageSize uint64) func(yield func(group) bool) {
	return func(yield func(group) bool) {
		data := e.data
		for i := 0; i < len(e.pages); {
			n := i + 1
			for n < len(e.pages) && e.pages[n].pfn == e.pages[n-1].pfn+1 && (e.pages[n].size == 0) == (e.pages[i].size == 0) {
				n++
			}
			g := group{first: e.pages[i].pfn, pages: uint64(n - i)}
			if e.pages[i].size > 0 {
				g.bytes, data = data[:g.pages*pageSize], data[g.pages*pageSize:]
			}
			if !yield(g) {
				return
			}
			i = n
		}
	}
}

// add notes that the page is at the end of the file.
func (ew *ELFWriter) add(pfn PFN) error {
	for pfn >= ew.memory[ew.at].end() {
		if ew.at+1 == len(ew.memory) {
			return fmt.Errorf("page frame %#x: %w", uint64(pfn), ErrHole)
		}
		ew.at++
		ew.first = len(ew.runs)
	}
	m := &ew.memory[ew.at]
	if pfn < m.start {
		return fmt.Errorf("page frame %#x: %w", uint64(pfn), ErrHole)
	}
	if n := len(ew.runs); n > ew.first && ew.runs[n-1].end() == pfn {
		ew.runs[n-1].mem++
	} else {
		if 1+len(ew.runs)+2*len(ew.aliases) >= ew.room {
			return fmt.Errorf("more than the %d runs of pages there is room for", ew.opts.MaxRuns)
		}
		ew.runs = append(ew.runs, elfRun{start: pfn, mem: 1, off: ew.dataEnd,
			virt: m.virt + uint64(pfn-m.start)*ew.header.PageSize, flags: m.flags})
	}
	ew.clean = min(ew.clean, len(ew.runs)-1)
	ew.dataEnd += ew.header.PageSize
	ew.pages++
	ew.nextPFN = pfn + 1
	return nil
}

// writeHeaders writes the ELF header and what is new of the program headers.
func (ew *ELFWriter) writeHeaders() error {
	from := ew.clean
	const before = 1 // program headers: the notes
	if len(ew.runs) > from {
		b := make([]byte, 0, (len(ew.runs)-from)*elfPhdrSize)
		for _, r := range ew.runs[from:] {
			b = ew.appendRun(b, r)
		}
		if _, err := ew.w.WriteAt(b, int64(elfHeaderSize+(before+from)*elfPhdrSize)); err != nil {
			return fmt.Errorf("dump program headers: %w", err)
		}
	}
	ew.clean = len(ew.runs)

	o := ew.order
	count := before + len(ew.runs)
	b := make([]byte, 0, elfHeaderSize+before*elfPhdrSize)
	data := byte(elfData2LSB)
	if ew.header.ByteOrder.Uint16([]byte{1, 0}) != 1 {
		data = elfData2MSB
	}
	b = append(b, elfMagic...)
	b = append(b, elfClass64, data, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = o.AppendUint16(b, elfTypeCore)
	b = o.AppendUint16(b, uint16(ew.header.Machine))
	b = o.AppendUint32(b, 1)
	b = o.AppendUint64(b, 0)
	b = o.AppendUint64(b, elfHeaderSize)
	shoff := uint64(0)
	if count >= elfPNXNum {
		shoff = ew.noteOff - elfShdrSize
	}
	b = o.AppendUint64(b, shoff)
	flags := uint32(0)
	if ew.incomplete {
		flags = elfIncomplete
	}
	b = o.AppendUint32(b, flags)
	b = o.AppendUint16(b, elfHeaderSize)
	b = o.AppendUint16(b, elfPhdrSize)
	b = o.AppendUint16(b, uint16(min(count, elfPNXNum)))
	if shoff > 0 {
		section := make([]byte, elfShdrSize)
		ew.header.ByteOrder.PutUint32(section[44:], uint32(count)) // sh_info
		if _, err := ew.w.WriteAt(section, int64(shoff)); err != nil {
			return fmt.Errorf("dump section header: %w", err)
		}
		b = o.AppendUint16(b, elfShdrSize)
		b = o.AppendUint16(b, 1)
	} else {
		b = o.AppendUint16(b, 0)
		b = o.AppendUint16(b, 0)
	}
	b = o.AppendUint16(b, 0)
	b = ew.appendPhdr(b, elfPTNote, 0, ew.noteOff, 0, 0, ew.noteSize, ew.noteSize)
	if _, err := ew.w.WriteAt(b, 0); err != nil {
		return fmt.Errorf("dump header: %w", err)
	}
	return nil
}

func (ew *ELFWriter) appendRun(b []byte, r elfRun) []byte {
	size := ew.header.PageSize
	return ew.appendPhdr(b, elfPTLoad, r.flags, r.off, r.virt, uint64(r.start)*size, r.mem*size, r.mem*size)
}

func (ew *ELFWriter) appendPhdr(b []byte, typ, flags uint32, off, virt, phys, file, mem uint64) []byte {
	o := ew.order
	b = o.AppendUint32(b, typ)
	b = o.AppendUint32(b, flags)
	for _, v := range []uint64{off, virt, phys, file, mem, 0} {
		b = o.AppendUint64(b, v)
	}
	return b
}

// mapAgain gives the runs of an alias: the same places of the file at other
// virtual addresses.
func (ew *ELFWriter) mapAgain(a elfRun) []elfRun {
	size := ew.header.PageSize
	var out []elfRun
	for _, r := range ew.runs {
		start, end := max(a.start, r.start), min(a.end(), r.end())
		if start >= end {
			continue
		}
		skip := uint64(start - r.start)
		out = append(out, elfRun{
			start: start, mem: uint64(end - start), flags: a.flags,
			off:  r.off + skip*size,
			virt: a.virt + uint64(start-a.start)*size,
		})
	}
	return out
}

// Finish is [Writer.Finish].
func (ew *ELFWriter) Finish(complete bool) error {
	ew.incomplete = !complete || ew.err != nil
	var again []elfRun
	for _, a := range ew.aliases {
		// Mapped again it is a convenience, if there is no room for all.
		if runs := ew.mapAgain(a); 1+len(ew.memory)+len(ew.runs)+len(again)+len(runs) <= ew.room {
			again = append(again, runs...)
		}
	}
	ew.runs = append(ew.runs, again...)
	var err error
	if ew.err == nil {
		err = ew.closeHole()
	}
	return errors.Join(err, ew.writeHeaders())
}
