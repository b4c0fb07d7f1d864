package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	symsCount   = testImage + 0x300000
	symsNames   = testImage + 0x301000
	symsTable   = testImage + 0x500000
	symsIndex   = testImage + 0x502000
	symsOffsets = testImage + 0x503000
	symsBase    = testImage + 0x602000
)

// putSymbols writes symbols, sorted by address, as scripts/kallsyms.c would:
// tokens are the bytes themselves and a few longer ones.
func putSymbols(m *machine, encoding kallsymsEncoding, symbols []Symbol) {
	tokens := [256]string{0xf0: "sys_", 0xf1: "init", 0xf2: "tT", 0xf3: "very_long_"}
	var table, index []byte
	for i := range tokens {
		if i >= ' ' && i < 0x7f {
			tokens[i] = string(rune(i))
		}
		index = binary.LittleEndian.AppendUint16(index, uint16(len(table)))
		table = append(append(table, tokens[i]...), 0)
	}
	var names, addrs []byte
	base := testImage // the lowest address that is not of a CPU
	for i, s := range symbols {
		text := string(s.Type) + s.Name
		var code []byte
		for len(text) > 0 {
			n, c := 1, text[0]
			for t := 0xf0; t < 0xf4; t++ {
				if strings.HasPrefix(text, tokens[t]) {
					n, c = len(tokens[t]), byte(t)
				}
			}
			code, text = append(code, c), text[n:]
		}
		if len(code) > 0x7f {
			names = append(names, byte(len(code))|0x80, byte(len(code)>>7))
		} else {
			names = append(names, byte(len(code)))
		}
		names = append(names, code...)
		switch encoding {
		case kallsymsAbsolute:
			addrs = binary.LittleEndian.AppendUint64(addrs, uint64(s.Addr))
		case kallsymsBaseRelative:
			addrs = binary.LittleEndian.AppendUint32(addrs, uint32(s.Addr-base))
		case kallsymsAbsPercpu:
			n := uint32(s.Addr)
			if s.Addr>>31 != 0 {
				n = uint32(base - 1 - s.Addr)
			}
			addrs = binary.LittleEndian.AppendUint32(addrs, n)
		case kallsymsPlaceRelative:
			place := symsOffsets + VirtAddr(4*i)
			addrs = binary.LittleEndian.AppendUint32(addrs, uint32(s.Addr-place))
		}
		if s.Name == "_stext" {
			m.say("SYMBOL(_stext)=%x", uint64(s.Addr))
		}
	}
	m.put64(symsCount, uint64(len(symbols)))
	// As in a kernel, there is memory behind the tables.
	m.put(symsNames, append(names, make([]byte, 4096)...))
	m.put(symsTable, append(table, make([]byte, 4096)...))
	m.put(symsIndex, index)
	m.put(symsOffsets, addrs)
	m.put64(symsBase, uint64(base))
	m.say(`SYMBOL(kallsyms_num_syms)=%x
SYMBOL(kallsyms_names)=%x
SYMBOL(kallsyms_token_table)=%x
SYMBOL(kallsyms_token_index)=%x`,
		uint64(symsCount), uint64(symsNames), uint64(symsTable), uint64(symsIndex))
	switch encoding {
	case kallsymsAbsolute:
		m.say("SYMBOL(kallsyms_addresses)=%x", uint64(symsOffsets))
	case kallsymsBaseRelative, kallsymsAbsPercpu:
		m.say("SYMBOL(kallsyms_relative_base)=%x", uint64(symsBase))
		fallthrough
	default:
		m.say("SYMBOL(kallsyms_offsets)=%x", uint64(symsOffsets))
	}
}

// testSymbols are a thousand functions of 0x10 bytes between two known ones.
func testSymbols() []Symbol {
	symbols := []Symbol{
		{Name: "_start", Type: 'T', Addr: testImage},
		{Name: "_stext", Type: 'T', Addr: testImage + 0x2000},
		{Name: "_text_alias", Type: 't', Addr: testImage + 0x2000},
		{Name: strings.Repeat("a_", 100) + "end", Type: 't', Addr: testImage + 0x2010},
		{Name: "$xrv64", Type: 't', Addr: testImage + 0x2020},
		{Name: "sys_init", Type: 't', Addr: testImage + 0x2020},
	}
	for i := range VirtAddr(1000) {
		symbols = append(symbols, Symbol{Name: fmt.Sprintf("very_long_%d", i), Type: 'T', Addr: testImage + 0x3000 + 0x10*i})
	}
	return append(symbols,
		Symbol{Name: "very_long_7", Type: 't', Addr: testImage + 0x90000},
		Symbol{Name: "modules", Type: 'd', Addr: testImage + 0x700000},
		Symbol{Name: "_end", Type: 'B', Addr: testImage + 0x800000})
}

