package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"syscall"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

const (
	// ramBase is where the memory of QEMU's riscv64 virt machine begins, and the
	// file with it.
	ramBase = 0x80000000
	page    = 4096
	// Offsets to ask a file for, include/uapi/linux/fs.h.
	seekData = 3
	seekHole = 4
)

// writeCore writes an ELF core of the memory that d knows of, out of ram, the
// machine's memory in a file. What was never touched there is a hole here,
// too. It returns the core's size and how much of it is no hole.
//
// The order is that of /proc/vmcore: headers, notes, then memory, each from a
// whole page on (fs/proc/vmcore.c, Linux 6.12).
func writeCore(w *os.File, d *vmcore.Dump, ram *os.File) (size, data int64, err error) {
	linear, err := linearMap(d.VMCoreInfo())
	if err != nil {
		return 0, 0, err
	}
	ranges, notes := d.Ranges(), d.RawNotes()
	var head bytes.Buffer
	order := binary.LittleEndian
	const ehsize, phsize = 64, 56
	noteOff := pageUp(ehsize + phsize*int64(1+len(ranges)))
	off := pageUp(noteOff + int64(len(notes)))
	header := elf.Header64{
		Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_RISCV), Version: uint32(elf.EV_CURRENT),
		Phoff: ehsize, Ehsize: ehsize, Phentsize: phsize, Phnum: uint16(1 + len(ranges)),
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	segments := []elf.Prog64{{Type: uint32(elf.PT_NOTE), Off: uint64(noteOff), Filesz: uint64(len(notes)), Memsz: uint64(len(notes))}}
	for _, r := range ranges {
		n := uint64(r.End - r.Start)
		segments = append(segments, elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W | elf.PF_X), Off: uint64(off),
			Vaddr: uint64(r.Start) + linear, Paddr: uint64(r.Start), Filesz: n, Memsz: n,
		})
		off = pageUp(off + int64(n))
	}
	if err := errors.Join(binary.Write(&head, order, header), binary.Write(&head, order, segments)); err != nil {
		return 0, 0, err
	}
	if _, err := w.WriteAt(head.Bytes(), 0); err != nil {
		return 0, 0, err
	}
	if _, err := w.WriteAt(notes, noteOff); err != nil {
		return 0, 0, err
	}
	if err := w.Truncate(off); err != nil {
		return 0, 0, err
	}
	for i, r := range ranges {
		if r.Start < ramBase {
			return 0, 0, fmt.Errorf("memory at %#x is below the machine's", r.Start)
		}
		n, err := copyData(w, int64(segments[1+i].Off), ram, int64(r.Start-ramBase), int64(r.End-ramBase))
		if err != nil {
			return 0, 0, err
		}
		data += n
	}
	return off, data, nil
}

func pageUp(n int64) int64 { return (n + page - 1) &^ (page - 1) }

// copyData copies what of from's bytes start to end is data to the same places
// from to's offset at on.
func copyData(to *os.File, at int64, from *os.File, start, end int64) (data int64, err error) {
	for off := start; off < end; {
		begin, err := from.Seek(off, seekData)
		if errors.Is(err, syscall.ENXIO) || err == nil && begin >= end {
			break // holes to the end
		}
		if err != nil {
			return data, err
		}
		stop, err := from.Seek(begin, seekHole)
		if err != nil {
			return data, err
		}
		stop = min(stop, end)
		if _, err := from.Seek(begin, io.SeekStart); err != nil {
			return data, err
		}
		if _, err := to.Seek(at+begin-start, io.SeekStart); err != nil {
			return data, err
		}
		if _, err := io.CopyN(to, from, stop-begin); err != nil {
			return data, err
		}
		data += stop - begin
		off = stop
	}
	return data, nil
}

// linearMap is how far above its physical address memory is mapped, as the
// kernel's VMCOREINFO says (arch/riscv/kernel/vmcore_info.c, Linux 6.12).
func linearMap(info []byte) (uint64, error) {
	number := func(key string) (uint64, error) {
		m := regexp.MustCompile(`(?m)^NUMBER\(` + key + `\)=(\S+)$`).FindSubmatch(info)
		if m == nil {
			return 0, fmt.Errorf("VMCOREINFO has no NUMBER(%s)", key)
		}
		n, err := strconv.ParseUint(string(m[1]), 0, 64)
		if err != nil {
			return 0, fmt.Errorf("VMCOREINFO: %w", err)
		}
		return n, nil
	}
	offset, err := number("PAGE_OFFSET")
	if err != nil {
		return 0, err
	}
	base, err := number("phys_ram_base")
	return offset - base, err
}
