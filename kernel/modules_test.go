package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// moduleLayouts are struct module before and after 6.4, shortened.
func moduleLayouts() map[string]*Layout {
	common := func(more map[string]Field) map[string]Field {
		fields := map[string]Field{
			"state":    {Offset: 0, Size: 4},
			"list":     {Offset: 8, Size: 16},
			"name":     {Offset: 24, Size: 56, Count: 56},
			"taints":   {Offset: 80, Size: 8},
			"kallsyms": {Offset: 88, Size: 8},
		}
		for name, f := range more {
			fields[name] = f
		}
		return fields
	}
	kallsyms := Struct{Size: 32, Fields: map[string]Field{
		"symtab": {Offset: 0, Size: 8}, "num_symtab": {Offset: 8, Size: 4}, "strtab": {Offset: 16, Size: 8},
	}}
	return map[string]*Layout{
		"mem": {
			Structs: map[string]Struct{
				"module":        {Size: 256, Fields: common(map[string]Field{"mem": {Offset: 96, Size: 7 * 16, Count: 7}})},
				"module_memory": {Size: 16, Fields: map[string]Field{"base": {Offset: 0, Size: 8}, "size": {Offset: 8, Size: 4}}},
				"mod_kallsyms":  kallsyms,
			},
			Enums: map[string]map[string]int64{"mod_mem_type": {"MOD_TEXT": 0, "MOD_INIT_TEXT": 4}},
		},
		"core_layout": {
			Structs: map[string]Struct{
				"module": {Size: 256, Fields: common(map[string]Field{
					"core_layout": {Offset: 96, Size: 64}, "init_layout": {Offset: 160, Size: 64},
				})},
				"module_layout": {Size: 64, Fields: map[string]Field{"base": {Offset: 0, Size: 8}, "size": {Offset: 8, Size: 4}}},
				"mod_kallsyms":  kallsyms,
			},
		},
	}
}

const (
	modHead   = testImage + 0x700000
	modFirst  = testImage + 0x900000
	modSecond = testImage + 0x901000
	modText   = testImage - 0x100000
)

// putModules writes the list of two modules, of which the first has symbols.
func putModules(m *machine, layout string) {
	putSymbols(m, kallsymsPlaceRelative, testSymbols())
	module := func(at VirtAddr, name string, state uint32, next, prev VirtAddr, parts map[int]ModuleMemory) {
		b := make([]byte, 256)
		le := binary.LittleEndian
		le.PutUint32(b, state)
		le.PutUint64(b[8:], uint64(next+8))
		le.PutUint64(b[16:], uint64(prev+8))
		copy(b[24:80], name)
		le.PutUint64(b[80:], 1<<12)
		le.PutUint64(b[88:], uint64(at+0x400))
		each := 16
		if layout == "core_layout" {
			each = 64
		}
		for i, p := range parts {
			le.PutUint64(b[96+i*each:], uint64(p.Base))
			le.PutUint32(b[96+i*each+8:], uint32(p.Size))
		}
		m.put(at, b)
		m.put(at+0x400, make([]byte, 32))
	}
	init := 4
	if layout == "core_layout" {
		init = 1
	}
	module(modFirst, "ext4", 0, modSecond, modHead-8, map[int]ModuleMemory{0: {modText, 0x1000}})
	module(modSecond, "late", 1, modHead-8, modFirst, map[int]ModuleMemory{0: {modText + 0x2000, 0x800}, init: {modText + 0x4000, 0x300}})
	m.put64(modHead, uint64(modFirst+8))
	m.put64(modHead+8, uint64(modSecond+8))

	// Symbols of ext4: undefined, mapping, labels, functions without order and one
	// with two names.
	const symtab, strtab = modFirst + 0x500, modFirst + 0x800
	names := "\x00printk\x00$xrv64\x00ext4_b\x00ext4_a\x00.L1\x00alias\x00label\x00"
	var syms []byte
	for _, s := range []struct {
		name  string
		shndx uint16
		addr  VirtAddr
		size  uint64
	}{
		{"", 0, 0, 0}, {"printk", 0, 0, 0}, {"$xrv64", 1, modText + 0x210, 0},
		{"ext4_b", 1, modText + 0x200, 0}, {"ext4_a", 1, modText + 0x100, 0x80}, {"alias", 1, modText + 0x100, 0x80},
		{".L1", 1, modText + 0x104, 0}, {"label", 1, modText + 0x180, 0},
	} {
		off := 0
		if s.name != "" {
			off = strings.Index(names, "\x00"+s.name+"\x00") + 1
		}
		syms = binary.LittleEndian.AppendUint32(syms, uint32(off))
		typ := byte(2) // STT_FUNC
		if strings.ContainsAny(s.name, ".$") || s.name == "label" {
			typ = 0
		}
		syms = append(syms, typ, 0)
		syms = binary.LittleEndian.AppendUint16(syms, s.shndx)
		syms = binary.LittleEndian.AppendUint64(syms, uint64(s.addr))
		syms = binary.LittleEndian.AppendUint64(syms, s.size)
	}
	m.put(symtab, syms)
	m.put(strtab, []byte(names))
	m.put64(modFirst+0x400, uint64(symtab))
	m.put64(modFirst+0x408, 8)
	m.put64(modFirst+0x410, uint64(strtab))
}

