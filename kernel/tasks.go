package kernel

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// Task is a thread: struct task_struct, include/linux/sched.h (Linux 5.10 to
// 7.2).
type Task struct {
	Addr     VirtAddr // of its task_struct, whose size is Layout's
	PID      int32
	Comm     string
	Stack    VirtAddr // its lowest address
	Signal   VirtAddr // of the signal_struct, one for each process
	MM, Cred VirtAddr // of mm_struct and cred; 0 is none
}

// Limits of what is believed of tasks: PID_MAX_LIMIT (include/linux/threads.h)
// is 4 million.
const (
	maxTasks      = 1 << 22
	maxTaskStruct = 64 << 10
	maxComm       = 64
	minTaskStruct = maxComm // so that any member may be compared with it
)

// Tasks yields every thread, those of one process in a row, init_task first,
// which is the idle task of the first CPU; those of other CPUs are in no list.
// A task that cannot be read ends the list with an error, since the next one is
// found through it. Without a layout of struct task_struct the error is that of
// [Kernel.Layout].
func (k *Kernel) Tasks() iter.Seq2[Task, error] {
	return func(yield func(Task, error) bool) {
		r, first, err := k.openTasks()
		if err == nil {
			err = r.walk(first, func(t Task) bool { return yield(t, nil) })
		}
		if err != nil {
			yield(Task{}, fmt.Errorf("tasks: %w", err))
		}
	}
}

// TaskStructs yields the task_struct of every thread in the order of [Kernel.Tasks],
// to be read by the names of its members. s is prepared to read task_struct. An
// Object is valid until the next one only: there may be a hundred thousand of
// them, with 10 KiB each.
func (k *Kernel) TaskStructs(s *StructReader) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		r, first, err := k.openTasks()
		if err == nil {
			err = r.walk(first, func(t Task) bool { return yield(Object{t.Addr, s, r.buf}, nil) })
		}
		if err != nil {
			yield(Object{}, fmt.Errorf("tasks: %w", err))
		}
	}
}

// taskReader knows the layout of struct task_struct.
type taskReader struct {
	k                                         *Kernel
	size                                      uint64
	tasks, node, pid, stack, signal, mm, cred uint64 // offsets
	comm                                      Field
	threads                                   uint64 // offset of thread_head in struct signal_struct
	buf                                       []byte
	left                                      int
}

func (k *Kernel) openTasks() (*taskReader, VirtAddr, error) {
	l, err := k.Layout()
	if err != nil {
		return nil, 0, err
	}
	r := &taskReader{k: k, left: maxTasks}
	size, ok := l.Size("task_struct")
	if !ok || size < minTaskStruct || size > maxTaskStruct {
		return nil, 0, fmt.Errorf("struct task_struct of %d bytes: %w", size, ErrNoInfo)
	}
	var missing error
	field := func(name string, want uint64) uint64 {
		f, ok := l.Field("task_struct." + name)
		if missing == nil && (!ok || f.Size != want || f.Offset > size-want) {
			missing = fmt.Errorf("task_struct.%s: %w", name, ErrNoInfo)
		}
		return f.Offset
	}
	r.size = size
	r.tasks, r.node = field("tasks", 16), field("thread_node", 16)
	r.pid, r.stack, r.signal = field("pid", 4), field("stack", 8), field("signal", 8)
	r.mm, r.cred = field("mm", 8), field("real_cred", 8)
	if r.comm, ok = l.Field("task_struct.comm"); missing == nil && (!ok || r.comm.Size > maxComm || r.comm.Offset > size-r.comm.Size) {
		missing = fmt.Errorf("task_struct.comm: %w", ErrNoInfo)
	}
	head, ok := l.Field("signal_struct.thread_head")
	if missing == nil && (!ok || head.Offset > maxTaskStruct) {
		missing = fmt.Errorf("signal_struct.thread_head: %w", ErrNoInfo)
	}
	if missing != nil {
		return nil, 0, missing
	}
	r.threads = head.Offset
	r.buf = make([]byte, size)
	syms, err := k.Lookup("init_task")
	first, ok := syms["init_task"]
	if !ok {
		if err == nil {
			err = fmt.Errorf("symbol init_task: %w", ErrNotFound)
		}
		return nil, 0, err
	}
	return r, first, nil
}

// walk goes through the processes and, of each, its threads. The task_struct of
// the one that is yielded is in buf.
func (r *taskReader) walk(first VirtAddr, yield func(Task) bool) error {
	var processes lap
	for at := first; ; {
		leader, next, _, err := r.read(at)
		if err != nil {
			return err
		}
		if !yield(leader) {
			return nil
		}
		head := leader.Signal + VirtAddr(r.threads)
		node, err := r.k.ReadPointer(head)
		if err != nil {
			return fmt.Errorf("threads of PID %d: %w", leader.PID, err)
		}
		var threads lap
		for node != head {
			if threads.back(node) {
				return fmt.Errorf("threads of PID %d come back to %#x: %w", leader.PID, uint64(node), ErrCorrupt)
			}
			t, _, after, err := r.read(node - VirtAddr(r.node))
			if err != nil {
				return err
			}
			if t.Addr != leader.Addr && !yield(t) {
				return nil
			}
			node = after
		}
		if at = next - VirtAddr(r.tasks); at == first {
			return nil
		}
		if processes.back(at) {
			return fmt.Errorf("list of processes comes back to %#x: %w", uint64(at), ErrCorrupt)
		}
	}
}

// read reads the task at addr, and where the lists of processes and of threads
// go on.
func (r *taskReader) read(addr VirtAddr) (t Task, process, thread VirtAddr, err error) {
	if r.left--; r.left < 0 {
		return t, 0, 0, fmt.Errorf("more than %d tasks: %w", maxTasks, ErrCorrupt)
	}
	if err := r.k.ReadVirt(r.buf, addr); err != nil {
		return t, 0, 0, fmt.Errorf("task_struct at %#x: %w", uint64(addr), err)
	}
	le := binary.LittleEndian
	pointer := func(off uint64) VirtAddr { return VirtAddr(le.Uint64(r.buf[off:])) }
	t = Task{
		Addr: addr, PID: int32(le.Uint32(r.buf[r.pid:])), Comm: cString(r.buf[r.comm.Offset:][:r.comm.Size]),
		Stack: pointer(r.stack), Signal: pointer(r.signal), MM: pointer(r.mm), Cred: pointer(r.cred),
	}
	return t, pointer(r.tasks), pointer(r.node), nil
}

// lap notices when a damaged list runs in circles that leave its head out: an
// old place lags behind and is met again then.
type lap struct {
	old VirtAddr
	n   int
}

// back tells whether the list was at this place before, sooner or later.
func (l *lap) back(at VirtAddr) bool {
	if at == l.old && l.n > 0 {
		return true
	}
	if l.n++; l.n&(l.n-1) == 0 {
		l.old = at
	}
	return false
}
