package kernel

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

var _ Memory = (*vmcore.Dump)(nil)

// Open looks at the kernel in a dump; see [New] for the errors. The dump must
// stay open as long as the Kernel is used.
func Open(d *vmcore.Dump, opts *Options) (*Kernel, error) {
	k, err := New(d, d.Machine(), d.VMCoreInfo(), d.Notes(), opts)
	if err != nil {
		return nil, fmt.Errorf("kernel in the dump: %w", err)
	}
	return k, nil
}

// Check proves that addresses are translated rightly: the page tables agree
// with arithmetic about where the kernel's text is, and the release in memory
// is that in vmcoreinfo. The error says what does not fit.
func (k *Kernel) Check() error {
	if text, ok := k.info.Symbol("_stext"); ok {
		want, _, fixed := k.arch.fixed(text)
		got, _, err := k.Walk(text)
		if err != nil {
			return fmt.Errorf("_stext: %w", err)
		}
		if fixed && got != want {
			return fmt.Errorf("page tables have _stext (%#x) at %#x, vmcoreinfo has it at %#x: %w",
				uint64(text), uint64(got), uint64(want), ErrCorrupt)
		}
	}
	_, err := k.Utsname()
	return err
}
