// Package value reads any object of a dead kernel by the types that the kernel
// carries of itself, for people who ask for it by name: structs, variables, what a
// pointer points to. A report needs none of this and does not pay for it: all types
// of a kernel take some megabytes.
//
// What is read is bounded in depth, in bytes and in members, and memory that the
// dump does not have is said in its place.
package value

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/btf"
)

// Types are all types of a dead kernel and its modules. It is safe for concurrent
// use.
type Types struct {
	k    *kernel.Kernel
	core *btf.Spec

	// Of modules, which are read when the kernel proper does not have an answer.
	mu      sync.Mutex
	modules []module
	read    bool
	err     error // why some are missing
}

type module struct {
	name string
	spec *btf.Spec
}

// New reads the types of the kernel proper. The error is ErrNotFound of package
// kernel where it was built without BTF.
func New(k *kernel.Kernel) (*Types, error) {
	r, err := k.BTF()
	if err != nil {
		return nil, err
	}
	raw := make([]byte, r.Size()) // bounded by BTF
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, fmt.Errorf("types of the kernel: %w", err)
	}
	core, err := btf.Parse(raw, nil)
	if err != nil {
		return nil, fmt.Errorf("types of the kernel: %w", err)
	}
	return &Types{k: k, core: core}, nil
}

// maxModuleTypes bounds the bytes of all modules' types: a kernel with everything
// loaded has 30 MB.
const maxModuleTypes = 256 << 20

// ofModules reads the types of modules, as many as can be read; the error says why
// some are missing.
func (t *Types) ofModules() ([]module, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.read {
		return t.modules, t.err
	}
	t.read = true
	var total uint64
	for m, err := range t.k.ModuleBTFs() {
		if errors.Is(err, kernel.ErrNotFound) || errors.Is(err, kernel.ErrNoInfo) {
			break // modules of this kernel have none
		}
		if err == nil && total+m.Size > maxModuleTypes {
			err = fmt.Errorf("%d bytes of types of modules: %w", total+m.Size, kernel.ErrCorrupt)
		}
		if err != nil {
			t.err = errors.Join(t.err, err)
			break
		}
		total += m.Size
		raw := make([]byte, m.Size)
		err = t.k.ReadVirt(raw, m.Addr)
		var spec *btf.Spec
		if err == nil {
			spec, err = btf.Parse(raw, t.core)
		}
		if err != nil {
			t.err = errors.Join(t.err, fmt.Errorf("types of %s: %w", m.Module, err))
			continue
		}
		t.modules = append(t.modules, module{m.Module, spec})
	}
	return t.modules, t.err
}

// Found is a type of a name.
type Found struct {
	btf.Type
	Module string // "" of the kernel proper
	// Others is how many other types have that name, in drivers mostly.
	Others int
}

// kinds are what may be asked for by a name, by the word before it.
var kinds = map[string][]btf.Kind{
	"struct": {btf.Struct}, "union": {btf.Union}, "enum": {btf.Enum, btf.Enum64},
	"": {btf.Struct, btf.Union, btf.Enum, btf.Enum64, btf.Typedef, btf.Int, btf.Float},
}

// Find is the type of a name, with or without "struct", "union" or "enum" before it.
// A type of the kernel proper comes before those of modules; of several it is the
// one with the most members. The error is ErrNotFound of package kernel.
func (t *Types) Find(name string) (Found, error) {
	word, rest, ok := strings.Cut(strings.TrimSpace(name), " ")
	if _, keyword := kinds[word]; !ok || !keyword {
		word, rest = "", strings.TrimSpace(name)
	}
	return t.find(strings.TrimSpace(rest), kinds[word])
}

// Function is the type of a function.
func (t *Types) Function(name string) (Found, error) { return t.find(name, []btf.Kind{btf.Func}) }

// Variable is the type of a variable. Most kernels tell it of per-CPU variables
// alone.
func (t *Types) Variable(name string) (Found, error) { return t.find(name, []btf.Kind{btf.Var}) }

func (t *Types) find(name string, kinds []btf.Kind) (Found, error) {
	all, err := t.core.Find(name, kinds...)
	if err != nil {
		return Found{}, err
	}
	if len(all) > 0 {
		return most("", all), nil
	}
	modules, missing := t.ofModules()
	for _, m := range modules {
		all, err := m.spec.Find(name, kinds...)
		if err != nil {
			return Found{}, fmt.Errorf("types of %s: %w", m.name, err)
		}
		if len(all) > 0 {
			return most(m.name, all), nil
		}
	}
	if missing != nil {
		return Found{}, fmt.Errorf("type %q: %w; not all types could be read: %w", name, kernel.ErrNotFound, missing)
	}
	return Found{}, fmt.Errorf("type %q: %w", name, kernel.ErrNotFound)
}

// most is the type that has the most to say.
func most(module string, all []btf.Type) Found {
	best := all[0]
	for _, t := range all[1:] {
		if t.Len() > best.Len() {
			best = t
		}
	}
	return Found{best, module, len(all) - 1}
}

// Names yields the names of all structs, unions, enums and typedefs that begin with
// a prefix, some of them more than once.
func (t *Types) Names(prefix string, yield func(name string)) {
	modules, _ := t.ofModules()
	for _, m := range append([]module{{"", t.core}}, modules...) {
		m.spec.Names(prefix, kinds[""], yield)
	}
}
