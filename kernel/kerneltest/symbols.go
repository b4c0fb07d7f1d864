package kerneltest

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Spare is the virtual address of 512 KiB of the kernel's image that the machine
// itself does not use, for a test to put structs into. They are zero.
const Spare = imageVirt + uint64(dataPhys-imagePhys)

const (
	dataPhys    = imagePhys + 0x100000
	symbolsPhys = imagePhys + 0x180000 // what kallsyms consists of, 64 KiB each
	tokensPhys  = imagePhys + 0x190000
	indexPhys   = imagePhys + 0x1a0000
	offsetsPhys = imagePhys + 0x1b0000
	countPhys   = imagePhys + 0x1c0000
	basePhys    = countPhys + 8
)

// PutVirt writes into the kernel's image or the linear map.
func (m *Machine) PutVirt(va uint64, data []byte) {
	if va >= imageVirt {
		m.Put(imagePhys+vmcore.PhysAddr(va-imageVirt), data)
		return
	}
	m.Put(Base+vmcore.PhysAddr(va-pageOffset), data)
}

// PutVirt64 writes a little-endian number there.
func (m *Machine) PutVirt64(va, n uint64) {
	m.PutVirt(va, binary.LittleEndian.AppendUint64(nil, n))
}

// SetSymbols makes the symbol table, from names to addresses of the image, and
// says in Info where it is: tokens are single bytes, addresses relative to the
// image, as in Linux 6.12. _stext is in it always. Variables of CPUs are like
// any others.
func (m *Machine) SetSymbols(symbols map[string]uint64) {
	all := maps.Clone(symbols)
	if all == nil {
		all = map[string]uint64{}
	}
	all["_stext"] = image(imagePhys)
	names := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmp.Or(cmp.Compare(all[a], all[b]), cmp.Compare(a, b))
	})
	var table, index, code, offsets []byte
	for i := range 256 {
		index = binary.LittleEndian.AppendUint16(index, uint16(len(table)))
		if i >= ' ' && i < 0x7f {
			table = append(table, byte(i))
		}
		table = append(table, 0)
	}
	for _, name := range names {
		code = append(append(code, byte(len(name)+1), 'D'), name...)
		offsets = binary.LittleEndian.AppendUint32(offsets, uint32(all[name]-imageVirt))
	}
	if len(code) > 1<<16 || len(offsets) > 1<<16 {
		panic("kerneltest: so many symbols cannot be had")
	}
	m.Put(symbolsPhys, code)
	m.Put(tokensPhys, table)
	m.Put(indexPhys, index)
	m.Put(offsetsPhys, offsets)
	m.PutUint64(countPhys, uint64(len(names)))
	m.PutUint64(basePhys, imageVirt)
	for name, at := range map[string]vmcore.PhysAddr{
		"names": symbolsPhys, "token_table": tokensPhys, "token_index": indexPhys,
		"offsets": offsetsPhys, "num_syms": countPhys, "relative_base": basePhys,
	} {
		m.Info["SYMBOL(kallsyms_"+name+")"] = symbol(at)
	}
}
