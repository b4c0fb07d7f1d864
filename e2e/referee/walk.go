package referee

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// space is the dead kernel's address space: swapper_pg_dir and what hangs
// below it. The RISC-V privileged specification, Sv39, Sv48 and Sv57: 512
// entries of 8 bytes per table; bit 0 valid; read, write or execute (bits 1-3)
// make a leaf at any level; bits 10-53 are the page frame number.
type space struct {
	c      *core
	root   uint64 // physical address of swapper_pg_dir
	levels int
	pages  map[uint64][]byte // cache of pages, by frame number
}

var errNotMapped = errors.New("not mapped")

func newSpace(c *core) (*space, error) {
	n := need{v: c.info}
	s := &space{c: c, pages: map[uint64][]byte{}}
	s.root = n.symbol("swapper_pg_dir") - uint64(n.number("NUMBER(va_kernel_pa_offset)"))
	bits := n.number("NUMBER(VA_BITS)")
	if err := n.err(); err != nil {
		return nil, err
	}
	switch bits {
	case 39:
		s.levels = 3
	case 48:
		s.levels = 4
	case 57:
		s.levels = 5
	default:
		return nil, fmt.Errorf("NUMBER(VA_BITS)=%d; want 39, 48 or 57", bits)
	}
	return s, nil
}

// page returns one page of physical memory, which must not be written to.
func (s *space) page(pfn uint64) ([]byte, error) {
	if b, ok := s.pages[pfn]; ok {
		return b, nil
	}
	if len(s.pages) > 8192 {
		clear(s.pages)
	}
	b := make([]byte, pageSize)
	if err := s.c.readPage(pfn, b); err != nil {
		return nil, err
	}
	s.pages[pfn] = b
	return b, nil
}

func pteFrame(pte uint64) uint64 { return pte >> 10 & (1<<44 - 1) }
func pteValid(pte uint64) bool   { return pte&1 != 0 }
func pteLeaf(pte uint64) bool    { return pte&0xe != 0 }

// translate walks the page tables for one virtual address.
func (s *space) translate(va uint64) (uint64, error) {
	base, size, err := s.leaf(va)
	return base | va&(size-1), err
}

// leaf finds the leaf that maps a virtual address: where its memory begins, and how
// much it is.
func (s *space) leaf(va uint64) (base, size uint64, err error) {
	if top := int64(va) >> (12 + 9*s.levels - 1); top != 0 && top != -1 {
		return 0, 1, fmt.Errorf("%#x is no address of %d levels", va, s.levels)
	}
	table := s.root / pageSize
	for level := s.levels - 1; level >= 0; level-- {
		shift := 12 + 9*level
		b, err := s.page(table)
		if err != nil {
			return 0, 1, fmt.Errorf("%#x: page table of level %d: %w", va, level, err)
		}
		pte := binary.LittleEndian.Uint64(b[va>>shift&511*8:])
		if !pteValid(pte) {
			return 0, 1, fmt.Errorf("%#x: %w", va, errNotMapped)
		}
		if pteLeaf(pte) {
			size = 1 << shift
			return pteFrame(pte) * pageSize &^ (size - 1), size, nil
		}
		table = pteFrame(pte)
	}
	return 0, 1, fmt.Errorf("%#x: no leaf at the last level", va)
}

// read reads virtual memory.
func (s *space) read(va uint64, n int) ([]byte, error) {
	out := make([]byte, 0, n)
	for n > 0 {
		pa, err := s.translate(va)
		if err != nil {
			return nil, err
		}
		b, err := s.page(pa / pageSize)
		if err != nil {
			return nil, err
		}
		b = b[pa%pageSize:]
		b = b[:min(n, len(b))]
		out = append(out, b...)
		va += uint64(len(b))
		n -= len(b)
	}
	return out, nil
}

func (s *space) u64(va uint64) (uint64, error) {
	b, err := s.read(va, 8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// walk visits every table and every leaf of the kernel's half.
func (s *space) walk(visit func(va, pfn, pages uint64, table bool)) error {
	var down func(table uint64, level int, va uint64) error
	down = func(table uint64, level int, va uint64) error {
		visit(va, table, 1, true)
		b, err := s.page(table)
		if err != nil {
			return fmt.Errorf("page table of level %d for %#x: %w", level, va, err)
		}
		b = append([]byte(nil), b...) // the cache may be emptied below
		shift := 12 + 9*level
		for i := range uint64(512) {
			pte := binary.LittleEndian.Uint64(b[i*8:])
			at := va | i<<shift
			if level == s.levels-1 {
				if i < 256 {
					continue // user space
				}
				at |= ^uint64(0) << (shift + 9) // addresses are sign-extended
			}
			switch {
			case !pteValid(pte):
			case pteLeaf(pte):
				visit(at, pteFrame(pte), 1<<(9*level), false)
			case level > 0:
				if err := down(pteFrame(pte), level-1, at); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return down(s.root/pageSize, s.levels-1, 0)
}
