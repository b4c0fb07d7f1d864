package block

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// clock is the time of the crash on the clock that requests are stamped by,
// CLOCK_MONOTONIC, in nanoseconds: when the kernel's timekeeping went on for the
// last time, which is a tick ago at most as long as any CPU works. The log's
// clock is another one, that nobody corrects by NTP. struct tk_fast,
// kernel/time/timekeeping.c (Linux 6.1 to 7.2).
func clock(k *kernel.Kernel) (uint64, error) {
	at, err := k.Variable("tk_fast_mono")
	if err != nil {
		return 0, err
	}
	return readClock(k, at)
}

func readClock(k *kernel.Kernel, at kernel.VirtAddr) (uint64, error) {
	fast, err := k.Struct("tk_fast", "seq", "base")
	if err != nil {
		return 0, err
	}
	read, err := k.Struct("tk_read_base", "base", "xtime_nsec", "shift")
	if err != nil {
		return 0, err
	}
	o, err := fast.At(at)
	if err != nil {
		return 0, err
	}
	// There are two: while one is written the other is valid, the one that the
	// lowest bit of the sequence counter names.
	b := read.In(o, "base", int(o.Uint("seq")&1))
	shift := b.Uint("shift")
	if shift > 32 {
		return 0, fmt.Errorf("tk_read_base.shift is %d: %w", shift, kernel.ErrCorrupt)
	}
	return b.Uint("base") + b.Uint("xtime_nsec")>>shift, nil
}
