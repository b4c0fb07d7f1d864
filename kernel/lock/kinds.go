package lock

import (
	"fmt"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
)

// reader reads locks of one kind.
type reader interface {
	name() string
	// read reads who holds the lock at an address and who waits.
	read(f *finder, lock kernel.VirtAddr) (*Lock, error)
}

// kind is a lock with a list of waiters, each a struct with a list_head and a
// task.
type kind struct {
	kind         string
	lock, waiter *kernel.StructReader
	list, task   uint64 // offsets in the waiter
	functions    []string
}

func (k *kind) name() string { return k.kind }

// openKinds prepares for the kinds of locks that this kernel has. With PREEMPT_RT
// most are rtmutexes, and structs of other members.
func (f *finder) openKinds() {
	for _, c := range []struct {
		kind         string
		lock, waiter string
		members      []string
		// Those that wait, with their waiter on the stack, begin with one of these:
		// compilers make variants of them (kernel/locking, Linux 6.1 to 7.2).
		functions []string
	}{
		{Mutex, "mutex", "mutex_waiter", []string{"owner"}, []string{"__mutex_lock", "__ww_mutex_lock", "mutex_lock", "ww_mutex_lock"}},
		{RWSem, "rw_semaphore", "rwsem_waiter", []string{"count", "owner"}, []string{"rwsem_down_", "__down_read", "__down_write", "down_read", "down_write"}},
		{Semaphore, "semaphore", "semaphore_waiter", []string{"count", "?last_holder"}, []string{"___down_common", "__down_common", "__down", "down"}},
	} {
		lock, err1 := f.k.Struct(c.lock, append(c.members, "?wait_list", "?first_waiter")...)
		waiter, err2 := f.k.Struct(c.waiter, "list", "task")
		if err1 != nil || err2 != nil || !lock.Has("wait_list") && !lock.Has("first_waiter") {
			continue
		}
		f.kinds = append(f.kinds, &kind{c.kind, lock, waiter, waiter.Offset("list"), waiter.Offset("task"), c.functions})
	}
	f.perCPU, f.rt = openPerCPU(f.k), openRT(f.k)
}

// ofFunction is the kind of lock that a function waits for; nil for others.
func (f *finder) ofFunction(name string) *kind {
	for _, k := range f.kinds {
		for _, prefix := range k.functions {
			// Whole, but for what a compiler adds: "down" is not "downgrade_write".
			rest, ok := strings.CutPrefix(name, prefix)
			if ok && (rest == "" || rest[0] == '.' || rest[0] == '_' || strings.HasSuffix(prefix, "_")) {
				return k
			}
		}
	}
	return nil
}

// Bits of what says who holds a lock: kernel/locking/mutex.c, rwsem.c (Linux 6.1
// to 7.2).
const (
	mutexWaiters = 1 // somebody waits
	mutexFlags   = 7

	rwsemReaders = 1 // in owner: it was taken for reading
	rwsemFlags   = 3

	rwsemWriter      = 1 // in count: it is held for writing
	rwsemWaiters     = 2
	rwsemReaderShift = 8
)

func (k *kind) read(f *finder, addr kernel.VirtAddr) (*Lock, error) {
	o, err := k.lock.At(addr)
	if err != nil {
		return nil, err
	}
	l := new(Lock)
	owner, count := o.Pointer("owner"), o.Uint("count")
	switch k.kind {
	case Mutex:
		l.Owner = f.ref(owner &^ mutexFlags)
	case RWSem:
		switch {
		case count&rwsemWriter != 0 && owner&rwsemReaders == 0:
			l.Owner = f.ref(owner &^ rwsemFlags)
		case count&rwsemWriter == 0:
			l.Readers = count << 1 >> 1 >> rwsemReaderShift // the highest bit is another flag
			if l.Readers > 0 && owner&rwsemReaders != 0 {
				l.Last = f.ref(owner &^ rwsemFlags)
			}
		}
	case Semaphore:
		l.Last = f.ref(o.Pointer("last_holder"))
	}
	if !k.waited(o) {
		return nil, fmt.Errorf("nobody waits for it: %w", kernel.ErrCorrupt)
	}
	l.Waiters, err = f.waiters(k, o)
	return l, err
}

// waited tells whether a lock says that somebody waits for it.
func (k *kind) waited(lock kernel.Object) bool {
	switch k.kind {
	case Mutex:
		return lock.Pointer("owner")&mutexWaiters != 0
	case RWSem:
		return lock.Uint("count")&rwsemWaiters != 0
	case Semaphore:
		return lock.Uint("count") == 0
	}
	return true
}

// waiters are those on a lock's list: from its head on, or from the first one
// around (Linux 7.2).
func (f *finder) waiters(k *kind, lock kernel.Object) ([]sched.Ref, error) {
	if lock.Has("wait_list") {
		return f.listed(lock.AddrOf("wait_list"), k.list, k.task)
	}
	first := lock.Pointer("first_waiter")
	if first == 0 {
		return nil, nil
	}
	one, err := f.waiter(first, k.task)
	if err != nil {
		return nil, err
	}
	// To a list the first one is like a head.
	others, err := f.listed(first+kernel.VirtAddr(k.list), k.list, k.task)
	return append([]sched.Ref{one}, others...), err
}

