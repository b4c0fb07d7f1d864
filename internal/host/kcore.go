package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// kcore is /proc/kcore: the running kernel's memory as an ELF core
// (fs/proc/kcore.c). Its segments of the linear map have the physical address
// (p_paddr), those of vmalloc and vmemmap do not.
type kcore struct {
	r          io.ReaderAt
	machine    uint16
	loads      []coreLoad
	vmcoreinfo []byte
	pages      map[uint64][]byte // by physical address, as far as read
}

// coreLoad is one PT_LOAD.
type coreLoad struct {
	offset int64
	phys   Range
}

// Sizes of the ELF structures for 64 bits, and bounds that no real kcore
// comes near.
const (
	ehdrSize     = 64
	phdrSize     = 56
	maxPhdrs     = 1 << 16
	maxNotes     = 1 << 20
	maxPages     = 1 << 15 // page table pages; 16 GiB of page structs in 2 MiB leaves need 16
	ptLoad       = 1
	ptNote       = 4
	etCore       = 4
	emRISCV      = 243
	physUnknown  = ^uint64(0) // p_paddr of what has no physical address
	kcorePage    = 4096
	maxInfoBytes = 64 << 10
)

func openKcore(r io.ReaderAt) (*kcore, error) {
	var eh [ehdrSize]byte
	if err := readFull(r, eh[:], 0); err != nil {
		return nil, fmt.Errorf("ELF header: %w", err)
	}
	le := binary.LittleEndian
	phoff, phentsize, phnum := le.Uint64(eh[32:]), le.Uint16(eh[54:]), int(le.Uint16(eh[56:]))
	if string(eh[:7]) != "\x7fELF\x02\x01\x01" || le.Uint16(eh[16:]) != etCore || phentsize != phdrSize ||
		phoff > 1<<20 || phnum > maxPhdrs {
		return nil, fmt.Errorf("ELF header %x: %w", eh[:20], ErrCorrupt)
	}
	k := &kcore{r: r, machine: le.Uint16(eh[18:]), pages: map[uint64][]byte{}}
	for i := range phnum {
		var ph [phdrSize]byte
		if err := readFull(r, ph[:], int64(phoff)+int64(i)*phdrSize); err != nil {
			return nil, fmt.Errorf("program header %d: %w", i, err)
		}
		offset, paddr, size := le.Uint64(ph[8:]), le.Uint64(ph[24:]), le.Uint64(ph[32:])
		switch le.Uint32(ph[:]) {
		case ptNote:
			if err := k.notes(offset, size); err != nil {
				return nil, err
			}
		case ptLoad:
			// Addresses below PAGE_OFFSET get offsets that no read can name.
			if paddr != physUnknown && paddr+size >= paddr && int64(offset) >= 0 && int64(offset+size) >= int64(offset) {
				k.loads = append(k.loads, coreLoad{int64(offset), Range{paddr, paddr + size}})
			}
		}
	}
	return k, nil
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// notes looks for the note VMCOREINFO.
func (k *kcore) notes(offset, size uint64) error {
	if size > maxNotes || offset > 1<<32 {
		return fmt.Errorf("notes of %d bytes at %#x: %w", size, offset, ErrCorrupt)
	}
	b := make([]byte, size)
	if err := readFull(k.r, b, int64(offset)); err != nil {
		return fmt.Errorf("notes: %w", err)
	}
	le := binary.LittleEndian
	for len(b) >= 12 {
		namesz, descsz := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:]))
		desc := 12 + align(namesz, 4)
		end := desc + align(descsz, 4)
		if desc+descsz > uint64(len(b)) {
			break
		}
		if name := bytes.TrimRight(b[12:12+namesz], "\x00"); string(name) == "VMCOREINFO" && descsz <= maxInfoBytes {
			k.vmcoreinfo = bytes.Clone(bytes.TrimRight(b[desc:desc+descsz], "\x00"))
		}
		b = b[min(end, uint64(len(b))):]
	}
	return nil
}

func align(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }

// page reads one page of physical memory.
func (k *kcore) page(phys uint64) ([]byte, error) {
	if p, ok := k.pages[phys]; ok {
		return p, nil
	}
	if len(k.pages) == maxPages {
		return nil, fmt.Errorf("more than %d pages of page tables: %w", maxPages, ErrCorrupt)
	}
	p := make([]byte, kcorePage)
	if _, err := k.readAt(p, phys); err != nil {
		if errors.Is(err, ErrNoMemory) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return nil, fmt.Errorf("page %#x: %w", phys, err)
	}
	k.pages[phys] = p
	return p, nil
}

// readAt reads physical memory; it may lie in several segments.
func (k *kcore) readAt(p []byte, phys uint64) (int, error) {
	done := 0
	for done < len(p) {
		at := phys + uint64(done)
		i := slices.IndexFunc(k.loads, func(l coreLoad) bool { return at >= l.phys.Start && at < l.phys.End })
		if i < 0 || at < phys {
			return done, fmt.Errorf("memory at %#x: %w", at, ErrNoMemory)
		}
		l := k.loads[i]
		n := int(min(uint64(len(p)-done), l.phys.End-at))
		if err := readFull(k.r, p[done:done+n], l.offset+int64(at-l.phys.Start)); err != nil {
			return done, fmt.Errorf("memory at %#x: %w", at, err)
		}
		done += n
	}
	return done, nil
}

// compact writes an ELF core that has what was read of k and nothing else: the
// note VMCOREINFO and the pages. Reading it gives the same answers.
func (k *kcore) compact() []byte {
	le := binary.LittleEndian
	addrs := make([]Range, 0, len(k.pages))
	for phys := range k.pages {
		addrs = append(addrs, Range{phys, phys + kcorePage})
	}
	runs := Merge(addrs)

	note := le.AppendUint32(nil, 11)
	note = le.AppendUint32(note, uint32(len(k.vmcoreinfo)))
	note = le.AppendUint32(note, 0)
	note = append(note, "VMCOREINFO\x00\x00"...)
	note = append(note, k.vmcoreinfo...)
	note = append(note, make([]byte, align(uint64(len(note)), 4)-uint64(len(note)))...)

	out := make([]byte, ehdrSize)
	copy(out, "\x7fELF\x02\x01\x01")
	le.PutUint16(out[16:], etCore)
	le.PutUint16(out[18:], k.machine)
	le.PutUint32(out[20:], 1)
	le.PutUint64(out[32:], ehdrSize)
	le.PutUint16(out[52:], ehdrSize)
	le.PutUint16(out[54:], phdrSize)
	le.PutUint16(out[56:], uint16(1+len(runs)))
	offset := uint64(ehdrSize + phdrSize*(1+len(runs)))
	header := func(kind uint32, phys, size uint64) {
		ph := make([]byte, phdrSize)
		le.PutUint32(ph, kind)
		le.PutUint64(ph[8:], offset)
		le.PutUint64(ph[24:], phys)
		le.PutUint64(ph[32:], size)
		le.PutUint64(ph[40:], size)
		out = append(out, ph...)
		offset += size
	}
	header(ptNote, 0, uint64(len(note)))
	for _, r := range runs {
		header(ptLoad, r.Start, r.Size())
	}
	out = append(out, note...)
	for _, r := range runs {
		for phys := r.Start; phys < r.End; phys += kcorePage {
			out = append(out, k.pages[phys]...)
		}
	}
	return out
}
