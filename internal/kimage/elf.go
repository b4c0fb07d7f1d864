package kimage

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

const (
	elfHeader   = 64
	elfProgram  = 56  // a program header
	maxPrograms = 128 // vmlinux has 3 or 4
	// Between two PT_LOADs of a vmlinux is what alignment leaves: at most
	// 4 MiB (arch/riscv/kernel/vmlinux.lds.S, 6.12).
	maxGap = 32 << 20
)

// segment is a PT_LOAD.
type segment struct{ offset, vaddr, paddr, filesz, memsz uint64 }

// elf lays the PT_LOADs of a vmlinux out as memory, from the lowest physical
// address on, and reads nothing else of the file.
func (o *opener) elf(s *source) (*Image, error) {
	loads, dynamic, entry, err := o.programs(s)
	if err != nil {
		return nil, err
	}
	corrupt := func(format string, args ...any) error {
		return o.refuse(ErrCorrupt, ELF, RISCV, "vmlinux: "+fmt.Sprintf(format, args...), copyAgain)
	}
	if len(loads) == 0 {
		return nil, o.refuse(ErrNotKernel, ELF, RISCV, "an ELF file with nothing to load", whereKernelsAre)
	}
	slices.SortFunc(loads, func(a, b segment) int { return cmp.Compare(a.paddr, b.paddr) })
	base := loads[0].paddr
	var fileEnd, memEnd uint64 // above base
	for i, p := range loads {
		switch {
		case p.filesz > p.memsz:
			return nil, corrupt("a PT_LOAD has %d bytes for %d bytes of memory", p.filesz, p.memsz)
		case p.memsz > maxImageSize || p.paddr-base > maxImageSize-p.memsz:
			return nil, corrupt("PT_LOADs span more than %d MiB from %#x on", maxImageSize>>20, base)
		case p.offset+p.filesz < p.offset || p.offset+p.filesz > 1<<62:
			return nil, corrupt("a PT_LOAD lies at %#x in the file", p.offset)
		case i > 0 && p.paddr-base < memEnd:
			return nil, corrupt("two PT_LOADs overlap at %#x", p.paddr)
		case i > 0 && p.paddr-base-memEnd > maxGap:
			return nil, corrupt("%d MiB of nothing before %#x", (p.paddr-base-memEnd)>>20, p.paddr)
		case s.size >= 0 && p.filesz > 0 && p.offset+p.filesz > uint64(s.size):
			return nil, o.truncated(ELF, "a vmlinux of %d bytes, its PT_LOAD ends at %d: %d are missing", s.size, p.offset+p.filesz, p.offset+p.filesz-uint64(s.size))
		}
		memEnd = p.paddr - base + p.memsz
		if p.filesz > 0 {
			fileEnd = p.paddr - base + p.filesz
		}
	}

	// The first bytes of memory are the header of the Image that the build
	// makes of it (arch/riscv/kernel/head.S); they tell a kernel from any
	// other program, and how much memory it needs.
	img := &Image{Kind: ELF}
	first := loads[0]
	head := make([]byte, min(headBytes, first.filesz))
	if _, err := s.readAt(head, int64(first.offset)); err != nil {
		return nil, o.failed(err, ELF, "the first PT_LOAD")
	}
	if len(head) < headerSize || binary.LittleEndian.Uint32(head[0x38:]) != magic2RISCV {
		return nil, o.refuse(ErrNotKernel, ELF, RISCV, "a riscv64 ELF program, but its memory does not begin with the header of a kernel", whereKernelsAre)
	}
	if err := o.header(img, head); err != nil {
		return nil, err
	}
	if img.ImageSize < memEnd {
		return nil, corrupt("image_size is %d, its PT_LOADs end at %d", img.ImageSize, memEnd)
	}
	if bytes.HasPrefix(head, []byte("MZ")) {
		end, err := o.sections(img, head)
		if err != nil {
			return nil, err
		}
		// The build pads the Image to there, and the same kernel shall be
		// the same bytes.
		if end <= img.ImageSize {
			fileEnd = max(fileEnd, end)
		}
	}

	slices.SortFunc(loads, func(a, b segment) int { return cmp.Compare(a.offset, b.offset) })
	size := fileEnd
	end, fits := s.lastByte(loads), s.whole != nil && movesDown(loads, base)
	if fits = fits && end <= fileEnd/4*5; fits {
		size = max(size, end)
	}
	if img.Data, err = o.alloc(ELF, size); err != nil {
		return nil, err
	}
	done := false
	if fits {
		if done, err = o.moved(s, img.Data, loads, base); err != nil {
			return nil, err
		}
	}
	img.Data = img.Data[:fileEnd]
	if !done {
		if err := o.segments(s, img.Data, head, loads, first, base); err != nil {
			return nil, err
		}
	}

	mem := memory{img.Data, base, loads}
	// The header is code, and the first instruction.
	if at, ok := mem.offset(entry); !ok || at != 0 {
		return nil, corrupt("the entry point %#x is not the first byte, where a kernel begins", entry)
	}
	if err := o.relocations(img, mem, dynamic); err != nil {
		return nil, err
	}
	return img, nil
}

