package sched

import (
	"errors"
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// maxUptime is longer than any machine has run: 100 years in nanoseconds.
const maxUptime = 100 * 365 * 24 * 3600 * 1_000_000_000

// ReadLoad tells how busy the machine was. What cannot be read is said in the
// error; the rest is there.
func ReadLoad(k *kernel.Kernel, tasks []Task) (Load, error) {
	l := Load{Tasks: len(tasks), States: make(map[string]int)}
	for _, t := range tasks {
		if t.PID != 0 {
			l.States[t.State]++
		}
	}
	var err1, err2 error
	l.Uptime, err1 = uptime(k)
	l.Averages, err2 = averages(k)
	return l, errors.Join(err1, err2)
}

// averages reads avenrun, of 11 bits after the point: kernel/sched/loadavg.c,
// include/linux/sched/loadavg.h (Linux 6.1 to 7.2).
func averages(k *kernel.Kernel) (a [3]float64, err error) {
	at, err := k.Variable("avenrun")
	if err != nil {
		return a, fmt.Errorf("load: %w", err)
	}
	for i := range a {
		n, err := k.ReadUint64(at + kernel.VirtAddr(8*i))
		if err != nil {
			return a, fmt.Errorf("load: %w", err)
		}
		a[i] = float64(n) / (1 << 11)
	}
	return a, nil
}

// uptime is the monotonic clock: of the timekeeper, else counted in ticks, else
// the time stamp of the log's last record.
func uptime(k *kernel.Kernel) (uint64, error) {
	var errs []error
	for _, ask := range []func(*kernel.Kernel) (uint64, error){timekeeper, ticks, lastRecord} {
		n, err := ask(k)
		if err == nil && (n == 0 || n > maxUptime) {
			err = fmt.Errorf("%d ns: %w", n, kernel.ErrCorrupt)
		}
		if err == nil {
			return n, nil
		}
		errs = append(errs, err)
	}
	return 0, fmt.Errorf("uptime: %w", errors.Join(errs...))
}

// timekeeper reads the monotonic clock where the kernel has brought it up to
// date last, mostly at a tick: kernel/time/timekeeping.c. Up to Linux 6.12
// tk_core is a nameless struct of a sequence counter and the timekeeper, then a
// struct tk_data, since 6.17 the first one of timekeeper_data[].
func timekeeper(k *kernel.Kernel) (uint64, error) {
	tk, err := k.Struct("timekeeper", "tkr_mono")
	if err != nil {
		return 0, err
	}
	base, err := k.Struct("tk_read_base", "base", "xtime_nsec", "shift")
	if err != nil {
		return 0, err
	}
	syms, err := k.Lookup("timekeeper_data", "tk_core")
	at, ok := syms["timekeeper_data"]
	if !ok {
		at, ok = syms["tk_core"]
	}
	if !ok {
		return 0, errors.Join(fmt.Errorf("symbol tk_core: %w", kernel.ErrNotFound), err)
	}
	if data, err := k.Struct("tk_data", "timekeeper"); err == nil {
		at += kernel.VirtAddr(data.Offset("timekeeper"))
	} else {
		seq, err := k.Struct("seqcount_raw_spinlock")
		if err != nil {
			return 0, err
		}
		at += kernel.VirtAddr((seq.Size() + 7) &^ 7)
	}
	o, err := tk.At(at)
	if err != nil {
		return 0, err
	}
	mono := base.In(o, "tkr_mono", 0)
	return mono.Uint("base") + mono.Uint("xtime_nsec")>>(mono.Uint("shift")&63), nil
}

// ticks counts how long the kernel has run in ticks: jiffies begin five minutes
// before they would be too large for 32 bits (INITIAL_JIFFIES,
// include/linux/jiffies.h).
func ticks(k *kernel.Kernel) (uint64, error) {
	var v [2]uint64
	for i, name := range []string{"jiffies_64", "tick_nsec"} {
		at, err := k.Variable(name)
		if err == nil {
			v[i], err = k.ReadUint64(at)
		}
		if err != nil {
			return 0, err
		}
	}
	jiffies, tick := v[0], v[1]
	if tick == 0 || tick > 1_000_000_000 {
		return 0, fmt.Errorf("a tick of %d ns: %w", tick, kernel.ErrCorrupt)
	}
	hz := (1_000_000_000 + tick/2) / tick
	return (jiffies - uint64(uint32(-(300 * hz)))) * tick, nil
}

// lastRecord is when the log's last record was written.
func lastRecord(k *kernel.Kernel) (uint64, error) {
	var last uint64
	for r, err := range k.Log() {
		if err != nil {
			return last, err
		}
		last = uint64(r.Time)
	}
	return last, nil
}
