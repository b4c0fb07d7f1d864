package lock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
)

// structs are those of Linux 6.12 as far as they are read.
const structs = `
list_head: next prev
cpumask: bits:8*1
thread_union: stack:8*2048
thread_struct: ra sp
task_struct: state stack thread:thread_struct pi_blocked_on on_cpu:4 pid:4 comm:1*16
mutex: owner wait_lock:4 osq:4 wait_list:list_head
mutex_waiter: list:list_head task ww_ctx
rw_semaphore: count owner osq:4 wait_lock:4 wait_list:list_head
rwsem_waiter: list:list_head task type:4 timeout
semaphore: lock:4 count:4 wait_list:list_head
semaphore_waiter: list:list_head task up:1
wait_queue_head: lock:4 head:list_head
wait_queue_entry: flags:4 private func entry:list_head
percpu_rw_semaphore: rss:8*6 read_count writer waiters:wait_queue_head block:4
rt_mutex_base: wait_lock:4 waiters:8*2 owner
rt_mutex_waiter: tree:8*5 pi_tree:8*5 task lock
`

// rings are the structs of Linux 7.2, whose locks know their first waiter only.
const rings = `
mutex: owner wait_lock:4 osq:4 first_waiter
rw_semaphore: count owner osq:4 wait_lock:4 first_waiter
semaphore: lock:4 count:4 first_waiter last_holder
`

const stackBytes = 16 << 10

// world is a machine with tasks that sleep.
type world struct {
	*kerneltest.Data
	tasks []sched.Task
	calls map[string]uint64 // return addresses in functions
	wakes uint64
}

func newWorld(other string) *world {
	w := &world{Data: kerneltest.NewData(), calls: make(map[string]uint64)}
	w.Structs(structs)
	w.Structs(other)
	for _, f := range []string{"schedule", "__mutex_lock.constprop.0", "rwsem_down_read_slowpath", "rwsem_down_write_slowpath", "___down_common", "percpu_rwsem_wait", "wait_for_completion"} {
		// A call that is the function's last instruction returns to the next one.
		w.calls[f] = w.Function(f) + 256
	}
	w.wakes = w.Function("percpu_rwsem_wake_function")
	w.Words(w.Variable("__cpu_possible_mask", 8), 3)
	w.Words(w.Variable("__per_cpu_offset", 16), 0, 64)
	return w
}

// sleeper makes a task that sleeps in a function; it returns where on its stack
// there is room for the function's variables.
func (w *world) sleeper(state, comm, function string) (task, room uint64) {
	at := w.New("task_struct")
	stack := w.Aligned(stackBytes, stackBytes)
	sp := stack + stackBytes - 1024
	w.Set(at, "task_struct.stack", stack)
	w.Set(at+w.Offset("task_struct.thread"), "thread_struct.sp", sp)
	w.Set(at, "task_struct.pid", uint64(100+len(w.tasks)))
	w.SetText(at, "task_struct.comm", comm)
	w.Words(sp, 0, w.calls["schedule"], 1, 2, w.calls[function], at, 3)
	w.tasks = append(w.tasks, sched.Task{
		Addr: kernel.VirtAddr(at), PID: int32(100 + len(w.tasks)), Comm: comm, State: state, Stack: kernel.VirtAddr(stack),
	})
	return at, sp + 256
}

// waiter makes a task that waits for a lock in a function; it returns its place
// in a list of waiters.
func (w *world) waiter(comm, function string) (task, node uint64) {
	task, at := w.sleeper("D", comm, function)
	w.Words(at, at, at, task)
	return task, at
}

// mutex makes a mutex with an owner and waiters.
func (w *world) mutex(owner uint64, nodes ...uint64) uint64 {
	at := w.New("mutex")
	w.hold(at, owner, nodes...)
	return at
}

func (w *world) hold(at, owner uint64, nodes ...uint64) {
	w.Set(at, "mutex.owner", owner|1)
	w.queue(at, "mutex", nodes)
}

func (w *world) queue(lock uint64, name string, nodes []uint64) {
	if w.Has(name + ".first_waiter") {
		w.Ring(nodes...)
		w.Set(lock, name+".first_waiter", nodes[0])
		return
	}
	w.Ring(append([]uint64{lock + w.Offset(name+".wait_list")}, nodes...)...)
}

