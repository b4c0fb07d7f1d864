package report

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/block"
	"github.com/panicroom-kdump/panicroom/kernel/disasm"
	"github.com/panicroom-kdump/panicroom/kernel/fs"
	"github.com/panicroom-kdump/panicroom/kernel/lock"
	"github.com/panicroom-kdump/panicroom/kernel/mm"
	"github.com/panicroom-kdump/panicroom/kernel/net"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
)

// Bounds of what is reported of a dead kernel's structs.
const (
	defaultTasks = 10_000
	maxBlocked   = 4096 // tasks whose stacks are read
	maxGroups    = 64   // different stacks of blocked tasks
	maxSlabs     = 20

	codeBefore, codeAfter = 8, 4 // instructions around the one at fault
)

// look adds what the dead kernel's structs say of the machine: what no log has
// and what no crash note has; with that it explains the crash. cpus are those of
// the report, in its order.
func (r *Report) look(k *kernel.Kernel, in *incident, cpus []kernel.CPU, opts *Options) {
	limit := defaultTasks
	if opts != nil && opts.Tasks > 0 {
		limit = opts.Tasks
	}
	r.readTasks(k, limit)
	ran := r.readStacks(k, cpus)
	r.explain(k, in, r.crashedStack(), r.stuckStack(in), ran)
	r.readCode(k)
	r.readMemory(k)
	var err error
	r.Locks, r.Chains, err = lock.Find(k, r.Tasks)
	r.lacks(err)
	r.Disks, err = block.Disks(k)
	r.lacks(err)
	r.Mounts, err = fs.Mounts(k)
	r.lacks(err)
	r.Net, err = net.Interfaces(k)
	r.lacks(err)
}

// readCode shows the instructions around the one at fault.
func (r *Report) readCode(k *kernel.Kernel) {
	if r.Fault == nil || r.Fault.PC == 0 {
		return
	}
	var err error
	if r.Fault.Code, err = disasm.Around(k, r.Fault.PC, codeBefore, codeAfter); err != nil {
		r.missing("code at the fault", err)
	}
}

// crashedStack is what ran on the CPU that crashed; nil if that is not known.
func (r *Report) crashedStack() *stack.Stack {
	if len(r.CPUs) == 0 || !r.CPUs[0].Crashed {
		return nil
	}
	return r.CPUs[0].Stack
}

// stuckStack is that of the task or the CPU that did not get on; nil if nothing
// is stuck, or it is not known.
func (r *Report) stuckStack(in *incident) *stack.Stack {
	for _, c := range r.CPUs {
		if in.stuckCPU >= 0 && int64(c.Number) == in.stuckCPU {
			return c.Stack
		}
	}
	if in.stuck == nil {
		return nil
	}
	for i := range r.Blocked {
		for _, t := range r.Blocked[i].Tasks {
			if int64(t.PID) == in.stuck.PID {
				return &r.Blocked[i].Stack
			}
		}
	}
	return nil
}

// readTasks lists the tasks, at most limit, and what ran and waited to run.
func (r *Report) readTasks(k *kernel.Kernel, limit int) {
	tasks, rest, err := sched.First(k, limit)
	r.lacks(err)
	r.Tasks = tasks
	r.RunQueues, err = sched.RunQueues(k)
	r.lacks(err)
	load, err := sched.ReadLoad(k, tasks)
	r.lacks(err)
	more := 0
	for state, n := range rest {
		load.States[state] += n
		more += n
	}
	if load.Tasks += more; more > 0 {
		r.missing("tasks", fmt.Errorf("%d more, which neither ran nor were blocked", more))
	}
	r.Load = &load
}

// readStacks says what ran on each CPU, and what blocked tasks wait for. It
// returns the task_struct of what ran on the CPU that crashed; 0 is unknown.
func (r *Report) readStacks(k *kernel.Kernel, cpus []kernel.CPU) (crashed kernel.VirtAddr) {
	current := make(map[int]sched.Ref, len(r.RunQueues))
	for _, q := range r.RunQueues {
		current[q.CPU] = q.Current
	}
	u, err := stack.New(k)
	if err != nil {
		r.lacks(err)
		return 0
	}
	for i, c := range cpus {
		// What ran says the scheduler; a note that disagrees is of another moment.
		task := current[c.Number]
		if uint32(task.PID) != c.PID {
			task = sched.Ref{}
		}
		s := u.CPU(c, task.Addr)
		r.CPUs[i].Comm, r.CPUs[i].Stack = printable(task.Comm), &s
		if r.CPUs[i].Crashed {
			crashed = task.Addr
		}
	}
	r.readBlocked(u)
	return crashed
}

// readBlocked puts blocked tasks with equal stacks together: a hundred that wait
// for the same are one fact.
func (r *Report) readBlocked(u *stack.Unwinder) {
	groups := make(map[string]*Group)
	blocked, others := 0, 0
	for _, t := range r.Tasks {
		if !t.Blocked() || t.OnCPU {
			continue
		}
		if blocked++; blocked > maxBlocked {
			continue
		}
		s := u.Sleeping(t.Addr)
		key := places(&s)
		g := groups[key]
		if g == nil {
			if len(groups) == maxGroups {
				others++
				continue
			}
			g = &Group{Stack: s}
			groups[key] = g
		}
		g.Longest = max(g.Longest, t.Idle)
		g.Tasks = append(g.Tasks, sched.Ref{Addr: t.Addr, PID: t.PID, Comm: t.Comm})
	}
	if n := others + max(blocked-maxBlocked, 0); n > 0 {
		r.missing("stacks of blocked tasks", fmt.Errorf("%d more", n))
	}
	if len(groups) == 0 {
		return
	}
	waited := make(map[int32]uint64, len(r.Tasks))
	for _, t := range r.Tasks {
		waited[t.PID] = t.Idle
	}
	for _, g := range groups {
		slices.SortStableFunc(g.Tasks, func(a, b sched.Ref) int { return cmp.Compare(waited[b.PID], waited[a.PID]) })
		r.Blocked = append(r.Blocked, *g)
	}
	slices.SortFunc(r.Blocked, func(a, b Group) int {
		return cmp.Or(cmp.Compare(len(b.Tasks), len(a.Tasks)), cmp.Compare(b.Longest, a.Longest),
			cmp.Compare(a.Tasks[0].PID, b.Tasks[0].PID))
	})
}

// places is what makes two stacks equal: where the kernel was, whatever program it
// worked for.
func places(s *stack.Stack) string {
	var b strings.Builder
	for _, f := range s.Frames {
		if f.Interrupted && f.Regs != nil && f.Regs.User {
			break
		}
		fmt.Fprintf(&b, "%#x ", uint64(f.PC))
	}
	return b.String()
}

// readMemory says what memory was used for.
func (r *Report) readMemory(k *kernel.Kernel) {
	var err error
	r.Memory, err = mm.Read(k)
	r.lacks(err)
	if r.Memory != nil {
		for _, m := range r.Memory.Missing {
			r.missing("memory", errors.New(m))
		}
	}
	r.Slabs, err = mm.Caches(k)
	r.lacks(err)
	r.Slabs = r.Slabs[:min(len(r.Slabs), maxSlabs)]
}
