package kerneltest

import (
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Open opens the machine's kernel, in the machine's own memory or in another that
// stands before it.
func (d *Data) Open(t testing.TB, memory kernel.Memory) *kernel.Kernel {
	t.Helper()
	l, err := kernel.ParseLayout(d.Layout())
	if err != nil {
		t.Fatal(err)
	}
	k, err := kernel.New(memory, vmcore.MachineRISCV, d.Info(), nil, &kernel.Options{Layout: l})
	if err != nil {
		t.Fatal(err)
	}
	return k
}
