package value

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Names says which symbols addresses are in. Most pointers point to memory that has
// no name, and to ask a symbol table about each would take long: the ranges that
// have names are known first.
type Names struct {
	k      *kernel.Kernel
	ranges []addresses
	seen   map[kernel.VirtAddr]string
}

type addresses struct {
	from, to kernel.VirtAddr // without to
}

// maxSeen bounds the names that are remembered.
const maxSeen = 1 << 14

// NewNames looks where the kernel and its modules are.
func NewNames(k *kernel.Kernel) *Names {
	n := &Names{k: k, seen: make(map[kernel.VirtAddr]string)}
	syms, err := k.Lookup("_stext", "_end")
	if from, to := syms["_stext"], syms["_end"]; err == nil && from != 0 && from < to {
		n.ranges = append(n.ranges, addresses{from, to})
	}
	for m, err := range k.Modules() {
		if err != nil {
			break // what is known of others is right
		}
		for _, p := range m.Memory {
			if to := p.Base + kernel.VirtAddr(p.Size); to > p.Base {
				n.ranges = append(n.ranges, addresses{p.Base, to})
			}
		}
	}
	return n
}

// Of is the name of what is at an address, as symbol+offset [module]; "" where
// nothing with a name is.
func (n *Names) Of(va kernel.VirtAddr) string {
	for _, r := range n.ranges {
		if va < r.from || va >= r.to {
			continue
		}
		if s, ok := n.seen[va]; ok {
			return s
		}
		s := ""
		if sym, off, err := n.k.SymbolAt(va); err == nil && sym.Name != "" {
			s = sym.Name
			if off > 0 {
				s += fmt.Sprintf("+%#x", off)
			}
			if sym.Module != "" {
				s += " [" + sym.Module + "]"
			}
		}
		if len(n.seen) < maxSeen {
			n.seen[va] = s
		}
		return s
	}
	return ""
}
