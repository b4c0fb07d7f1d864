package stack

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// code knows where the kernel's instructions are, and remembers calls.
type code struct {
	src  source
	arch *arch

	text    []region // of the kernel and of modules, ascending and apart
	boot    []region // of it, what is only run at boot: other bytes may be there now
	unnamed region   // where code without names may be: BPF, trampolines
	entry   region
	first   []region
	graph   kernel.VirtAddr // where watched functions return to; 0 if there is none
	hidden  []kernel.VirtAddr

	sites map[kernel.VirtAddr]*site
}

// site is what is known about an address in code.
type site struct {
	sym    kernel.Symbol
	named  bool
	call   call // that ends there
	target string
	same   region // the function that is called, whatever else its names are
	doubt  string
}

func (c *code) read(src source, a *arch, syms map[string]kernel.VirtAddr) error {
	c.src, c.arch = src, a
	c.sites = make(map[kernel.VirtAddr]*site)
	between := func(from, to string) region {
		if start, end := syms[from], syms[to]; start != 0 && end > start {
			return region{start, uint64(end - start)}
		}
		return region{}
	}
	text := between("_stext", "_etext")
	if text.size == 0 {
		return fmt.Errorf("symbols _stext and _etext: %w", kernel.ErrNotFound)
	}
	c.boot = []region{between("_start", "_stext"), between("_sinittext", "_einittext")}
	c.text = append([]region{text}, c.boot...)
	// A list of modules that is damaged, or types that are missing, cost the
	// modules.
	for m, err := range src.Modules() {
		if err != nil {
			break
		}
		for _, p := range m.Memory {
			c.text = append(c.text, region{p.Base, p.Size})
		}
	}
	c.text = joined(c.text)
	if from, ok := src.Info().Number("MODULES_VADDR"); ok {
		if to, ok := src.Info().Number("MODULES_END"); ok && to > from {
			c.unnamed = region{kernel.VirtAddr(from), uint64(to - from)}
		}
	}
	for _, end := range a.entryEnd {
		if c.entry = between(a.entry, end); c.entry.size != 0 {
			break
		}
	}
	if c.entry.size == 0 {
		return fmt.Errorf("symbols %s and %s: %w", a.entry, strings.Join(a.entryEnd, " or "), kernel.ErrNotFound)
	}
	for _, name := range a.first {
		if start, ok := syms[name]; ok {
			size := uint64(1)
			if sym, _, err := src.SymbolAt(start); err == nil {
				size = sym.Size
			}
			c.first = append(c.first, region{start, size})
		}
	}
	c.graph = syms[a.graphReturn]
	for _, name := range append([]string{a.graphReturn}, a.probeReturn...) {
		if at, ok := syms[name]; ok {
			c.hidden = append(c.hidden, at)
		}
	}
	return nil
}

func inAny(all []region, va kernel.VirtAddr) bool {
	return slices.ContainsFunc(all, func(r region) bool { return r.has(va) })
}

// joined are regions in ascending order, with those that overlap made one.
func joined(all []region) []region {
	slices.SortFunc(all, func(a, b region) int { return cmp.Compare(a.start, b.start) })
	var out []region
	for _, r := range all {
		r.size = min(r.size, uint64(-r.start)-1)
		if n := len(out); n > 0 && r.start <= out[n-1].end() {
			out[n-1].size = max(out[n-1].size, uint64(r.end()-out[n-1].start))
		} else if r.size > 0 {
			out = append(out, r)
		}
	}
	return out
}

// isText tells whether a function may be at va.
func (c *code) isText(va kernel.VirtAddr) bool {
	if c.unnamed.has(va) {
		return true
	}
	i := sort.Search(len(c.text), func(i int) bool { return c.text[i].start > va })
	return i > 0 && c.text[i-1].has(va)
}

// begins tells whether a stack begins in the function at va.
func (c *code) begins(va kernel.VirtAddr) bool { return inAny(c.first, va) }

// symbol names the code at va.
func (c *code) symbol(va kernel.VirtAddr) (kernel.Symbol, bool) {
	sym, _, err := c.src.SymbolAt(va)
	return sym, err == nil && sym.Name != ""
}

// at is what is known about the return address ra.
func (c *code) at(ra kernel.VirtAddr) *site {
	if s, ok := c.sites[ra]; ok {
		return s
	}
	if len(c.sites) >= maxSites {
		clear(c.sites)
	}
	s := c.look(ra)
	c.sites[ra] = s
	return s
}

func (c *code) look(ra kernel.VirtAddr) *site {
	s := new(site)
	// A return address belongs to the call before it, which may be the last
	// instruction of its function. Places that are entered otherwise have none, and
	// of the boot's code only its names are left.
	before := ra - 1
	hidden := slices.Contains(c.hidden, ra)
	own := hidden || c.begins(ra) || c.entry.has(ra)
	if own {
		before = ra
	}
	own = own || inAny(c.boot, before)
	if !c.isText(before) {
		s.doubt = "no code is there"
		return s
	}
	if s.sym, s.named = c.symbol(before); !s.named {
		s.doubt = "no function is known there"
	}
	code := make([]byte, c.arch.callBytes)
	if err := c.src.ReadVirt(code, ra-kernel.VirtAddr(len(code))); err != nil {
		if s.doubt == "" && !own {
			s.doubt = fmt.Sprintf("its code cannot be read: %v", err)
		}
		return s
	}
	s.call = c.arch.call(code, ra)
	switch {
	case hidden:
		s.doubt = "its caller is not known"
	case own:
		s.call.target = 0
	case !s.call.ok && s.doubt == "":
		s.doubt = "not after a call"
	}
	if t := s.call.target; t != 0 && c.isText(t) {
		if sym, ok := c.symbol(t); ok {
			s.target, s.same = sym.Name, region{sym.Addr, sym.Size}
		}
	}
	return s
}

// returnsTo tells whether ra is an address that a call left.
func (c *code) returnsTo(ra kernel.VirtAddr) bool {
	if !c.isText(ra - 1) {
		return c.begins(ra)
	}
	s := c.at(ra)
	return s.call.ok || s.doubt == ""
}

// frame makes one of a return address.
func (c *code) frame(ra kernel.VirtAddr) (Frame, *site) {
	s := c.at(ra)
	f := Frame{PC: ra, Doubt: s.doubt}
	if s.named {
		f.name(s.sym, ra)
	}
	return f, s
}

func (f *Frame) name(sym kernel.Symbol, pc kernel.VirtAddr) {
	f.Function, f.Module = sym.Name, sym.Module
	f.Offset, f.Size = uint64(pc-sym.Addr), sym.Size
}

// sameFunction tells whether two names are of one function, parts of which a
// compiler may have put elsewhere: "f.cold", "f.part.0", "f.isra.0".
func sameFunction(a, b string) bool {
	cut := func(s string) string { s, _, _ = strings.Cut(s, "."); return s }
	return cut(a) == cut(b)
}

// framed tells whether the function that was interrupted at pc had set up its
// frame pointer; known is false if its code does not tell.
func (c *code) framed(sym kernel.Symbol, pc kernel.VirtAddr) (framed, known bool) {
	n := uint64(pc - sym.Addr)
	if n > 256 {
		return false, false
	}
	code := make([]byte, n)
	if err := c.src.ReadVirt(code, sym.Addr); err != nil {
		return false, false
	}
	return c.arch.framed(code), true
}
