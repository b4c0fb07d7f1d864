package kernel

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// FreeSet is which pages are free, from the free lists of all zones. It is for
// kernels whose struct pages do not tell ([PageLayout.TellsFree]): in all others
// the struct pages are asked, which costs no memory. A FreeSet does not change
// and may be used by many goroutines at once.
type FreeSet struct {
	blocks []uint64 // PFN<<orderBits | order, ascending, none in another

	// Pages is the number of pages in the set, Left that of free pages for which
	// there was no room.
	Pages, Left uint64
	// Broken is what was wrong with lists, nil if nothing: their blocks up to
	// where they are damaged are in the set.
	Broken error
}

const (
	orderBits = 6 // room for an order in a block of a FreeSet; MaxOrder is 32 at most
	// maxBroken is how many damaged lists and blocks are remembered.
	maxBroken = 8
)

// FreeSet walks the free lists, those of the largest blocks first, and remembers
// at most limit blocks, of 8 bytes each. The error is that lists cannot be found.
func (k *Kernel) FreeSet(limit int) (*FreeSet, error) {
	w, err := k.newFreeWalk()
	if err != nil {
		return nil, fmt.Errorf("free lists: %w", err)
	}
	var zones []Zone
	for zone, err := range k.Zones() {
		if err != nil {
			return nil, fmt.Errorf("free lists: %w", err)
		}
		zones = append(zones, zone)
	}
	s := &FreeSet{}
	var broken []error
	fail := func(err error) {
		if len(broken) < maxBroken {
			broken = append(broken, err)
		}
	}
	take := func(b FreeBlock, err error) bool {
		switch {
		case err != nil:
			fail(err)
		case uint64(b.First)&(1<<b.Order-1) != 0:
			fail(fmt.Errorf("free block of order %d at PFN %#x: %w", b.Order, uint64(b.First), ErrCorrupt))
		case len(s.blocks) == limit:
			s.Left += 1 << b.Order
		default:
			s.blocks = append(s.blocks, uint64(b.First)<<orderBits|uint64(b.Order))
		}
		return true
	}
	for order := uint(w.orders); order > 0; order-- {
		for _, zone := range zones {
			for list := range int(w.lists) {
				w.walk(zone, order-1, list, take)
			}
		}
	}
	slices.Sort(s.blocks)
	// A block on two lists, or in another, is damage: no page is twice free.
	kept, end := s.blocks[:0], vmcore.PFN(0)
	for _, b := range s.blocks {
		first, order := unpackBlock(b)
		if first < end {
			fail(fmt.Errorf("free block of order %d at PFN %#x in another: %w", order, uint64(first), ErrCorrupt))
			continue
		}
		kept, end = append(kept, b), first+1<<order
		s.Pages += 1 << order
	}
	s.blocks = kept
	s.Broken = errors.Join(broken...)
	return s, nil
}

func unpackBlock(b uint64) (first vmcore.PFN, order uint) {
	return vmcore.PFN(b >> orderBits), uint(b & (1<<orderBits - 1))
}

// Next is the first block that ends after pfn: the one that has pfn in it, if
// any has. With ok false there is none.
func (s *FreeSet) Next(pfn vmcore.PFN) (first vmcore.PFN, order uint, ok bool) {
	i := sort.Search(len(s.blocks), func(i int) bool {
		first, order := unpackBlock(s.blocks[i])
		return first+1<<order > pfn
	})
	if i == len(s.blocks) {
		return 0, 0, false
	}
	first, order = unpackBlock(s.blocks[i])
	return first, order, true
}
