package kernel

// SymbolAt finds the function or variable that va is in, and how far into it.
// The error is ErrNotFound when va is in none, or why symbols cannot be read.
func (k *Kernel) SymbolAt(va VirtAddr) (sym Symbol, offset uint64, err error) {
	sym, err = k.coreSymbolAt(va)
	if err != nil {
		return Symbol{}, 0, err
	}
	return sym, uint64(va - sym.Addr), nil
}
