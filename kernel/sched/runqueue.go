package sched

import (
	"errors"
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Limits of what is believed of run queues: how deep groups are in groups, and
// how many entities one CPU has. 4 million is the most tasks that Linux can have.
const (
	maxGroupDepth = 64
	maxEntities   = 1 << 22
	realTimeLists = 100 // MAX_RT_PRIO, include/linux/sched/prio.h
)

// Current tells what runs on each CPU. CPUs whose task cannot be read are named
// in the error.
func Current(k *kernel.Kernel) (map[int]Ref, error) {
	q, states, err := openQueues(k)
	if q == nil {
		return nil, err
	}
	errs := []error{err}
	all := make(map[int]Ref, len(states))
	for _, s := range states {
		ref, err := q.ref(s.curr, "")
		if err != nil {
			errs = append(errs, fmt.Errorf("current task of CPU %d: %w", s.cpu, err))
			continue
		}
		all[s.cpu] = ref
	}
	return all, errors.Join(errs...)
}

// RunQueues tells what each CPU had to do. What cannot be read is named in the
// error; the rest is there.
func RunQueues(k *kernel.Kernel) ([]RunQueue, error) {
	q, states, err := openQueues(k)
	if q == nil {
		return nil, err
	}
	errs := []error{err}
	all := make([]RunQueue, 0, len(states))
	for _, s := range states {
		one := RunQueue{CPU: s.cpu, Running: s.rq.Uint("nr_running"), Clock: s.clock}
		if one.Current, err = q.ref(s.curr, ""); err != nil {
			errs = append(errs, fmt.Errorf("current task of CPU %d: %w", s.cpu, err))
		}
		if one.Waiting, err = q.waiting(s); err != nil {
			errs = append(errs, fmt.Errorf("run queue of CPU %d: %w", s.cpu, err))
		}
		all = append(all, one)
	}
	return all, errors.Join(errs...)
}

// queues reads what waits in run queues. Readers of what a kernel does not have
// are nil.
type queues struct {
	k                                           *kernel.Kernel
	task                                        *kernel.StructReader
	cfs, entity, rt, rtArray, rtEntity, dl, scx *kernel.StructReader
	dlNode, extNode                             uint64 // offsets in task_struct
	rqSize                                      uint64
	missing                                     error
}

func openQueues(k *kernel.Kernel) (*queues, []state, error) {
	c, err := openCPUs(k)
	if err != nil {
		return nil, nil, err
	}
	q := &queues{k: k, rqSize: c.rq.Size()}
	if q.task, err = k.Struct("task_struct", "pid", "comm", "se", "?rt", "?dl", "?scx"); err != nil {
		return nil, nil, err
	}
	states, failed := c.read()
	q.open(c)
	return q, states, errors.Join(failed, q.missing)
}

// open prepares for each class of scheduling. A class that is not understood
// is said to be missing; the others are read.
func (q *queues) open(c *cpus) {
	need := func(in *kernel.StructReader, member, name string, members ...string) *kernel.StructReader {
		if !in.Has(member) {
			return nil
		}
		r, err := q.k.Struct(name, members...)
		if err != nil {
			q.missing = errors.Join(q.missing, err)
		}
		return r
	}
	q.cfs = need(c.rq, "cfs", "cfs_rq", "tasks_timeline", "curr")
	q.entity = need(c.rq, "cfs", "sched_entity", "run_node", "?my_q", "?sched_delayed")
	q.rt = need(c.rq, "rt", "rt_rq", "active")
	q.rtArray = need(c.rq, "rt", "rt_prio_array", "queue")
	q.rtEntity = need(c.rq, "rt", "sched_rt_entity", "run_list", "?my_q")
	q.dl = need(c.rq, "dl", "dl_rq", "root")
	if e := need(c.rq, "dl", "sched_dl_entity", "rb_node"); e != nil {
		q.dlNode = q.task.Offset("dl") + e.Offset("rb_node")
	}
	q.scx = need(c.rq, "scx", "scx_rq", "runnable_list")
	if e := need(c.rq, "scx", "sched_ext_entity", "runnable_node"); e != nil {
		q.extNode = q.task.Offset("scx") + e.Offset("runnable_node")
	}
}

// ref names a task. A name that cannot be read leaves the address.
func (q *queues) ref(task kernel.VirtAddr, class string) (Ref, error) {
	o, err := q.task.At(task)
	if err != nil {
		return Ref{Addr: task, Class: class}, err
	}
	return Ref{Addr: task, PID: int32(o.Int("pid")), Comm: o.String("comm"), Class: class}, nil
}

// wait is one walk through a run queue.
type wait struct {
	*queues
	s    state
	all  []Ref
	seen map[kernel.VirtAddr]bool // groups, tasks
}

// waiting lists what waits on one CPU, the classes in the order in which they
// are asked.
func (q *queues) waiting(s state) ([]Ref, error) {
	w := &wait{queues: q, s: s, seen: map[kernel.VirtAddr]bool{s.curr: true}}
	var errs []error
	if q.dl != nil && q.dlNode != 0 {
		errs = append(errs, w.deadline())
	}
	if q.rt != nil && q.rtArray != nil && q.rtEntity != nil {
		errs = append(errs, w.realTime(s.rq.AddrOf("rt"), 0))
	}
	if q.scx != nil && q.extNode != 0 {
		errs = append(errs, w.extended())
	}
	if q.cfs != nil && q.entity != nil {
		errs = append(errs, w.fair(s.rq.AddrOf("cfs"), 0))
	}
	return w.all, errors.Join(errs...)
}

// add takes a task into the list, once.
func (w *wait) add(task kernel.VirtAddr, class string) error {
	if w.seen[task] {
		return nil
	}
	if len(w.seen) >= maxEntities {
		return fmt.Errorf("more than %d tasks and groups: %w", maxEntities, kernel.ErrCorrupt)
	}
	w.seen[task] = true
	ref, err := w.ref(task, class)
	w.all = append(w.all, ref)
	return err
}

// enter tells whether a group may be walked: each once, and not too deep.
func (w *wait) enter(group kernel.VirtAddr, depth int) error {
	if depth > maxGroupDepth || w.seen[group] || len(w.seen) >= maxEntities {
		return fmt.Errorf("groups of tasks, %d deep at %#x, contain one another: %w", depth, uint64(group), kernel.ErrCorrupt)
	}
	w.seen[group] = true
	return nil
}

// deadline walks dl_rq.root, the earliest deadline first. Servers, which lend
// deadlines to other classes, are not tasks: they lie in the run queue itself
// (Linux 6.8 to 7.2).
func (w *wait) deadline() error {
	root := w.s.rq.AddrOf("dl") + kernel.VirtAddr(w.dl.Offset("root"))
	for task, err := range w.k.RBTree(root, w.dlNode) {
		if err != nil {
			return err
		}
		if at := task + kernel.VirtAddr(w.dlNode); at >= w.s.rq.Addr && at < w.s.rq.Addr+kernel.VirtAddr(w.rqSize) {
			continue
		}
		if err := w.add(task, "deadline"); err != nil {
			return err
		}
	}
	return nil
}

// realTime walks the lists of rt_rq.active, one for each priority, the highest
// first. An entity with run queue of its own is a group.
func (w *wait) realTime(rt kernel.VirtAddr, depth int) error {
	if err := w.enter(rt, depth); err != nil {
		return err
	}
	f, _ := w.rtArray.Field("queue")
	lists := rt + kernel.VirtAddr(w.rt.Offset("active")+f.Offset)
	for i := range min(f.Count, realTimeLists) {
		head := lists + kernel.VirtAddr(i*f.ElemSize())
		for at, err := range w.k.List(head, w.rtEntity.Offset("run_list")) {
			if err != nil {
				return err
			}
			if w.rtEntity.Has("my_q") {
				group, err := w.k.ReadPointer(at + kernel.VirtAddr(w.rtEntity.Offset("my_q")))
				if err == nil && group != 0 {
					err = w.realTime(group, depth+1)
				}
				if err != nil {
					return err
				}
				if group != 0 {
					continue
				}
			}
			if err := w.add(at-kernel.VirtAddr(w.task.Offset("rt")), "rt"); err != nil {
				return err
			}
		}
	}
	return nil
}

// extended walks the tasks that a scheduler in BPF has on this CPU. In which
// order they would run it alone knows.
func (w *wait) extended() error {
	head := w.s.rq.AddrOf("scx") + kernel.VirtAddr(w.scx.Offset("runnable_list"))
	first, err := w.k.ReadPointer(head)
	if err != nil || first == 0 { // never used
		return err
	}
	for task, err := range w.k.List(head, w.extNode) {
		if err == nil {
			err = w.add(task, "ext")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fair walks cfs_rq.tasks_timeline in its order, which is that of virtual
// run time before Linux 6.6 and about that of deadlines since. The entity that
// runs is not in the tree; that of a group has others below. Those that sleep
// already and stay for their lag (sched_delayed, since 6.12) do not wait.
func (w *wait) fair(cfs kernel.VirtAddr, depth int) error {
	if err := w.enter(cfs, depth); err != nil {
		return err
	}
	curr, err := w.k.ReadPointer(cfs + kernel.VirtAddr(w.cfs.Offset("curr")))
	if err != nil {
		return err
	}
	if curr != 0 {
		if err := w.fairEntity(curr, depth); err != nil {
			return err
		}
	}
	root := cfs + kernel.VirtAddr(w.cfs.Offset("tasks_timeline"))
	for at, err := range w.k.RBTree(root, w.entity.Offset("run_node")) {
		if err != nil {
			return err
		}
		if at == curr {
			continue
		}
		if err := w.fairEntity(at, depth); err != nil {
			return err
		}
	}
	return nil
}

func (w *wait) fairEntity(at kernel.VirtAddr, depth int) error {
	o, err := w.entity.At(at)
	if err != nil {
		return err
	}
	if group := o.Pointer("my_q"); group != 0 {
		return w.fair(group, depth+1)
	}
	if o.Uint("sched_delayed") != 0 {
		return nil
	}
	return w.add(at-kernel.VirtAddr(w.task.Offset("se")), "fair")
}
