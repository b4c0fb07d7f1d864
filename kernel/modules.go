package kernel

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"sort"
)

// Module is a loaded module: struct module, include/linux/module.h (Linux 5.10
// to 7.2).
type Module struct {
	Name  string
	State string // "live", "coming", "going" or "unformed"
	Addr  VirtAddr
	// Memory is where its code and data are; the parts that are only needed
	// while it loads are gone when it is live.
	Memory []ModuleMemory
	Size   uint64 // bytes of Memory, as lsmod counts: without the parts for loading
	Taints uint64 // bits of TAINT_*, include/linux/panic.h

	symtab, strtab VirtAddr
	symbols        uint64
}

// ModuleMemory is one part of a module.
type ModuleMemory struct {
	Base VirtAddr
	Size uint64 // bytes
}

// Contains reports whether va is in the module's code or data.
func (m *Module) Contains(va VirtAddr) bool {
	for _, p := range m.Memory {
		if va >= p.Base && uint64(va-p.Base) < p.Size {
			return true
		}
	}
	return false
}

// Limits of what is believed of modules.
const (
	maxModules       = 8192
	maxModuleName    = 256
	maxModuleSymbols = 1 << 20
	maxModuleStruct  = 64 << 10
)

// Modules yields the loaded modules, the newest first, as lsmod does. A module
// that cannot be read ends the list with an error, since the next one is found
// through it. Without a layout of struct module the error is that of
// [Kernel.Layout].
func (k *Kernel) Modules() iter.Seq2[Module, error] {
	return func(yield func(Module, error) bool) {
		r, head, err := k.openModules()
		if err != nil {
			yield(Module{}, fmt.Errorf("modules: %w", err))
			return
		}
		at, err := k.ReadPointer(head)
		// Damaged lists run in circles that leave the head out: old lags
		// behind and is met again then.
		old := head
		for n := 1; err == nil && at != head; n++ {
			if at == old || n > maxModules {
				err = fmt.Errorf("list of modules comes back to %#x after %d: %w", uint64(at), n, ErrCorrupt)
				break
			}
			if n&(n-1) == 0 {
				old = at
			}
			var m Module
			var next VirtAddr
			if m, next, err = r.module(at - VirtAddr(r.list)); err != nil {
				break
			}
			if !yield(m, nil) {
				return
			}
			at = next
		}
		if err != nil {
			yield(Module{}, fmt.Errorf("modules: %w", err))
		}
	}
}

// moduleReader knows the layout of struct module.
type moduleReader struct {
	k                       *Kernel
	size, list              uint64
	name, state, taints     Field
	mem                     []ModuleMemory // Base and Size are offsets here
	initial                 int            // of mem from there on is gone when live
	symtab, strtab, symbols uint64         // offsets in struct mod_kallsyms
	kallsyms                Field          // pointer to that
	buf                     []byte
}

func (k *Kernel) openModules() (*moduleReader, VirtAddr, error) {
	l, err := k.Layout()
	if err != nil {
		return nil, 0, err
	}
	r := &moduleReader{k: k}
	var missing error
	field := func(name string, size uint64) Field {
		f, ok := l.Field(name)
		switch {
		case missing != nil:
		case !ok || f.Size < size:
			missing = fmt.Errorf("%s: %w", name, ErrNoInfo)
		case f.Offset > maxModuleStruct || f.Size > maxModuleStruct:
			missing = fmt.Errorf("%s at %d with %d bytes: %w", name, f.Offset, f.Size, ErrCorrupt)
		}
		return f
	}
	need := func(f Field) Field {
		r.size = max(r.size, f.Offset+f.Size)
		return f
	}
	r.list = need(field("module.list", 16)).Offset
	r.name = need(field("module.name", 1))
	if f, ok := l.Field("module.state"); ok && f.Size == 4 && f.Offset < maxModuleStruct {
		r.state = need(f)
	}
	if f, ok := l.Field("module.taints"); ok && f.Size == 8 && f.Offset < maxModuleStruct {
		r.taints = need(f)
	}
	if f, ok := l.Field("module.mem"); ok {
		// enum mod_mem_type, since 6.4.
		base, size := field("module_memory.base", 8), field("module_memory.size", 4)
		f = need(field("module.mem", 1))
		each := f.ElemSize()
		r.initial = int(f.Count)
		if n, ok := l.EnumValue("mod_mem_type", "MOD_INIT_TEXT"); ok {
			r.initial = int(n)
		}
		if missing == nil && (base.Offset+8 > each || size.Offset+4 > each || f.Count > 64) {
			missing = fmt.Errorf("module.mem of %d times %d bytes: %w", f.Count, each, ErrCorrupt)
		}
		for i := uint64(0); missing == nil && i < f.Count; i++ {
			at := f.Offset + i*each
			r.mem = append(r.mem, ModuleMemory{VirtAddr(at + base.Offset), at + size.Offset})
		}
	} else {
		base, size := field("module_layout.base", 8), field("module_layout.size", 4)
		for _, name := range []string{"module.core_layout", "module.init_layout"} {
			f := need(field(name, max(base.Offset+8, size.Offset+4)))
			r.mem = append(r.mem, ModuleMemory{VirtAddr(f.Offset + base.Offset), f.Offset + size.Offset})
		}
		r.initial = 1
	}
	if missing != nil {
		return nil, 0, missing
	}
	// Symbols of modules are a luxury: without them modules are still listed.
	sym, ok1 := l.Field("mod_kallsyms.symtab")
	num, ok2 := l.Field("mod_kallsyms.num_symtab")
	str, ok3 := l.Field("mod_kallsyms.strtab")
	if f, ok := l.Field("module.kallsyms"); ok && ok1 && ok2 && ok3 && f.Size == 8 && f.Offset < maxModuleStruct {
		r.kallsyms = need(f)
		r.symtab, r.symbols, r.strtab = sym.Offset, num.Offset, str.Offset
	}
	r.buf = make([]byte, r.size)

	syms, err := k.Lookup("modules")
	head, ok := syms["modules"]
	if !ok {
		if err == nil {
			err = fmt.Errorf("symbol modules: %w", ErrNotFound)
		}
		return nil, 0, err
	}
	return r, head, nil
}

