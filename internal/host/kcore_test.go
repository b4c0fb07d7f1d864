package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tables is a memory of page tables, as a kcore of them.
func tables(t *testing.T, pages map[uint64]map[int]uint64) *kcore {
	t.Helper()
	k := &kcore{machine: emRISCV, vmcoreinfo: []byte("OSRELEASE=6.12\nNUMBER(VA_BITS)=39\n"), pages: map[uint64][]byte{}}
	for phys, entries := range pages {
		p := make([]byte, kcorePage)
		for i, v := range entries {
			binary.LittleEndian.PutUint64(p[i*8:], v)
		}
		k.pages[phys] = p
	}
	again, err := openKcore(bytes.NewReader(k.compact()))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.vmcoreinfo, bytes.TrimRight(k.vmcoreinfo, "\x00")) {
		t.Fatalf("vmcoreinfo %q; want %q", again.vmcoreinfo, k.vmcoreinfo)
	}
	return again
}

func pte(phys, flags uint64) uint64 { return phys>>12<<10 | flags }

func TestRiscvMapped(t *testing.T) {
	const (
		start = 0xffffffc500000000
		leaf  = riscvValid | 3<<1
	)
	root := int(start >> 30 & 511)
	k := tables(t, map[uint64]map[int]uint64{
		0x1000: {root: pte(0x2000, riscvValid), 3: pte(0x9000, riscvValid), root + 2: pte(0xdead000, riscvValid)},
		0x2000: {0: pte(0x80200000, leaf), 1: pte(0x80400000, leaf), 2: pte(0x3000, riscvValid), 3: 0xffe, 511: pte(0xc0000000, leaf)},
		0x3000: {0: pte(0x80600000, leaf), 1: pte(0x90008000, leaf|riscvNAPOT)},
	})
	got, err := riscvMapped(k, 0x1000, 39, start, start+1<<30)
	if err != nil {
		t.Fatal(err)
	}
	want := []Range{{0x80200000, 0x80601000}, {0x90000000, 0x90010000}, {0xc0000000, 0xc0200000}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("riscvMapped (-want +got):\n%s", diff)
	}
	// The end is respected: the last 2 MiB are not asked for.
	if got, err := riscvMapped(k, 0x1000, 39, start, start+1<<30-2<<20); err != nil || len(got) != 2 {
		t.Errorf("riscvMapped to before the end = %v, %v; want 2 ranges", got, err)
	}
	for name, bad := range map[string]func() error{
		"table in no segment": func() error { _, err := riscvMapped(k, 0x1000, 39, start, start+3<<30); return err },
		"user address":        func() error { _, err := riscvMapped(k, 0x1000, 39, 0x1000, 0x2000); return err },
		"40 bits":             func() error { _, err := riscvMapped(k, 0x1000, 40, start, start+1); return err },
	} {
		if err := bad(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v; want ErrCorrupt", name, err)
		}
	}
}

// A table that points to itself ends at the last level.
func TestRiscvMappedLoop(t *testing.T) {
	entries := map[int]uint64{}
	for i := range 512 {
		entries[i] = pte(0x1000, riscvValid)
	}
	k := tables(t, map[uint64]map[int]uint64{0x1000: entries})
	if _, err := riscvMapped(k, 0x1000, 57, 0xff1c000000000000, 0xff20000000000000); !errors.Is(err, ErrCorrupt) {
		t.Errorf("looping table: %v; want ErrCorrupt", err)
	}
}

func FuzzKcore(f *testing.F) {
	k := &kcore{machine: emRISCV, vmcoreinfo: []byte("OSRELEASE=6.12\n"), pages: map[uint64][]byte{0x1000: make([]byte, kcorePage)}}
	binary.LittleEndian.PutUint64(k.pages[0x1000][504*8:], pte(0x1000, riscvValid))
	f.Add(k.compact())
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := openKcore(bytes.NewReader(b))
		if err != nil {
			return
		}
		list, err := riscvMapped(k, 0x1000, 39, 0xffffffc500000000, 0xffffffc600000000)
		for _, r := range list {
			if err != nil || r.Start >= r.End {
				t.Errorf("%v, %v", list, err)
			}
		}
	})
}
