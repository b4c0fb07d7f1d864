package lock

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
)

// Limits of what is looked at: many more tasks are blocked only on machines where
// the first ones tell all.
const (
	maxExamined = 1 << 14
	maxLocks    = 1 << 12
	maxWaiters  = 1 << 16 // of one lock
	maxErrors   = 8

	maxPID   = 1 << 22 // PID_MAX_LIMIT, include/linux/threads.h
	maxTasks = 1 << 18 // that are remembered
)

// Find finds the locks that blocked tasks wait for, those with the most waiters
// first, and who blocks whom. tasks are those of sched.Tasks, those that are
// blocked at least. What cannot be read is said in the error; the rest is there.
func Find(k *kernel.Kernel, tasks []sched.Task) ([]Lock, []Chain, error) {
	if !slices.ContainsFunc(tasks, func(t sched.Task) bool { return t.Blocked() }) {
		return nil, nil, nil
	}
	f, err := newFinder(k, tasks)
	if err != nil {
		return nil, nil, fmt.Errorf("locks: %w", err)
	}
	for i := range tasks {
		if t := &tasks[i]; t.Blocked() && !t.OnCPU {
			f.examine(t)
		}
	}
	// Who holds a lock may wait for another one itself, in whatever way.
	for n := 0; n < len(f.owners); n++ {
		if t := f.owners[n]; !t.OnCPU {
			f.examine(t)
		}
	}
	slices.SortFunc(f.locks, func(a, b Lock) int {
		return cmp.Or(cmp.Compare(len(b.Waiters), len(a.Waiters)), cmp.Compare(a.Addr, b.Addr))
	})
	if err = errors.Join(f.errs...); err != nil {
		err = fmt.Errorf("locks: %w", err)
	}
	return f.locks, chains(f.locks), err
}

// finder looks for locks.
type finder struct {
	k         *kernel.Kernel
	task      *kernel.StructReader
	tasks     map[kernel.VirtAddr]*sched.Task
	kinds     []*kind
	perCPU    *perCPUKind // nil if this kernel has none
	rt        *rtKind
	stackSize uint64
	savedSP   uint64 // offset in task_struct; 0 if it is not known
	text      [2]kernel.VirtAddr
	functions map[kernel.VirtAddr]*kind // who a return address belongs to, those asked for

	examined map[kernel.VirtAddr]bool // tasks
	waiting  map[kernel.VirtAddr]bool // tasks, for one of locks
	known    map[kernel.VirtAddr]bool // locks
	locks    []Lock
	owners   []*sched.Task
	errs     []error
}

func newFinder(k *kernel.Kernel, tasks []sched.Task) (*finder, error) {
	f := &finder{
		k: k, tasks: make(map[kernel.VirtAddr]*sched.Task, len(tasks)), functions: make(map[kernel.VirtAddr]*kind),
		examined: make(map[kernel.VirtAddr]bool), waiting: make(map[kernel.VirtAddr]bool), known: make(map[kernel.VirtAddr]bool),
	}
	var err error
	if f.task, err = k.Struct("task_struct", "stack", "pid", "comm", "?on_cpu", "?thread", "?blocker", "?blocked_on", "?pi_blocked_on"); err != nil {
		return nil, err
	}
	for i := range tasks {
		f.tasks[tasks[i].Addr] = &tasks[i]
	}
	f.openKinds()
	return f, f.openStacks()
}

// fail notes what went wrong, the first of it.
func (f *finder) fail(t *sched.Task, err error) {
	switch n := len(f.errs); {
	case n < maxErrors:
		f.errs = append(f.errs, fmt.Errorf("what PID %d waits for: %w", t.PID, err))
	case n == maxErrors:
		f.errs = append(f.errs, errors.New("and others"))
	}
}

// examine finds the lock that a task waits for, if it waits for one.
func (f *finder) examine(t *sched.Task) {
	if f.examined[t.Addr] || f.waiting[t.Addr] || len(f.examined) > maxExamined {
		return
	}
	if len(f.examined) == maxExamined {
		f.fail(t, fmt.Errorf("more than %d tasks are blocked, and not looked at", maxExamined))
	}
	f.examined[t.Addr] = true
	kind, addr, err := f.waitsFor(t)
	if err == nil && kind != nil && !f.known[addr] {
		err = f.add(kind, addr)
	}
	if err == nil && kind != nil && !f.waiting[t.Addr] {
		err = fmt.Errorf("%s at %v does not know of it: %w", kind.name(), addr, kernel.ErrCorrupt)
	}
	if err != nil {
		f.fail(t, err)
	}
}