func (w *world) find(t testing.TB) ([]Lock, []Chain, error) {
	t.Helper()
	return Find(w.Open(t, w), w.tasks)
}

// text is locks and chains in short.
func text(locks []Lock, chains []Chain) (all []string) {
	for _, l := range locks {
		s := l.Kind + " " + l.Name
		if l.Owner != nil {
			s += " of " + l.Owner.Comm
		}
		if l.Last != nil {
			s += " last " + l.Last.Comm
		}
		if l.Readers > 0 {
			s += fmt.Sprintf(" read by %d", l.Readers)
		}
		s += ":"
		for _, r := range l.Waiters {
			s += " " + r.Comm
		}
		all = append(all, s)
	}
	for _, c := range chains {
		s := "chain"
		if c.Deadlock {
			s = "deadlock"
		}
		for _, r := range c.Tasks {
			s += " " + r.Comm
		}
		all = append(all, fmt.Sprintf("%s, %d locks", s, len(c.Locks)))
	}
	return all
}

func (w *world) check(t *testing.T, failure error, want ...string) {
	t.Helper()
	locks, chains, err := w.find(t)
	got := text(locks, chains)
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, failure) {
		t.Errorf("%v; want %v; locks and chains (-want +got):\n%s", err, failure, diff)
	}
}

// kernels are those with lists of waiters, those with rings, and those that say
// what a task waits for.
var kernels = map[string]string{"Linux 6.12": "", "Linux 7.2": rings}

func TestKinds(t *testing.T) {
	for name, other := range kernels {
		t.Run(name, func(t *testing.T) {
			w := newWorld(other)
			w.sleeper("D", "completion", "wait_for_completion")
			holder, _ := w.sleeper("S", "holder", "schedule")
			_, a := w.waiter("a", "__mutex_lock.constprop.0")
			_, b := w.waiter("b", "__mutex_lock.constprop.0")
			mutex := w.Variable("rtnl_mutex", 64)
			w.hold(mutex, holder, a, b)
			w.remember(a, b, mutex)

			_, r := w.waiter("reader", "rwsem_down_read_slowpath")
			written := w.New("rw_semaphore")
			w.Set(written, "rw_semaphore.count", rwsemWriter|rwsemWaiters)
			w.Set(written, "rw_semaphore.owner", holder)
			w.queue(written, "rw_semaphore", []uint64{r})
			w.remember(r, 0, written)

			_, x := w.waiter("writer", "rwsem_down_write_slowpath")
			read := w.Variable("namespace_sem", 64)
			w.Set(read, "rw_semaphore.count", 3<<rwsemReaderShift|rwsemWaiters)
			w.Set(read, "rw_semaphore.owner", holder|rwsemReaders|2)
			w.queue(read, "rw_semaphore", []uint64{x})
			w.remember(x, 0, read)

			_, d := w.waiter("down", "___down_common")
			semaphore := w.Variable("console_sem", 64)
			if w.Has("semaphore.last_holder") {
				w.Set(semaphore, "semaphore.last_holder", holder)
			}
			w.queue(semaphore, "semaphore", []uint64{d})
			w.remember(d, 0, semaphore)

			want := []string{
				"mutex rtnl_mutex of holder: a b", "rwsem  of holder: reader", "rwsem namespace_sem last holder read by 3: writer",
				"semaphore console_sem: down", "chain a holder, 1 locks", "chain reader holder, 1 locks",
				"chain writer, 1 locks", "chain down, 1 locks",
			}
			if w.Has("semaphore.last_holder") {
				want[3] = "semaphore console_sem last holder: down"
			}
			w.check(t, nil, want...)
		})
	}
}

// remember leaves the address of a lock on the stacks of those who wait for it,
// as compilers do.
func (w *world) remember(a, b, lock uint64) {
	for _, node := range []uint64{a, b} {
		if node != 0 {
			w.Words(node-32, lock)
		}
	}
}

