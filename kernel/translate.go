package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Extent is virtual memory that is contiguous in physical memory.
type Extent struct {
	Virt VirtAddr
	Phys vmcore.PhysAddr
	Size uint64 // bytes
}

// canonical reports whether va can be an address at all: all bits above the
// width equal the highest one.
func (a *Arch) canonical(va VirtAddr) bool {
	top := int64(va) >> (a.VABits - 1)
	return top == 0 || top == -1
}

// fixed translates addresses of the linear map and of the kernel image, where
// page tables need not be read. left is how many bytes from va on are mapped
// likewise.
func (a *Arch) fixed(va VirtAddr) (pa vmcore.PhysAddr, left uint64, ok bool) {
	for _, m := range [...]Mapping{a.Image, a.Linear} {
		if pa, ok = m.ToPhys(va); ok {
			return pa, m.Size - uint64(va-m.Virt), true
		}
	}
	return 0, 0, false
}

// Translate finds the physical address of a kernel virtual address: by
// arithmetic in the linear map and the kernel image, whether or not there is
// memory, and through the page tables elsewhere. The error is ErrNotMapped, or
// that of reading a page table.
func (k *Kernel) Translate(va VirtAddr) (vmcore.PhysAddr, error) {
	if pa, _, ok := k.arch.fixed(va); ok {
		return pa, nil
	}
	pa, _, err := k.walk(va)
	return pa, err
}

// Walk translates va through the page tables, whatever the address. left is
// the number of bytes from va to the end of what the entry covers, for
// ErrNotMapped too.
func (k *Kernel) Walk(va VirtAddr) (pa vmcore.PhysAddr, left uint64, err error) {
	a := k.arch
	if !a.canonical(va) {
		return 0, 1, fmt.Errorf("%#x is no address in %s: %w", va, a.Mode, ErrNotMapped)
	}
	var entry [8]byte
	table := a.Root
	for level, shift := range a.Shifts {
		index := uint64(va) >> shift & (1<<a.IndexBits - 1)
		at := table + vmcore.PhysAddr(index*8)
		if _, err := k.mem.ReadPhys(entry[:], at); err != nil {
			return 0, 1, fmt.Errorf("page table of %#x, level %d: %w", va, len(a.Shifts)-1-level, err)
		}
		size := uint64(1) << shift
		left := size - uint64(va)&(size-1)
		addr, kind := a.Decode(binary.LittleEndian.Uint64(entry[:]), va)
		switch kind {
		case EntryLeaf:
			return addr&^vmcore.PhysAddr(size-1) | vmcore.PhysAddr(uint64(va)&(size-1)), left, nil
		case EntryNone:
			return 0, left, fmt.Errorf("%#x: %w", va, ErrNotMapped)
		}
		table = addr
	}
	return 0, 1, fmt.Errorf("page tables of %#x are deeper than %s: %w", va, a.Mode, ErrCorrupt)
}

// ReadVirt fills p with kernel memory from va on. On an error the content of p
// is unspecified.
func (k *Kernel) ReadVirt(p []byte, va VirtAddr) error {
	for len(p) > 0 {
		pa, left, ok := k.arch.fixed(va)
		if !ok {
			var err error
			if pa, left, err = k.walk(va); err != nil {
				return err
			}
		}
		n := int(min(uint64(len(p)), left))
		if _, err := k.mem.ReadPhys(p[:n], pa); err != nil {
			return fmt.Errorf("kernel memory at %#x: %w", va, err)
		}
		p = p[n:]
		va += VirtAddr(n)
	}
	return nil
}

