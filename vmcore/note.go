package vmcore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// Note is one ELF note of a dump.
type Note struct {
	Name string // owner, like "CORE" or "VMCOREINFO", without its NUL
	Type uint32 // meaning depends on the owner; NotePRStatus for "CORE"
	Desc []byte
}

// Types of notes, include/uapi/linux/elf.h and include/uapi/linux/vmcore.h
// (Linux 7.2).
const (
	// NotePRStatus, owner "CORE": struct elf_prstatus, the registers of one CPU.
	NotePRStatus = 1
	// NoteVMCoreDD, owner "LINUX": memory that a device driver added.
	NoteVMCoreDD = 0x700
)

// The note that [ELFWriter] writes: where the machine had memory, whether its
// pages are in the file or not. It has four words of 64 bits for each range:
// physical address, virtual address, bytes, and p_flags.
const (
	noteOwner       = "PANICROOM"
	noteMemory      = 0x6d656d // no type of anybody else's
	noteMemoryBytes = 32
)

func (n Note) isMemory() bool { return n.Name == noteOwner && n.Type == noteMemory }

// parseMemoryNote reads it, as segments with nothing in the file.
func parseMemoryNote(n Note, order binary.ByteOrder) ([]Segment, error) {
	var all []Segment
	if len(n.Desc)%noteMemoryBytes != 0 {
		return nil, fmt.Errorf("%w: a %s note with %d bytes, %d for each range", ErrCorrupt, noteOwner, len(n.Desc), noteMemoryBytes)
	}
	for b := n.Desc; len(b) > 0; b = b[noteMemoryBytes:] {
		phys, bytes := order.Uint64(b), order.Uint64(b[16:])
		if bytes == 0 || phys+bytes < phys {
			return all, fmt.Errorf("%w: a %s note with memory at %#x, %#x bytes", ErrCorrupt, noteOwner, phys, bytes)
		}
		all = append(all, Segment{
			Phys:  Range{PhysAddr(phys), PhysAddr(phys + bytes)},
			Virt:  order.Uint64(b[8:]),
			Flags: uint32(order.Uint64(b[24:])),
		})
	}
	return all, nil
}

const (
	noteHeaderSize = 12
	// maxNoteName is far above the 11 bytes of "VMCOREINFO".
	maxNoteName = 256
	// maxNotes bounds the number of notes: one per possible CPU and some.
	maxNotes = 1 << 16
	// maxNoteBytes bounds what is kept of notes. 4096 CPUs take 1.6 MiB;
	// only device dumps (NoteVMCoreDD) are larger, and whoever does not fit
	// is left out.
	maxNoteBytes = 16 << 20
)

// align4 rounds up to the padding of names and descriptors in core notes.
func align4(n uint64) uint64 { return (n + 3) &^ 3 }

// readNotes reads the notes in size bytes of r at off. It stops without an
// error at the first empty header, which ends the notes of one CPU in the
// headers made by loaders (update_note_header_size_elf64 in fs/proc/vmcore.c,
// Linux 7.2), and keeps what it has when the rest is broken. Descriptors that
// exceed the budget of bytes are skipped.
func readNotes(r io.ReaderAt, off, size uint64, order binary.ByteOrder, notes []Note, budget *int) ([]Note, error) {
	end := off + size
	var header [noteHeaderSize]byte
	for off+noteHeaderSize <= end && len(notes) < maxNotes {
		if _, err := readFull(r, header[:], off); err != nil {
			return notes, fmt.Errorf("note at file offset %#x: %w: %w", off, ErrCorrupt, err)
		}
		nameSize := uint64(order.Uint32(header[0:]))
		descSize := uint64(order.Uint32(header[4:]))
		n := Note{Type: order.Uint32(header[8:])}
		if nameSize == 0 && descSize == 0 {
			return notes, nil
		}
		nameOff := off + noteHeaderSize
		descOff := nameOff + align4(nameSize)
		if nameSize > maxNoteName || descOff > end || descSize > end-descOff {
			return notes, fmt.Errorf("note at file offset %#x: %w: name of %d and descriptor of %d bytes, %d bytes left",
				off, ErrCorrupt, nameSize, descSize, end-nameOff)
		}
		name := make([]byte, nameSize)
		if _, err := readFull(r, name, nameOff); err != nil {
			return notes, fmt.Errorf("note at file offset %#x: %w: %w", off, ErrCorrupt, err)
		}
		name, _, _ = bytes.Cut(name, []byte{0})
		n.Name = string(name)
		if cost := noteHeaderSize + align4(nameSize) + align4(descSize); cost <= uint64(*budget) {
			*budget -= int(cost)
			n.Desc = make([]byte, descSize)
			if _, err := readFull(r, n.Desc, descOff); err != nil {
				return notes, fmt.Errorf("note at file offset %#x: %w: %w", off, ErrCorrupt, err)
			}
			notes = append(notes, n)
		}
		off = descOff + align4(descSize)
	}
	return notes, nil
}

// AppendNote appends the note n to b as it stands in a PT_NOTE segment: three
// 32-bit words, then name and descriptor, each padded to four bytes.
func AppendNote(b []byte, order binary.AppendByteOrder, n Note) []byte {
	name := append([]byte(n.Name), 0)
	b = order.AppendUint32(b, uint32(len(name)))
	b = order.AppendUint32(b, uint32(len(n.Desc)))
	b = order.AppendUint32(b, n.Type)
	b = append(b, name...)
	b = append(b, make([]byte, align4(uint64(len(name)))-uint64(len(name)))...)
	b = append(b, n.Desc...)
	return append(b, make([]byte, align4(uint64(len(n.Desc)))-uint64(len(n.Desc)))...)
}

// findVMCoreInfo gives the text of the VMCOREINFO note and where its
// descriptor begins in the notes as AppendNote writes them; nil if there is
// none.
func findVMCoreInfo(notes []Note) (text []byte, offset uint64) {
	for _, n := range notes {
		offset += noteHeaderSize + align4(uint64(len(n.Name)+1))
		if n.Name == "VMCOREINFO" && n.Type == 0 {
			return bytes.TrimRight(n.Desc, "\x00"), offset
		}
		offset += align4(uint64(len(n.Desc)))
	}
	return nil, 0
}

// vmcoreInfoUint looks up a decimal value like PAGESIZE in the text of
// VMCOREINFO. Everything else in there is package kernel's business.
func vmcoreInfoUint(text []byte, key string) (uint64, bool) {
	for line := range bytes.Lines(text) {
		k, v, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte("="))
		if !ok || string(k) != key || len(v) == 0 || len(v) > 18 {
			continue
		}
		var n uint64
		for _, c := range v {
			if c < '0' || c > '9' {
				return 0, false
			}
			n = n*10 + uint64(c-'0')
		}
		return n, true
	}
	return 0, false
}

// readFull fills p from offset off of r.
func readFull(r io.ReaderAt, p []byte, off uint64) (int, error) {
	if off > 1<<63-1 {
		return 0, fmt.Errorf("file offset %#x is beyond any file", off)
	}
	n, err := r.ReadAt(p, int64(off))
	if n == len(p) {
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
