package fdt

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrCells says that a list of ranges does not fit the cell sizes around it.
var ErrCells = errors.New("value does not fit #address-cells and #size-cells")

// Range is an address and a size, both in bytes.
type Range struct {
	Address uint64
	Size    uint64
}

// Cells tells how many 32-bit cells an address and a size take in the "reg" of
// the children of n, and for the root in the ranges of /chosen. As Linux reads
// it (drivers/of/base.c of_bus_n_addr_cells, 6.12): the nearest node upwards
// that says it counts, and 1 when none does.
func (n *Node) Cells() (address, size int) {
	return n.cells("#address-cells"), n.cells("#size-cells")
}

func (n *Node) cells(name string) int {
	for ; n != nil; n = n.parent {
		if v, ok := n.Get(name); ok && len(v) >= 4 {
			// An absurd number stays absurd, but fits an int everywhere.
			return int(min(binary.BigEndian.Uint32(v), 1<<16))
		}
	}
	return 1
}

// Regs returns the "reg" of n, in the cells of its parent. Addresses are those
// of the parent's bus: physical ones for children of the root and of
// /reserved-memory; "ranges" is not applied. No "reg" gives an empty list.
func (n *Node) Regs() ([]Range, error) {
	v, ok := n.Get("reg")
	if !ok {
		return nil, nil
	}
	parent := n.parent
	if parent == nil {
		parent = n
	}
	r, err := parent.DecodeRanges(v)
	if err != nil {
		return nil, fmt.Errorf("reg of %s: %w", n.Path(), err)
	}
	return r, nil
}

// DecodeRanges reads a list of ranges in the cells that n prescribes.
func (n *Node) DecodeRanges(value []byte) ([]Range, error) {
	ac, sc := n.Cells()
	if ac < 1 || ac > 2 || sc > 2 {
		return nil, fmt.Errorf("%w: %d and %d cells", ErrCells, ac, sc)
	}
	each := 4 * (ac + sc)
	if len(value)%each != 0 {
		return nil, fmt.Errorf("%w: %d bytes are not a multiple of %d", ErrCells, len(value), each)
	}
	list := make([]Range, 0, len(value)/each)
	for ; len(value) > 0; value = value[each:] {
		list = append(list, Range{number(value[:4*ac]), number(value[4*ac : each])})
	}
	return list, nil
}

func number(cells []byte) uint64 {
	switch len(cells) {
	case 4:
		return uint64(binary.BigEndian.Uint32(cells))
	case 8:
		return binary.BigEndian.Uint64(cells)
	}
	return 0
}

// EncodeRanges writes a list of ranges in the cells that n prescribes. It is
// an error when a number does not fit.
func (n *Node) EncodeRanges(list ...Range) ([]byte, error) {
	ac, sc := n.Cells()
	if ac < 1 || ac > 2 || sc > 2 {
		return nil, fmt.Errorf("%w: %d and %d cells", ErrCells, ac, sc)
	}
	var out []byte
	for _, r := range list {
		for _, f := range [...]struct {
			v     uint64
			cells int
		}{{r.Address, ac}, {r.Size, sc}} {
			switch {
			case f.cells == 2:
				out = binary.BigEndian.AppendUint64(out, f.v)
			case f.cells == 1 && f.v>>32 == 0:
				out = binary.BigEndian.AppendUint32(out, uint32(f.v))
			case f.cells == 0 && f.v == 0:
			default:
				return nil, fmt.Errorf("%w: %#x in %d cells", ErrCells, f.v, f.cells)
			}
		}
	}
	return out, nil
}
