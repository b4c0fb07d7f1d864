package crashenv

import (
	"fmt"
	"io/fs"

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
	f.Modules, f.Targets = nil, []reservation.Kind{reservation.Kind(e.Plan.Target.Type)}
	for _, m := range e.Plan.Modules {
		in, ok := tree.Lookup(m.Name)
		if !ok {
			continue // built in meanwhile; it takes nothing more
		}
		size, err := tree.Size(in)
		if err != nil {
			return err
		}
		f.Modules = append(f.Modules, size)
	}
	return nil
}
