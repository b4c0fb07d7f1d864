package inspect

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/mm"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
	"github.com/panicroom-kdump/panicroom/report"
)

// Tasks asks for tasks. Those are meant that fit all that is set.
type Tasks struct {
	// Words are PIDs, names, or addresses of struct task_struct; none is all.
	Words  []string
	States string // letters, as in /proc/PID/stat; "" is all
	Kernel bool   // kernel threads
	User   bool   // tasks that are none
	OnCPU  bool   // those that ran
}

// TaskList are tasks.
type TaskList struct {
	Tasks []sched.Task `json:"tasks"`
	// Memory is what the machine has, in bytes; 0 if unknown.
	Memory uint64 `json:"memory,omitempty"`
}

// Ask answers.
func (q Tasks) Ask(s *Session) (Answer, error) {
	if q.Kernel && q.User {
		return nil, errors.New("a task is a kernel thread or it is none")
	}
	found, err := s.tasks(q)
	if len(found) == 0 && err != nil {
		return nil, err
	}
	list := &TaskList{Tasks: found}
	// Without it, shares of it are left out.
	if m, merr := mm.Read(s.k); m != nil && merr == nil {
		list.Memory = m.Total
	}
	return list, err
}

// tasks are those that are asked for.
func (s *Session) tasks(q Tasks) ([]sched.Task, error) {
	all, err := sched.Tasks(s.k)
	found := []sched.Task{}
	used := make([]bool, len(q.Words))
	for i := range all {
		t := &all[i]
		if q.Kernel && !t.Kernel || q.User && t.Kernel || q.OnCPU && !t.OnCPU || q.States != "" && !strings.Contains(q.States, t.State) {
			continue
		}
		meant := len(q.Words) == 0
		for i, w := range q.Words {
			if isTask(t, w) {
				meant, used[i] = true, true
			}
		}
		if meant {
			found = append(found, *t)
		}
	}
	for i, w := range q.Words {
		if !used[i] {
			err = errors.Join(err, &hinted{fmt.Errorf("task %s: %w", w, kernel.ErrNotFound), "ps lists all tasks; one is named by its PID, its name or the address of its task_struct"})
		}
	}
	return found, err
}

// isTask tells whether a word names a task.
func isTask(t *sched.Task, word string) bool {
	if t.Comm == word {
		return true
	}
	if n, err := strconv.ParseInt(word, 10, 32); err == nil && int32(n) == t.PID {
		return true
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(word, "0x"), 16, 64)
	return err == nil && kernel.VirtAddr(n) == t.Addr
}

// Write writes a table.
func (l *TaskList) Write(w io.Writer, width int) error {
	return report.WriteTasks(w, width, l.Tasks, l.Memory)
}

// RunQueues asks what the CPUs had to do.
type RunQueues struct{}

// RunQueueList are the run queues of all CPUs.
type RunQueueList struct {
	RunQueues []sched.RunQueue `json:"run_queues"`
}

// Ask answers.
func (RunQueues) Ask(s *Session) (Answer, error) {
	all, err := sched.RunQueues(s.k)
	if len(all) == 0 && err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b sched.RunQueue) int { return a.CPU - b.CPU })
	return &RunQueueList{all}, err
}

// Write writes a paragraph for each CPU.
func (l *RunQueueList) Write(w io.Writer, width int) error {
	return report.WriteRunQueues(w, width, l.RunQueues)
}
