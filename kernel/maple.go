package kernel

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// MapleEntry is an entry of a maple tree and what it is for, both ends included.
type MapleEntry struct {
	First, Last uint64
	Entry       VirtAddr
}

// Limits of what is believed of maple trees: MAPLE_HEIGHT_MAX and the slots of
// the widest node, include/linux/maple_tree.h (Linux 6.1 to 7.2).
const (
	maxMapleDepth = 31
	maxMapleSlots = 32
)

// A pointer to a node has its type in bits 3 to 6; nodes are aligned to 256
// bytes (include/linux/maple_tree.h and lib/maple_tree.c, Linux 6.1 to 7.2).
const (
	mapleNodeMask  = 255
	mapleTypeShift = 3
	mapleTypeMask  = 15

	mapleLeaf64   = 1
	mapleRange64  = 2
	mapleARange64 = 3 // keeps gaps too
)

// MapleTree yields the entries of a maple tree in order (struct maple_tree, Linux
// 6.1 to 7.2): a process has its areas of memory in one, the kernel its interrupts.
// Ranges without an entry are left out. A node that cannot be read, or whose
// ranges do not fit into its own, ends the tree with an error.
func (k *Kernel) MapleTree(tree VirtAddr) iter.Seq2[MapleEntry, error] {
	return func(yield func(MapleEntry, error) bool) {
		w := mapleWalk{yield: yield, left: maxList}
		root, err := w.open(k, tree)
		if err == nil {
			if mapleNode(root) {
				_, err = w.visit(root, 0, ^uint64(0), 0)
			} else {
				w.entry(root, 0, 0)
			}
		}
		if err != nil {
			yield(MapleEntry{}, fmt.Errorf("maple tree at %v: %w", tree, err))
		}
	}
}

type mapleWalk struct {
	ranges, aranges mapleReader
	yield           func(MapleEntry, error) bool
	left            int // nodes
}

// mapleReader reads nodes of one type.
type mapleReader struct {
	node         *StructReader
	pivot, slots uint64 // how many
}

func (w *mapleWalk) open(k *Kernel, tree VirtAddr) (root VirtAddr, err error) {
	t, err := k.Struct("maple_tree", "ma_root")
	if err != nil {
		return 0, err
	}
	for name, r := range map[string]*mapleReader{"maple_range_64": &w.ranges, "maple_arange_64": &w.aranges} {
		if r.node, err = k.Struct(name, "pivot", "slot"); err != nil {
			return 0, err
		}
		pivot, _ := r.node.Field("pivot")
		slot, _ := r.node.Field("slot")
		r.pivot, r.slots = pivot.Count, slot.Count
		if r.slots == 0 || r.slots > maxMapleSlots || r.pivot != r.slots-1 || pivot.ElemSize() != 8 || slot.ElemSize() != 8 {
			return 0, fmt.Errorf("%s of %d slots and %d pivots: %w", name, r.slots, r.pivot, ErrCorrupt)
		}
	}
	return k.ReadPointer(tree + VirtAddr(t.Offset("ma_root")))
}

// mapleNode tells whether the root is a node and not the entry of index 0.
func mapleNode(root VirtAddr) bool { return root&xaEntryMask == xaInternal && root > minXANode }

// entry yields an entry, unless there is none or a place is only kept for one.
func (w *mapleWalk) entry(entry VirtAddr, first, last uint64) (more bool) {
	if entry == 0 || entry&xaEntryMask == xaInternal && entry < minXANode {
		return true
	}
	return w.yield(MapleEntry{first, last, entry}, nil)
}

// visit yields what is below a node that is for the range from first to last;
// more is false when whoever asked has enough. Where a range ends stands in the
// node, so that a node of more than one range fits into one place only: however
// nodes lead to one another, few are met twice.
func (w *mapleWalk) visit(node VirtAddr, first, last uint64, depth int) (more bool, err error) {
	kind := uint64(node) >> mapleTypeShift & mapleTypeMask
	at := node &^ mapleNodeMask
	if w.left--; w.left < 0 || depth > maxMapleDepth {
		return false, fmt.Errorf("deeper or larger than any: %w", ErrCorrupt)
	}
	r := w.ranges
	switch kind {
	case mapleLeaf64, mapleRange64:
	case mapleARange64:
		r = w.aranges
	default:
		return false, fmt.Errorf("node %v of type %d: %w", at, kind, ErrCorrupt)
	}
	o, err := r.node.At(at)
	if err != nil {
		return false, err
	}
	pivots, slots := o.Bytes("pivot"), o.Bytes("slot")
	for i := range r.slots {
		// The last range has no end of its own, or 0.
		end := last
		if i < r.pivot {
			if p := binary.LittleEndian.Uint64(pivots[8*i:]); p != 0 || i == 0 {
				end = p
			}
		}
		if end < first || end > last {
			return false, fmt.Errorf("node %v, slot %d: from %#x to %#x, within %#x: %w", at, i, first, end, last, ErrCorrupt)
		}
		slot := VirtAddr(binary.LittleEndian.Uint64(slots[8*i:]))
		switch {
		case kind == mapleLeaf64:
			more = w.entry(slot, first, end)
		case slot == 0:
			return false, fmt.Errorf("node %v, slot %d leads nowhere: %w", at, i, ErrCorrupt)
		default:
			more, err = w.visit(slot, first, end, depth+1)
		}
		if !more || err != nil || end == last {
			return more, err
		}
		first = end + 1
	}
	return true, nil
}