// listed are the waiters of a list: structs of which the list_head and the task
// are at these offsets.
func (f *finder) listed(head kernel.VirtAddr, list, task uint64) (all []sched.Ref, err error) {
	for at, err := range f.k.List(head, list) {
		if err != nil {
			return all, err
		}
		one, err := f.waiter(at, task)
		if err != nil {
			return all, err
		}
		if all = append(all, one); len(all) == maxWaiters {
			return all, fmt.Errorf("%d tasks wait, and maybe more", maxWaiters)
		}
	}
	return all, nil
}

func (f *finder) waiter(at kernel.VirtAddr, task uint64) (sched.Ref, error) {
	p, err := f.k.ReadPointer(at + kernel.VirtAddr(task))
	if err != nil {
		return sched.Ref{}, err
	}
	ref := f.ref(p)
	if ref == nil {
		return sched.Ref{}, fmt.Errorf("who waits at %v is no task: %w", at, kernel.ErrCorrupt)
	}
	return *ref, nil
}

// perCPUKind is the lock of percpu_down_read() and percpu_down_write(): struct
// percpu_rw_semaphore, include/linux/percpu-rwsem.h (Linux 5.7 to 7.2). Those
// that wait for it are on a wait queue, woken by a function of its own.
type perCPUKind struct {
	lock, head, entry *kernel.StructReader
	wakes             kernel.VirtAddr // that function
}

func openPerCPU(k *kernel.Kernel) *perCPUKind {
	p := new(perCPUKind)
	var err1, err2, err3, err4 error
	p.lock, err1 = k.Struct("percpu_rw_semaphore", "waiters", "?writer", "?read_count")
	p.head, err2 = k.Struct("wait_queue_head", "head")
	p.entry, err3 = k.Struct("wait_queue_entry", "private", "func", "entry")
	p.wakes, err4 = k.Variable("percpu_rwsem_wake_function")
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
		return nil
	}
	return p
}

func (p *perCPUKind) name() string { return PerCPURWSem }

// read finds no owner, but for a writer that waits for those who read to leave:
// the lock keeps a count alone.
func (p *perCPUKind) read(f *finder, addr kernel.VirtAddr) (*Lock, error) {
	o, err := p.lock.At(addr)
	if err != nil {
		return nil, err
	}
	l := &Lock{Owner: f.ref(o.Pointer("writer"))}
	head := o.AddrOf("waiters") + kernel.VirtAddr(p.head.Offset("head"))
	if l.Waiters, err = f.listed(head, p.entry.Offset("entry"), p.entry.Offset("private")); err != nil {
		return l, err
	}
	cpus, err := f.k.PerCPU()
	if err != nil {
		return l, err
	}
	// Whoever read it may have left on another CPU: only the sum counts.
	var sum uint32
	for _, cpu := range cpus.CPUs {
		n, err := f.k.ReadUint32(cpus.Addr(o.Pointer("read_count"), cpu))
		if err != nil {
			return l, err
		}
		sum += n
	}
	l.Readers = uint64(max(int32(sum), 0))
	return l, nil
}

// rtKind is a lock with priority inheritance: all sleeping locks of a kernel with
// PREEMPT_RT, futexes of that sort in others; struct rt_mutex_base,
// kernel/locking/rtmutex_common.h (Linux 5.15 to 7.2).
type rtKind struct {
	lock, waiter *kernel.StructReader
	node         uint64 // offset of the rb_node in the waiter
}

func openRT(k *kernel.Kernel) *rtKind {
	lock, err1 := k.Struct("rt_mutex_base", "waiters", "owner")
	waiter, err2 := k.Struct("rt_mutex_waiter", "task", "lock", "?tree", "?tree_entry")
	if err1 != nil || err2 != nil {
		return nil
	}
	r := &rtKind{lock: lock, waiter: waiter, node: waiter.Offset("tree")}
	if waiter.Has("tree_entry") { // before Linux 6.6
		r.node = waiter.Offset("tree_entry")
	}
	return r
}

func (r *rtKind) name() string { return RTMutex }

func (r *rtKind) read(f *finder, addr kernel.VirtAddr) (*Lock, error) {
	o, err := r.lock.At(addr)
	if err != nil {
		return nil, err
	}
	l := &Lock{Owner: f.ref(o.Pointer("owner") &^ 1)} // the bit says that somebody waits
	for at, err := range f.k.RBTree(o.AddrOf("waiters"), r.node) {
		if err != nil {
			return l, err
		}
		one, err := f.waiter(at, r.waiter.Offset("task"))
		if err != nil {
			return l, err
		}
		l.Waiters = append(l.Waiters, one)
	}
	return l, nil
}
