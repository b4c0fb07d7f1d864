package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
)

// outputs is what the two programs made of the same core.
type outputs struct {
	Ours, Theirs         int64  // bytes of the file
	OurPages, TheirPages uint64 // in it, zero pages included
	OnlyOurs, OnlyTheirs uint64 // pages that the other one left out
}

// same tells that both saved the same pages.
func (o *outputs) same() bool { return o.OnlyOurs == 0 && o.OnlyTheirs == 0 }

// compareOutputs compares two kdump-compressed dumps by the bitmaps in which
// they say what pages they have.
func compareOutputs(ours, theirs string) (*outputs, error) {
	o := &outputs{}
	a, n, err := savedPages(ours)
	if err != nil {
		return nil, fmt.Errorf("panicroom's dump: %w", err)
	}
	b, m, err := savedPages(theirs)
	if err != nil {
		return nil, fmt.Errorf("makedumpfile's dump: %w", err)
	}
	o.Ours, o.Theirs = n, m
	for i := range max(len(a), len(b)) {
		var x, y byte
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		count := func(v byte) uint64 { return uint64(bits.OnesCount8(v)) }
		o.OurPages += count(x)
		o.TheirPages += count(y)
		o.OnlyOurs += count(x &^ y)
		o.OnlyTheirs += count(y &^ x)
	}
	return o, nil
}

// savedPages reads the second bitmap of a dump, a bit for each page frame in
// it, and the size of the file. The form of the file is that of makedumpfile 1.7.8,
// IMPLEMENTATION: after a block of header and the blocks of the sub-header two
// bitmaps of the same size, of the memory that was there and of what is saved.
func savedPages(path string) (bitmap []byte, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	var h [464]byte
	if _, err := f.ReadAt(h[:], 0); err != nil {
		return nil, 0, fmt.Errorf("header: %w", err)
	}
	if string(h[:8]) != "KDUMP   " {
		return nil, 0, fmt.Errorf("not kdump-compressed: %q", h[:8])
	}
	word := func(at int) int64 { return int64(binary.LittleEndian.Uint32(h[at:])) }
	const incomplete = 0x8 // of the status
	if word(424)&incomplete != 0 {
		return nil, 0, errors.New("it says that it is incomplete")
	}
	block, sub, both := word(428), word(432), word(436)
	n := both / 2 * block
	if n <= 0 || n > st.Size() {
		return nil, 0, fmt.Errorf("bitmaps of %d blocks of %d bytes", both, block)
	}
	bitmap = make([]byte, n)
	if _, err := f.ReadAt(bitmap, (1+sub)*block+n); err != nil {
		return nil, 0, fmt.Errorf("bitmap: %w", err)
	}
	return bitmap, st.Size(), nil
}
