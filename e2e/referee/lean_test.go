package referee

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// writeELF writes an executable with a symbol table and nothing else.
func writeELF(t *testing.T, symbols []elf.Sym64, names string) string {
	t.Helper()
	var table bytes.Buffer
	for _, s := range symbols {
		if err := binary.Write(&table, binary.LittleEndian, s); err != nil {
			t.Fatal(err)
		}
	}
	locals := uint32(0)
	for _, s := range symbols {
		if elf.ST_BIND(s.Info) == elf.STB_LOCAL {
			locals++
		}
	}
	at := uint64(64)
	strings := at + uint64(table.Len())
	sections := strings + uint64(len(names))
	header := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_RISCV), Version: 1,
		Shoff: sections, Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2,
	}
	var b bytes.Buffer
	for _, x := range []any{header, table.Bytes(), []byte(names), elf.Section64{},
		elf.Section64{Type: uint32(elf.SHT_SYMTAB), Off: at, Size: uint64(table.Len()), Link: 2, Info: locals, Entsize: symSize},
		elf.Section64{Type: uint32(elf.SHT_STRTAB), Off: strings, Size: uint64(len(names))},
	} {
		if err := binary.Write(&b, binary.LittleEndian, x); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLeanVmlinux(t *testing.T) {
	sym := func(name uint32, bind elf.SymBind, kind elf.SymType, value uint64) elf.Sym64 {
		return elf.Sym64{Name: name, Info: byte(bind)<<4 | byte(kind), Shndx: 1, Value: value}
	}
	names := "\x00$xrv64\x00here\x00schedule\x00_text\x00"
	from := writeELF(t, []elf.Sym64{
		{},
		sym(1, elf.STB_LOCAL, elf.STT_NOTYPE, 0x10),
		sym(13, elf.STB_LOCAL, elf.STT_FUNC, 0x10),
		sym(8, elf.STB_LOCAL, elf.STT_NOTYPE, 0x20),
		sym(8, elf.STB_LOCAL, elf.STT_OBJECT, 0x30),
		sym(22, elf.STB_GLOBAL, elf.STT_NOTYPE, 0x10),
	}, names)
	to := filepath.Join(t.TempDir(), "lean")
	if err := leanVmlinux(from, to); err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range symbols {
		got = append(got, s.Name)
	}
	if len(got) != 3 || got[0] != "schedule" || got[1] != "here" || got[2] != "_text" {
		t.Errorf("symbols %q; want schedule, here, _text", got)
	}
	if n := f.Sections[1].Info; n != 3 {
		t.Errorf("%d local symbols; want 3, the empty one among them", n)
	}
	if err := leanVmlinux(os.Args[0]+"-nonesuch", to); err == nil {
		t.Error("a file that is not there: no error")
	}
	// Without a symbol table there is nothing that crash could start with.
	if err := os.WriteFile(from, []byte("no ELF"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := leanVmlinux(from, filepath.Join(t.TempDir(), "x")); err == nil {
		t.Error("no ELF: no error")
	}
}
