package kernel

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// maxList bounds the entries of a list that are believed. Nothing that is asked
// for here has more than tasks, of which there are at most [maxTasks].
const maxList = maxTasks

// List yields the objects on a circular list (struct list_head,
// include/linux/types.h), head left out: their addresses, which are offset
// bytes before those of their list_head. A list that does not lead back to
// where it came from, runs in circles or cannot be read ends with an error.
func (k *Kernel) List(head VirtAddr, offset uint64) iter.Seq2[VirtAddr, error] {
	return func(yield func(VirtAddr, error) bool) {
		fail := func(n int, err error) {
			yield(0, fmt.Errorf("list at %#x, entry %d: %w", uint64(head), n, err))
		}
		prev := head
		at, err := k.ReadPointer(head)
		if err != nil {
			fail(0, err)
			return
		}
		for n := 0; at != head; n++ {
			if n == maxList {
				fail(n, fmt.Errorf("longer than any: %w", ErrCorrupt))
				return
			}
			// Next and previous at once: a list that is whole leads back, which
			// rules out circles that leave the head out.
			var links [16]byte
			if err := k.ReadVirt(links[:], at); err != nil {
				fail(n, err)
				return
			}
			if back := VirtAddr(binary.LittleEndian.Uint64(links[8:])); back != prev {
				fail(n, fmt.Errorf("%#x follows %#x, not %#x: %w", uint64(at), uint64(back), uint64(prev), ErrCorrupt))
				return
			}
			if !yield(at-VirtAddr(offset), nil) {
				return
			}
			prev, at = at, VirtAddr(binary.LittleEndian.Uint64(links[:]))
		}
	}
}

// HList yields the objects on a list that ends with a null pointer, or with an
// odd one that "nulls" lists have (struct hlist_head, hlist_nulls_head and
// llist_head, include/linux/types.h): the head's and each entry's first word is
// the next one's address. A circle ends with an error.
func (k *Kernel) HList(head VirtAddr, offset uint64) iter.Seq2[VirtAddr, error] {
	return func(yield func(VirtAddr, error) bool) {
		var l lap
		at, err := k.ReadPointer(head)
		for n := 0; ; n++ {
			if err == nil && (n == maxList || at != 0 && l.back(at)) {
				err = fmt.Errorf("comes back to %#x: %w", uint64(at), ErrCorrupt)
			}
			if err != nil {
				yield(0, fmt.Errorf("list at %#x, entry %d: %w", uint64(head), n, err))
				return
			}
			if at == 0 || at&1 != 0 {
				return
			}
			if !yield(at-VirtAddr(offset), nil) {
				return
			}
			at, err = k.ReadPointer(at)
		}
	}
}
