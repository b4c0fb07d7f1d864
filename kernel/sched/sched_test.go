package sched

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

func TestLetter(t *testing.T) {
	for _, c := range []struct {
		state, exit uint64
		want        string
	}{
		{0, 0, "R"}, {1, 0, "S"}, {2, 0, "D"}, {0x102, 0, "D"}, {4, 0, "T"}, {0x104, 0, "T"}, {8, 0, "t"}, {0x80, 0x10, "X"},
		{0x80, 0x20, "Z"}, {0x40, 0, "P"}, {0x402, 0, "I"}, {0x2001, 0, "S"}, {0x2402, 0, "I"}, {0x8000, 0, "D"},
		{0x1000, 0, "D"}, {0x200, 0, "R"}, {0x800, 0, "R"}, {^uint64(0), ^uint64(0), "D"},
	} {
		if got := letter(c.state, c.exit); got != c.want {
			t.Errorf("letter(%#x, %#x) = %s; want %s", c.state, c.exit, got, c.want)
		}
	}
}

// memoryOf gives a task some memory.
func (w *world) memoryOf(task uint64, files, parts0, parts1 int32) uint64 {
	mm := w.New("mm_struct")
	w.Set(mm, "mm_struct.total_vm", 1000)
	at := mm + w.Offset("mm_struct.rss_stat")
	w.Set(at, "percpu_counter.count", uint64(files))
	w.Set(at, "percpu_counter.counters", w.parts)
	var b [4]byte
	for cpu, n := range []int32{parts0, parts1} {
		binary.LittleEndian.PutUint32(b[:], uint32(n))
		w.Put(w.parts+uint64(cpu)*perCPU, b[:])
	}
	w.parts += 4
	w.Set(at+2*(w.Offset("percpu_counter.counters")+8), "percpu_counter.count", 1<<40) // swap does not count
	w.Set(task, "task_struct.mm", mm)
	return mm
}

