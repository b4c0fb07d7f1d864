package kernel

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"
)

// XEntry is an entry of an xarray: a pointer as it is, or a value as it is
// stored, odd.
type XEntry struct {
	Index uint64
	Entry VirtAddr
}

// Limits of what is believed of xarrays: a node has as many slots as a word has
// bits (16 with CONFIG_BASE_SMALL), an index no more than 64 bits.
const (
	maxXASlots = 64
	xaAllBits  = 64
)

// Entries whose two lowest bits are these belong to the array itself. Small ones
// say something about their slot, others lead to a node.
const (
	xaInternal  = 2
	minXANode   = 4096
	xaEntryMask = 3
)

// XArray yields the entries of an xarray in the order of their indexes (struct
// xarray, include/linux/xarray.h, Linux 4.20 to 7.2); radix trees are the same. An
// entry of several indexes is yielded once, with the first of them. A node that
// cannot be read, or is not where it says it is, ends the array with an error.
func (k *Kernel) XArray(array VirtAddr) iter.Seq2[XEntry, error] {
	return k.xarray(array, 0)
}

// IDR yields what an allocator of numbers has given out, number by number (struct
// idr, include/linux/idr.h, Linux 4.20 to 7.2).
func (k *Kernel) IDR(idr VirtAddr) iter.Seq2[XEntry, error] {
	return func(yield func(XEntry, error) bool) {
		r, err := k.Struct("idr", "idr_rt", "idr_base")
		var o Object
		if err == nil {
			o, err = r.At(idr)
		}
		if err != nil {
			yield(XEntry{}, fmt.Errorf("numbers at %v: %w", idr, err))
			return
		}
		k.xarray(o.AddrOf("idr_rt"), o.Uint("idr_base"))(yield)
	}
}

// xarray yields the entries of an array with base added to their indexes.
func (k *Kernel) xarray(array VirtAddr, base uint64) iter.Seq2[XEntry, error] {
	return func(yield func(XEntry, error) bool) {
		w, err := k.openXArray(yield)
		if err == nil {
			var root VirtAddr
			if root, err = k.ReadPointer(array + VirtAddr(w.head)); err == nil {
				_, err = w.visit(root, xaPlace{shift: xaAllBits, index: base})
			}
		}
		if err != nil {
			yield(XEntry{}, fmt.Errorf("xarray at %v: %w", array, err))
		}
	}
}

type xaWalk struct {
	node  *StructReader
	slots Field
	bits  uint64 // of the index that one node takes
	head  uint64 // offset of the root
	yield func(XEntry, error) bool
	left  int // nodes
}

func (k *Kernel) openXArray(yield func(XEntry, error) bool) (*xaWalk, error) {
	array, err := k.Struct("xarray", "xa_head")
	if err != nil {
		return nil, err
	}
	w := &xaWalk{head: array.Offset("xa_head"), yield: yield, left: maxList}
	if w.node, err = k.Struct("xa_node", "shift", "offset", "parent", "slots"); err != nil {
		return nil, err
	}
	w.slots, _ = w.node.Field("slots")
	if n := w.slots.Count; n < 2 || n > maxXASlots || n&(n-1) != 0 || w.slots.ElemSize() != 8 {
		return nil, fmt.Errorf("xa_node.slots of %d times %d bytes: %w", n, w.slots.ElemSize(), ErrCorrupt)
	}
	w.bits = uint64(bits.TrailingZeros64(w.slots.Count))
	return w, nil
}

// xaPlace is where an entry stands: in which slot of which node, how many bits of
// the index that node leaves to those below, and the first index of the slot.
type xaPlace struct {
	node               VirtAddr
	slot, shift, index uint64
}

// visit yields what is below an entry; more is false when whoever asked has
// enough. A node tells in which slot of which other it stands, and that one is
// above it: none is met twice.
func (w *xaWalk) visit(entry VirtAddr, in xaPlace) (more bool, err error) {
	switch {
	case entry == 0:
		return true, nil
	case entry&xaEntryMask != xaInternal:
		return w.yield(XEntry{in.index, entry}, nil), nil
	case entry < minXANode: // of an entry with several indexes, reserved, or to be asked again
		return true, nil
	}
	at := entry - xaInternal
	if w.left--; w.left < 0 {
		return false, fmt.Errorf("more than %d nodes: %w", maxList, ErrCorrupt)
	}
	o, err := w.node.At(at)
	if err != nil {
		return false, err
	}
	parent, slot, shift := o.Pointer("parent"), o.Uint("offset"), o.Uint("shift")
	fits := shift < xaAllBits && shift%w.bits == 0 // the root; its slot means nothing
	if in.node != 0 {
		fits = slot == in.slot && shift+w.bits == in.shift
	}
	if parent != in.node || !fits {
		return false, fmt.Errorf("node %v of shift %d is in slot %d of %v, found in slot %d of %v, of shift %d: %w",
			at, shift, slot, parent, in.slot, in.node, in.shift, ErrCorrupt)
	}
	slots := o.Bytes("slots")
	for i := range w.slots.Count {
		if i<<shift>>shift != i {
			break // an index of more than 64 bits
		}
		entry := VirtAddr(binary.LittleEndian.Uint64(slots[8*i:]))
		if more, err := w.visit(entry, xaPlace{at, i, shift, in.index + i<<shift}); !more || err != nil {
			return more, err
		}
	}
	return true, nil
}
