package sched

import (
	"errors"
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// kernelThread is PF_KTHREAD, include/linux/sched.h (Linux 6.1 to 7.2).
const kernelThread = 0x00200000

// maxErrors bounds how many tasks are named in an error as read in part.
const maxErrors = 8

// maxThreads bounds for how many room is made on the kernel's word.
const maxThreads = 1 << 17

// maxRoom bounds how many tasks are listed, those that matter most left out.
const maxRoom = 1 << 20

// Tasks lists every thread: the idle tasks of the CPUs, which are on no list of
// the kernel's, then the processes, the oldest first, each with its threads.
// What could not be read is said in the error; the tasks that could are
// returned with it.
func Tasks(k *kernel.Kernel) ([]Task, error) {
	tasks, _, err := First(k, maxRoom)
	return tasks, err
}

// First is Tasks for whoever has little memory: not more than so many, and as
// many again of those that run or are blocked. rest is how many others there are,
// by their state.
func First(k *kernel.Kernel, most int) (tasks []Task, rest map[string]int, err error) {
	r, err := openTasks(k)
	if err != nil {
		return nil, nil, fmt.Errorf("tasks: %w", err)
	}
	r.most = most
	r.makeRoom()
	if err := r.all(); err != nil {
		return r.tasks, r.rest, fmt.Errorf("tasks: %w", err)
	}
	return r.tasks, r.rest, nil
}

// reader reads tasks: struct task_struct, include/linux/sched.h.
type reader struct {
	k                                *kernel.Kernel
	task, info, sched, entity, creds *kernel.StructReader
	memory                           *memory
	states                           []state
	clocks                           clocks
	onCPU                            map[kernel.VirtAddr]bool

	most    int // of tasks
	rest    map[string]int
	tasks   []Task
	parents []kernel.VirtAddr // of each of tasks
	errs    []error
	failed  int // how many there were

	// Threads of one process have one; it is not read for each.
	cred kernel.VirtAddr
	uid  uint32
}

func openTasks(k *kernel.Kernel) (*reader, error) {
	r := &reader{k: k, onCPU: make(map[kernel.VirtAddr]bool), rest: make(map[string]int)}
	var err error
	r.task, err = k.Struct("task_struct", "pid", "tgid", "comm", "flags", "stack", "exit_state", "real_parent", "prio",
		"policy", "utime", "stime", "mm", "real_cred", "se", "?thread_info", "?cpu", "?state", "?__state", "?on_cpu",
		"?start_boottime", "?sched_info")
	if err != nil {
		return nil, err
	}
	if !r.task.Has("state") && !r.task.Has("__state") {
		return nil, fmt.Errorf("task_struct.__state: %w", kernel.ErrNoInfo)
	}
	if r.entity, err = k.Struct("sched_entity", "exec_start"); err != nil {
		return nil, err
	}
	if r.creds, err = k.Struct("cred", "euid"); err != nil {
		return nil, err
	}
	if r.task.Has("thread_info") {
		if r.info, err = k.Struct("thread_info", "?cpu"); err != nil {
			return nil, err
		}
	}
	if r.task.Has("sched_info") {
		// It is empty without CONFIG_SCHED_INFO.
		if r.sched, err = k.Struct("sched_info", "?last_arrival"); err != nil && !errors.Is(err, kernel.ErrNoInfo) {
			return nil, err
		}
	}
	if r.memory, err = openMemory(k); err != nil {
		return nil, err
	}
	// Without run queues there are still tasks.
	c, err := openCPUs(k)
	if err == nil {
		r.states, err = c.read()
	}
	if err != nil {
		r.fail(err)
	}
	r.clocks = clocksOf(r.states)
	for _, s := range r.states {
		r.onCPU[s.curr] = true
	}
	return r, nil
}

// makeRoom makes the lists as long as the kernel says that there are threads
// (nr_threads, kernel/fork.c), so that they need not be copied as they grow. A
// wrong number costs nothing: memory that is not used is not there.
func (r *reader) makeRoom() {
	at, err := r.k.Variable("nr_threads")
	if err != nil {
		return
	}
	if n, err := r.k.ReadUint32(at); err == nil && n <= maxThreads {
		r.tasks = make([]Task, 0, min(int(n)+len(r.states), r.most))
		r.parents = make([]kernel.VirtAddr, 0, cap(r.tasks))
	}
}

// fail notes what could not be read, the first of them with their reasons.
func (r *reader) fail(err error) {
	if r.failed++; r.failed <= maxErrors {
		r.errs = append(r.errs, err)
	}
}

func (r *reader) all() error {
	idle := make(map[kernel.VirtAddr]bool, len(r.states))
	for _, s := range r.states {
		if s.idle == 0 || idle[s.idle] {
			continue
		}
		idle[s.idle] = true
		o, err := r.task.At(s.idle)
		if err != nil {
			r.fail(fmt.Errorf("idle task of CPU %d: %w", s.cpu, err))
			continue
		}
		r.add(o)
	}
	for o, err := range r.k.TaskStructs(r.task) {
		if err != nil {
			r.fail(err)
			break
		}
		if idle[o.Addr] {
			continue
		}
		if state := r.state(o); len(r.tasks) >= r.most && !r.matters(o.Addr, state) {
			r.rest[state]++
			continue
		}
		r.add(o)
	}
	r.findParents()
	if r.failed > maxErrors {
		r.errs = append(r.errs, fmt.Errorf("and %d more", r.failed-maxErrors))
	}
	return errors.Join(r.errs...)
}

// matters tells whether a task is listed where there is no room for all.
func (r *reader) matters(addr kernel.VirtAddr, state string) bool {
	return (state == blocked || r.onCPU[addr]) && len(r.tasks) < 2*r.most
}

// state is the letter of a task's state.
func (r *reader) state(o kernel.Object) string {
	state := o.Uint("__state")
	if !o.Has("__state") {
		state = o.Uint("state")
	}
	return letter(state, o.Uint("exit_state"))
}

// findParents fills in whose children the tasks are.
func (r *reader) findParents() {
	processes := make(map[kernel.VirtAddr]int32, len(r.tasks))
	for _, t := range r.tasks {
		processes[t.Addr] = t.TGID
	}
	for i, p := range r.parents {
		id, listed := processes[p]
		if !listed && p != 0 && len(r.rest) > 0 {
			// Its parent is one of those that are not listed.
			n, err := r.k.ReadUint32(p + kernel.VirtAddr(r.task.Offset("tgid")))
			if err != nil {
				r.fail(fmt.Errorf("parent of PID %d: %w", r.tasks[i].PID, err))
			}
			id = int32(n)
		}
		r.tasks[i].PPID = id
	}
}

// add takes a task into the list.
func (r *reader) add(o kernel.Object) {
	t := Task{
		Addr: o.Addr, PID: int32(o.Int("pid")), TGID: int32(o.Int("tgid")), Comm: o.String("comm"),
		State: r.state(o), CPU: r.cpu(o), OnCPU: r.onCPU[o.Addr],
		Kernel: o.Uint("flags")&kernelThread != 0, Policy: policies[o.Uint("policy")], Prio: int32(o.Int("prio")),
		UserTime: o.Uint("utime"), SystemTime: o.Uint("stime"), Started: o.Uint("start_boottime"),
		Stack: o.Pointer("stack"), MM: o.Pointer("mm"),
	}
	if len(r.states) == 0 {
		t.OnCPU = o.Uint("on_cpu") != 0
	}
	t.LastRan = r.lastRan(o, &t)
	t.Idle = r.clocks.since(t.LastRan)
	var err error
	if t.UID, err = r.owner(o.Pointer("real_cred")); err != nil {
		r.fail(fmt.Errorf("owner of PID %d: %w", t.PID, err))
	}
	if t.MM != 0 {
		if t.RSS, t.Size, err = r.memory.of(t.MM); err != nil {
			r.fail(fmt.Errorf("memory of PID %d: %w", t.PID, err))
		}
	}
	r.tasks = append(r.tasks, t)
	r.parents = append(r.parents, o.Pointer("real_parent"))
}

// cpu is where a task ran last: thread_info.cpu, which is within task_struct;
// task_struct.cpu before Linux 5.16.
func (r *reader) cpu(o kernel.Object) int {
	switch {
	case r.info != nil && r.info.Has("cpu"):
		return int(r.info.In(o, "thread_info", 0).Uint("cpu"))
	case o.Has("cpu"):
		return int(o.Uint("cpu"))
	}
	return -1
}

// lastRan is when a task on a CPU came there, sched_info.last_arrival, or when
// another one left its CPU: se.exec_start is brought up to date up to that
// moment, for tasks of all classes (update_curr() and its like, kernel/sched,
// Linux 6.1 to 7.2). last_arrival does not tell that; last_switch_time is written
// only when the watchdog of hung tasks comes by. exec_start counts as the clock
// of tasks of its CPU does; what that one is behind now is taken as what it was
// behind then, which makes a wait too short by the time that the CPU has spent
// in interrupts since, never too long. exec_start is 0 of a task that was
// moved to another CPU and has not run since, which since 6.12 happens to those
// that sleep, too: when it came to its CPU is the best that is known then.
func (r *reader) lastRan(o kernel.Object, t *Task) uint64 {
	var arrived uint64
	if r.sched != nil {
		arrived = r.sched.In(o, "sched_info", 0).Uint("last_arrival")
	}
	if t.OnCPU && arrived != 0 {
		return arrived
	}
	left := r.entity.In(o, "se", 0).Uint("exec_start")
	if left == 0 {
		return arrived
	}
	left += r.clocks.offset[t.CPU]
	if r.clocks.now != 0 && left > r.clocks.now {
		left = max(arrived, r.clocks.now)
	}
	return left
}

// owner is who a task acts as.
func (r *reader) owner(cred kernel.VirtAddr) (uint32, error) {
	if cred == 0 {
		return 0, fmt.Errorf("task without credentials: %w", kernel.ErrCorrupt)
	}
	if cred != r.cred {
		uid, err := r.k.ReadUint32(cred + kernel.VirtAddr(r.creds.Offset("euid")))
		if err != nil {
			return 0, err
		}
		r.cred, r.uid = cred, uid
	}
	return r.uid, nil
}
