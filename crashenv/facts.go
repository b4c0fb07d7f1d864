package crashenv

import (
	"fmt"
	"io/fs"
	"slices"

	"github.com/panicroom-kdump/panicroom/internal/boot"
	reservation "github.com/panicroom-kdump/panicroom/reserve"
)

// Facts are what is known of the environment that decides how much memory it needs,
// put into f. modules is the tree that it was built from.
func (e *Environment) Facts(f *reservation.Facts, modules fs.FS) error {
	tree, err := boot.OpenModules(modules)
	if err != nil {
		return fmt.Errorf("modules of %s: %w", e.Plan.Release, err)
	}
	f.Packed, f.Unpacked, f.Limit = uint64(len(e.Initramfs)), e.Unpacked, e.Plan.MemLimit
	f.Modules, f.Targets = nil, nil
	for i := range e.Plan.Targets {
		if kind := e.Plan.Targets[i].needs(); !slices.Contains(f.Targets, kind) {
			f.Targets = append(f.Targets, kind)
		}
	}
	for _, m := range e.Plan.Modules {
		var size boot.ModuleSize
		if i := slices.IndexFunc(e.sizes, func(s boot.ModuleSize) bool { return s.Name == m.Name }); i >= 0 {
			size = e.sizes[i]
		} else if in, ok := tree.Lookup(m.Name); ok {
			if size, err = tree.Size(in); err != nil {
				return err
			}
		}
		shipped := size.File
		if m.Compressed {
			shipped = size.Packed
		}
		f.Modules = append(f.Modules, reservation.Module{ModuleSize: size, Shipped: shipped})
	}
	return nil
}

// needs is what a target is, as far as memory is concerned.
func (t *Target) needs() reservation.Kind {
	switch t.Kind {
	case Partition:
		return reservation.Partition
	case SSH:
		return reservation.SSH
	case NFS:
		return reservation.NFS
	}
	return reservation.Kind(t.Type)
}
