package kernel

import (
	"errors"
	"fmt"
	"io"

	"github.com/panicroom-kdump/panicroom/kernel/btf"
)

// Layout is how this kernel lays out its structs: the one of [Options] if it
// agrees with vmcoreinfo, else made from the BTF that the dump contains. It is
// looked for once. The error is ErrNotFound if the kernel was built without
// BTF (CONFIG_DEBUG_INFO_BTF), ErrLayout if what there is belongs to another
// kernel.
func (k *Kernel) Layout() (*Layout, error) {
	k.layoutMu.Lock()
	defer k.layoutMu.Unlock()
	if k.layout == nil && k.layoutErr == nil {
		k.layout, k.layoutErr = k.findLayout()
	}
	return k.layout, k.layoutErr
}

// knownLayout is the layout if no search is needed for it, else nil.
func (k *Kernel) knownLayout() *Layout {
	k.layoutMu.Lock()
	defer k.layoutMu.Unlock()
	if k.layout == nil && k.opts.Layout.Agrees(k.info.Offset, k.info.Size) == nil {
		k.layout = k.opts.Layout
	}
	return k.layout
}

func (k *Kernel) findLayout() (*Layout, error) {
	var given error
	if l := k.opts.Layout; l != nil {
		if given = l.Agrees(k.info.Offset, k.info.Size); given == nil {
			return l, nil
		}
	}
	l, err := k.layoutInDump()
	if err != nil {
		return nil, errors.Join(given, err)
	}
	return l, nil
}

func (k *Kernel) layoutInDump() (*Layout, error) {
	r, err := k.BTF()
	if err != nil {
		return nil, err
	}
	l, err := LayoutFromBTF(r)
	if err != nil {
		return nil, fmt.Errorf("BTF in the dump: %w", err)
	}
	if err := l.Agrees(k.info.Offset, k.info.Size); err != nil {
		return nil, fmt.Errorf("BTF in the dump: %w", err)
	}
	return l, nil
}

// BTF is the raw BTF that the kernel carries between the symbols __start_BTF
// and __stop_BTF, read from the dump as it is asked for.
func (k *Kernel) BTF() (*io.SectionReader, error) {
	syms, err := k.Lookup("__start_BTF", "__stop_BTF")
	if err != nil {
		return nil, fmt.Errorf("BTF in the dump: %w", err)
	}
	start, ok1 := syms["__start_BTF"]
	stop, ok2 := syms["__stop_BTF"]
	if !ok1 || !ok2 || stop == start {
		return nil, fmt.Errorf("kernel has no BTF: %w", ErrNotFound)
	}
	size := uint64(stop - start)
	if stop < start || size > 2*btf.MaxSection {
		return nil, fmt.Errorf("BTF from %#x to %#x: %w", start, stop, ErrCorrupt)
	}
	return io.NewSectionReader(virtReader{k, start}, 0, int64(size)), nil
}

// virtReader reads kernel memory as a file that begins at start.
type virtReader struct {
	k     *Kernel
	start VirtAddr
}

func (r virtReader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.k.ReadVirt(p, r.start+VirtAddr(off)); err != nil {
		return 0, err
	}
	return len(p), nil
}
