package sched

import (
	"errors"
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// cpus reads what the scheduler has of each CPU: struct rq, kernel/sched/sched.h
// (Linux 6.1 to 7.2).
type cpus struct {
	k  *kernel.Kernel
	rq *kernel.StructReader
	// at are the run queues of the CPUs, by their numbers, which numbers has in
	// ascending order.
	numbers []int
	at      map[int]kernel.VirtAddr
}

func openCPUs(k *kernel.Kernel) (*cpus, error) {
	rq, err := k.Struct("rq", "curr", "idle", "clock", "nr_running", "?clock_task", "?online", "?cfs", "?rt", "?dl", "?scx")
	if err != nil {
		return nil, fmt.Errorf("run queues: %w", err)
	}
	queues, err := k.Variable("runqueues")
	if err != nil {
		return nil, fmt.Errorf("run queues: %w", err)
	}
	c := &cpus{k: k, rq: rq, at: make(map[int]kernel.VirtAddr)}
	switch p, err := k.PerCPU(); {
	case err == nil:
		c.numbers = p.CPUs
		for _, cpu := range p.CPUs {
			c.at[cpu] = p.Addr(queues, cpu)
		}
	case errors.Is(err, kernel.ErrNotFound): // a kernel for one CPU
		c.numbers, c.at[0] = []int{0}, queues
	default:
		return nil, err
	}
	return c, nil
}

// state is the run queue of one CPU.
type state struct {
	cpu                int
	rq                 kernel.Object
	curr, idle         kernel.VirtAddr
	clock, clockOfTask uint64
}

// read reads the run queues of the CPUs that run. Which ones those are is what
// the scheduler says: the mask of online CPUs loses those that the dying kernel
// stops. Run queues that cannot be read are named in the error; the others are
// there.
func (c *cpus) read() ([]state, error) {
	var all []state
	var failed []error
	online := false
	for _, cpu := range c.numbers {
		o, err := c.rq.At(c.at[cpu])
		if err != nil {
			failed = append(failed, fmt.Errorf("run queue of CPU %d: %w", cpu, err))
			continue
		}
		s := state{
			cpu: cpu, rq: o, curr: o.Pointer("curr"), idle: o.Pointer("idle"),
			clock: o.Uint("clock"), clockOfTask: o.Uint("clock_task"),
		}
		if s.curr == 0 {
			continue // never started
		}
		online = online || s.online()
		all = append(all, s)
	}
	if online { // early in a boot none is
		kept := all[:0]
		for _, s := range all {
			if s.online() {
				kept = append(kept, s)
			}
		}
		all = kept
	}
	return all, errors.Join(failed...)
}

// online tells whether the scheduler uses the CPU: rq.online, or that something
// but its idle task runs there.
func (s *state) online() bool {
	return !s.rq.Has("online") || s.rq.Int("online") != 0 || s.curr != s.idle
}

// clocks tell when something was, as the scheduler counts: nanoseconds of
// sched_clock(), which is about time since boot.
type clocks struct {
	// now is the latest that any run queue was brought up to date: a CPU without
	// work does not do that, those that work do at least with each tick.
	now uint64
	// offset is, of each CPU, how much its clock of tasks is behind: that one
	// stands still in interrupts and while a hypervisor runs somebody else.
	offset map[int]uint64
}

func clocksOf(all []state) clocks {
	c := clocks{offset: make(map[int]uint64)}
	for _, s := range all {
		c.now = max(c.now, s.clock)
		if s.clockOfTask != 0 && s.clockOfTask < s.clock {
			c.offset[s.cpu] = s.clock - s.clockOfTask
		}
	}
	return c
}

// since is how long before now a time was, 0 for what is later or unknown.
func (c clocks) since(t uint64) uint64 {
	if t == 0 || t > c.now {
		return 0
	}
	return c.now - t
}
