package report

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/mm"
)

// maxSlabs is how many slab caches are reported.
const maxSlabs = 20

// look adds what the dead kernel's structs say of the machine: what no log has
// and what no crash note has.
func (r *Report) look(k *kernel.Kernel) {
	r.readMemory(k)
}

// readMemory says what memory was used for.
func (r *Report) readMemory(k *kernel.Kernel) {
	var err error
	if r.Memory, err = mm.Read(k); err != nil {
		r.missing("memory", err)
	}
	if r.Memory != nil {
		for _, m := range r.Memory.Missing {
			r.missing("memory", fmt.Errorf("%s", m))
		}
	}
	if r.Slabs, err = mm.Caches(k); err != nil {
		r.missing("slab caches", err)
	}
	r.Slabs = r.Slabs[:min(len(r.Slabs), maxSlabs)]
}
