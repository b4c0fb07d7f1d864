package kernel

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// taskLayout is a short struct task_struct.
func taskLayout() *Layout {
	return &Layout{Structs: map[string]Struct{
		"task_struct": {Size: 256, Fields: map[string]Field{
			"stack": {Offset: 0, Size: 8}, "tasks": {Offset: 16, Size: 16}, "thread_node": {Offset: 32, Size: 16},
			"pid": {Offset: 48, Size: 4}, "signal": {Offset: 56, Size: 8}, "mm": {Offset: 64, Size: 8},
			"real_cred": {Offset: 72, Size: 8}, "comm": {Offset: 80, Size: 16, Count: 16},
		}},
		"signal_struct": {Size: 64, Fields: map[string]Field{"thread_head": {Offset: 8, Size: 16}}},
	}}
}

const (
	initTask  = testImage + 0x800000
	firstTask = testImage + 0xa00000
)

// putTasks writes init_task and a process of two threads.
func putTasks(m *machine) (signals [2]VirtAddr) {
	putSymbols(m, kallsymsPlaceRelative, append(testSymbols(), Symbol{Name: "init_task", Addr: initTask, Type: 'D'}))
	signals = [2]VirtAddr{testImage + 0xb00000, testImage + 0xb01000}
	task := func(at VirtAddr, comm string, pid uint32, signal, nextProcess, nextThread VirtAddr) {
		b := make([]byte, 256)
		le := binary.LittleEndian
		le.PutUint64(b[0:], uint64(at)+0x10000)
		le.PutUint64(b[16:], uint64(nextProcess))
		le.PutUint64(b[32:], uint64(nextThread))
		le.PutUint32(b[48:], pid)
		le.PutUint64(b[56:], uint64(signal))
		copy(b[80:], comm)
		m.put(at, b)
	}
	second := firstTask + 0x1000
	task(initTask, "swapper/0", 0, signals[0], firstTask+16, signals[0]+8)
	task(firstTask, "init", 1, signals[1], initTask+16, second+32)
	task(second, "worker", 2, signals[1], 0, signals[1]+8)
	m.put64(signals[0]+8, uint64(initTask+32))
	m.put64(signals[1]+8, uint64(firstTask+32))
	return signals
}

func tasksOf(t *testing.T, m *machine) (list []Task, err error) {
	t.Helper()
	k := m.kernel(t)
	k.opts.Layout = taskLayout()
	for task, terr := range k.Tasks() {
		if terr != nil {
			return list, terr
		}
		list = append(list, task)
	}
	return list, nil
}

func TestTasks(t *testing.T) {
	m := newMachine("sv48")
	signals := putTasks(m)
	got, err := tasksOf(t, m)
	if err != nil {
		t.Fatal(err)
	}
	want := []Task{
		{Addr: initTask, Comm: "swapper/0", Stack: initTask + 0x10000, Signal: signals[0]},
		{Addr: firstTask, PID: 1, Comm: "init", Stack: firstTask + 0x10000, Signal: signals[1]},
		{Addr: firstTask + 0x1000, PID: 2, Comm: "worker", Stack: firstTask + 0x11000, Signal: signals[1]},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
}

func TestTasksDamaged(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(m *machine, signals [2]VirtAddr)
		want   error
		least  int // tasks that are found in any case
	}{
		"list into nothing":     {func(m *machine, _ [2]VirtAddr) { m.put64(firstTask+16, 0x1000) }, ErrNotMapped, 3},
		"threads into nothing":  {func(m *machine, s [2]VirtAddr) { m.put64(s[1]+8, 0x1000) }, ErrNotMapped, 2},
		"no signal_struct":      {func(m *machine, _ [2]VirtAddr) { m.put64(firstTask+56, 0) }, ErrNotMapped, 2},
		"processes in a circle": {func(m *machine, _ [2]VirtAddr) { m.put64(firstTask+16, uint64(firstTask+16)) }, ErrCorrupt, 3},
		"threads in a circle":   {func(m *machine, _ [2]VirtAddr) { m.put64(firstTask+0x1000+32, uint64(firstTask+0x1000+32)) }, ErrCorrupt, 2},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine("sv48")
			c.damage(m, putTasks(m))
			got, err := tasksOf(t, m)
			if !errors.Is(err, c.want) || len(got) < c.least {
				t.Errorf("%d tasks, %v; want at least %d and %v", len(got), err, c.least, c.want)
			}
		})
	}
}

func TestTasksWithoutLayout(t *testing.T) {
	m := newMachine("sv48")
	putTasks(m)
	k := m.kernel(t)
	l := taskLayout()
	delete(l.Structs["task_struct"].Fields, "tasks")
	k.opts.Layout = l
	for _, err := range k.Tasks() {
		if !errors.Is(err, ErrNoInfo) {
			t.Errorf("%v; want ErrNoInfo", err)
		}
	}
}
