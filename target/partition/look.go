package partition

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/panicroom-kdump/panicroom/internal/device"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// State is what a look at a partition has shown.
type State struct {
	UUID    string
	Free    uint64 // bytes
	Waiting int    // crashes that no boot has unpacked
}

// Look reads what a partition has, and writes nothing. The error of one that is not
// for crashes says what it holds.
func Look(path string) (State, error) {
	// Not for ourselves alone: it must not get into the way of whoever unpacks.
	f, err := os.Open(path)
	if err != nil {
		return State{}, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return State{}, err
	}
	t, err := open(f, nil, path)
	switch {
	case errors.Is(err, ErrNotOurs):
		return State{}, foreign(f, size, path)
	case errors.Is(err, ErrDamaged):
		return State{}, ui.Hint(fmt.Errorf("%s: %w", path, err), "to give up what is on it: wipefs --all "+path+", then panicroom target init "+path)
	case err != nil:
		return State{}, fmt.Errorf("%s: %w", path, err)
	}
	if end := t.offset(uint32(t.head.Chunks)); end > size {
		return State{}, fmt.Errorf("%s: %w: it was made for %s, and there are %s", path, ErrDamaged, ui.Bytes(uint64(end)), ui.Bytes(uint64(size)))
	}
	s := State{UUID: t.UUID(), Waiting: len(t.table.Crashes)}
	s.Free, err = t.Free()
	return s, err
}

// foreign says what a partition is that is not ours.
func foreign(r io.ReaderAt, size int64, path string) error {
	what, err := device.Holds(r, size)
	prepare := "panicroom target init " + path
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	case what == "":
		return ui.Hint(fmt.Errorf("%s: %w: nothing is on it", path, ErrNotOurs), prepare)
	}
	return ui.Hint(fmt.Errorf("%s: %w: it holds %s", path, ErrNotOurs, what), "choose another partition, and prepare it: panicroom target init DEVICE")
}
