package kernel

import (
	"sync"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// cachedPages is how many translations are kept: 4 KiB of memory, enough for
// the stacks and modules that a question goes through.
const cachedPages = 256

// translations keeps the last pages that were found in the page tables. Stacks
// and modules are read in small pieces; without this, each costs three to five
// reads of page tables besides its own. It is safe for concurrent use.
type translations struct {
	mu    sync.Mutex
	pages [cachedPages]struct {
		virt uint64 // number of the page, plus 1; 0 is none
		phys vmcore.PhysAddr
	}
}

// live is what memory says that goes on changing, as that of the running
// machine: what was mapped there a moment ago may be elsewhere now.
type live interface{ Live() bool }

// walk is [Kernel.Walk], with what it found before. left is at least to the end
// of the page.
func (k *Kernel) walk(va VirtAddr) (pa vmcore.PhysAddr, left uint64, err error) {
	if m, ok := k.mem.(live); ok && m.Live() {
		return k.Walk(va)
	}
	size := k.arch.PageSize
	number, off := uint64(va)/size, uint64(va)%size
	t := &k.translations
	slot := &t.pages[number%cachedPages]
	t.mu.Lock()
	if slot.virt == number+1 {
		pa = slot.phys + vmcore.PhysAddr(off)
		t.mu.Unlock()
		return pa, size - off, nil
	}
	t.mu.Unlock()
	if pa, left, err = k.Walk(va); err == nil {
		t.mu.Lock()
		slot.virt, slot.phys = number+1, pa-vmcore.PhysAddr(off)
		t.mu.Unlock()
	}
	return pa, left, err
}