func TestTasks(t *testing.T) {
	w := newWorld()
	w.Set(w.initTask, "task_struct.flags", kernelThread)
	first := w.process("init", 1)
	w.Set(first, "task_struct.__state", 1)
	w.Set(first, "task_struct.stack", 0xffff8f8000010000)
	w.Set(first, "task_struct.utime", 5)
	w.Set(first, "task_struct.stime", 6)
	w.Set(first, "task_struct.start_boottime", 7)
	w.Set(first+w.Offset("task_struct.se"), "sched_entity.exec_start", 50_000_000_000)
	w.Set(first+w.Offset("task_struct.sched_info"), "sched_info.last_arrival", 40_000_000_000)
	mm := w.memoryOf(first, 100, 20, -7)
	cred := w.New("cred")
	w.Set(cred, "cred.uid", 1)
	w.Set(cred, "cred.euid", 1000)
	second := w.process("worker\n", 7)
	w.Set(second, "task_struct.real_cred", cred)
	w.Set(second, "task_struct.real_parent", first)
	w.Set(second, "task_struct.policy", 2)
	w.onCPU(second, 1)
	w.Set(second+w.Offset("task_struct.sched_info"), "sched_info.last_arrival", 98_000_000_000)
	w.Set(second+w.Offset("task_struct.se"), "sched_entity.exec_start", 98_900_000_000)
	third := w.thread(second, "thread", 8, 7)
	w.Set(third, "task_struct.__state", 2)
	w.Set(third+w.Offset("task_struct.se"), "sched_entity.exec_start", 99_500_000_000)
	w.Set(w.queues[1], "rq.curr", second)
	got, err := Tasks(w.kernel(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []Task{
		{Addr: kernel.VirtAddr(w.initTask), Comm: "swapper/0", State: "R", OnCPU: true, Kernel: true, Prio: 120},
		{Addr: kernel.VirtAddr(w.Word(w.queues[1] + w.Offset("rq.idle"))), Comm: "swapper/1", State: "R", CPU: 1, Prio: 120},
		{Addr: kernel.VirtAddr(first), PID: 1, TGID: 1, Comm: "init", State: "S", Prio: 120, UserTime: 5, SystemTime: 6, Started: 7,
			LastRan: 51_000_000_000, Idle: 49_000_000_000, RSS: 113 * 4096, Size: 1000 * 4096, Stack: 0xffff8f8000010000, MM: kernel.VirtAddr(mm)},
		{Addr: kernel.VirtAddr(second), PID: 7, TGID: 7, PPID: 1, UID: 1000, Comm: "worker?", State: "R", CPU: 1, OnCPU: true, Policy: "rr",
			Prio: 120, LastRan: 98_000_000_000, Idle: 2_000_000_000},
		// Later than any clock that was read: now.
		{Addr: kernel.VirtAddr(third), PID: 8, TGID: 7, Comm: "thread", State: "D", Prio: 120, LastRan: 100_000_000_000},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
	if !got[4].Blocked() || got[2].Blocked() {
		t.Error("D is blocked, S is not")
	}
}

// Kernels before 6.2 count memory without per-CPU parts; the CPU and the state of
// a task were other members, and there may be no account of scheduling.
// TestFirst checks what is listed where there is no room for all: what ran and
// what is blocked, wherever it stands.
func TestFirst(t *testing.T) {
	w := newWorld()
	sleepy := w.process("sleepy", 1)
	w.Set(sleepy, "task_struct.__state", 1)
	for i := range uint64(20) {
		w.Set(w.process("more", 2+i), "task_struct.__state", 1)
	}
	child := w.process("stuck", 50)
	w.Set(child, "task_struct.__state", 2)
	w.Set(child, "task_struct.real_parent", w.process("parent", 51))
	runs := w.process("runs", 52)
	w.Set(w.queues[1], "rq.curr", runs)
	k := w.kernel(t)
	all, err := Tasks(k)
	if err != nil {
		t.Fatal(err)
	}
	some, rest, err := First(k, 4)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, task := range some[len(some)-2:] {
		names = append(names, fmt.Sprint(task.Comm, " of ", task.PPID))
	}
	if want := []string{"stuck of 51", "runs of 0"}; !slices.Equal(names, want) {
		t.Errorf("the last of %d are %q; want %q", len(some), names, want)
	}
	if n := len(some) + rest["S"] + rest["R"]; n != len(all) || len(some) != 6 {
		t.Errorf("%d listed, others %v, of %d; want 6 and the rest", len(some), rest, len(all))
	}
}

func TestTasksOfOtherKernels(t *testing.T) {
	w := newWorldOf(`
thread_info: flags
mm_rss_stat: count:8*4
mm_struct: total_vm rss_stat:mm_rss_stat
task_struct: cpu:4 exit_state:4 state flags:4 prio:4 policy:4 pid:4 tgid:4 stack mm real_cred real_parent signal utime stime tasks:list_head thread_node:list_head se:sched_entity rt:sched_rt_entity dl:sched_dl_entity comm:1*16`,
		"rq.online", "rq.clock_task")
	task := w.process("init", 1)
	mm := w.New("mm_struct")
	w.Set(mm, "mm_struct.total_vm", 10)
	w.Words(mm+w.Offset("mm_struct.rss_stat"), 1, 2, 4, 8)
	w.Set(task, "task_struct.mm", mm)
	w.Set(task, "task_struct.state", 0x402)
	w.onCPU(task, 1)
	got, err := Tasks(w.kernel(t))
	if err != nil || len(got) != 3 {
		t.Fatalf("%d tasks, %v; want 3", len(got), err)
	}
	if g := got[2]; g.RSS != 11*4096 || g.Size != 10*4096 || g.CPU != 1 || g.State != "I" || g.LastRan != 0 {
		t.Errorf("task = %+v; want 11 of 10 pages on CPU 1, idle", g)
	}

	// Without run queues there are tasks still, but for idle ones.
	w = newWorldOf("", "rq")
	w.Set(w.process("init", 1), "task_struct.on_cpu", 1)
	got, err = Tasks(w.kernel(t))
	if !errors.Is(err, kernel.ErrNoInfo) || len(got) != 2 || !got[1].OnCPU {
		t.Errorf("without run queues %+v, %v; want two tasks, the second on a CPU, and ErrNoInfo", got, err)
	}
	// Without states there are none.
	w = newWorldOf("", "task_struct.__state")
	if got, err = Tasks(w.kernel(t)); !errors.Is(err, kernel.ErrNoInfo) || got != nil {
		t.Errorf("without states %+v, %v; want ErrNoInfo", got, err)
	}
}

func TestTasksDamaged(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(w *world, first uint64)
		want   error
		least  int
	}{
		"credentials that are lost": {func(w *world, first uint64) { w.Set(first, "task_struct.real_cred", 0x5000) }, kernel.ErrNotMapped, 4},
		"no credentials":            {func(w *world, first uint64) { w.Set(first, "task_struct.real_cred", 0) }, kernel.ErrCorrupt, 4},
		"memory that is lost":       {func(w *world, first uint64) { w.Set(first, "task_struct.mm", 0x5000) }, kernel.ErrNotMapped, 4},
		"a list into nothing":       {func(w *world, first uint64) { w.Words(first+w.Offset("task_struct.tasks"), 0x5000) }, kernel.ErrNotMapped, 3},
		"an idle task that is lost": {func(w *world, _ uint64) { w.Set(w.queues[1], "rq.idle", 0x5000) }, kernel.ErrNotMapped, 3},
		"all memory that is lost": {func(w *world, first uint64) {
			for i := range uint64(20) {
				w.Set(w.thread(first, "t", 10+i, 1), "task_struct.mm", 0x5000+i)
			}
		}, kernel.ErrNotMapped, 5},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			first := w.process("init", 1)
			w.process("second", 2)
			k := w.kernel(t)
			c.damage(w, first)
			got, err := Tasks(k)
			if !errors.Is(err, c.want) || len(got) < c.least || len(err.Error()) > 4096 {
				t.Errorf("%d tasks, %v; want at least %d and %v", len(got), err, c.least, c.want)
			}
		})
	}
}

