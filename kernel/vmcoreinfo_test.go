package kernel

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestVMCoreInfo(t *testing.T) {
	info, err := ParseVMCoreInfo([]byte(`OSRELEASE=6.12.107+deb13-riscv64
PAGESIZE=4096
SYMBOL(_stext)=ffffffff80002000
OFFSET(page.flags)=0
SIZE(page)=64
LENGTH(zone.free_area)=11
NUMBER(PG_lru)=5
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456
NUMBER(PAGE_OFFSET)=0xff60000000000000
NUMBER(big)=18446744073709551615
PAGESIZE=1
KERNELOFFSET=1200000
no equals sign
=no key
CRASHTIME=1795423061
NUMBER(cut)=` + "\x00\x00"))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Release(); got != "6.12.107+deb13-riscv64" {
		t.Errorf("Release = %q", got)
	}
	if got, ok := info.Symbol("_stext"); !ok || got != 0xffffffff80002000 {
		t.Errorf("Symbol(_stext) = %#x, %v", got, ok)
	}
	for _, c := range []struct {
		name string
		f    func(string) (uint64, bool)
		key  string
		want uint64
		ok   bool
	}{
		{"Size", info.Size, "page", 64, true},
		{"Size", info.Size, "zone", 0, false},
		{"Offset", info.Offset, "page.flags", 0, true},
		{"Length", info.Length, "zone.free_area", 11, true},
	} {
		if got, ok := c.f(c.key); got != c.want || ok != c.ok {
			t.Errorf("%s(%s) = %d, %v; want %d, %v", c.name, c.key, got, ok, c.want, c.ok)
		}
	}
	for key, want := range map[string]int64{
		"PG_lru": 5, "PAGE_BUDDY_MAPCOUNT_VALUE": -268435456,
		"PAGE_OFFSET": -0xa0000000000000, "big": -1,
	} {
		if got, ok := info.Number(key); !ok || got != want {
			t.Errorf("Number(%s) = %d, %v; want %d", key, got, ok, want)
		}
	}
	for _, key := range []string{"cut", "missing"} {
		if got, ok := info.Number(key); ok {
			t.Errorf("Number(%s) = %d; want none", key, got)
		}
	}
	if got, ok := info.PageSize(); !ok || got != 4096 {
		t.Errorf("PageSize = %d, %v; want the first value, 4096", got, ok)
	}
	if got, ok := info.KernelOffset(); !ok || got != 0x1200000 {
		t.Errorf("KernelOffset = %#x, %v", got, ok)
	}
	if got, ok := info.CrashTime(); !ok || !got.Equal(time.Date(2026, 11, 23, 8, 37, 41, 0, time.UTC)) {
		t.Errorf("CrashTime = %v, %v", got, ok)
	}
	if _, err := ParseVMCoreInfo([]byte(strings.Repeat("A=1\n", 1<<15))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("128 KiB of text: %v; want ErrCorrupt", err)
	}
}

func FuzzVMCoreInfo(f *testing.F) {
	f.Add([]byte("OSRELEASE=6.12\nNUMBER(VA_BITS)=57\nSYMBOL(x)=ffff\n"))
	f.Add([]byte("=\n==\nNUMBER()=0x\n\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		info, err := ParseVMCoreInfo(text)
		if (err == nil) != (info != nil) {
			t.Fatalf("ParseVMCoreInfo = %v, %v", info, err)
		}
		if err != nil {
			return
		}
		for _, key := range info.Keys() {
			if _, ok := info.String(key); !ok {
				t.Errorf("key %q has no value", key)
			}
			info.Number(key)
			info.Symbol(key)
		}
		info.CrashTime()
	})
}
