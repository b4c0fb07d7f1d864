package kernel

import (
	"fmt"
	"iter"

	"github.com/panicroom-kdump/panicroom/kernel/btf"
)

// ModuleBTF is where the types of a module are: struct btf_module, kernel/bpf/btf.c
// (Linux 5.11 to 7.2). They go on from those of the kernel proper.
type ModuleBTF struct {
	Module string
	Addr   VirtAddr // of the raw BTF
	Size   uint64   // bytes
}

// ModuleBTFs yields the types of modules, the module loaded first first. The error
// is ErrNotFound or ErrNoInfo where the kernel keeps none.
func (k *Kernel) ModuleBTFs() iter.Seq2[ModuleBTF, error] {
	return func(yield func(ModuleBTF, error) bool) {
		if err := k.moduleBTFs(func(m ModuleBTF) bool { return yield(m, nil) }); err != nil {
			yield(ModuleBTF{}, fmt.Errorf("types of modules: %w", err))
		}
	}
}

func (k *Kernel) moduleBTFs(yield func(ModuleBTF) bool) error {
	head, err := k.Variable("btf_modules")
	if err != nil {
		return err
	}
	entry, err := k.Struct("btf_module", "list", "module", "btf")
	if err != nil {
		return err
	}
	types, err := k.Struct("btf", "data", "data_size")
	if err != nil {
		return err
	}
	module, err := k.Struct("module", "name")
	if err != nil {
		return err
	}
	n := 0
	for at, err := range k.List(head, entry.Offset("list")) {
		if n++; err == nil && n > maxModules {
			err = fmt.Errorf("more than %d: %w", maxModules, ErrCorrupt)
		}
		if err != nil {
			return err
		}
		e, err := entry.At(at)
		if err != nil {
			return err
		}
		t, err := types.At(e.Pointer("btf"))
		if err != nil {
			return err
		}
		m, err := module.At(e.Pointer("module"))
		if err != nil {
			return err
		}
		found := ModuleBTF{m.String("name"), t.Pointer("data"), t.Uint("data_size")}
		if found.Size > 2*btf.MaxSection {
			return fmt.Errorf("%d bytes of %s: %w", found.Size, found.Module, ErrCorrupt)
		}
		if !yield(found) {
			return nil
		}
	}
	return nil
}