func kernelWithLayout(t testing.TB, m *machine, l *Layout) *Kernel {
	t.Helper()
	k, err := New(m, vmcore.MachineRISCV, []byte(strings.Join(m.info, "\n")), nil, &Options{Layout: l})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestModules(t *testing.T) {
	for name, layout := range moduleLayouts() {
		t.Run(name, func(t *testing.T) {
			m := newMachine("sv48")
			putModules(m, name)
			k := kernelWithLayout(t, m, layout)
			var got []Module
			for mod, err := range k.Modules() {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, mod)
			}
			want := []Module{
				{Name: "ext4", State: "live", Addr: modFirst, Memory: []ModuleMemory{{modText, 0x1000}}, Size: 0x1000, Taints: 1 << 12},
				{Name: "late", State: "coming", Addr: modSecond, Memory: []ModuleMemory{{modText + 0x2000, 0x800}, {modText + 0x4000, 0x300}}, Size: 0x800, Taints: 1 << 12},
			}
			if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Module{})); d != "" {
				t.Errorf("Modules (-want +got):\n%s", d)
			}
			for va, want := range map[VirtAddr]string{
				modText + 0x104:  "ext4_a+0x4/0x80 [ext4]",
				modText + 0x17f:  "ext4_a+0x7f/0x80 [ext4]",
				modText + 0x188:  "label+0x8/0x80 [ext4]",
				modText + 0x244:  "ext4_b+0x44/0xe00 [ext4]",
				modText + 0x10:   "+0x10/0x100 [ext4]",
				modText + 0x2004: "+0x4/0x800 [late]",
			} {
				s, off, err := k.SymbolAt(va)
				if got := fmt.Sprintf("%s+%#x/%#x [%s]", s.Name, off, s.Size, s.Module); err != nil || got != want {
					t.Errorf("SymbolAt(%#x) = %s, %v; want %s", uint64(va), got, err, want)
				}
			}
			if _, _, err := k.SymbolAt(modText + 0x1800); !errors.Is(err, ErrNotFound) {
				t.Errorf("between modules: %v; want ErrNotFound", err)
			}
		})
	}
}

// TestModulesDamaged makes lists that do not come back to their head.
func TestModulesDamaged(t *testing.T) {
	for name, next := range map[string]VirtAddr{
		"to itself": modSecond + 8, "to the first": modFirst + 8, "to nowhere": 0x1234, "to user memory": 0,
	} {
		m := newMachine("sv39")
		putModules(m, "mem")
		m.put64(modSecond+8, uint64(next))
		n, failed := 0, error(nil)
		for _, err := range kernelWithLayout(t, m, moduleLayouts()["mem"]).Modules() {
			if err != nil {
				failed = err
				continue
			}
			n++
		}
		if failed == nil || n < 2 || n > 8 {
			t.Errorf("list %s: %d modules, then %v; want at least the two, then an error", name, n, failed)
		}
	}
	m := newMachine("sv39")
	putModules(m, "mem")
	l := moduleLayouts()["mem"]
	delete(l.Structs["module"].Fields, "list")
	for _, err := range kernelWithLayout(t, m, l).Modules() {
		if !errors.Is(err, ErrNoInfo) {
			t.Errorf("without module.list: %v; want ErrNoInfo", err)
		}
	}
}

// TestScansEnd asks for labels, which are found only by going through all symbols,
// again and again.
func TestScansEnd(t *testing.T) {
	m := newMachine("sv39")
	putModules(m, "mem")
	k := kernelWithLayout(t, m, moduleLayouts()["mem"])
	const label = modText + 0x300
	first, _, err := k.SymbolAt(label)
	if err != nil || k.scanned == 0 {
		t.Fatalf("SymbolAt = %+v, %v after %d symbols; want it to look at some", first, err, k.scanned)
	}
	k.scanned = maxScanned
	last, off, err := k.SymbolAt(label)
	if err != nil || last.Name != "" || last.Module != first.Module || last.Addr+VirtAddr(off) != label {
		t.Errorf("SymbolAt = %+v, %#x, %v; want the module %s and no name", last, off, err, first.Module)
	}
}

func FuzzModules(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00"), []byte("\x05"))
	f.Add([]byte("0123456789abcdef0123456789"), []byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, module, syms []byte) {
		m := newMachine("sv39")
		putModules(m, "mem")
		m.put(modFirst, module[:min(len(module), 256)])
		m.put(modFirst+0x408, syms[:min(len(syms), 256)])
		k := kernelWithLayout(t, m, moduleLayouts()["mem"])
		n := 0
		for range k.Modules() {
			if n++; n > maxModules+1 {
				t.Fatal("endless list")
			}
		}
		if _, off, err := k.SymbolAt(modText + 0x104); err == nil && off > 1<<32 {
			t.Errorf("offset %#x in a symbol", off)
		}
	})
}
