package boot

import (
	"bytes"
	"debug/elf"
	"fmt"
	"math/bits"
	"strings"
)

// ModuleSize is how much memory a module takes, in bytes.
type ModuleSize struct {
	Name string `json:"name"`
	// Packed is its file as the distribution made it, 0 if unknown. File is that file
	// unpacked, which is in memory while the module is loaded.
	Packed uint64 `json:"packed"`
	File   uint64 `json:"file"`
	// Memory is what stays: its sections but those that are only for the start, its
	// symbols, and its types. Of Debian's modules for riscv64 the symbols are ten times the
	// rest: the labels that a linker needs to relax jumps are kept.
	Memory uint64 `json:"memory"`
	// Start is what it takes beside File and Memory until it has started: the
	// sections for that, all symbols once more, and a table of relocations.
	Start uint64 `json:"start"`
}

// Sizes of ELF's structs on 64 bits.
const (
	symbolBytes     = 24
	relocationBytes = 24
)

// Size finds out how much memory a module will take, by what the kernel does to
// load it (Linux 6.12 and 7.2, kernel/module/main.c, kernel/module/kallsyms.c with
// CONFIG_KALLSYMS_ALL, arch/riscv/kernel/module.c).
func (t *ModuleTree) Size(m Module) (ModuleSize, error) {
	packed, _, err := t.Read(m, m.Codec)
	if err != nil {
		return ModuleSize{}, err
	}
	data, _, err := t.Read(m, None)
	if err != nil {
		return ModuleSize{}, err
	}
	s, err := MeasureModule(m.Name, data)
	if err != nil {
		return ModuleSize{}, fmt.Errorf("%s: %w", m.Path, err)
	}
	s.Packed = uint64(len(packed))
	return s, nil
}

// MeasureModule is [ModuleTree.Size] of a module that is unpacked already; Packed
// is not known then.
func MeasureModule(name string, data []byte) (ModuleSize, error) {
	s, err := moduleSize(data)
	if err != nil {
		return ModuleSize{}, fmt.Errorf("module %s: %w", name, err)
	}
	s.Name = name
	return s, nil
}

// moduleSize measures a module's file.
func moduleSize(data []byte) (ModuleSize, error) {
	s := ModuleSize{File: uint64(len(data))}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return s, err
	}
	var table uint64
	for _, section := range f.Sections {
		if section.Size > maxModuleBytes {
			return s, fmt.Errorf("section %s has %d bytes", section.Name, section.Size)
		}
		switch {
		case section.Type == elf.SHT_RELA && f.Machine == elf.EM_RISCV:
			// Each section's table is freed before the next one is made.
			table = max(table, relocationTable(section.Size/relocationBytes))
		case section.Type == elf.SHT_SYMTAB:
			stay, names, err := symbols(f, section)
			if err != nil {
				return s, err
			}
			s.Memory += stay*(symbolBytes+1) + names
			s.Start += section.Size + stay
			if int(section.Link) < len(f.Sections) {
				s.Start += f.Sections[section.Link].Size
			}
		case section.Name == ".BTF":
			// The kernel keeps a copy (kernel/bpf/btf.c, btf_parse_module).
			s.Memory += section.Size
		case section.Flags&elf.SHF_ALLOC == 0:
		case strings.HasPrefix(section.Name, ".init"):
			s.Start += section.Size
		default:
			s.Memory += section.Size
		}
	}
	s.Start += table
	return s, nil
}

// relocationTable is the size of the hash table for n relocations.
func relocationTable(n uint64) uint64 {
	if n == 0 {
		return 0
	}
	size := uint64(1) << bits.Len64(n-1)
	if n+n/4 > size {
		size *= 2
	}
	return size * 8
}

// symbols counts the symbols that stay in memory with a module, and the bytes of
// their names: those with a name in a section that stays.
func symbols(f *elf.File, table *elf.Section) (n, names uint64, err error) {
	data, err := table.Data()
	if err != nil {
		return 0, 0, err
	}
	if f.Class != elf.ELFCLASS64 || int(table.Link) >= len(f.Sections) {
		return 0, 0, nil
	}
	text, err := f.Sections[table.Link].Data()
	if err != nil {
		return 0, 0, err
	}
	for ; len(data) >= symbolBytes; data = data[symbolBytes:] {
		name := f.ByteOrder.Uint32(data)
		in := int(f.ByteOrder.Uint16(data[6:]))
		if name == 0 || int64(name) >= int64(len(text)) || in == 0 || in >= len(f.Sections) {
			continue
		}
		s := f.Sections[in]
		if s.Flags&elf.SHF_ALLOC == 0 || strings.HasPrefix(s.Name, ".init") {
			continue
		}
		n++
		if end := bytes.IndexByte(text[name:], 0); end >= 0 {
			names += uint64(end) + 1
		}
	}
	return n, names, nil
}