// segments reads PT_LOADs, in the order of the file, to memory. head is the
// first bytes of first, which may not be there to be read any more.
func (o *opener) segments(s *source, to, head []byte, loads []segment, first segment, base uint64) error {
	for _, p := range loads {
		if p.filesz == 0 {
			continue
		}
		to := to[p.paddr-base:][:p.filesz]
		from := p.offset
		if p == first {
			n := copy(to, head)
			to, from = to[n:], from+uint64(n)
			if len(to) == 0 {
				continue
			}
		}
		n, err := s.readAt(to, int64(from))
		if err == io.ErrUnexpectedEOF {
			return o.truncated(ELF, "a vmlinux whose PT_LOAD at %#x ends after %d of %d bytes", p.offset, n, len(to))
		}
		if err != nil {
			return o.failed(err, ELF, "a PT_LOAD")
		}
	}
	return nil
}

// lastByte is where an ELF file ends, as far as its headers tell: behind its
// section headers, if nothing that is loaded lies behind them.
func (s *source) lastByte(loads []segment) uint64 {
	le := binary.LittleEndian
	end := le.Uint64(s.head[40:]) + uint64(le.Uint16(s.head[58:]))*uint64(le.Uint16(s.head[60:]))
	for _, p := range loads {
		end = max(end, p.offset+p.filesz)
	}
	return end
}

// movesDown tells whether PT_LOADs, in the order of the file, are in the same
// order in memory, and each nearer to the beginning there.
func movesDown(loads []segment, base uint64) bool {
	var file, memory uint64 // ends so far
	for _, p := range loads {
		if at := p.paddr - base; at > p.offset || at < memory || p.offset < file {
			return false
		}
		file, memory = p.offset+p.filesz, p.paddr-base+p.filesz
	}
	return true
}

// moved unpacks all of an ELF file to memory that is a little larger than the
// kernel, which saves the decompressor's window, and moves the PT_LOADs to where
// they shall lie. done is false when the file is larger than its headers say.
func (o *opener) moved(s *source, to []byte, loads []segment, base uint64) (done bool, err error) {
	n, err := s.whole(to)
	if err == errMore {
		clear(to)
		return false, nil
	}
	if err != nil {
		return false, o.failed(err, ELF, "the file")
	}
	s.done = true
	var end uint64
	for _, p := range loads {
		if p.offset+p.filesz > uint64(n) {
			have := max(uint64(n), p.offset) - p.offset
			return false, o.truncated(ELF, "a vmlinux whose PT_LOAD at %#x ends after %d of %d bytes", p.offset, have, p.filesz)
		}
		at := p.paddr - base
		clear(to[end:at])
		end = at + uint64(copy(to[at:], to[p.offset:][:p.filesz]))
	}
	clear(to[end:])
	return true, nil
}