// classes puts tasks of all classes into the queues of the second CPU.
func (w *world) classes() (rq uint64, tasks map[string]uint64) {
	rq = w.queues[1]
	tasks = make(map[string]uint64)
	for i, name := range []string{"runs", "first", "second", "group-1", "delayed", "rt-low", "rt-high", "rt-group", "early", "late", "ext"} {
		tasks[name] = w.process(name, uint64(10+i))
	}
	w.Set(rq, "rq.curr", tasks["runs"])
	w.Set(rq, "rq.nr_running", 9)
	se, rt, dl := w.Offset("task_struct.se"), w.Offset("task_struct.rt"), w.Offset("task_struct.dl")
	node := w.Offset("sched_entity.run_node")
	// The one that runs is in a group, whose entity is not in the tree.
	group, groupQueue := w.New("sched_entity"), w.New("cfs_rq")
	w.Set(group, "sched_entity.my_q", groupQueue)
	w.Set(groupQueue, "cfs_rq.curr", tasks["runs"]+se)
	cfs := rq + w.Offset("rq.cfs")
	w.Set(cfs, "cfs_rq.curr", group)
	w.Words(cfs+w.Offset("cfs_rq.tasks_timeline"), tasks["second"]+se+node)
	w.Words(tasks["second"]+se+node, 1, tasks["delayed"]+se+node, tasks["first"]+se+node)
	w.Words(tasks["first"]+se+node, tasks["second"]+se+node, 0, 0)
	w.Words(tasks["delayed"]+se+node, tasks["second"]+se+node, 0, 0)
	w.Set(tasks["delayed"]+se, "sched_entity.sched_delayed", 1)
	w.Words(groupQueue+w.Offset("cfs_rq.tasks_timeline"), tasks["group-1"]+se+node)
	w.Words(tasks["group-1"]+se+node, 1, 0, 0)

	lists := rq + w.Offset("rq.rt") + w.Offset("rt_prio_array.queue")
	rtGroup, rtQueue := w.New("sched_rt_entity"), w.New("rt_rq")
	w.Set(rtGroup, "sched_rt_entity.my_q", rtQueue)
	for i := range uint64(100) {
		w.Ring(rtQueue + w.Offset("rt_prio_array.queue") + 16*i)
	}
	w.Ring(rtQueue+w.Offset("rt_prio_array.queue"), tasks["rt-group"]+rt)
	w.Ring(lists+16*10, tasks["rt-high"]+rt, rtGroup)
	w.Ring(lists+16*50, tasks["rt-low"]+rt)

	server := rq + w.Offset("rq.fair_server")
	w.Words(rq+w.Offset("rq.dl"), tasks["late"]+dl)
	w.Words(tasks["late"]+dl, 1, server, tasks["early"]+dl)
	w.Words(tasks["early"]+dl, tasks["late"]+dl, 0, 0)
	w.Words(server, tasks["late"]+dl, 0, 0)

	w.Ring(rq+w.Offset("rq.scx"), tasks["ext"]+w.Offset("task_struct.scx"))
	return rq, tasks
}

