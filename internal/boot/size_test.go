package boot

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"
)

// section is one of a module made by hand.
type section struct {
	name  string
	kind  elf.SectionType
	flags elf.SectionFlag
	link  uint32
	data  []byte
}

// module makes an ELF file of sections; the names' table comes last.
func module(machine elf.Machine, sections []section) []byte {
	names := []byte{0}
	all := append([]section{{}}, sections...)
	all = append(all, section{name: ".shstrtab", kind: elf.SHT_STRTAB})
	offsets := make([]uint32, len(all))
	for i, s := range all {
		if s.name != "" {
			offsets[i] = uint32(len(names))
			names = append(append(names, s.name...), 0)
		}
	}
	all[len(all)-1].data = names
	var body bytes.Buffer
	headers := make([]elf.Section64, len(all))
	for i, s := range all {
		if i == 0 {
			continue
		}
		headers[i] = elf.Section64{Name: offsets[i], Type: uint32(s.kind), Flags: uint64(s.flags), Link: s.link,
			Off: uint64(64 + body.Len()), Size: uint64(len(s.data)), Addralign: 1}
		body.Write(s.data)
	}
	h := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(machine), Version: 1, Ehsize: 64, Shentsize: 64,
		Shoff: uint64(64 + body.Len()), Shnum: uint16(len(all)), Shstrndx: uint16(len(all) - 1)}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	var out bytes.Buffer
	binary.Write(&out, binary.LittleEndian, h)
	out.Write(body.Bytes())
	binary.Write(&out, binary.LittleEndian, headers)
	return out.Bytes()
}

func symbolTable(list ...elf.Sym64) []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, list)
	return b.Bytes()
}

// someModule has one of everything that counts.
func someModule(machine elf.Machine) []byte {
	return module(machine, []section{
		{name: ".text", kind: elf.SHT_PROGBITS, flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, data: make([]byte, 1000)},
		{name: ".init.text", kind: elf.SHT_PROGBITS, flags: elf.SHF_ALLOC, data: make([]byte, 300)},
		{name: ".rela.text", kind: elf.SHT_RELA, data: make([]byte, 100*24)},
		{name: ".rela.data", kind: elf.SHT_RELA, data: make([]byte, 3*24)},
		{name: ".BTF", kind: elf.SHT_PROGBITS, data: make([]byte, 5000)},
		{name: ".symtab", kind: elf.SHT_SYMTAB, link: 7, data: symbolTable(
			elf.Sym64{},                  // the first is always empty
			elf.Sym64{Name: 1, Shndx: 1}, // stays, with "abc"
			elf.Sym64{Name: 5, Shndx: 1}, // stays, with ".L"
			elf.Sym64{Name: 5, Shndx: 2}, // of what goes with the start
			elf.Sym64{Name: 1, Shndx: 5}, // of what is not in memory
			elf.Sym64{Shndx: 1},          // has no name
			elf.Sym64{Name: 1},           // somebody else's
			elf.Sym64{Name: 1, Shndx: uint16(elf.SHN_ABS)},
		)},
		{name: ".strtab", kind: elf.SHT_STRTAB, data: []byte("\x00abc\x00.L\x00")},
	})
}

func TestModuleSize(t *testing.T) {
	// Text, the types, two symbols with a byte for their type each, and their names.
	const memory = 1000 + 5000 + 2*(24+1) + 4 + 3
	// The start's section, all symbols with their names' table, the types of two.
	const start = 300 + 8*24 + 8 + 2
	for _, tt := range []struct {
		machine elf.Machine
		table   uint64 // 100 relocations take 128 places, of 8 bytes
	}{{elf.EM_RISCV, 128 * 8}, {elf.EM_AARCH64, 0}} {
		data := someModule(tt.machine)
		got, err := moduleSize(data)
		want := ModuleSize{File: uint64(len(data)), Memory: memory, Start: start + tt.table}
		if err != nil || got != want {
			t.Errorf("%v: %+v, %v; want %+v", tt.machine, got, err, want)
		}
	}
}

// As the kernel makes it: a power of two, doubled where a quarter more would not fit.
func TestRelocationTable(t *testing.T) {
	for n, places := range map[uint64]uint64{0: 0, 1: 1, 2: 2, 3: 4, 4: 8, 100: 128, 103: 128, 104: 256, 128: 256, 14670: 32768} {
		if got := relocationTable(n); got != 8*places {
			t.Errorf("relocationTable(%d) = %d; want %d places", n, got, places)
		}
	}
}

func FuzzModuleSize(f *testing.F) {
	f.Add(someModule(elf.EM_RISCV))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := moduleSize(data)
		if err == nil && (s.Memory > 1<<40 || s.Start > 1<<40) {
			t.Errorf("%+v of %d bytes", s, len(data))
		}
	})
}