// Nothing is made of what earlier calls have left on a stack, nor of a function
// alone.
func TestNoLock(t *testing.T) {
	for name, other := range kernels {
		t.Run(name, func(t *testing.T) {
			w := newWorld(other)
			task, at := w.sleeper("D", "stale", "wait_for_completion")
			w.Words(at, at, at, task)
			task, at = w.sleeper("D", "poisoned", "__mutex_lock.constprop.0")
			w.Words(at, 0xdead000000000100, 0xdead000000000122, task)
			// Alone in a ring: a waiter that has left, no lock knows of it.
			task, at = w.sleeper("D", "left", "__mutex_lock.constprop.0")
			w.Words(at, at, at, task)
			w.sleeper("S", "interruptible", "__mutex_lock.constprop.0")
			w.check(t, nil)
		})
	}
	w := newWorld("")
	w.sleeper("S", "nothing", "schedule")
	w.Forget("task_struct")
	w.check(t, nil)
}

func TestPerCPURWSem(t *testing.T) {
	w := newWorld("")
	lock := w.New("percpu_rw_semaphore")
	waiters := lock + w.Offset("percpu_rw_semaphore.waiters") + w.Offset("wait_queue_head.head")
	nodes := []uint64{waiters}
	for _, comm := range []string{"first", "second"} {
		task, at := w.sleeper("D", comm, "percpu_rwsem_wait")
		w.Set(at, "wait_queue_entry.private", task)
		w.Set(at, "wait_queue_entry.func", w.wakes)
		nodes = append(nodes, at+w.Offset("wait_queue_entry.entry"))
	}
	w.Ring(nodes...)
	counts := w.Variable("counts", 128)
	w.Words(counts, 5)
	w.Words(counts+64, 0xfffffffe)
	w.Set(lock, "percpu_rw_semaphore.read_count", counts)
	w.check(t, nil, "percpu_rwsem  read by 3: first second", "chain first, 1 locks")
	writer, _ := w.sleeper("D", "writer", "schedule")
	w.Set(lock, "percpu_rw_semaphore.writer", writer)
	w.check(t, nil, "percpu_rwsem  of writer read by 3: first second", "chain first writer, 1 locks")
	w.Set(lock, "percpu_rw_semaphore.read_count", 0x5000)
	w.check(t, kernel.ErrNotMapped, "percpu_rwsem  of writer: first second", "chain first writer, 1 locks")
}

func TestRTMutex(t *testing.T) {
	w := newWorld("")
	w.Forget("mutex.owner", "rw_semaphore", "semaphore")
	owner, _ := w.sleeper("D", "owner", "schedule")
	lock := w.Variable("tasklist_lock", 64)
	waits := func(comm string) (at uint64) {
		task, at := w.sleeper("D", comm, "schedule")
		w.Set(task, "task_struct.pi_blocked_on", at)
		w.Set(at, "rt_mutex_waiter.task", task)
		w.Set(at, "rt_mutex_waiter.lock", lock)
		return at
	}
	a, b := waits("a"), waits("b")
	w.Words(a, 1, b, 0)
	w.Words(b, a, 0, 0)
	w.Words(lock+w.Offset("rt_mutex_base.waiters"), a)
	w.Set(lock, "rt_mutex_base.owner", owner|1)
	w.check(t, nil, "rtmutex tasklist_lock of owner: a b", "chain a owner, 1 locks")
}

// Kernels that say what a task waits for are believed, if the lock agrees.
func TestTold(t *testing.T) {
	for member, bits := range map[string][3]uint64{"blocker": {0, 1, 2}, "blocked_on": {}} {
		t.Run(member, func(t *testing.T) {
			w := newWorld(rings + "task_struct: stack thread:thread_struct pid:4 comm:1*16 " + member)
			holder, _ := w.sleeper("S", "holder", "schedule")
			task, a := w.waiter("a", "schedule")
			mutex := w.mutex(holder, a)
			w.Set(task, "task_struct."+member, mutex|bits[0])
			want := []string{"mutex  of holder: a", "chain a holder, 1 locks"}
			if member == "blocker" {
				task, b := w.waiter("b", "schedule")
				semaphore := w.New("semaphore")
				w.queue(semaphore, "semaphore", []uint64{b})
				w.Set(task, "task_struct.blocker", semaphore|bits[1])
				task, c := w.waiter("c", "schedule")
				rwsem := w.New("rw_semaphore")
				w.Set(rwsem, "rw_semaphore.count", rwsemWaiters)
				w.queue(rwsem, "rw_semaphore", []uint64{c})
				w.Set(task, "task_struct.blocker", rwsem|bits[2])
				want = append(want, "semaphore : b", "rwsem : c", "chain b, 1 locks", "chain c, 1 locks")
			}
			w.check(t, nil, want...)

			free, _ := w.waiter("another", "schedule")
			w.Set(free, "task_struct."+member, mutex)
			w.check(t, kernel.ErrCorrupt, want...)
			w.Set(free, "task_struct."+member, 0x5000)
			w.check(t, kernel.ErrNotMapped, want...)
		})
	}
}

