// Package lock tells which tasks of a dead kernel wait for a lock, and who holds
// it.
//
// Most kernels do not write down what a task waits for. But whoever waits for a
// mutex or the like is on the lock's list with a struct that lies on its own
// stack: it is looked for there, and the list leads to the lock.
package lock

import (
	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
)

// Lock is a sleeping lock that tasks wait for.
type Lock struct {
	Addr kernel.VirtAddr `json:"addr"`
	Kind string          `json:"kind"`
	Name string          `json:"name,omitempty"` // of the variable that it is in, if it is in one: "rtnl_mutex"
	// Owner holds it; nil when that is not known, as of locks that are taken for
	// reading, or that are held by no task, as those of a frozen filesystem are.
	Owner *sched.Ref `json:"owner,omitempty"`
	// Last took it last, as far as the kernel remembers, and may have let go since:
	// of semaphores, and of readers.
	Last *sched.Ref `json:"last,omitempty"`
	// Readers is how many hold it for reading.
	Readers uint64 `json:"readers,omitempty"`
	// Waiters in the order in which they stand in its list.
	Waiters []sched.Ref `json:"waiters"`
}

// The kinds of locks. What is a mutex elsewhere is an rtmutex in a kernel with
// PREEMPT_RT.
const (
	Mutex       = "mutex"
	RWSem       = "rwsem"
	Semaphore   = "semaphore"
	PerCPURWSem = "percpu_rwsem" // holds writers off a filesystem that is frozen, among others
	RTMutex     = "rtmutex"
)

// Chain is who blocks whom: each waits for a lock that the next one holds. It
// ends with a task that waits for no lock, or with a lock of which nobody knows
// who holds it; or, as a deadlock, with a lock that one of the tasks before
// holds.
type Chain struct {
	Tasks    []sched.Ref       `json:"tasks"`
	Locks    []kernel.VirtAddr `json:"locks"` // Locks[i] is what Tasks[i] waits for
	Deadlock bool              `json:"deadlock,omitempty"`
}
