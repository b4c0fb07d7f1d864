package host

import (
	"fmt"
	"io/fs"
	"path"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
)

// unflattenedDir has the live device tree: a directory per node, a file per
// property (/proc/device-tree is a link to it).
const unflattenedDir = "sys/firmware/devicetree/base"

// Bounds of a live device tree; a large server's has some thousand nodes.
const (
	maxNodes = 1 << 16
	maxDepth = 64
)

// unflattened makes a device tree blob of the live tree. What it lacks is the
// list of memory reservations, which belong to the running kernel.
func (r *reader) unflattened() ([]byte, error) {
	t := fdt.New()
	nodes, size := 0, 0
	var fill func(n *fdt.Node, dir string, depth int) error
	fill = func(n *fdt.Node, dir string, depth int) error {
		if nodes++; nodes > maxNodes || depth > maxDepth {
			return fmt.Errorf("/%s: more than %d nodes or %d levels: %w", dir, maxNodes, maxDepth, ErrCorrupt)
		}
		entries, err := fs.ReadDir(r.fsys, dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			switch {
			case e.IsDir():
				err = fill(n.AddChild(e.Name()), name, depth+1)
			case e.Name() == "name": // the kernel's own, drivers/of/fdt.c
			default:
				var v []byte
				if v, err = r.file(name, maxFDT); err != nil {
					break
				}
				if size += len(v); size > maxFDT {
					return fmt.Errorf("/%s: more than %d bytes: %w", dir, maxFDT, ErrCorrupt)
				}
				n.Set(e.Name(), v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := fill(t.Root, unflattenedDir, 0); err != nil {
		return nil, err
	}
	return t.Marshal()
}
