package host

import (
	"encoding/binary"
	"fmt"
)

// Page table entries of riscv64 (The RISC-V Instruction Set Manual, volume II,
// Sv39/Sv48/Sv57): bit 0 valid, bits 1-3 readable, writable, executable, bits
// 10-53 the page number, bit 63 a naturally aligned power of two of pages.
const (
	riscvValid   = 1 << 0
	riscvLeaf    = 7 << 1
	riscvNAPOT   = 1 << 63
	riscvPPNMask = 1<<44 - 1
)

// riscvMapped returns the physical memory that the page table at root maps the
// virtual range [start, end) to. vaBits is 39, 48 or 57.
func riscvMapped(k *kcore, root uint64, vaBits int, start, end uint64) ([]Range, error) {
	levels := (vaBits - 12) / 9
	if vaBits != 39 && vaBits != 48 && vaBits != 57 || start > end {
		return nil, fmt.Errorf("virtual range %#x-%#x of %d bits: %w", start, end, vaBits, ErrCorrupt)
	}
	var out []Range
	// add keeps the list short: neighbours are joined as they come.
	add := func(r Range) error {
		if n := len(out); n > 0 && out[n-1].End == r.Start {
			out[n-1].End = r.End
			return nil
		}
		if len(out) == maxResources {
			return fmt.Errorf("more than %d ranges: %w", maxResources, ErrCorrupt)
		}
		out = append(out, r)
		return nil
	}
	// Tables that share tables below them could make the walk endless, although
	// each is read once.
	visited := 0
	var walk func(table uint64, level int, base uint64) error
	walk = func(table uint64, level int, base uint64) error {
		if visited++; visited > maxPages {
			return fmt.Errorf("more than %d page tables: %w", maxPages, ErrCorrupt)
		}
		page, err := k.page(table)
		if err != nil {
			return err
		}
		size := uint64(1) << (12 + 9*level) // of what one entry maps
		for i := range uint64(512) {
			va := base + i*size
			if va+(size-1) < start || va >= end {
				continue
			}
			pte := binary.LittleEndian.Uint64(page[i*8:])
			if pte&riscvValid == 0 {
				continue
			}
			phys := pte >> 10 & riscvPPNMask << 12
			switch {
			case pte&riscvLeaf == 0 && level == 0:
				return fmt.Errorf("page table entry %#x at %#x: %w", pte, va, ErrCorrupt)
			case pte&riscvLeaf == 0:
				err = walk(phys, level-1, va)
			case pte&riscvNAPOT != 0:
				err = add(Range{phys &^ (64<<10 - 1), phys&^(64<<10-1) + 64<<10})
			default:
				err = add(Range{phys &^ (size - 1), phys&^(size-1) + size})
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	// Kernel addresses are the upper half, sign-extended: the root table's
	// first entry stands for the lowest address with vaBits significant bits.
	root0 := ^uint64(0) << (vaBits - 1)
	if start < root0 {
		return nil, fmt.Errorf("virtual address %#x is no kernel address with %d bits: %w", start, vaBits, ErrCorrupt)
	}
	if err := walk(root, levels-1, root0-1<<(vaBits-1)); err != nil {
		return nil, err
	}
	return Merge(out), nil
}