// module reads the module at addr and where the list goes on.
func (r *moduleReader) module(addr VirtAddr) (m Module, next VirtAddr, err error) {
	if err := r.k.ReadVirt(r.buf, addr); err != nil {
		return m, 0, err
	}
	le := binary.LittleEndian
	m.Addr = addr
	m.Name = symbolText([]byte(cString(r.buf[r.name.Offset:][:min(r.name.Size, maxModuleName)])))
	if r.state.Size > 0 {
		// enum module_state has had these four since 3.9.
		states := [...]string{"live", "coming", "going", "unformed"}
		if s := le.Uint32(r.buf[r.state.Offset:]); s < uint32(len(states)) {
			m.State = states[s]
		}
	}
	if r.taints.Size > 0 {
		m.Taints = le.Uint64(r.buf[r.taints.Offset:])
	}
	for i, f := range r.mem {
		p := ModuleMemory{VirtAddr(le.Uint64(r.buf[f.Base:])), uint64(le.Uint32(r.buf[f.Size:]))}
		if p.Base == 0 || p.Size == 0 {
			continue
		}
		m.Memory = append(m.Memory, p)
		if i < r.initial {
			m.Size += p.Size
		}
	}
	if r.kallsyms.Size > 0 {
		if p := VirtAddr(le.Uint64(r.buf[r.kallsyms.Offset:])); p != 0 {
			r.symbolTable(&m, p)
		}
	}
	return m, VirtAddr(le.Uint64(r.buf[r.list:])), nil
}

// symbolTable finds the symbols of a module; there are none if that fails.
func (r *moduleReader) symbolTable(m *Module, p VirtAddr) {
	symtab, err1 := r.k.ReadPointer(p + VirtAddr(r.symtab))
	strtab, err2 := r.k.ReadPointer(p + VirtAddr(r.strtab))
	n, err3 := r.k.ReadUint32(p + VirtAddr(r.symbols))
	if err1 == nil && err2 == nil && err3 == nil && n <= maxModuleSymbols {
		m.symtab, m.strtab, m.symbols = symtab, strtab, uint64(n)
	}
}

// moduleList is the list of modules, read once: names of functions are asked for
// by the thousand. It ends where it cannot be read on.
func (k *Kernel) moduleList() ([]Module, error) {
	k.modulesMu.Lock()
	defer k.modulesMu.Unlock()
	if !k.modulesRead {
		k.modulesRead = true
		for m, err := range k.Modules() {
			if err != nil {
				k.modulesErr = err
				break
			}
			k.modules = append(k.modules, m)
		}
	}
	return k.modules, k.modulesErr
}

// moduleSymbolAt is SymbolAt for modules.
func (k *Kernel) moduleSymbolAt(va VirtAddr) (Symbol, error) {
	all, err := k.moduleList()
	for i := range all {
		if all[i].Contains(va) {
			return k.symbolInModule(&all[i], va)
		}
	}
	if err == nil {
		err = fmt.Errorf("symbol at %v: %w", va, ErrNotFound)
	}
	return Symbol{}, err
}

// moduleFunction is a symbol of a module that has a type.
type moduleFunction struct {
	addr       VirtAddr
	size, name uint32 // bytes; offset among the names
}

// maxModuleFunctions bounds the symbols of modules that are kept, 16 bytes each:
// ext4 has 2500.
const maxModuleFunctions = 1 << 15