func names(refs []Ref) (all []string) {
	for _, r := range refs {
		all = append(all, r.Class+":"+r.Comm)
	}
	return all
}

func TestRunQueues(t *testing.T) {
	w := newWorld()
	_, tasks := w.classes()
	k := w.kernel(t)
	got, err := RunQueues(k)
	if err != nil || len(got) != 2 {
		t.Fatalf("%d run queues, %v; want 2", len(got), err)
	}
	if q := got[0]; q.CPU != 0 || q.Current.Comm != "swapper/0" || q.Clock != 100_000_000_000 || len(q.Waiting) != 0 {
		t.Errorf("first CPU: %+v; want it idle", q)
	}
	q := got[1]
	want := []string{"deadline:early", "deadline:late", "rt:rt-high", "rt:rt-group", "rt:rt-low", "ext:ext", "fair:group-1", "fair:first", "fair:second"}
	if !slices.Equal(names(q.Waiting), want) {
		t.Errorf("waiting: %v; want %v", names(q.Waiting), want)
	}
	if q.Current != (Ref{Addr: kernel.VirtAddr(tasks["runs"]), PID: 10, Comm: "runs"}) || q.Running != 9 {
		t.Errorf("current %+v of %d; want \"runs\" of 9", q.Current, q.Running)
	}
	if q.Waiting[0] != (Ref{Addr: kernel.VirtAddr(tasks["early"]), PID: 18, Comm: "early", Class: "deadline"}) {
		t.Errorf("first that waits: %+v", q.Waiting[0])
	}
	cur, err := Current(k)
	if err != nil || len(cur) != 2 || cur[1].Comm != "runs" || cur[0].Comm != "swapper/0" {
		t.Errorf("Current = %v, %v", cur, err)
	}
}

// CPUs that the scheduler does not use are left out, and none is as long as it
// uses none.
func TestRunQueuesOffline(t *testing.T) {
	w := newWorld()
	w.Set(w.queues[1], "rq.online", 0)
	if got, err := RunQueues(w.kernel(t)); err != nil || len(got) != 1 || got[0].CPU != 0 {
		t.Errorf("with one CPU offline: %+v, %v", got, err)
	}
	w.Set(w.queues[0], "rq.online", 0)
	if got, err := RunQueues(w.kernel(t)); err != nil || len(got) != 2 {
		t.Errorf("early in the boot: %+v, %v; want both", got, err)
	}
	w.Set(w.queues[0], "rq.curr", 0)
	if got, err := RunQueues(w.kernel(t)); err != nil || len(got) != 1 || got[0].CPU != 1 {
		t.Errorf("with a CPU that never started: %+v, %v", got, err)
	}
}

