package kernel

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

func TestTranslate(t *testing.T) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			m := newMachine(name)
			v := mode.vmemap
			m.mapPage(v, 0xa0000000, 21)
			m.mapPage(v+1<<21, 0xa0a00000, 21)
			m.mapPage(v+2<<21, 0xb0001000, 12)
			m.mapPage(v+1<<30, 0xc0000000, 30)
			// Svnapot with Svpbmt's bits on top: 64 KiB at 0xd0010000.
			for i := range VirtAddr(16) {
				m.mapEntry(v+2<<30+i<<12, 1<<63|2<<61|(0xd0010>>0|8)<<10|0xef, 12)
			}
			k := m.kernel(t)
			if k.Arch().Mode != name {
				t.Errorf("Mode = %s; want %s", k.Arch().Mode, name)
			}
			for _, c := range []struct {
				va   VirtAddr
				want vmcore.PhysAddr
			}{
				{testImage + 0x2000, testImagePA + 0x2000},
				{mode.pageOffset, 0x80000000},
				{mode.pageOffset + 0x12345678, 0x92345678},
				{v + 0x1fffff, 0xa01fffff},
				{v + 1<<21 + 0x3456, 0xa0a03456},
				{v + 2<<21 + 0xabc, 0xb0001abc},
				{v + 1<<30 + 0x1234567, 0xc1234567},
				{v + 2<<30 + 0x9876, 0xd0019876},
			} {
				if got, err := k.Translate(c.va); err != nil || got != c.want {
					t.Errorf("Translate(%#x) = %#x, %v; want %#x", c.va, got, err, c.want)
				}
			}
			for _, va := range []VirtAddr{v + 2<<21 + 0x1000, v + 3<<30, 0, 1 << 20, 1 << 60, 0x8000000000000000} {
				if got, err := k.Translate(va); !errors.Is(err, ErrNotMapped) {
					t.Errorf("Translate(%#x) = %#x, %v; want ErrNotMapped", va, got, err)
				}
			}
		})
	}
}

func TestTranslateRange(t *testing.T) {
	m := newMachine("sv48")
	v := m.mode.vmemap
	m.mapPage(v, 0xa0000000, 21)
	m.mapPage(v+1<<21, 0xa0200000, 21) // goes on where the first ends
	m.mapPage(v+2<<21, 0xb0001000, 12)
	m.mapPage(v+2<<21+0x3000, 0xb0004000, 12)
	m.mapEntry(v+3<<21, 0xf0000000>>12<<10|1, 21) // a table where no memory is
	m.mapPage(v+4<<21, 0xc0000000, 21)
	k := m.kernel(t)

	var got []Extent
	var failed []VirtAddr
	for e, err := range k.TranslateRange(v+0x1000, 5<<21) {
		if err != nil {
			if !errors.Is(err, vmcore.ErrHole) {
				t.Errorf("at %#x: %v; want ErrHole", e.Virt, err)
			}
			failed = append(failed, e.Virt-v)
			continue
		}
		e.Virt -= v
		got = append(got, e)
	}
	want := []Extent{
		{0x1000, 0xa0001000, 2<<21 - 0x1000},
		{2 << 21, 0xb0001000, 0x1000},
		{2<<21 + 0x3000, 0xb0004000, 0x1000},
		{4 << 21, 0xc0000000, 1 << 21},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("TranslateRange (-want +got):\n%s", d)
	}
	if !slices.Equal(failed, []VirtAddr{3 << 21}) {
		t.Errorf("failed at %#x; want 0x600000 once", failed)
	}

	// All of the address space, which ends where integers end.
	last := Extent{}
	for e, err := range k.TranslateRange(0, ^uint64(0)) {
		if err == nil {
			last = e
		}
	}
	if end := uint64(last.Virt) + last.Size; end != 0 && end != ^uint64(0) {
		t.Errorf("the last extent ends at %#x; want the end of the address space", end)
	}
}

