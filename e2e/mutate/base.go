package mutate

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Base is a dump that is whole, and where it is read.
type Base struct {
	file   io.ReaderAt
	size   int64
	dump   *vmcore.Dump
	layout *kernel.Layout // nil if there is none
	types  bool           // it can be found in the dump, too

	inFile, inMemory *places
}

// Open opens the dump in a file. Close it.
func Open(path string) (*Base, io.Closer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	b, err := NewBase(f, st.Size(), nil, Questions())
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return b, f, nil
}

// NewBase asks the questions of the dump in r to learn where answers come from.
// layout is for dumps without types.
func NewBase(r io.ReaderAt, size int64, layout *kernel.Layout, questions []Question) (*Base, error) {
	b := &Base{file: r, size: size, layout: layout}
	var file, memory tape
	d, err := vmcore.New(tapedFile{r, &file}, size)
	if err != nil {
		return nil, err
	}
	b.dump = d
	k, err := kernel.New(tapedMemory{d, &memory}, d.Machine(), d.VMCoreInfo(), d.Notes(), &kernel.Options{Layout: layout})
	if err != nil {
		return nil, err
	}
	if l, err := k.Layout(); err == nil {
		b.layout = l
	}
	_, err = k.BTF()
	b.types = err == nil
	for _, q := range questions {
		if err := q.Ask(k, io.Discard); err != nil {
			return nil, fmt.Errorf("%s of the undamaged dump: %w", q.Name, err)
		}
	}
	b.inFile, b.inMemory = file.places(), memory.places()
	if len(b.inFile.all) == 0 || len(b.inMemory.all) == 0 {
		return nil, errors.New("nothing was read of the undamaged dump")
	}
	return b, nil
}

// Places is how many places of the file and of memory were read.
func (b *Base) Places() (file, memory int) { return len(b.inFile.all), len(b.inMemory.all) }

// damaged is the dump of a run: how to open it, and what is wrong with it, for
// people. That it cannot be opened is as good an end as any.
func (b *Base) damaged(seed uint64, run int) (open func() (*kernel.Kernel, error), what string) {
	d := newDamager(seed, run)
	var opts kernel.Options
	// As in the crash kernel, which brings the layout along, or as elsewhere.
	if d.IntN(2) == 0 || !b.types {
		opts.Layout = b.layout
	}
	if run%2 == 0 {
		f := d.file(b.file, b.size, b.inFile)
		open = func() (*kernel.Kernel, error) {
			dump, err := vmcore.New(f, f.size)
			if err != nil {
				return nil, err
			}
			return kernel.Open(dump, &opts)
		}
	} else {
		info, notes := b.dump.VMCoreInfo(), b.dump.Notes()
		switch d.IntN(12) {
		case 0:
			info = d.text(info)
		case 1:
			notes = d.notes(notes)
		}
		memory := d.memory(b.dump, b.inMemory)
		open = func() (*kernel.Kernel, error) {
			return kernel.New(memory, b.dump.Machine(), info, notes, &opts)
		}
	}
	return open, strings.TrimSuffix(d.say.String(), "; ")
}