// programs reads the headers of an ELF file. dynamic is nil without PT_DYNAMIC.
func (o *opener) programs(s *source) (loads []segment, dynamic *segment, entry uint64, err error) {
	fail := func(err error) ([]segment, *segment, uint64, error) { return nil, nil, 0, err }
	h := s.head
	if len(h) < 20 {
		return fail(o.refuse(ErrTruncated, ELF, NoMachine, fmt.Sprintf("an ELF file of %d bytes", len(h)), whereKernelsAre))
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if elf.Data(h[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	m := Machine(order.Uint16(h[18:]))
	if m != RISCV {
		return fail(o.wrongMachine(ELF, m, fmt.Sprintf("an ELF file for %v", m)))
	}
	if elf.Class(h[elf.EI_CLASS]) != elf.ELFCLASS64 {
		return fail(o.wrongMachine(ELF, m, "an ELF file for riscv32"))
	}
	if elf.Data(h[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return fail(o.refuse(ErrNotLoadable, ELF, m, "a big-endian ELF file", whereKernelsAre))
	}
	if len(h) < elfHeader {
		return fail(o.truncated(ELF, "an ELF file of %d bytes", len(h)))
	}
	le := binary.LittleEndian
	kind := elf.Type(le.Uint16(h[16:]))
	if kind != elf.ET_EXEC && kind != elf.ET_DYN {
		return fail(o.refuse(ErrNotKernel, ELF, m, fmt.Sprintf("an ELF file of type %v, a kernel is ET_EXEC or ET_DYN", kind), whereKernelsAre))
	}
	entry = le.Uint64(h[24:])
	off, size, count := le.Uint64(h[32:]), le.Uint16(h[54:]), le.Uint16(h[56:])
	if size != elfProgram || count == 0 || count > maxPrograms || off < elfHeader || off > 1<<40 {
		return fail(o.refuse(ErrCorrupt, ELF, m, fmt.Sprintf("vmlinux: %d program headers of %d bytes at %#x", count, size, off), copyAgain))
	}
	table := make([]byte, int(count)*elfProgram)
	if s.size >= 0 && off+uint64(len(table)) > uint64(s.size) {
		return fail(o.truncated(ELF, "a vmlinux of %d bytes, its program headers end at %d", s.size, off+uint64(len(table))))
	}
	if _, err := s.readAt(table, int64(off)); err != nil {
		return fail(o.failed(err, ELF, "the program headers"))
	}
	for p := range slices.Chunk(table, elfProgram) {
		seg := segment{offset: le.Uint64(p[8:]), vaddr: le.Uint64(p[16:]), paddr: le.Uint64(p[24:]), filesz: le.Uint64(p[32:]), memsz: le.Uint64(p[40:])}
		switch elf.ProgType(le.Uint32(p)) {
		case elf.PT_LOAD:
			if seg.memsz > 0 {
				loads = append(loads, seg)
			}
		case elf.PT_DYNAMIC:
			dynamic = &seg
		case elf.PT_INTERP:
			return fail(o.refuse(ErrNotKernel, ELF, m, "an ELF program that wants an interpreter", whereKernelsAre))
		}
	}
	if kind == elf.ET_DYN && dynamic == nil {
		dynamic = &segment{}
	}
	return loads, dynamic, entry, nil
}

// memory is what a vmlinux looks like to itself.
type memory struct {
	data  []byte
	base  uint64
	loads []segment
}

// offset finds a virtual address, or if there is no such a physical one, in
// memory.
func (m memory) offset(addr uint64) (uint64, bool) {
	for _, p := range m.loads {
		if addr >= p.vaddr && addr-p.vaddr < p.memsz {
			return p.paddr - m.base + (addr - p.vaddr), true
		}
	}
	for _, p := range m.loads {
		if addr >= p.paddr && addr-p.paddr < p.memsz {
			return p.paddr - m.base + (addr - p.paddr), true
		}
	}
	return 0, false
}

// at is the bytes at a virtual address, as far as the file has them.
func (m memory) at(addr, size uint64) []byte {
	off, ok := m.offset(addr)
	if !ok || off >= uint64(len(m.data)) {
		return nil
	}
	return m.data[off:][:min(size, uint64(len(m.data))-off)]
}
