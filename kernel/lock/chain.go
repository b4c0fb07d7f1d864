package lock

import (
	"cmp"
	"slices"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
)

// Limits of what is listed: longer chains, and more of them, tell nobody more.
const (
	maxChain  = 64
	maxChains = 100
)

// chains tells who blocks whom, of each lock: deadlocks first, then the longest.
// Of those who wait for one lock, one stands for all.
func chains(locks []Lock) []Chain {
	waits := make(map[kernel.VirtAddr]*Lock) // by the task
	owns := make(map[kernel.VirtAddr]bool)   // tasks that others wait for
	for i := range locks {
		l := &locks[i]
		for _, w := range l.Waiters {
			waits[w.Addr] = l
		}
		if l.Owner != nil {
			owns[l.Owner.Addr] = true
		}
	}
	var all []Chain
	for i := range locks {
		l := &locks[i]
		if len(l.Waiters) == 0 {
			continue
		}
		// Best is somebody whom nobody waits for; in a circle there is none.
		start := l.Waiters[0]
		if n := slices.IndexFunc(l.Waiters, func(w sched.Ref) bool { return !owns[w.Addr] }); n >= 0 {
			start = l.Waiters[n]
		}
		all = append(all, chain(start, waits))
	}
	slices.SortStableFunc(all, func(a, b Chain) int {
		if a.Deadlock != b.Deadlock {
			if a.Deadlock {
				return -1
			}
			return 1
		}
		return cmp.Compare(len(b.Tasks), len(a.Tasks))
	})
	// A chain whose first lock stands in another one is the end of that one.
	told := make(map[kernel.VirtAddr]bool)
	all = slices.DeleteFunc(all, func(c Chain) bool {
		if told[c.Locks[0]] {
			return true
		}
		for _, l := range c.Locks {
			told[l] = true
		}
		return false
	})
	return all[:min(len(all), maxChains)]
}

// chain follows who waits for whom from one task on.
func chain(start sched.Ref, waits map[kernel.VirtAddr]*Lock) Chain {
	c := Chain{Tasks: []sched.Ref{start}}
	for len(c.Tasks) < maxChain {
		l := waits[c.Tasks[len(c.Tasks)-1].Addr]
		if l == nil {
			break
		}
		c.Locks = append(c.Locks, l.Addr)
		if l.Owner == nil {
			break
		}
		if slices.ContainsFunc(c.Tasks, func(t sched.Ref) bool { return t.Addr == l.Owner.Addr }) {
			c.Deadlock = true
			break
		}
		c.Tasks = append(c.Tasks, *l.Owner)
	}
	return c
}