func TestChains(t *testing.T) {
	const lock = "__mutex_lock.constprop.0"
	w := newWorld("")
	end, _ := w.sleeper("S", "end", "schedule")
	a, na := w.waiter("a", lock)
	b, nb := w.waiter("b", lock)
	_, nc := w.waiter("c", lock)
	_, nd := w.waiter("d", lock)
	w.mutex(end, na)
	w.mutex(a, nd, nb) // d and b wait for a
	w.mutex(b, nc)
	// x and y wait for one another, and z for them; u for itself.
	x, nx := w.waiter("x", lock)
	y, ny := w.waiter("y", lock)
	_, nz := w.waiter("z", lock)
	w.mutex(y, nx)
	w.mutex(x, ny, nz)
	u, nu := w.waiter("u", lock)
	w.mutex(u, nu)
	w.check(t, nil,
		"mutex  of end: a", "mutex  of a: d b", "mutex  of b: c", "mutex  of y: x", "mutex  of x: y z", "mutex  of u: u",
		"chain c b a end, 3 locks", "deadlock z x y, 3 locks", "deadlock u, 1 locks")

	// Who holds a lock is looked at even if a signal may wake it.
	w = newWorld("")
	_, na = w.waiter("a", lock)
	b, at := w.sleeper("S", "b", lock)
	w.Words(at, at, at, b)
	w.mutex(b, na)
	w.mutex(0x5000, at) // no task of this machine
	w.check(t, nil, "mutex  of b: a", "mutex : b", "chain a b, 2 locks")
}

// Where there is no room for a list of all tasks the others are there nonetheless.
func TestFewTasks(t *testing.T) {
	for name, other := range kernels {
		t.Run(name, func(t *testing.T) {
			w := newWorld(other)
			_, a := w.waiter("a", "__mutex_lock.constprop.0")
			listed := w.tasks
			holder, _ := w.sleeper("S", "holder", "schedule")
			_, b := w.waiter("b", "__mutex_lock.constprop.0")
			w.remember(a, b, w.mutex(holder, a, b))
			w.tasks = listed
			w.check(t, nil, "mutex  of holder: a b", "chain a holder, 1 locks")
			w.Set(holder, "task_struct.pid", 1<<31)
			w.check(t, nil, "mutex : a b", "chain a, 1 locks")
		})
	}
}

func TestDamaged(t *testing.T) {
	const lock = "__mutex_lock.constprop.0"
	for name, c := range map[string]struct {
		damage func(w *world, mutex uint64)
		want   error
		found  []string
	}{
		"stack that is lost":     {func(w *world, _ uint64) { w.tasks[1].Stack = 0x5000 }, kernel.ErrNotMapped, nil},
		"task that is lost":      {func(w *world, _ uint64) { w.tasks[1].Addr = 0x5000 }, kernel.ErrNotMapped, nil},
		"no stack any more":      {func(w *world, _ uint64) { w.tasks[1].Stack = 0 }, errNoStack, nil},
		"list that is not whole": {func(w *world, mutex uint64) { w.Words(mutex+16, 0x5000) }, nil, nil},
		"nobody waits":           {func(w *world, mutex uint64) { w.Set(mutex, "mutex.owner", 0) }, kernel.ErrCorrupt, nil},
		"owner that is no task":  {func(w *world, mutex uint64) { w.Set(mutex, "mutex.owner", 0x5001) }, nil, []string{"mutex : a", "chain a, 1 locks"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld("")
			holder, _ := w.sleeper("S", "holder", "schedule")
			_, node := w.waiter("a", lock)
			c.damage(w, w.mutex(holder, node))
			w.check(t, c.want, c.found...)
		})
	}
	w := newWorld("")
	w.waiter("a", lock)
	w.Forget("task_struct")
	w.check(t, kernel.ErrNoInfo)
}