// symbolInModule finds the closest symbol at or below va. In a module without
// symbols, the module's name and the part's beginning are better than nothing.
func (k *Kernel) symbolInModule(m *Module, va VirtAddr) (Symbol, error) {
	// Most symbols are labels in the code, which have no type. They matter only
	// where no function is, and to know them by their names takes long.
	all := k.moduleFunctions(m)
	i := sort.Search(len(all), func(i int) bool { return all[i].addr > va })
	for i > 1 && all[i-2].addr == all[i-1].addr {
		i-- // of several names the first one, as for the kernel proper
	}
	if i > 0 && uint64(va-all[i-1].addr) < uint64(all[i-1].size) {
		f := all[i-1]
		names := newWindow(k, m.strtab, 1<<32)
		if name := names.cString(uint64(f.name), maxSymbolName); len(name) > 0 {
			return Symbol{Name: symbolText(name), Module: m.Name, Type: 't', Addr: f.addr, Size: uint64(f.size)}, nil
		}
	}
	return k.closestInModule(m, va), nil
}

// moduleFunctions are the symbols with a type and a size of a module, by their
// addresses. They are kept, as far as there is room for them.
func (k *Kernel) moduleFunctions(m *Module) []moduleFunction {
	k.modulesMu.Lock()
	defer k.modulesMu.Unlock()
	if all, ok := k.moduleIndex[m.Addr]; ok {
		return all
	}
	n := 0
	for range k.typedSymbols(m) {
		n++
	}
	var all []moduleFunction
	if k.indexed+n <= maxModuleFunctions {
		all = make([]moduleFunction, 0, n)
		for f := range k.typedSymbols(m) {
			all = append(all, f)
		}
		slices.SortStableFunc(all, func(a, b moduleFunction) int { return cmp.Compare(a.addr, b.addr) })
		k.indexed += len(all)
	}
	if k.moduleIndex == nil {
		k.moduleIndex = make(map[VirtAddr][]moduleFunction)
	}
	k.moduleIndex[m.Addr] = all
	return all
}

// typedSymbols yields a module's symbols that have a type and a size, as far as
// they can be read.
func (k *Kernel) typedSymbols(m *Module) iter.Seq[moduleFunction] {
	return func(yield func(moduleFunction) bool) {
		le := binary.LittleEndian
		w := newWindow(k, m.symtab, m.symbols*symSize)
		for i := uint64(1); i < m.symbols; i++ {
			b, err := w.bytes(i*symSize, symSize)
			if err != nil {
				return
			}
			name, size := le.Uint32(b), le.Uint64(b[16:])
			if b[4]&0xf == 0 || name == 0 || le.Uint16(b[6:]) == 0 || size == 0 || size > 1<<31 {
				continue
			}
			if !yield(moduleFunction{VirtAddr(le.Uint64(b[8:])), uint32(size), name}) {
				return
			}
		}
	}
}

// symSize is the size of Elf64_Sym: name u32, info, other u8, shndx u16, value,
// size u64.
const symSize = 24

// maxScanned bounds how many symbols of modules are looked at one by one, over all
// questions: of a damaged table it may be all for each of thousands of addresses.
const maxScanned = 1 << 23

// mayScan tells whether so many symbols more may be looked at.
func (k *Kernel) mayScan(n uint64) bool {
	k.modulesMu.Lock()
	defer k.modulesMu.Unlock()
	k.scanned += n
	return k.scanned <= maxScanned
}

// closestInModule searches the module's ELF symbol table, which is in no order,
// for any symbol.
func (k *Kernel) closestInModule(m *Module, va VirtAddr) Symbol {
	le := binary.LittleEndian
	best := Symbol{Module: m.Name}
	for _, p := range m.Memory {
		if va >= p.Base && uint64(va-p.Base) < p.Size {
			best.Addr, best.Size = p.Base, p.Size
		}
	}
	end := best.Addr + VirtAddr(best.Size) // of the symbol: the next one
	w := newWindow(k, m.symtab, m.symbols*symSize)
	names := newWindow(k, m.strtab, 1<<32)
	if !k.mayScan(m.symbols) {
		best.Size = uint64(end - best.Addr)
		return best
	}
	found := uint32(0) // the name of best
	for i := uint64(1); i < m.symbols; i++ {
		b, err := w.bytes(i*symSize, symSize)
		if err != nil {
			break
		}
		name, addr, size := le.Uint32(b), VirtAddr(le.Uint64(b[8:])), le.Uint64(b[16:])
		if shndx := le.Uint16(b[6:]); shndx == 0 || name == 0 {
			continue // undefined, or a section
		}
		if addr > va {
			end = min(end, addr)
			continue
		}
		if addr < best.Addr || addr == best.Addr && found != 0 {
			continue
		}
		// Whether it is a name takes its first two letters.
		if text := names.cString(uint64(name), 2); len(text) == 0 || mappingSymbol(text) {
			continue
		}
		found, best.Addr, best.Size = name, addr, size
	}
	if found != 0 {
		best.Name, best.Type = symbolText(names.cString(uint64(found), maxSymbolName)), 't'
	}
	if best.Name == "" || best.Size == 0 {
		best.Size = uint64(end - best.Addr)
	}
	return best
}
