package main

import (
	"fmt"
	"slices"

	"github.com/panicroom-kdump/panicroom/kernel/sched"
)

const (
	whyThreadParent reason = "crash's PPID is the thread that is the parent, ours its process, as getppid(2) has it"
	whyIdleParent   reason = "crash's parent of an idle task is that of the task which started its CPU; we read real_parent, which is that task"
	whyStart        reason = "crash reads start_time, ours is start_boottime, as in /proc/PID/stat; the kernel takes one right after the other"
)

// states are crash's words for the letters of /proc/PID/stat.
var states = map[string]string{
	"R": "RU", "S": "IN", "D": "UN", "T": "ST", "t": "TR", "X": "DE", "Z": "ZO", "P": "PA", "I": "ID",
}

// compareTasks compares each task.
func compareTasks(o *ours, t *theirs) *comparison {
	c := &comparison{Question: askTasks, What: "tasks"}
	process := map[uint64]int32{} // by PID of a thread
	for _, x := range o.tasks {
		process[uint64(x.PID)] = x.TGID
	}
	pair(c, o.tasks, t.tasks,
		func(x sched.Task) uint64 { return uint64(x.Addr) }, func(y theirTask) uint64 { return y.addr },
		func(x sched.Task, y theirTask) {
			name := fmt.Sprintf("PID %d (%s)", x.PID, x.Comm)
			c.same(name+": PID", uint64(uint32(x.PID)), y.pid)
			why := reason("")
			if x.PID == 0 && y.ppid == 0 {
				why = whyIdleParent
			} else if tgid, ok := process[y.ppid]; ok && tgid == x.PPID {
				why = whyThreadParent
			}
			c.allow(why, name+": parent", uint64(uint32(x.PPID)), y.ppid)
			c.same(name+": CPU", uint64(x.CPU), y.cpu)
			c.same(name+": state", states[x.State], y.state)
			c.same(name+": name", x.Comm, y.comm)
			c.same(name+": kernel thread", x.Kernel, y.kernel)
			c.same(name+": on a CPU", x.OnCPU, y.active)
			c.same(name+": address space, KiB", x.Size>>10, y.vsz)
			c.same(name+": memory, KiB", x.RSS>>10, y.rss)
		},
		func(x sched.Task) { c.missing("", fmt.Sprintf("PID %d (%s)", x.PID, x.Comm), true) },
		func(y theirTask) { c.missing("", fmt.Sprintf("PID %d (%s)", y.pid, y.comm), false) })
	return c
}

// compareTimes compares when each task began and what it used.
func compareTimes(o *ours, t *theirs) *comparison {
	c := &comparison{Question: askTimes, What: "tasks"}
	pair(c, o.tasks, t.times,
		func(x sched.Task) uint64 { return uint64(x.Addr) }, func(y theirTimes) uint64 { return y.addr },
		func(x sched.Task, y theirTimes) {
			name := fmt.Sprintf("PID %d (%s)", x.PID, x.Comm)
			why := reason("")
			if y.started == o.started[x.Addr] && y.started < x.Started {
				why = whyStart
			}
			c.allow(why, name+": began, ns", x.Started, y.started)
			c.same(name+": user time, ns", x.UserTime, y.user)
			c.same(name+": system time, ns", x.SystemTime, y.system)
		},
		func(x sched.Task) { c.missing("", fmt.Sprintf("PID %d (%s)", x.PID, x.Comm), true) },
		func(y theirTimes) { c.missing("", fmt.Sprintf("task %v", addr(y.addr)), false) })
	return c
}

// compareRunQueues compares what each CPU ran and what waited for it.
func compareRunQueues(o *ours, t *theirs) *comparison {
	c := &comparison{Question: askRunQueues, What: "CPUs"}
	pair(c, o.runQueues, t.runQueues,
		func(x sched.RunQueue) uint64 { return uint64(x.CPU) }, func(y theirQueue) uint64 { return y.cpu },
		func(x sched.RunQueue, y theirQueue) {
			name := fmt.Sprintf("CPU %d", x.CPU)
			c.same(name+": task", addr(x.Current.Addr), addr(y.current.task))
			c.same(name+": PID", uint64(uint32(x.Current.PID)), y.current.pid)
			c.same(name+": name", x.Current.Comm, y.current.comm)
			var a, b []uint64
			for _, w := range x.Waiting {
				a = append(a, uint64(w.Addr))
			}
			for _, w := range y.waiting {
				b = append(b, w.task)
			}
			// The order in which they would have run is another matter: crash walks
			// its trees by group.
			slices.Sort(a)
			slices.Sort(b)
			c.same(name+": waiting", fmt.Sprintf("%x", a), fmt.Sprintf("%x", b))
		},
		func(x sched.RunQueue) { c.missing("", fmt.Sprintf("CPU %d", x.CPU), true) },
		func(y theirQueue) { c.missing("", fmt.Sprintf("CPU %d", y.cpu), false) })
	return c
}
