package kernel

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// Symbols of ELF that are no functions and variables, include/uapi/linux/elf.h.
const elfSection, elfFile = 3, 4

// ModuleSymbols yields the symbols of a module in the order of its own table, which
// is none. What the module takes from others is left out.
func (k *Kernel) ModuleSymbols(m *Module) iter.Seq2[Symbol, error] {
	return func(yield func(Symbol, error) bool) {
		const symSize = 24 // Elf64_Sym: name u32, info, other u8, shndx u16, value, size u64
		le := binary.LittleEndian
		w := newWindow(k, m.symtab, m.symbols*symSize)
		names := newWindow(k, m.strtab, 1<<32)
		for i := uint64(1); i < m.symbols; i++ {
			b, err := w.bytes(i*symSize, symSize)
			if err != nil {
				yield(Symbol{}, fmt.Errorf("symbols of %s: %w", m.Name, err))
				return
			}
			name, kind := le.Uint32(b), b[4]&0xf
			if shndx := le.Uint16(b[6:]); shndx == 0 || name == 0 || kind == elfSection || kind == elfFile {
				continue
			}
			sym := Symbol{Module: m.Name, Type: 'd', Addr: VirtAddr(le.Uint64(b[8:])), Size: le.Uint64(b[16:])}
			if kind == 2 { // STT_FUNC
				sym.Type = 't'
			}
			if b[4]>>4 != 0 { // not STB_LOCAL
				sym.Type -= 'a' - 'A'
			}
			text := names.cString(uint64(name), maxSymbolName)
			if len(text) == 0 || mappingSymbol(text) {
				continue
			}
			sym.Name = symbolText(text)
			if !yield(sym, nil) {
				return
			}
		}
	}
}
