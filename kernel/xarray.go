package kernel

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// maxXArrayShift bounds how deep an array is: no index has more than 64 bits.
const maxXArrayShift = 63

// XArray yields the entries of an xarray (struct xarray, include/linux/xarray.h,
// Linux 4.20 to 7.2) with their indexes in ascending order: pointers as they
// are, values as they are stored. What the array keeps for itself is left out.
// A node that cannot be read, or is not where it says it is, ends it with an
// error.
func (k *Kernel) XArray(xa VirtAddr) iter.Seq2[XEntry, error] {
	return func(yield func(XEntry, error) bool) {
		err := k.walkXArray(xa, yield)
		if err != nil {
			yield(XEntry{}, fmt.Errorf("xarray at %#x: %w", uint64(xa), err))
		}
	}
}

// XEntry is an entry of an xarray.
type XEntry struct {
	Index uint64
	Entry VirtAddr
}

func (k *Kernel) walkXArray(xa VirtAddr, yield func(XEntry, error) bool) error {
	array, err := k.Struct("xarray", "xa_head")
	if err != nil {
		return err
	}
	node, err := k.Struct("xa_node", "shift", "offset", "parent", "slots")
	if err != nil {
		return err
	}
	slots, _ := node.Field("slots")
	if slots.Count < 2 || slots.Count > 256 || slots.Count&(slots.Count-1) != 0 || slots.ElemSize() != 8 {
		return fmt.Errorf("%d slots of %d bytes in a node: %w", slots.Count, slots.ElemSize(), ErrCorrupt)
	}
	o, err := array.At(xa)
	if err != nil {
		return err
	}
	w := xarrayWalk{node: node, slots: slots, yield: yield, left: maxList}
	_, err = w.visit(o.Pointer("xa_head"), xarraySlot{shift: maxXArrayShift + 1})
	return err
}

type xarrayWalk struct {
	node  *StructReader
	slots Field
	yield func(XEntry, error) bool
	left  int // nodes
}

// Entries whose low bits are internalEntry belong to the array. Those that are
// small say something about a slot, the others are nodes.
const (
	internalEntry = 2
	minNodeEntry  = 4096
)

// xarraySlot is where an entry stands: in which slot of which node, with that
// node's shift, and what index the slot begins at.
type xarraySlot struct {
	node               VirtAddr
	slot, shift, index uint64
}

// visit yields what an entry leads to. A node stands in one slot of one other
// and says in which, so that none is met twice.
func (w *xarrayWalk) visit(entry VirtAddr, in xarraySlot) (more bool, err error) {
	switch {
	case entry == 0:
		return true, nil
	case entry&3 != internalEntry:
		return w.yield(XEntry{in.index, entry}, nil), nil
	case entry < minNodeEntry:
		return true, nil
	}
	at := entry - internalEntry
	if w.left--; w.left < 0 {
		return false, fmt.Errorf("more nodes than any has: %w", ErrCorrupt)
	}
	o, err := w.node.At(at)
	if err != nil {
		return false, err
	}
	parent, slot, shift := o.Pointer("parent"), o.Uint("offset"), o.Uint("shift")
	if in.node == 0 {
		slot = 0 // what it says was left behind by whoever had the memory before
	}
	if parent != in.node || slot != in.slot || shift >= in.shift {
		return false, fmt.Errorf("node %v with shift %d says it is in slot %d of %v, not in slot %d of %v with shift %d: %w",
			at, shift, slot, parent, in.slot, in.node, in.shift, ErrCorrupt)
	}
	slots := o.Bytes("slots")
	for i := range w.slots.Count {
		entry := VirtAddr(binary.LittleEndian.Uint64(slots[8*i:]))
		if more, err := w.visit(entry, xarraySlot{at, i, shift, in.index + i<<shift}); !more || err != nil {
			return more, err
		}
	}
	return true, nil
}
