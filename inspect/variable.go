package inspect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/value"
)

// WhatIs asks how C declares a name: a type, a function or a variable.
type WhatIs struct{ Name string }

// Ask answers.
func (q WhatIs) Ask(s *Session) (Answer, error) {
	types, err := s.Types()
	if err != nil {
		return nil, err
	}
	for _, ask := range []func(string) (value.Found, error){types.Find, types.Function, types.Variable} {
		t, err := ask(q.Name)
		if notFound(err) {
			continue
		} else if err != nil {
			return nil, corrupt(err)
		}
		if t.Keyword() == "" && t.Size == 0 {
			return &Prototype{Name: q.Name, Module: t.Module, typ: t}, nil
		}
		return declaration(t, nil)
	}
	list, err := Symbols{Names: []string{q.Name}}.Ask(s)
	if err != nil {
		return nil, &hinted{fmt.Errorf("neither a type nor a symbol has the name %q: %w", q.Name, kernel.ErrNotFound), fmt.Sprintf("sym '*%s*' lists the symbols that have it in their names", q.Name)}
	}
	return list, nil
}

// Prototype is how C declares a function, a variable or another name of a type.
type Prototype struct {
	Name   string `json:"name"`
	Module string `json:"module,omitempty"`

	typ value.Found
}

// Write writes the declaration.
func (p *Prototype) Write(w io.Writer, _ int) error { return p.typ.Write(w) }

// Print asks what a variable says.
type Print struct {
	// Name is the variable's, with :CPU behind it if there is one on each CPU, and
	// with a member.
	Name string
	Hex  bool
}

// Variable is what a variable says.
type Variable struct {
	Name  string          `json:"name"`
	Addr  kernel.VirtAddr `json:"addr"`
	Value any             `json:"value"`

	text func(w io.Writer) error
}

// Variables are variables, several where each CPU has one.
type Variables struct {
	Variables []Variable `json:"variables"`
}

// Ask answers.
func (q Print) Ask(s *Session) (Answer, error) {
	name, path := q.Name, ""
	if i := strings.IndexAny(name, ".["); i > 0 {
		name, path = name[:i], strings.TrimPrefix(name[i:], ".")
	}
	if i := strings.Index(name, "->"); i > 0 {
		name, path = name[:i], strings.TrimPrefix(q.Name[i+2:], ".")
	}
	symbol, _, onCPU := strings.Cut(name, ":")
	at, err := value.Symbol(s.k, symbol)
	if err != nil {
		return nil, &hinted{err, fmt.Sprintf("sym '*%s*' lists the symbols that have it in their names", symbol)}
	}
	var t value.Found
	types, err := s.Types()
	if err == nil {
		t, err = types.Variable(symbol)
	}
	if err != nil {
		if path != "" {
			return nil, &hinted{fmt.Errorf("the type of %s is not known", symbol), "name it: struct TYPE." + path + " " + name}
		}
		return s.untyped(symbol, at, q.Hex)
	}
	typ, err := t.Elem()
	if err != nil {
		return nil, corrupt(err)
	}
	all := &Variables{}
	cpus := []string{name}
	if !onCPU {
		if cpus, err = s.everyCPU(symbol, at); err != nil {
			return nil, err
		}
	}
	r := value.NewReader(s.k, s.Names())
	for _, one := range cpus {
		addr, err := s.address(one)
		if err != nil {
			return all.some(), err
		}
		v, err := r.Read(typ, addr)
		if path != "" {
			v, err = r.Member(typ, addr, path)
			one += "." + path
		}
		if err != nil {
			return all.some(), corrupt(err)
		}
		v.Name = one
		all.Variables = append(all.Variables, Variable{one, addr, v, func(w io.Writer) error { return v.Write(w, value.Style{Hex: q.Hex}) }})
	}
	return all, nil
}

func (v *Variables) some() Answer {
	if len(v.Variables) == 0 {
		return nil
	}
	return v
}

// everyCPU are the names of a variable that each CPU has, or of the one that there
// is.
func (s *Session) everyCPU(name string, at kernel.VirtAddr) ([]string, error) {
	syms, err := s.k.Lookup("__per_cpu_start", "__per_cpu_end")
	if err != nil {
		return nil, err
	}
	if start, end := syms["__per_cpu_start"], syms["__per_cpu_end"]; at < start || at >= end {
		return []string{name}, nil
	}
	p, err := s.k.PerCPU()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, cpu := range p.CPUs {
		all = append(all, fmt.Sprintf("%s:%d", name, cpu))
	}
	return all, nil
}

// maxUntyped is up to which size a variable of an unknown type may be a number, with
// what there is behind it until the next one.
const maxUntyped = 64

// untyped reads a variable of which only the room that it has is known.
func (s *Session) untyped(name string, at kernel.VirtAddr, hex bool) (Answer, error) {
	sym, off, err := s.k.SymbolAt(at)
	if err != nil {
		return nil, err
	}
	if off != 0 || sym.Size == 0 || sym.Size > maxUntyped {
		return nil, &hinted{fmt.Errorf("the type of %s, which has room for %d bytes, is not known", name, sym.Size),
			"the kernel tells types of per-CPU variables alone; name it: struct TYPE " + name + ", or rd " + name}
	}
	size, note := sym.Size, ""
	if size&(size-1) != 0 || size > 8 {
		size = min(8, size)
		note = fmt.Sprintf(", the first %d bytes of %d; its type is unknown", size, sym.Size)
	}
	var b [8]byte
	if err := s.k.ReadVirt(b[:size], at); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(b[:])
	text := func(w io.Writer) error {
		s := fmt.Sprintf("%s = %d (%#x%s)", name, n, n, note)
		if hex {
			s = fmt.Sprintf("%s = %#x%s", name, n, note)
		}
		_, err := fmt.Fprintln(w, s)
		return err
	}
	return &Variables{[]Variable{{name, at, n, text}}}, nil
}

// Write writes name = value.
func (v *Variables) Write(w io.Writer, _ int) error {
	var all error
	for _, one := range v.Variables {
		all = errors.Join(all, one.text(w))
	}
	return all
}