// add takes a lock into the list, with as much of it as can be read.
func (f *finder) add(kind reader, addr kernel.VirtAddr) error {
	if len(f.locks) >= maxLocks {
		return fmt.Errorf("more than %d locks", maxLocks)
	}
	l, err := kind.read(f, addr)
	if err != nil {
		err = fmt.Errorf("%s at %v: %w", kind.name(), addr, err)
	}
	if l == nil || len(l.Waiters) == 0 {
		return err
	}
	l.Addr, l.Kind, l.Name = addr, kind.name(), f.variable(addr)
	f.known[addr] = true
	f.locks = append(f.locks, *l)
	for _, w := range l.Waiters {
		f.waiting[w.Addr] = true
	}
	if l.Owner != nil {
		f.owners = append(f.owners, f.taskAt(l.Owner.Addr))
	}
	return err
}

// variable is the name of what a lock is in, with how far into it.
func (f *finder) variable(addr kernel.VirtAddr) string {
	s, off, err := f.k.SymbolAt(addr)
	switch {
	case err != nil || s.Name == "": // most are in memory that was allocated
		return ""
	case off == 0:
		return s.Name
	}
	return fmt.Sprintf("%s+%#x", s.Name, off)
}

// taskAt is the task at an address, nil if there is none. Where there is no room
// for a list of all tasks those that are asked for are read one by one.
func (f *finder) taskAt(addr kernel.VirtAddr) *sched.Task {
	t, known := f.tasks[addr]
	if known || addr>>63 == 0 || addr%8 != 0 {
		return t
	}
	if o, err := f.task.At(addr); err == nil {
		one := sched.Task{
			Addr: addr, PID: int32(o.Int("pid")), Comm: o.String("comm"), Stack: o.Pointer("stack"), OnCPU: o.Uint("on_cpu") != 0,
		}
		if one.PID > 0 && one.PID <= maxPID && one.Comm != "" && one.Stack>>63 == 1 && one.Stack%minStack == 0 {
			t = &one
		}
	}
	if len(f.tasks) < maxTasks {
		f.tasks[addr] = t
	}
	return t
}

// ref names a task; nil is none.
func (f *finder) ref(task kernel.VirtAddr) *sched.Ref {
	t := f.taskAt(task)
	if t == nil {
		return nil
	}
	return &sched.Ref{Addr: t.Addr, PID: t.PID, Comm: t.Comm}
}

// waitsFor tells what a task waits for: what the kernel says, else what its
// stack says. No kind is no lock.
func (f *finder) waitsFor(t *sched.Task) (reader, kernel.VirtAddr, error) {
	if kind, lock, err := f.told(t); kind != nil || err != nil {
		return kind, lock, err
	}
	return f.onStack(t)
}

// Bits of task_struct.blocker, include/linux/hung_task.h (Linux 6.16 to 7.2): it
// is the address of a lock and in these bits what it is.
const (
	blockerMask      = 3
	blockerMutex     = 0
	blockerSemaphore = 1 // else a rwsem
)

// told is what the kernel says that a task waits for: with
// CONFIG_DETECT_HUNG_TASK_BLOCKER, of mutexes since 6.17 without it, and of
// rtmutexes always.
func (f *finder) told(t *sched.Task) (reader, kernel.VirtAddr, error) {
	member := func(name string) (kernel.VirtAddr, error) {
		if !f.task.Has(name) {
			return 0, nil
		}
		return f.k.ReadPointer(t.Addr + kernel.VirtAddr(f.task.Offset(name)))
	}
	blocker, err1 := member("blocker")
	mutex, err2 := member("blocked_on")
	rt, err3 := member("pi_blocked_on")
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, 0, err
	}
	var name string
	lock := blocker &^ blockerMask
	switch {
	case rt != 0 && f.rt != nil:
		lock, err := f.k.ReadPointer(rt + kernel.VirtAddr(f.rt.waiter.Offset("lock")))
		return f.rt, lock, err
	case blocker != 0 && blocker&blockerMask == blockerMutex:
		name = Mutex
	case blocker != 0 && blocker&blockerMask == blockerSemaphore:
		name = Semaphore
	case blocker != 0:
		name = RWSem
	case mutex != 0 && mutex%8 == 0: // an odd number says that it is about to wake up
		name, lock = Mutex, mutex
	}
	for _, k := range f.kinds {
		if k.kind == name {
			return k, lock, nil
		}
	}
	return nil, 0, nil
}
