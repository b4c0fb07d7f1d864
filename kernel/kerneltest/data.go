package kerneltest

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Data is a dead machine with nothing but data of its kernel: what is put there
// by virtual address, structs by the names of their members, symbols. It is
// riscv64 in sv48 with RAM wherever something was put. Its page tables are empty:
// the linear map and the image need none.
type Data struct {
	pages   map[vmcore.PhysAddr]*[pageSize]byte
	structs map[string]dataStruct
	enums   map[string]map[string]int64
	symbols []dataSymbol
	next    uint64 // free address of the linear map
	static  uint64 // free address of the image
	text    uint64 // free address of its functions
}

type dataStruct struct {
	Size   uint64               `json:"size"`
	Fields map[string]dataField `json:"fields,omitempty"`
}

type dataField struct {
	Offset uint64 `json:"offset"`
	Size   uint64 `json:"size"`
	Count  uint64 `json:"count,omitempty"`
	Bit    uint8  `json:"bit,omitempty"`
	Bits   uint8  `json:"bits,omitempty"`
}

type dataSymbol struct {
	name string
	addr uint64
}

// NewData makes such a machine.
func NewData() *Data {
	d := &Data{
		pages: make(map[vmcore.PhysAddr]*[pageSize]byte), structs: make(map[string]dataStruct),
		enums: make(map[string]map[string]int64), next: linear(Base + 1<<30), static: imageVirt + 0x10000,
	}
	d.text = imageVirt + 0x2000
	d.symbols = []dataSymbol{{"_stext", imageVirt}, {"_etext", d.static}}
	d.Put(image(rootPhys), make([]byte, pageSize))
	return d
}

// Structs declares structs, one a line, as "name: member member ...". A member
// is a name with what it is: "pid:4" has 4 bytes, "comm:1*16" is an array of 16
// elements of a byte, "se:sched_entity" a struct declared before, "queue:list*3"
// an array of them. Each is aligned to its size, or to 8. A name alone is a
// pointer.
func (d *Data) Structs(lines string) {
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, members, ok := strings.Cut(line, ":")
		if !ok {
			panic("kerneltest: struct " + line)
		}
		s := dataStruct{Fields: make(map[string]dataField)}
		for _, m := range strings.Fields(members) {
			name, f := d.field(m)
			align := min(max(f.Size/max(f.Count, 1), 1), 8)
			if align&(align-1) != 0 {
				align = 8
			}
			f.Offset = (s.Size + align - 1) &^ (align - 1)
			s.Size = f.Offset + f.Size
			s.Fields[name] = f
		}
		s.Size = (s.Size + 7) &^ 7
		d.structs[name] = s
	}
}

func (d *Data) field(text string) (name string, f dataField) {
	name, kind, ok := strings.Cut(text, ":")
	if !ok {
		return name, dataField{Size: 8}
	}
	kind, array, many := strings.Cut(kind, "*")
	if s, ok := d.structs[kind]; ok {
		f.Size = s.Size
	} else if _, err := fmt.Sscan(kind, &f.Size); err != nil {
		panic("kerneltest: member " + text)
	}
	if many {
		if _, err := fmt.Sscan(array, &f.Count); err != nil {
			panic("kerneltest: member " + text)
		}
		f.Size *= f.Count
	}
	return name, f
}

// Forget takes members, "struct.member", or whole structs out of the layout, as
// if the kernel did not have them.
func (d *Data) Forget(names ...string) {
	for _, n := range names {
		if s, m, ok := strings.Cut(n, "."); ok {
			delete(d.structs[s].Fields, m)
		} else {
			delete(d.structs, n)
		}
	}
}

// Enum declares an enum.
func (d *Data) Enum(name string, values map[string]int64) { d.enums[name] = values }

// New is the address of a new struct, all zero, in the linear map.
func (d *Data) New(name string) uint64 { return d.Bytes(d.structs[name].Size) }

// Bytes is the address of as many new zero bytes in the linear map.
func (d *Data) Bytes(n uint64) uint64 {
	return d.Aligned(n, 64)
}

// Aligned is the same, with the alignment that is asked for.
func (d *Data) Aligned(n, align uint64) uint64 {
	d.next = (d.next + align - 1) &^ (align - 1)
	at := d.next
	d.next += n
	d.Put(at, make([]byte, n))
	return at
}

// Variable is the address of a new variable of a symbol, of as many zero bytes.
func (d *Data) Variable(symbol string, n uint64) uint64 {
	at := (d.static + 63) &^ 63
	d.static = at + n
	d.Put(at, make([]byte, n))
	d.Symbol(symbol, at)
	return at
}

// Function is the address of a new function of 256 bytes.
func (d *Data) Function(symbol string) uint64 {
	at := d.text
	d.text += 256
	d.Symbol(symbol, at)
	return at
}

// Symbol names an address of the image.
func (d *Data) Symbol(name string, addr uint64) {
	d.symbols = append(d.symbols, dataSymbol{name, addr})
}

// Has tells whether the layout has a member.
func (d *Data) Has(member string) bool {
	s, m, _ := strings.Cut(member, ".")
	_, ok := d.structs[s].Fields[m]
	return ok
}

// Word reads a word of 8 bytes back.
func (d *Data) Word(at uint64) uint64 {
	var b [8]byte
	if _, err := d.ReadPhys(b[:], physical(at)); err != nil {
		panic(err)
	}
	return binary.LittleEndian.Uint64(b[:])
}