func TestKallsyms(t *testing.T) {
	for name, encoding := range map[string]kallsymsEncoding{
		"absolute": kallsymsAbsolute, "base": kallsymsBaseRelative,
		"percpu": kallsymsAbsPercpu, "place": kallsymsPlaceRelative,
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine("sv48")
			all := testSymbols()
			longest := all[3]
			if encoding == kallsymsAbsPercpu {
				all = append([]Symbol{{Name: "fixed_percpu_data", Type: 'A', Addr: 0x40}}, all...)
			}
			putSymbols(m, encoding, all)
			k := m.kernel(t)

			got, err := k.Lookup("_stext", "very_long_7", "modules", "no_such_symbol", longest.Name)
			want := map[string]VirtAddr{
				"_stext": testImage + 0x2000, "very_long_7": testImage + 0x3070,
				"modules": testImage + 0x700000, longest.Name: longest.Addr,
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("Lookup (-want +got):\n%s", d)
			}

			// The table is gone, but the answers are known.
			m.put(symsNames, make([]byte, 64))
			again, err := k.Lookup("modules", "no_such_symbol")
			if err != nil || len(again) != 1 || again["modules"] != testImage+0x700000 {
				t.Errorf("Lookup of what was asked before = %v, %v", again, err)
			}
			if _, err := k.Lookup("something_else"); err == nil {
				t.Error("Lookup in a damaged table: no error")
			}
			putSymbols(m, encoding, all)

			var list []Symbol
			for s, err := range k.Symbols() {
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, s)
			}
			var wantList []Symbol
			for _, s := range all {
				if s.Name[0] != '$' {
					wantList = append(wantList, s)
				}
			}
			if d := cmp.Diff(wantList, list); d != "" {
				t.Errorf("Symbols (-want +got):\n%s", d)
			}
		})
	}
}

func TestSymbolAt(t *testing.T) {
	m := newMachine("sv39")
	putSymbols(m, kallsymsPlaceRelative, testSymbols())
	k := m.kernel(t)
	for _, c := range []struct {
		va   VirtAddr
		want string
	}{
		{testImage, "_start+0x0/0x2000"},
		{testImage + 0x1fff, "_start+0x1fff/0x2000"},
		{testImage + 0x2004, "_stext+0x4/0x10"},
		{testImage + 0x2024, "sys_init+0x4/0xfe0"}, // not $xrv64
		{testImage + 0x3000 + 999*0x10, "very_long_999+0x0/0x89190"},
		{testImage + 0x3000 + 700*0x10 + 15, "very_long_700+0xf/0x10"},
		{testImage + 0x7fffff, "modules+0xfffff/0x100000"},
	} {
		s, off, err := k.SymbolAt(c.va)
		got := fmt.Sprintf("%s+%#x/%#x", s.Name, off, s.Size)
		if err != nil || got != c.want {
			t.Errorf("SymbolAt(%#x) = %s, %v; want %s", uint64(c.va), got, err, c.want)
		}
	}
	// All of them, front to back and back to front.
	all := testSymbols()[6:]
	for i := range 2 * len(all) {
		i = min(i, 2*len(all)-1-i)
		want := all[i]
		if want.Name == "_end" {
			continue
		}
		want.Size = uint64(all[i+1].Addr - want.Addr)
		if s, off, err := k.SymbolAt(want.Addr + 3); err != nil || s != want || off != 3 {
			t.Fatalf("SymbolAt(%v) = %+v, %d, %v; want %+v", want.Addr+3, s, off, err, want)
		}
	}
	for _, va := range []VirtAddr{0, testImage - 1, testImage + 0x800000, ^VirtAddr(0)} {
		if s, _, err := k.SymbolAt(va); !errors.Is(err, ErrNotFound) {
			t.Errorf("SymbolAt(%#x) = %v, %v; want ErrNotFound", uint64(va), s, err)
		}
	}
}