func TestRunQueuesDamaged(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(w *world, rq uint64, tasks map[string]uint64)
		want   error
		others []string // that are there in any case
	}{
		"a group in itself": {func(w *world, rq uint64, tasks map[string]uint64) {
			w.Set(tasks["first"]+w.Offset("task_struct.se"), "sched_entity.my_q", rq+w.Offset("rq.cfs"))
		}, kernel.ErrCorrupt, []string{"deadline:late", "rt:rt-low", "ext:ext"}},
		"a real-time group in itself": {func(w *world, rq uint64, tasks map[string]uint64) {
			w.Set(tasks["rt-high"]+w.Offset("task_struct.rt"), "sched_rt_entity.my_q", rq+w.Offset("rq.rt"))
		}, kernel.ErrCorrupt, []string{"deadline:late", "ext:ext", "fair:first"}},
		"a tree into nothing": {func(w *world, rq uint64, _ map[string]uint64) {
			w.Words(rq+w.Offset("rq.dl"), 0x5000)
		}, kernel.ErrNotMapped, []string{"rt:rt-low", "ext:ext", "fair:first"}},
		"current task that is lost": {func(w *world, rq uint64, _ map[string]uint64) {
			w.Set(rq, "rq.curr", 0x5000)
		}, kernel.ErrNotMapped, []string{"deadline:late", "rt:rt-low", "ext:ext", "fair:first"}},
		"list without a way back": {func(w *world, rq uint64, tasks map[string]uint64) {
			w.Words(tasks["ext"]+w.Offset("task_struct.scx"), tasks["ext"]+w.Offset("task_struct.scx"))
		}, kernel.ErrCorrupt, []string{"deadline:late", "rt:rt-low", "fair:first"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			rq, tasks := w.classes()
			k := w.kernel(t)
			c.damage(w, rq, tasks)
			got, err := RunQueues(k)
			if !errors.Is(err, c.want) || len(got) != 2 {
				t.Fatalf("%d run queues, %v; want 2 and %v", len(got), err, c.want)
			}
			have := names(got[1].Waiting)
			for _, o := range c.others {
				if !slices.Contains(have, o) {
					t.Errorf("%s is missing in %v", o, have)
				}
			}
		})
	}
	if _, err := RunQueues(newWorldOf("", "rq").kernel(t)); !errors.Is(err, kernel.ErrNoInfo) {
		t.Errorf("without struct rq: %v; want ErrNoInfo", err)
	}
	// A class that is not understood does not hide the others.
	w := newWorld()
	w.classes()
	w.Forget("rt_prio_array")
	got, err := RunQueues(w.kernel(t))
	if !errors.Is(err, kernel.ErrNoInfo) || len(got) != 2 || len(got[1].Waiting) != 6 {
		t.Errorf("without struct rt_prio_array: %+v, %v; want the other 6 tasks and ErrNoInfo", got, err)
	}
}

func TestReadLoad(t *testing.T) {
	tasks := []Task{{State: "R"}, {PID: 1, State: "S"}, {PID: 2, State: "D"}, {PID: 3, State: "D"}}
	w := newWorld()
	w.Words(w.Variable("avenrun", 24), 3<<11|1<<10, 1<<11, 0)
	clock := func(at uint64) {
		w.Set(at, "tk_read_base.base", 60_000_000_000)
		w.Set(at, "tk_read_base.shift", 8)
		w.Set(at, "tk_read_base.xtime_nsec", 500<<8)
	}
	core := w.Variable("tk_core", 128)
	clock(core + 8)
	want := Load{Uptime: 60_000_000_500, Averages: [3]float64{3.5, 1, 0}, Tasks: 4, States: map[string]int{"S": 1, "D": 2}}
	check := func(what string, want Load, failure error) {
		t.Helper()
		got, err := ReadLoad(w.kernel(t), tasks)
		if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, failure) {
			t.Errorf("%s: %v; want %v; load (-want +got):\n%s", what, err, failure, diff)
		}
	}
	check("Linux 6.12", want, nil)

	// Before there was a timekeeper, and with a damaged one, ticks are counted.
	hz := uint64(250)
	jiffies := w.Variable("jiffies_64", 8)
	w.Words(jiffies, 1<<32-300*hz+10*hz)
	tick := w.Variable("tick_nsec", 8)
	w.Words(tick, 4_000_000)
	w.Set(core+8, "tk_read_base.base", 1<<63)
	want.Uptime = 10_000_000_000
	check("ticks", want, nil)
	w.Words(tick, 0)
	want.Uptime = 0
	check("neither", want, kernel.ErrCorrupt)

	// Linux 6.17 and later.
	w.Structs("tk_data: seq:4 timekeeper:timekeeper")
	data := w.Variable("timekeeper_data", 128)
	clock(data + w.Offset("tk_data.timekeeper"))
	want.Uptime = 60_000_000_500
	check("Linux 7.2", want, nil)

	w = newWorld()
	check("nothing", Load{Tasks: 4, States: map[string]int{"S": 1, "D": 2}}, kernel.ErrNotFound)
}

