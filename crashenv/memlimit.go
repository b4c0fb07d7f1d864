package crashenv

import (
	"runtime/debug"

	"github.com/panicroom-kdump/panicroom/capture"
)

const (
	// MinMemLimit is the least that anybody may ask for, in bytes: less than the
	// program takes with one thread is no limit but a wish.
	MinMemLimit = 16 << 20
	// What is chosen in the panic room is between these.
	minAutoLimit = 32 << 20
	maxAutoLimit = 256 << 20
)

// memLimit is what saving a dump may take in the panic room: what was asked
// for, else half of what the panic kernel has left for programs when the target
// is mounted. The other half is for what is written and not on the disk yet.
func memLimit(asked, available uint64) uint64 {
	switch {
	case asked > 0:
		return asked
	case available == 0:
		return capture.DefaultMemLimit
	}
	return min(max(available/2, minAutoLimit), maxAutoLimit)
}

// LimitHeap keeps Go's heap small: garbage is memory that the kernel needs.
// limit is what the whole process may take, in bytes, 0 for no limit. It is of
// the process, so whoever calls it is its main or almost.
func LimitHeap(limit uint64) {
	debug.SetGCPercent(50)
	if limit > 0 {
		// The rest is the binary, stacks of threads, and windows into the dump.
		debug.SetMemoryLimit(int64(limit / 4 * 3))
	}
}
