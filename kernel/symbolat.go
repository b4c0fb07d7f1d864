package kernel

import "errors"

// SymbolAt finds the function or variable that va is in, in the kernel proper
// or in a module, and how far into it. The error is ErrNotFound when va is in
// none, or why symbols cannot be read.
func (k *Kernel) SymbolAt(va VirtAddr) (sym Symbol, offset uint64, err error) {
	sym, err = k.coreSymbolAt(va)
	if errors.Is(err, ErrNotFound) {
		// Modules can be listed only with types; without, the first answer stands.
		if m, merr := k.moduleSymbolAt(va); merr == nil {
			sym, err = m, nil
		}
	}
	if err != nil {
		return Symbol{}, 0, err
	}
	return sym, uint64(va - sym.Addr), nil
}