func TestKallsymsErrors(t *testing.T) {
	m := newMachine("sv39")
	if _, err := m.kernel(t).Lookup("x"); !errors.Is(err, ErrNoInfo) {
		t.Errorf("no tables: %v; want ErrNoInfo", err)
	}
	putSymbols(m, kallsymsBaseRelative, testSymbols())
	m.put64(symsBase, uint64(testImage+8))
	if _, err := m.kernel(t).Lookup("x"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("_stext elsewhere: %v; want ErrCorrupt", err)
	}
	m.put64(symsCount, 0xffffffff)
	for _, err := range m.kernel(t).Symbols() {
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("4 billion symbols: %v; want ErrCorrupt", err)
		}
	}
}

func TestReleaseVersion(t *testing.T) {
	for release, want := range map[string][2]int{
		"6.12.107+deb13-riscv64": {6, 12}, "7.2-rc1": {7, 2}, "7.0": {7, 0}, "5.10": {5, 10}, "": {}, "x.y": {},
	} {
		if major, minor := releaseVersion(release); major != want[0] || minor != want[1] {
			t.Errorf("releaseVersion(%q) = %d, %d; want %v", release, major, minor, want)
		}
	}
}

func FuzzKallsyms(f *testing.F) {
	f.Add([]byte("\x03Tab\x02tc"), []byte("a\x00b\x00"), []byte{0, 0, 2, 0}, uint32(2))
	f.Add([]byte("\xff\xff"), []byte{}, []byte{}, uint32(1))
	f.Fuzz(func(t *testing.T, names, table, index []byte, count uint32) {
		m := newMachine("sv39")
		putSymbols(m, kallsymsBaseRelative, testSymbols()[:6])
		limit := func(b []byte, n int) []byte { return b[:min(len(b), n)] }
		// _stext, the second symbol, stays: else nothing is read.
		m.put(symsNames+16, limit(names, 4096))
		m.put(symsTable+0xf0*2, limit(table, 4096))
		m.put(symsIndex+2*0xe0, limit(index, 64))
		m.put(symsCount, binary.LittleEndian.AppendUint32(nil, count))
		k := m.kernel(t)
		n := 0
		for s, err := range k.Symbols() {
			if err == nil && len(s.Name) > 4*maxSymbolName {
				t.Errorf("name of %d bytes", len(s.Name))
			}
			if n++; n > 10000 {
				break
			}
		}
		if count < 1<<16 {
			k.SymbolAt(testImage + 0x2004)
			k.Lookup("nothing")
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	m := newMachine("sv48")
	putSymbols(m, kallsymsPlaceRelative, testSymbols())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.kernel(b).Lookup("_end"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSymbolAt(b *testing.B) {
	m := newMachine("sv48")
	putSymbols(m, kallsymsPlaceRelative, testSymbols())
	k := m.kernel(b)
	b.ReportAllocs()
	var i VirtAddr
	for b.Loop() {
		i = (i*7 + 1) % 1000
		if _, _, err := k.SymbolAt(testImage + 0x3000 + 0x10*i); err != nil {
			b.Fatal(err)
		}
	}
}

// A table that is damaged in the middle is not gone through for each question.
func TestDamagedTableIsReadOnce(t *testing.T) {
	m := newMachine("sv48")
	putSymbols(m, kallsymsBaseRelative, testSymbols())
	// The length of a name becomes more than any has.
	m.put(symsNames+3000, bytes.Repeat([]byte{0xff}, 64))
	c := &counted{machine: m}
	k := m.kernel(t)
	k.mem = c
	if syms, err := k.Lookup("_stext", "init_task"); len(syms) != 1 || !errors.Is(err, ErrCorrupt) {
		t.Fatalf("%v, %v", syms, err)
	}
	before := c.reads.Load()
	if syms, err := k.Lookup("init_task", "_stext", "modules"); len(syms) != 1 || !errors.Is(err, ErrCorrupt) {
		t.Errorf("again: %v, %v", syms, err)
	}
	if syms, err := k.Lookup("_stext"); len(syms) != 1 || err != nil {
		t.Errorf("what was found: %v, %v", syms, err)
	}
	if n := c.reads.Load() - before; n != 0 {
		t.Errorf("%d reads to learn the same again", n)
	}
	if _, err := k.coreSymbolAt(testImage + 0x4000); !errors.Is(err, ErrCorrupt) {
		t.Errorf("symbol at an address: %v", err)
	}
	before = c.reads.Load()
	if _, err := k.coreSymbolAt(testImage + 0x4004); !errors.Is(err, ErrCorrupt) {
		t.Errorf("symbol at another address: %v", err)
	}
	if n := c.reads.Load() - before; n != 0 {
		t.Errorf("%d reads to learn the same again", n)
	}
}
