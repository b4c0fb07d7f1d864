package vmcore_test

import (
	"bytes"
	"testing"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Pages that are taken out of an extent leave the others as they were.
func TestExtentKeep(t *testing.T) {
	f := &diskFile{room: -1}
	ram := []vmcore.Range{{Start: 0, End: 64 * pg}}
	w, err := vmcore.NewKdumpWriter(f, vmcore.KdumpHeader{PageSize: pg}, ram, 64, vmcore.KdumpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e := w.NewExtent(64)
	content := func(pfn vmcore.PFN) []byte {
		if pfn%4 == 0 {
			return make([]byte, pg)
		}
		return pattern(uint64(pfn))
	}
	for pfn := range vmcore.PFN(64) {
		if err := e.Add(pfn, content(pfn)); err != nil {
			t.Fatal(err)
		}
	}
	keep := func(pfn vmcore.PFN) bool { return pfn%3 != 0 }
	e.Keep(func(pfn vmcore.PFN, zero bool) bool {
		if zero != (pfn%4 == 0) {
			t.Errorf("page frame %d: zero %v", pfn, zero)
		}
		return keep(pfn)
	})
	if e.Pages() != 42 || e.Zeros() != 10 {
		t.Errorf("%d pages, %d of zeros; want 42, 10", e.Pages(), e.Zeros())
	}
	if err := w.Write(e); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(true); err != nil {
		t.Fatal(err)
	}
	d, err := vmcore.New(bytes.NewReader(f.b), int64(len(f.b)))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b := make([]byte, pg)
	for pfn := range vmcore.PFN(64) {
		_, err := d.ReadPhys(b, vmcore.PhysAddr(pfn)*pg)
		if (err == nil) != keep(pfn) || err == nil && !bytes.Equal(b, content(pfn)) {
			t.Errorf("page frame %d: %v", pfn, err)
		}
	}
}