func TestReadVirt(t *testing.T) {
	m := newMachine("sv57")
	v := m.mode.vmemap
	m.mapPage(v, 0xa0001000, 12)
	m.mapPage(v+0x1000, 0xa0009000, 12)
	m.write(0xa0001ffc, []byte("abcd"))
	m.write(0xa0009000, []byte("efgh"))
	k := m.kernel(t)
	b := make([]byte, 8)
	if err := k.ReadVirt(b, v+0xffc); err != nil || string(b) != "abcdefgh" {
		t.Errorf("ReadVirt across pages = %q, %v; want abcdefgh", b, err)
	}
	if err := k.ReadVirt(b, v+0x1ffc); !errors.Is(err, ErrNotMapped) {
		t.Errorf("ReadVirt beyond the map: %v; want ErrNotMapped", err)
	}
	if err := k.ReadVirt(b, m.mode.pageOffset+0x40000000); !errors.Is(err, vmcore.ErrHole) {
		t.Errorf("ReadVirt of no memory: %v; want ErrHole", err)
	}
}

func TestPageTables(t *testing.T) {
	m := newMachine("sv48")
	v := m.mode.vmemap
	m.mapPage(v, 0xa0000000, 12)
	m.mapPage(v+1<<30, 0xc0000000, 30)
	// One table many times in a row, as under KASAN, and one that is its own parent.
	m.write(0x91000000, make([]byte, 4096))
	for i := range VirtAddr(512) {
		m.mapEntry(v+8<<39+i<<30, 0x91000000>>12<<10|1, 30)
	}
	m.mapEntry(v+16<<39, uint64(testRootPA)>>12<<10|1, 39)
	k := m.kernel(t)
	var got []vmcore.PFN
	var errs []error
	for pfn, err := range k.PageTables() {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		got = append(got, pfn)
	}
	// Root, three tables for v, one for the row and its child.
	want := []vmcore.PFN{vmcore.PFN(testRootPA >> 12), 0x90000, 0x90001, 0x90002, 0x90003, 0x91000}
	if !slices.Equal(got, want) {
		t.Errorf("PageTables = %#x; want %#x", got, want)
	}
	if len(errs) != 1 || !errors.Is(errs[0], ErrCorrupt) {
		t.Errorf("errors %v; want one ErrCorrupt for the circle", errs)
	}
}

func TestNewMissing(t *testing.T) {
	m := newMachine("sv39")
	for i, line := range m.info {
		if !strings.HasPrefix(line, "NUMBER") && !strings.HasPrefix(line, "SYMBOL") {
			continue
		}
		text := strings.Join(slices.Delete(slices.Clone(m.info), i, i+1), "\n")
		_, err := New(m, vmcore.MachineRISCV, []byte(text), nil, nil)
		key, _, _ := strings.Cut(line, "=")
		if !errors.Is(err, ErrNoInfo) || !strings.Contains(err.Error(), key) {
			t.Errorf("without %s: %v; want ErrNoInfo with the key", key, err)
		}
	}
	if _, err := New(m, vmcore.Machine386, []byte("A=1\n"), nil, nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("i686: %v; want ErrUnsupported", err)
	}
	if _, err := New(m, vmcore.MachineRISCV, nil, nil, nil); !errors.Is(err, ErrNoInfo) {
		t.Errorf("no vmcoreinfo: %v; want ErrNoInfo", err)
	}
	// satp decides when it is there.
	m.say("NUMBER(satp)=0x9000000000082507")
	if k := m.kernel(t); k.Arch().Mode != "sv48" {
		t.Errorf("Mode = %s; want sv48 of satp", k.Arch().Mode)
	}
}

func FuzzPageTables(f *testing.F) {
	f.Add(binary.LittleEndian.AppendUint64(nil, 0x90000<<10|1), uint64(0xffff8d8000000000))
	f.Add([]byte("\x01\x00\x40\x20\x00\x00\x00\x00\xef\x00\x00\x00\x00\x00\x00\x00"), uint64(1<<47))
	f.Fuzz(func(t *testing.T, tables []byte, addr uint64) {
		m := newMachine("sv39")
		m.write(testRootPA, tables[:min(len(tables), 1<<16)])
		k := m.kernel(t)
		pa, left, err := k.Walk(VirtAddr(addr))
		if (err == nil && left == 0) || pa>>56 != 0 {
			t.Errorf("Walk(%#x) = %#x, %d, %v", addr, pa, left, err)
		}
		n := 0
		for range k.TranslateRange(VirtAddr(addr), 1<<32) {
			if n++; n > 1000 {
				break
			}
		}
		for range k.PageTables() {
			if n++; n > 1000 {
				break
			}
		}
	})
}
