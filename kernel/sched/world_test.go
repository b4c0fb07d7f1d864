package sched

import (
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
)

// structs are those of Linux 6.12 as far as they are read, in short.
const structs = `
list_head: next prev
rb_node: parent right left
thread_info: flags cpu:4
sched_info: pcount last_arrival
sched_entity: load run_node:rb_node exec_start my_q sched_delayed:1
sched_rt_entity: run_list:list_head my_q
sched_dl_entity: rb_node:rb_node
sched_ext_entity: runnable_node:list_head
task_struct: thread_info:thread_info __state:4 exit_state:4 flags:4 on_cpu:4 prio:4 policy:4 pid:4 tgid:4 stack mm real_cred real_parent signal utime stime start_boottime tasks:list_head thread_node:list_head se:sched_entity rt:sched_rt_entity dl:sched_dl_entity scx:sched_ext_entity sched_info:sched_info comm:1*16
signal_struct: thread_head:list_head
cred: uid:4 euid:4
percpu_counter: lock:4 count counters
mm_struct: total_vm rss_stat:percpu_counter*4
cfs_rq: tasks_timeline curr
rt_prio_array: bitmap:8*2 queue:list_head*100
rt_rq: active:rt_prio_array
dl_rq: root
scx_rq: runnable_list:list_head
rq: nr_running:4 curr idle clock clock_task online:4 fair_server:sched_dl_entity cfs:cfs_rq rt:rt_rq dl:dl_rq scx:scx_rq
cpumask: bits:8*1
tk_read_base: shift:4 xtime_nsec base
timekeeper: tkr_mono:tk_read_base
seqcount_raw_spinlock: sequence:4
`

// world is a machine of two CPUs and no task but init_task.
type world struct {
	*kerneltest.Data
	queues    [2]uint64 // run queues of the CPUs
	initTask  uint64
	processes []uint64 // list_heads of the list of processes
	cred      uint64
	parts     uint64 // next per-CPU address
}

// perCPU is how far the parts of the second CPU are behind those of the first.
const perCPU = 1 << 18

func newWorld() *world { return newWorldOf("") }

// newWorldOf makes one of a kernel with some other structs and without some members.
func newWorldOf(other string, without ...string) *world {
	w := &world{Data: kerneltest.NewData()}
	w.Structs(structs)
	w.Structs(other)
	w.Forget(without...)
	w.Words(w.Variable("__cpu_possible_mask", 8), 3)
	w.Words(w.Variable("__per_cpu_offset", 16), 0, perCPU)
	w.cred = w.New("cred")
	w.initTask = w.Variable("init_task", 8192)
	w.fill(w.initTask, "swapper/0", 0)
	// One variable, whose second part is behind; and room for others.
	w.queues[0] = w.Variable("runqueues", 2*perCPU)
	w.queues[1] = w.queues[0] + perCPU
	w.parts = w.queues[0] + 1<<13
	for cpu, rq := range w.queues {
		idle := w.initTask
		if cpu > 0 {
			idle = w.New("task_struct")
			w.fill(idle, "swapper/1", 0)
			w.onCPU(idle, 1)
		}
		if !w.Has("rq.curr") {
			continue
		}
		w.Set(rq, "rq.idle", idle)
		w.Set(rq, "rq.curr", idle)
		w.Set(rq, "rq.clock", 100_000_000_000)
		if w.Has("rq.clock_task") {
			w.Set(rq, "rq.clock_task", 99_000_000_000)
		}
		for i := range uint64(100) {
			w.Ring(rq + w.Offset("rq.rt") + w.Offset("rt_prio_array.queue") + 16*i)
		}
		w.Ring(rq + w.Offset("rq.scx"))
		if w.Has("rq.online") {
			w.Set(rq, "rq.online", 1)
		}
	}
	return w
}

// fill writes a process of one thread at an address.
func (w *world) fill(at uint64, comm string, pid uint64) {
	w.SetText(at, "task_struct.comm", comm)
	w.Set(at, "task_struct.pid", pid)
	w.Set(at, "task_struct.tgid", pid)
	w.Set(at, "task_struct.prio", 120)
	w.Set(at, "task_struct.real_cred", w.cred)
	w.Set(at, "task_struct.real_parent", w.initTask)
	signal := w.New("signal_struct")
	w.Set(at, "task_struct.signal", signal)
	w.Ring(signal, at+w.Offset("task_struct.thread_node"))
	w.processes = append(w.processes, at+w.Offset("task_struct.tasks"))
	if strings.HasPrefix(comm, "swapper/") && comm != "swapper/0" {
		w.processes = w.processes[:len(w.processes)-1]
	}
}

// process makes a process of one thread.
func (w *world) process(comm string, pid uint64) uint64 {
	at := w.New("task_struct")
	w.fill(at, comm, pid)
	return at
}

// thread makes another thread of a process.
func (w *world) thread(process uint64, comm string, pid, tgid uint64) uint64 {
	at := w.New("task_struct")
	w.fill(at, comm, pid)
	w.processes = w.processes[:len(w.processes)-1]
	w.Set(at, "task_struct.tgid", tgid)
	node := w.Offset("task_struct.thread_node")
	signal := w.Word(process + w.Offset("task_struct.signal"))
	w.Set(at, "task_struct.signal", signal)
	w.Ring(signal, process+node, at+node)
	return at
}

// onCPU writes where a task is.
func (w *world) onCPU(task, cpu uint64) {
	if w.Has("task_struct.cpu") {
		w.Set(task, "task_struct.cpu", cpu)
	} else {
		w.Set(task+w.Offset("task_struct.thread_info"), "thread_info.cpu", cpu)
	}
}

func (w *world) kernel(t testing.TB) *kernel.Kernel {
	t.Helper()
	w.Ring(w.processes...)
	return w.Open(t, w)
}
