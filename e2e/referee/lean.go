package referee

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// symSize is the size of an Elf64_Sym: name u32, info, other u8, section u16, value,
// size u64.
const symSize = 24

// leanVmlinux copies a kernel with debug data without the symbols that no symbol table of
// a kernel has: local ones without a type, which are labels, the tables of exported
// symbols, and the compiler's mapping symbols. They are two thirds of all. crash
// 9.0.2 searches its symbols once for each of them, which takes it minutes under an
// emulator, and takes mapping symbols for names of functions.
func leanVmlinux(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := dropLabels(out); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return out.Close()
}

// dropLabels takes such symbols out of the symbol table of an ELF file; all other bytes
// stay where they are.
func dropLabels(f *os.File) error {
	e, err := elf.NewFile(f)
	if err != nil {
		return err
	}
	if e.Class != elf.ELFCLASS64 || e.ByteOrder != binary.LittleEndian {
		return errors.New("no little-endian ELF of 64 bits")
	}
	var header [64]byte
	if _, err := f.ReadAt(header[:], 0); err != nil {
		return err
	}
	order := binary.LittleEndian
	sections, each := order.Uint64(header[0x28:]), uint64(order.Uint16(header[0x3a:]))
	for i, s := range e.Sections {
		if s.Type != elf.SHT_SYMTAB {
			continue
		}
		table, err := s.Data()
		if err != nil {
			return err
		}
		kept, locals := keepNamed(table)
		if _, err := f.WriteAt(kept, int64(s.Offset)); err != nil {
			return err
		}
		// Elf64_Shdr: sh_size at 32, sh_info, which is the number of local symbols, at 44.
		at := int64(sections + uint64(i)*each)
		var size [8]byte
		order.PutUint64(size[:], uint64(len(kept)))
		if _, err := f.WriteAt(size[:], at+32); err != nil {
			return err
		}
		var info [4]byte
		order.PutUint32(info[:], locals)
		_, err = f.WriteAt(info[:], at+44)
		return err
	}
	return errors.New("no symbol table")
}

// keepNamed is a symbol table without local symbols that have no type; the first entry,
// which is empty, stays.
func keepNamed(table []byte) (kept []byte, locals uint32) {
	for i := 0; i+symSize <= len(table); i += symSize {
		info := table[i+4]
		bind, kind := elf.ST_BIND(info), elf.ST_TYPE(info)
		if i > 0 && bind == elf.STB_LOCAL && kind == elf.STT_NOTYPE {
			continue
		}
		if bind == elf.STB_LOCAL {
			locals++
		}
		kept = append(kept, table[i:i+symSize]...)
	}
	return kept, locals
}