// Offset is where a member, "struct.member", lies in its struct.
func (d *Data) Offset(member string) uint64 {
	s, m, _ := strings.Cut(member, ".")
	f, ok := d.structs[s].Fields[m]
	if !ok {
		panic("kerneltest: no member " + member)
	}
	return f.Offset
}

// Set writes a number into a member, "struct.member", of the struct at an
// address.
func (d *Data) Set(at uint64, member string, value uint64) {
	s, m, _ := strings.Cut(member, ".")
	f, ok := d.structs[s].Fields[m]
	if !ok || f.Size > 8 {
		panic("kerneltest: no number " + member)
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], value)
	d.Put(at+f.Offset, b[:f.Size])
}

// SetText writes a string into a member that is an array of characters.
func (d *Data) SetText(at uint64, member, text string) {
	s, m, _ := strings.Cut(member, ".")
	f := d.structs[s].Fields[m]
	b := make([]byte, f.Size)
	copy(b, text)
	d.Put(at+f.Offset, b)
}

// Words writes words of 8 bytes.
func (d *Data) Words(at uint64, words ...uint64) {
	for i, w := range words {
		d.Put(at+uint64(8*i), binary.LittleEndian.AppendUint64(nil, w))
	}
}

// Ring links a list head and entries to a circular list, in this order.
func (d *Data) Ring(nodes ...uint64) {
	for i, at := range nodes {
		d.Words(at, nodes[(i+1)%len(nodes)], nodes[(i+len(nodes)-1)%len(nodes)])
	}
}

// Put writes bytes at an address of the linear map or of the image.
func (d *Data) Put(at uint64, b []byte) {
	p := physical(at)
	for len(b) > 0 {
		page := d.pages[p&^(pageSize-1)]
		if page == nil {
			page = new([pageSize]byte)
			d.pages[p&^(pageSize-1)] = page
		}
		n := copy(page[p&(pageSize-1):], b)
		b = b[n:]
		p += vmcore.PhysAddr(n)
	}
}

// Lose takes the page of an address out of memory, as a dump in part lacks it.
func (d *Data) Lose(at uint64) {
	delete(d.pages, physical(at)&^(pageSize-1))
}

// physical is where an address of the linear map or of the image is in memory.
func physical(at uint64) vmcore.PhysAddr {
	if at >= imageVirt {
		return imagePhys + vmcore.PhysAddr(at-imageVirt)
	}
	return Base + vmcore.PhysAddr(at-pageOffset)
}

// ReadPhys reads memory; Data is a kernel.Memory.
func (d *Data) ReadPhys(p []byte, addr vmcore.PhysAddr) (int, error) {
	done := 0
	for done < len(p) {
		page := d.pages[addr&^(pageSize-1)]
		if page == nil {
			return done, fmt.Errorf("%#x: %w", uint64(addr), vmcore.ErrHole)
		}
		n := copy(p[done:], page[addr&(pageSize-1):])
		done += n
		addr += vmcore.PhysAddr(n)
	}
	return done, nil
}

// Layout is the layout of the structs as JSON, for kernel.ParseLayout.
func (d *Data) Layout() []byte {
	b, err := json.Marshal(map[string]any{"structs": d.structs, "enums": d.enums})
	if err != nil {
		panic(err)
	}
	return b
}

// Info writes the table of symbols into memory, as Linux 7.2 has it, and returns
// the vmcoreinfo that leads there.
func (d *Data) Info() []byte {
	var names, offsets, tokens, index []byte
	for i := range 256 {
		index = binary.LittleEndian.AppendUint16(index, uint16(len(tokens)))
		if i > ' ' && i < 0x7f {
			tokens = append(tokens, byte(i))
		}
		tokens = append(tokens, 0)
	}
	const (
		tables = uint64(imageVirt + 0x4000000)
		step   = uint64(0x400000)
	)
	// The table is sorted, and something lies behind the last one.
	all := append(slices.Clone(d.symbols), dataSymbol{"_end", tables + 8*step})
	slices.SortStableFunc(all, func(a, b dataSymbol) int { return cmp.Compare(a.addr, b.addr) })
	for i, s := range all {
		text := "D" + s.name
		names = append(append(names, byte(len(text))), text...)
		offsets = binary.LittleEndian.AppendUint32(offsets, uint32(s.addr-(tables+uint64(4*i))))
	}
	info := fmt.Sprintf("OSRELEASE=7.2.0-test\nPAGESIZE=%d\nNUMBER(VA_BITS)=48\nNUMBER(PAGE_OFFSET)=%#x\n"+
		"NUMBER(phys_ram_base)=%d\nNUMBER(KERNEL_LINK_ADDR)=%#x\nNUMBER(va_kernel_pa_offset)=%#x\n"+
		"SYMBOL(_stext)=%x\nSYMBOL(swapper_pg_dir)=%s\n", pageSize, uint64(pageOffset), uint64(Base), uint64(imageVirt),
		uint64(imageVirt)-uint64(imagePhys), uint64(imageVirt), symbol(rootPhys))
	count := binary.LittleEndian.AppendUint64(nil, uint64(len(all)))
	for i, t := range []struct {
		name  string
		bytes []byte
	}{{"offsets", offsets}, {"num_syms", count}, {"names", names}, {"token_table", tokens}, {"token_index", index}} {
		at := tables + uint64(i)*step
		d.Put(at, append(t.bytes, make([]byte, pageSize)...))
		info += fmt.Sprintf("SYMBOL(kallsyms_%s)=%x\n", t.name, at)
	}
	return []byte(info)
}