// manyTasks is a kernel with so many threads.
func manyTasks(n uint64) func(testing.TB) *kernel.Kernel {
	w := newWorld()
	w.Words(w.Variable("nr_threads", 8), n)
	var process uint64
	for i := range n {
		if i%10 == 0 {
			process = w.process(fmt.Sprint("process-", i), i+1)
			w.memoryOf(process, int32(i), 1, 2)
			continue
		}
		// All threads but the last of a process would need its list anew; one is enough.
		if i%10 == 1 {
			w.thread(process, fmt.Sprint("thread-", i), i+1, i)
		} else {
			w.process(fmt.Sprint("kworker/", i), i+1)
		}
	}
	return w.kernel
}

func BenchmarkTasks(b *testing.B) {
	const n = 100_000
	k := manyTasks(n)(b)
	if got, err := Tasks(k); err != nil || len(got) != n+2 {
		b.Fatalf("%d tasks, %v", len(got), err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Tasks(k); err != nil {
			b.Fatal(err)
		}
	}
}

// Of many tasks the list is what they take, and not much else.
func TestTasksMemory(t *testing.T) {
	const n = 20_000
	k := manyTasks(n)(t)
	// What is found once and kept is not measured.
	if _, err := RunQueues(k); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := Tasks(k)
	runtime.ReadMemStats(&after)
	if err != nil || len(got) != n+2 {
		t.Fatalf("%d tasks, %v; want %d", len(got), err, n+2)
	}
	if each := (after.TotalAlloc - before.TotalAlloc) / n; each > 700 {
		t.Errorf("%d bytes for each task; want at most 700", each)
	}
}

// FuzzSched writes words over what a kernel has in memory: whatever stands there,
// there is an end, and no panic.
func FuzzSched(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x10\x00\x01\x20\x00\x80\x00\x02\x10\x00\x01\xff\x07\x00\x01"))
	f.Add([]byte(strings.Repeat("\x40\x00\x01\x00\x80\x01\x00\x00", 20)))
	f.Fuzz(func(t *testing.T, p []byte) {
		w := newWorld()
		rq, all := w.classes()
		w.memoryOf(all["first"], 1, 2, 3)
		w.thread(all["first"], "thread", 99, 11)
		w.Words(w.Variable("avenrun", 24), 1, 2, 3)
		w.Variable("tk_core", 128)
		k := w.kernel(t)
		// The first half of a step is where, the other one what: a word that leads
		// somewhere, or any number.
		places := []uint64{w.initTask, rq, w.queues[0], all["runs"]}
		for ; len(p) >= 8; p = p[8:] {
			at, n := binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint32(p[4:])
			place := places[at%4] + uint64(at/4)%(32<<10)&^7
			value := places[n%4] + uint64(n/4)%(32<<10)&^7
			if n&4 != 0 {
				value = uint64(n)
			}
			w.Words(place, value)
		}
		tasks, err := Tasks(k)
		if err == nil && len(tasks) < 2 {
			t.Errorf("%d tasks and no error", len(tasks))
		}
		if _, err := RunQueues(k); err != nil && errors.Is(err, vmcore.ErrExcluded) {
			t.Error("nothing is excluded here")
		}
		if _, err := Current(k); err != nil && err.Error() == "" {
			t.Error("an error without words")
		}
		if l, _ := ReadLoad(k, tasks); l.Tasks != len(tasks) {
			t.Errorf("%d tasks of %d", l.Tasks, len(tasks))
		}
	})
}
