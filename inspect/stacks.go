package inspect

import (
	"errors"
	"fmt"
	"io"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
	"github.com/panicroom-kdump/panicroom/report"
)

// Stacks asks who called whom. What is not set at all asks for the CPU that crashed.
type Stacks struct {
	Words   []string // tasks, as in [Tasks]
	CPUs    bool     // what ran on each CPU
	Blocked bool     // tasks in uninterruptible sleep
	All     bool     // all tasks
	Of      *Tasks   // those of an answer; nil is none of this
}

// StackList are stacks.
type StackList struct {
	Stacks []TaskStack `json:"stacks"`
}

// TaskStack is the stack of a task.
type TaskStack struct {
	CPU   *int        `json:"cpu,omitempty"`  // that it ran on
	Task  *sched.Task `json:"task,omitempty"` // nil if that is not known
	Stack stack.Stack `json:"stack"`
}

// Ask answers.
func (q Stacks) Ask(s *Session) (Answer, error) {
	u, err := stack.New(s.k)
	if err != nil {
		return nil, err
	}
	a := &asking{s: s, u: u, list: StackList{Stacks: []TaskStack{}}}
	switch {
	case len(q.Words) > 0:
		a.tasks(Tasks{Words: q.Words})
	case q.Of != nil:
		a.tasks(*q.Of)
	case q.All:
		a.tasks(Tasks{})
	case q.Blocked:
		a.tasks(Tasks{States: "D"})
	case s.live && !q.CPUs:
		return nil, &hinted{errors.New("no CPU of a running kernel has crashed"), "name a task, or ask for all that are blocked: bt -D"}
	case s.live:
		return nil, &hinted{errors.New("what runs on the CPUs of a running kernel changes faster than it can be read"), "name a task that sleeps, or ask for all that are blocked: bt -D"}
	default:
		a.cpus(q.CPUs)
	}
	if len(a.list.Stacks) == 0 && a.err != nil {
		return nil, a.err
	}
	return &a.list, a.err
}

// asking is a question under way.
type asking struct {
	s    *Session
	u    *stack.Unwinder
	list StackList
	err  error
}

// cpus adds what ran on each CPU, or on the one that crashed.
func (a *asking) cpus(all bool) {
	cpus, err := a.s.k.CPUs()
	if err != nil {
		a.err = err
		return
	}
	crashed, err := a.s.k.PanicCPU()
	if err != nil && !all {
		a.err = &hinted{fmt.Errorf("which CPU crashed: %w", err), "bt -a shows all CPUs"}
		return
	}
	tasks, err := sched.Tasks(a.s.k)
	a.err = errors.Join(a.err, err)
	current, err := sched.Current(a.s.k)
	a.err = errors.Join(a.err, err)
	for _, c := range cpus {
		if !all && c.Number != crashed {
			continue
		}
		ref := current[c.Number]
		number := c.Number
		one := TaskStack{CPU: &number, Stack: a.u.CPU(c, ref.Addr)}
		if one.Task = taskAt(tasks, ref.Addr); one.Task == nil && ref.Addr != 0 {
			one.Task = &sched.Task{Addr: ref.Addr, PID: ref.PID, Comm: ref.Comm, CPU: c.Number, OnCPU: true, State: "R"}
		}
		a.list.Stacks = append(a.list.Stacks, one)
	}
	if len(a.list.Stacks) == 0 && !all {
		a.err = errors.Join(a.err, fmt.Errorf("CPU %d, which crashed, left no registers: %w", crashed, kernel.ErrNotFound))
	}
}

func taskAt(tasks []sched.Task, addr kernel.VirtAddr) *sched.Task {
	for i := range tasks {
		if tasks[i].Addr == addr {
			return &tasks[i]
		}
	}
	return nil
}

// tasks adds the stacks of tasks.
func (a *asking) tasks(q Tasks) {
	found, err := a.s.tasks(q)
	a.err = errors.Join(a.err, err)
	running := map[kernel.VirtAddr]kernel.CPU{}
	if !a.s.live {
		cpus, err := a.s.k.CPUs()
		a.err = errors.Join(a.err, err)
		current, err := sched.Current(a.s.k)
		a.err = errors.Join(a.err, err)
		for _, c := range cpus {
			if ref, ok := current[c.Number]; ok {
				running[ref.Addr] = c
			}
		}
	}
	for i := range found {
		t := &found[i]
		one := TaskStack{Task: t}
		c, onCPU := running[t.Addr]
		switch {
		case onCPU:
			one.CPU = &c.Number
			one.Stack = a.u.CPU(c, t.Addr)
		case t.OnCPU:
			one.Stack.Broken = "it runs, and its registers are not in memory"
		default:
			one.Stack = a.u.Sleeping(t.Addr)
		}
		a.list.Stacks = append(a.list.Stacks, one)
	}
}

// Write writes one stack after the other.
func (l *StackList) Write(w io.Writer, width int) error {
	if len(l.Stacks) == 0 {
		_, err := fmt.Fprintln(w, "no such task")
		return err
	}
	for i, s := range l.Stacks {
		if i > 0 {
			fmt.Fprintln(w)
		}
		switch {
		case s.Task != nil:
			if err := report.WriteTaskHead(w, width, s.Task); err != nil {
				return err
			}
		case s.CPU != nil:
			fmt.Fprintf(w, "CPU %d\n", *s.CPU)
		}
		if err := report.WriteStack(w, width, &s.Stack, len(l.Stacks) == 1); err != nil {
			return err
		}
	}
	return nil
}