// FuzzFind writes words over stacks, waiters and locks: whatever stands there,
// there is an end, and no panic.
func FuzzFind(f *testing.F) {
	f.Add([]byte{}, false)
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, true)
	f.Add([]byte(strings.Repeat("\x02\x08\x04\x00", 8)), false)
	f.Fuzz(func(t *testing.T, p []byte, ring bool) {
		w := newWorld(map[bool]string{true: rings}[ring])
		a, na := w.waiter("a", "__mutex_lock.constprop.0")
		b, nb := w.waiter("b", "rwsem_down_write_slowpath")
		c, nc := w.waiter("c", "__mutex_lock.constprop.0")
		mutex := w.mutex(b, na, nc)
		rwsem := w.New("rw_semaphore")
		w.Set(rwsem, "rw_semaphore.count", rwsemWriter|rwsemWaiters)
		w.Set(rwsem, "rw_semaphore.owner", a)
		w.queue(rwsem, "rw_semaphore", []uint64{nb})
		w.remember(na, nc, mutex)
		w.remember(nb, 0, rwsem)
		places := []uint64{a, b, c, na, nb, nc, mutex, rwsem}
		for ; len(p) >= 4; p = p[4:] {
			n := binary.LittleEndian.Uint16(p[2:])
			value := places[int(n>>8)%len(places)] + uint64(n&0x78)
			if n&1 != 0 {
				value = uint64(n)
			}
			w.Words(places[int(p[0])%len(places)]+uint64(p[1])&^7-64, value)
		}
		locks, chains, _ := w.find(t)
		if len(locks) > len(w.tasks) || len(chains) > len(locks) {
			t.Errorf("%d locks and %d chains of %d tasks", len(locks), len(chains), len(w.tasks))
		}
		for _, c := range chains {
			if n := len(c.Tasks) - len(c.Locks); n != 0 && n != 1 || len(c.Tasks) > len(w.tasks) {
				t.Errorf("chain %+v of %d tasks", c, len(w.tasks))
			}
		}
	})
}

// A machine on which ten thousand tasks are blocked, the half of them by one lock.
func BenchmarkFind(b *testing.B) {
	const n = 10_000
	w := newWorld("")
	holder, _ := w.sleeper("S", "holder", "schedule")
	var nodes []uint64
	for i := range n {
		if i%2 == 0 {
			_, node := w.waiter("waits", "__mutex_lock.constprop.0")
			nodes = append(nodes, node)
		} else {
			w.sleeper("D", "completion", "wait_for_completion")
		}
	}
	w.mutex(holder, nodes...)
	if locks, _, err := w.find(b); err != nil || len(locks) != 1 || len(locks[0].Waiters) != n/2 {
		b.Fatalf("%d locks, %v", len(locks), err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := w.find(b); err != nil {
			b.Fatal(err)
		}
	}
}

// TestPointersToWaiter has a stack on which more points to the waiter than the
// lock: a saved register, and what would be a lock around it.
func TestPointersToWaiter(t *testing.T) {
	w := newWorld(rings)
	holder, _ := w.sleeper("S", "holder", "schedule")
	_, r := w.waiter("reader", "rwsem_down_read_slowpath")
	lock := w.New("rw_semaphore")
	w.Set(lock, "rw_semaphore.count", rwsemWriter|rwsemWaiters)
	w.Set(lock, "rw_semaphore.owner", holder)
	w.queue(lock, "rw_semaphore", []uint64{r})
	w.remember(r, 0, lock)
	saved := r - 128
	w.Words(saved, r)
	w.Words(saved-8, saved-w.Offset("rw_semaphore.first_waiter"))
	elsewhere := w.New("rw_semaphore") // nobody waits for it
	w.Set(elsewhere, "rw_semaphore.first_waiter", r)
	w.Words(saved-16, elsewhere)
	w.check(t, nil, "rwsem  of holder: reader", "chain reader holder, 1 locks")
}
