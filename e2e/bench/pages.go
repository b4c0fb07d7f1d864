package main

import (
	"fmt"
	"os"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// outputs is what the two programs made of the same core.
type outputs struct {
	Ours, Theirs   int64  // bytes of the file
	OurPages       uint64 // in it
	TheirPages     uint64
	OnlyOurs, Only uint64 // pages that only we, and only they saved
}

// same tells that both saved the same pages.
func (o *outputs) same() bool { return o.OnlyOurs == 0 && o.Only == 0 }

// compareOutputs opens two dumps and compares which pages they have.
func compareOutputs(ours, theirs string) (*outputs, error) {
	a, err := vmcore.Open(ours)
	if err != nil {
		return nil, fmt.Errorf("panicroom's dump: %w", err)
	}
	defer a.Close()
	b, err := vmcore.Open(theirs)
	if err != nil {
		return nil, fmt.Errorf("makedumpfile's dump: %w", err)
	}
	defer b.Close()
	if a.Incomplete() || b.Incomplete() {
		return nil, fmt.Errorf("incomplete: panicroom's dump %v, makedumpfile's %v", a.Incomplete(), b.Incomplete())
	}
	o := &outputs{}
	for _, f := range []struct {
		path string
		size *int64
	}{{ours, &o.Ours}, {theirs, &o.Theirs}} {
		st, err := os.Stat(f.path)
		if err != nil {
			return nil, err
		}
		*f.size = st.Size()
	}
	end := max(a.MaxPFN(), b.MaxPFN())
	for pfn := vmcore.PFN(0); pfn < end; pfn++ {
		addr := vmcore.PhysAddr(uint64(pfn) * page)
		inA, inB := a.Missing(addr) == nil, b.Missing(addr) == nil
		switch {
		case inA && inB:
			o.OurPages++
			o.TheirPages++
		case inA:
			o.OurPages++
			o.OnlyOurs++
		case inB:
			o.TheirPages++
			o.Only++
		}
	}
	return o, nil
}
