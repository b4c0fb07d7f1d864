// Package lock tells which tasks of a dead kernel wait for a lock, and who holds
// it.
package lock

import (
	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
)

// Lock is a sleeping lock that tasks wait for.
type Lock struct {
	Addr kernel.VirtAddr `json:"addr"`
	Kind string          `json:"kind"`           // "mutex", "rwsem"
	Name string          `json:"name,omitempty"` // of the variable, if it is one
	// Owner holds it; nil when that is not known, as of an rwsem's readers.
	Owner *sched.Ref `json:"owner,omitempty"`
	// Readers is how many readers hold an rwsem.
	Readers uint64      `json:"readers,omitempty"`
	Waiters []sched.Ref `json:"waiters"`
}

// Chain is who blocks whom: each waits for a lock that the next one holds. It
// ends with a task that waits for no lock, or, as a deadlock, with one that
// stands in it already.
type Chain struct {
	Tasks    []sched.Ref       `json:"tasks"`
	Locks    []kernel.VirtAddr `json:"locks"` // Locks[i] is what Tasks[i] waits for
	Deadlock bool              `json:"deadlock,omitempty"`
}
