package kernel

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// maxTreeDepth bounds how deep a red-black tree can be: with n nodes it is at
// most 2*log2(n+1).
const maxTreeDepth = 64

// RBTree yields the objects in a red-black tree in order (struct rb_root, or
// rb_root_cached that begins with one; struct rb_node, include/linux/rbtree_types.h,
// Linux 7.2: the parent with the colour in its low bits, right, left). Addresses
// are offset bytes before those of the nodes. A node that cannot be read, or
// whose parent is another, ends the tree with an error.
func (k *Kernel) RBTree(root VirtAddr, offset uint64) iter.Seq2[VirtAddr, error] {
	return func(yield func(VirtAddr, error) bool) {
		node, err := k.ReadPointer(root)
		if err == nil {
			w := treeWalk{k: k, yield: yield, offset: offset, left: maxList}
			_, err = w.visit(node, 0, 0)
		}
		if err != nil {
			yield(0, fmt.Errorf("tree at %#x: %w", uint64(root), err))
		}
	}
}

type treeWalk struct {
	k      *Kernel
	yield  func(VirtAddr, error) bool
	offset uint64
	left   int
}

// visit yields what is below a node and the node itself; more is false when
// whoever asked has enough.
func (w *treeWalk) visit(node, parent VirtAddr, depth int) (more bool, err error) {
	if node == 0 {
		return true, nil
	}
	if w.left--; w.left < 0 || depth > maxTreeDepth {
		return false, fmt.Errorf("deeper or larger than any: %w", ErrCorrupt)
	}
	var b [24]byte
	if err := w.k.ReadVirt(b[:], node); err != nil {
		return false, err
	}
	word := func(i int) VirtAddr { return VirtAddr(binary.LittleEndian.Uint64(b[8*i:])) }
	if up := word(0) &^ 3; up != parent {
		return false, fmt.Errorf("node %#x has the parent %#x, not %#x: %w", uint64(node), uint64(up), uint64(parent), ErrCorrupt)
	}
	if more, err := w.visit(word(2), node, depth+1); !more || err != nil {
		return more, err
	}
	if !w.yield(node-VirtAddr(w.offset), nil) {
		return false, nil
	}
	return w.visit(word(1), node, depth+1)
}
