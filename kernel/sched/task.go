// Package sched tells what a dead kernel's scheduler knew: tasks with their
// states and times, run queues, uptime and load.
package sched

import "github.com/panicroom-kdump/panicroom/kernel"

// Task is a thread as ps shows it. Times are in nanoseconds.
type Task struct {
	Addr   kernel.VirtAddr `json:"addr"` // of its task_struct
	PID    int32           `json:"pid"`
	TGID   int32           `json:"tgid"` // of the process it is a thread of
	PPID   int32           `json:"ppid"`
	UID    uint32          `json:"uid"`
	Comm   string          `json:"comm"`
	State  string          `json:"state"`            // one letter, as in /proc/PID/stat: R S D T t X Z P I
	CPU    int             `json:"cpu"`              // where it ran last; -1 if unknown
	OnCPU  bool            `json:"on_cpu"`           // it ran at the crash
	Kernel bool            `json:"kernel"`           // a kernel thread
	Policy string          `json:"policy,omitempty"` // "fifo", "rr", "deadline", "batch", "idle"; "" is the normal one
	Prio   int32           `json:"prio"`             // as the kernel counts: 0-99 real time, 100-139 normal

	UserTime   uint64 `json:"user_ns"`
	SystemTime uint64 `json:"system_ns"`
	Started    uint64 `json:"started_ns"` // after boot
	// LastRan is when it last came to a CPU or, if it is not on one, left it, on the scheduler's clock;
	// Idle is how long before the crash that was: the time that it has waited.
	LastRan uint64 `json:"last_ran_ns,omitempty"`
	Idle    uint64 `json:"idle_ns,omitempty"`

	RSS  uint64 `json:"rss"`  // bytes of memory that are there
	Size uint64 `json:"size"` // bytes of address space

	Stack kernel.VirtAddr `json:"stack"` // its lowest address
	MM    kernel.VirtAddr `json:"mm,omitempty"`
}

// Blocked tells whether the task waits for something that nothing can interrupt,
// which is what D in ps is, tasks that idle this way left out.
func (t *Task) Blocked() bool { return t.State == blocked }

const blocked = "D"

// RunQueue is what one CPU had to do.
type RunQueue struct {
	CPU     int    `json:"cpu"`
	Current Ref    `json:"current"`
	Running uint64 `json:"running"` // tasks that could run, the current one among them
	Clock   uint64 `json:"clock_ns"`
	// Waiting are those in its queues, current one left out, in the order in
	// which they would have run.
	Waiting []Ref `json:"waiting,omitempty"`
}

// Ref names a task.
type Ref struct {
	Addr  kernel.VirtAddr `json:"addr"`
	PID   int32           `json:"pid"`
	Comm  string          `json:"comm"`
	Class string          `json:"class,omitempty"` // "deadline", "rt", "fair"; "" of the current one
}

// Load is how busy the machine was.
type Load struct {
	Uptime   uint64         `json:"uptime_ns"` // time since boot, without suspend
	Averages [3]float64     `json:"averages"`  // of 1, 5 and 15 minutes
	Tasks    int            `json:"tasks"`
	States   map[string]int `json:"states"` // how many of them, by State
}