// TranslateRange translates length bytes from va on, in ascending order and
// with physically contiguous pieces joined. What is not mapped is left out. A
// page table that cannot be read gives an error for what it covers; whoever
// goes on iterating gets what follows.
func (k *Kernel) TranslateRange(va VirtAddr, length uint64) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		if length == 0 {
			return
		}
		last := va + VirtAddr(length-1)
		if last < va {
			last = ^VirtAddr(0)
		}
		w := walker{k: k}
		var joined Extent
		for {
			pa, left, err := w.lookup(va)
			for _, m := range [...]Mapping{k.arch.Image, k.arch.Linear} {
				if va < m.Virt {
					// A hole of the tables may span what needs no tables.
					left = min(left, uint64(m.Virt-va))
				}
			}
			if uint64(last-va) < left {
				left = uint64(last-va) + 1
			}
			if err == nil {
				if joined.Size > 0 && pa == joined.Phys+vmcore.PhysAddr(joined.Size) && va == joined.Virt+VirtAddr(joined.Size) {
					joined.Size += left
				} else {
					if joined.Size > 0 && !yield(joined, nil) {
						return
					}
					joined = Extent{va, pa, left}
				}
			} else if !errors.Is(err, ErrNotMapped) {
				if joined.Size > 0 && !yield(joined, nil) {
					return
				}
				joined = Extent{}
				if !yield(Extent{Virt: va, Size: left}, err) {
					return
				}
			}
			if uint64(last-va) < left {
				break
			}
			va += VirtAddr(left)
		}
		if joined.Size > 0 {
			yield(joined, nil)
		}
	}
}

// walker translates neighbouring addresses: it keeps the page table last used
// of each level, so that a range costs one read per table.
type walker struct {
	k      *Kernel
	levels [maxLevels]struct {
		addr  vmcore.PhysAddr
		table []byte // nil: nothing kept
	}
}

// maxLevels is how deep the page tables of any architecture are.
const maxLevels = 6

// lookup is Kernel.Walk for one address of a range, with the fixed mappings.
// When a table cannot be read, left covers all of that table.
func (w *walker) lookup(va VirtAddr) (pa vmcore.PhysAddr, left uint64, err error) {
	a := w.k.arch
	if pa, left, ok := a.fixed(va); ok {
		return pa, left, nil
	}
	if !a.canonical(va) {
		// On to the upper half; va is in the gap between the halves.
		return 0, -(uint64(1) << (a.VABits - 1)) - uint64(va), fmt.Errorf("%#x is no address in %s: %w", va, a.Mode, ErrNotMapped)
	}
	at, covers := a.Root, uint64(1)<<(a.Shifts[0]+a.IndexBits)
	for level, shift := range a.Shifts {
		table, err := w.table(level, at)
		if err != nil {
			return 0, covers - uint64(va)&(covers-1), fmt.Errorf("page table of %#x, level %d: %w", va, len(a.Shifts)-1-level, err)
		}
		index := uint64(va) >> shift & (1<<a.IndexBits - 1)
		addr, kind := a.Decode(binary.LittleEndian.Uint64(table[index*8:]), va)
		size := uint64(1) << shift
		left := size - uint64(va)&(size-1)
		switch kind {
		case EntryLeaf:
			pa := addr&^vmcore.PhysAddr(size-1) | vmcore.PhysAddr(uint64(va)&(size-1))
			return pa, left, nil
		case EntryNone:
			return 0, left, fmt.Errorf("%#x: %w", va, ErrNotMapped)
		}
		at, covers = addr, size
	}
	return 0, covers - uint64(va)&(covers-1), fmt.Errorf("page tables of %#x are deeper than %s: %w", va, a.Mode, ErrCorrupt)
}

func (w *walker) table(level int, addr vmcore.PhysAddr) ([]byte, error) {
	l := &w.levels[level]
	if l.table != nil && l.addr == addr {
		return l.table, nil
	}
	buf := l.table
	if buf == nil {
		buf = make([]byte, 8<<w.k.arch.IndexBits)
	}
	l.table = nil
	if _, err := w.k.mem.ReadPhys(buf, addr); err != nil {
		return nil, err
	}
	l.table, l.addr = buf, addr
	return buf, nil
}
