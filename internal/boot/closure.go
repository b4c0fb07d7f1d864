package boot

import (
	"fmt"
	"slices"
)

// Closure lists the modules to load for the named ones, each once, in an order
// in which they load: what a module depends on comes before it. Names may be
// aliases, and built-in modules need nothing and are left out. Soft
// dependencies are taken along if they exist, on the side that they ask for. A
// name that is nowhere is an error wrapping [ErrNoModule].
func (t *ModuleTree) Closure(names ...string) ([]Module, error) {
	w := &walk{tree: t, begun: map[string]bool{}, loaded: map[string]bool{}}
	needed := map[string]bool{}
	for _, name := range names {
		wanted, known := t.resolve(name)
		if !known {
			return nil, &hinted{fmt.Errorf("%w: %s", ErrNoModule, name),
				"if it was installed just now, run: depmod RELEASE"}
		}
		for _, m := range wanted {
			if err := w.all(m); err != nil {
				return nil, err
			}
			needed[m] = true
			t.anyDep(m, func(d string) bool { needed[d] = true; return false })
		}
	}
	for i := range w.order {
		w.order[i].Soft = !needed[w.order[i].Name]
	}
	return w.order, nil
}

// resolve finds the modules of the tree that a name or an alias means. known
// tells whether it means anything, in the tree or built in.
func (t *ModuleTree) resolve(name string) (names []string, known bool) {
	n := ModuleName(name)
	if _, ok := t.modules[n]; ok {
		return []string{n}, true
	}
	// A name may be built in and an alias of a module as well, and modprobe takes
	// the alias: to f2fs "crc32" means crc32_generic, while the library of that name
	// is in the kernel (Debian's 6.12).
	known = t.builtin[n]
	for _, n := range t.ByAlias(name) {
		if _, ok := t.modules[n]; ok {
			names, known = append(names, n), true
		} else if t.builtin[n] {
			known = true
		}
	}
	return names, known
}

// walk puts modules behind what they depend on.
type walk struct {
	tree   *ModuleTree
	begun  map[string]bool // so that a circle ends
	loaded map[string]bool // begun and in order
	later  []string        // wishes that wait for what is only begun
	order  []Module
}

// all adds a module and then the wishes that had to wait for it.
func (w *walk) all(name string) error {
	for list := []string{name}; len(list) > 0; list = w.later {
		w.later = nil
		for _, m := range list {
			if err := w.add(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// add appends a module of the tree behind its dependencies.
func (w *walk) add(name string) error {
	if w.begun[name] || w.tree.builtin[name] {
		return nil
	}
	m, ok := w.tree.modules[name]
	if !ok {
		return fmt.Errorf("%w: %s", ErrNoModule, name)
	}
	w.begun[name] = true
	if err := w.wish(w.tree.soft[name].pre); err != nil {
		return err
	}
	for _, d := range m.Deps {
		if err := w.add(d); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	w.loaded[name] = true
	w.order = append(w.order, m)
	return w.wish(w.tree.soft[name].post)
}

// wish adds what soft dependencies mean, if it is there with all that it needs.
func (w *walk) wish(list []string) error {
	for _, s := range list {
		found, _ := w.tree.resolve(s)
		for _, f := range found {
			missing := w.tree.anyDep(f, func(d string) bool {
				_, ok := w.tree.modules[d]
				return !ok && !w.tree.builtin[d]
			})
			if missing {
				continue
			}
			if w.tree.anyDep(f, func(d string) bool { return w.begun[d] && !w.loaded[d] }) {
				// It needs what is just being loaded, so it cannot be
				// first.
				w.later = append(w.later, f)
			} else if err := w.add(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// anyDep tells whether something is true of any module that one needs. depmod
// lists them all with each module, but who knows who wrote the table.
func (t *ModuleTree) anyDep(name string, is func(string) bool) bool {
	seen := map[string]bool{}
	var any func(string) bool
	any = func(name string) bool {
		return slices.ContainsFunc(t.modules[name].Deps, func(d string) bool {
			if seen[d] {
				return false
			}
			seen[d] = true
			return is(d) || any(d)
		})
	}
	return any(name)
}
