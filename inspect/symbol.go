package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/value"
)

// Symbols asks for symbols by their names, which may have wildcards, or by addresses
// in them.
type Symbols struct{ Names []string }

// SymbolList are symbols of the kernel and its modules.
type SymbolList struct {
	Symbols []Symbol `json:"symbols"`
}

// Symbol is a function or a variable.
type Symbol struct {
	Name   string          `json:"name"`
	Module string          `json:"module,omitempty"`
	Type   string          `json:"type"` // as nm prints it
	Addr   kernel.VirtAddr `json:"addr"`
	Size   uint64          `json:"size,omitempty"`
	// Offset is how far behind it the address is that was asked for.
	Offset uint64 `json:"offset,omitempty"`
}

func symbolOf(s kernel.Symbol, off uint64) Symbol {
	return Symbol{s.Name, s.Module, string(rune(s.Type)), s.Addr, s.Size, off}
}

// Ask answers.
func (q Symbols) Ask(s *Session) (Answer, error) {
	list := &SymbolList{Symbols: []Symbol{}}
	var missing error
	for _, name := range q.Names {
		found, err := s.symbolsOf(name)
		list.Symbols = append(list.Symbols, found...)
		missing = errors.Join(missing, err)
	}
	if len(list.Symbols) == 0 && missing != nil {
		return nil, missing
	}
	return list, missing
}

func (s *Session) symbolsOf(name string) ([]Symbol, error) {
	wild := strings.ContainsAny(name, "*?[")
	if wild {
		if _, err := path.Match(name, ""); err != nil {
			return nil, fmt.Errorf("pattern %q: %w", name, err)
		}
	}
	var found []Symbol
	match := func(sym kernel.Symbol) {
		if ok, err := path.Match(name, sym.Name); sym.Name == name || wild && err == nil && ok {
			found = append(found, symbolOf(sym, 0))
		}
	}
	var missing error
	for sym, err := range s.k.Symbols() {
		if err != nil {
			missing = err
			break
		}
		match(sym)
	}
	for m, err := range s.k.Modules() {
		if err != nil {
			missing = errors.Join(missing, err)
			break
		}
		for sym, err := range s.k.ModuleSymbols(&m) {
			if err != nil {
				missing = errors.Join(missing, err)
				break
			}
			match(sym)
		}
	}
	if len(found) > 0 {
		slices.SortStableFunc(found, func(a, b Symbol) int { return cmp.Compare(a.Addr, b.Addr) })
		return found, missing
	}
	if wild {
		return nil, errors.Join(fmt.Errorf("symbols like %s: %w", name, kernel.ErrNotFound), missing)
	}
	at, err := value.Address(s.k, name)
	if err != nil {
		if errors.Is(err, kernel.ErrNotFound) {
			err = &hinted{err, fmt.Sprintf("sym '*%s*' lists the symbols that have it in their names", name)}
		}
		return nil, errors.Join(err, missing)
	}
	sym, off, err := s.k.SymbolAt(at)
	if err != nil {
		return nil, errors.Join(err, missing)
	}
	return []Symbol{symbolOf(sym, off)}, nil
}

// Write writes one symbol a line, as nm does.
func (l *SymbolList) Write(w io.Writer, _ int) error {
	for _, s := range l.Symbols {
		name := s.Name
		if name == "" {
			name = "?"
		}
		at := uint64(s.Addr)
		if s.Offset > 0 {
			name += fmt.Sprintf("+%#x", s.Offset)
			at += s.Offset
		}
		if s.Size > 0 {
			name += fmt.Sprintf("/%#x", s.Size)
		}
		if s.Module != "" {
			name += " [" + s.Module + "]"
		}
		if _, err := fmt.Fprintf(w, "%016x %s %s\n", at, s.Type, name); err != nil {
			return err
		}
	}
	return nil
}
