package capture

import (
	"errors"
	"fmt"
	"syscall"
)

// ErrLimit is what writing beyond the limit of a [Limit] file fails with.
var ErrLimit = errors.New("the file would be larger than it may be")

// Limit makes a file that takes no byte at offset size and beyond, as a full
// disk would.
func Limit(f File, size uint64) File { return &limited{f, size} }

type limited struct {
	File
	size uint64
}

// WriteAt writes what fits.
func (l *limited) WriteAt(p []byte, off int64) (int, error) {
	if room := l.size - min(uint64(off), l.size); uint64(len(p)) > room {
		n, err := l.File.WriteAt(p[:room], off)
		if err == nil {
			err = fmt.Errorf("%w: %d bytes", ErrLimit, l.size)
		}
		return n, err
	}
	return l.File.WriteAt(p, off)
}

// NoRoom tells whether err is for want of room for a dump: a smaller one may
// fit.
func NoRoom(err error) bool {
	for _, full := range []error{ErrLimit, ErrNoRoom, syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return true
		}
	}
	return false
}

// Fit saves at the first of some levels at which the dump fits: when run fails
// for want of room, it runs again with the next level, after empty has emptied
// the files and heard why. What the last run gives is the result.
func Fit(levels []int, run func(level int) (*Result, error), empty func(next int, why error) error) (res *Result, err error) {
	for i, level := range levels {
		if i > 0 {
			if err := empty(level, err); err != nil {
				return nil, err
			}
		}
		if res, err = run(level); err == nil || !NoRoom(err) {
			break
		}
	}
	return res, err
}
