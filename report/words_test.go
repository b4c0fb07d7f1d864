package report

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/lock"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
)

func TestGroupCPUs(t *testing.T) {
	calls := func(interrupted int, names ...string) *stack.Stack {
		s := &stack.Stack{}
		for i, n := range names {
			s.Frames = append(s.Frames, stack.Frame{Function: n, Interrupted: i == interrupted})
		}
		return s
	}
	r := &Report{CPUs: []CPU{
		{Number: 7, Crashed: true, PID: 1},
		{Number: 0, PC: Frame{Text: "wait"}, Stack: calls(0, "wait", "do_idle")}, // what the crash interrupts
		{Number: 1, PC: Frame{Text: "irq"}, Stack: calls(1, "irq", "wait", "do_idle")},
		{Number: 2, PID: 5, Comm: "a", PC: Frame{Text: "spin"}, Stack: calls(-1, "spin", "work")},
		{Number: 4, PID: 6, Comm: "b", PC: Frame{Text: "spin"}, Stack: calls(-1, "spin", "work")},
		{Number: 5, PID: 8, PC: Frame{Text: "spin"}, Stack: calls(-1, "spin", "other")},
		{Number: 3, PC: Frame{Text: "poll"}},
		{Number: -1, PID: 9, PC: Frame{Address: "0x10"}},
	}}
	var got []string
	for _, g := range r.groupCPUs() {
		got = append(got, g.title())
	}
	want := []string{"CPU 1: idle (0)", "CPUs 2, 4: a (5), b (6)", "CPU 5: PID 8", "CPU ?: PID 9", "CPUs 0, 3: idle"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if r.crashedCPU() != &r.CPUs[0] {
		t.Error("not the CPU that crashed")
	}
}

func TestCPUList(t *testing.T) {
	for want, numbers := range map[string][]int{
		"": {}, "3": {3}, "0-1": {1, 0}, "0-2, 5, 7-8": {8, 7, 5, 0, 1, 2}, "1, ?": {-1, 1}, "2 of unknown number": {-1, -1}, "4": {4, 4},
	} {
		var cpus []*CPU
		for _, n := range numbers {
			cpus = append(cpus, &CPU{Number: n})
		}
		if got := cpuList(cpus); got != want {
			t.Errorf("%v: %q; want %q", numbers, got, want)
		}
	}
}

func TestChainText(t *testing.T) {
	a, b := sched.Ref{PID: 1, Comm: "a"}, sched.Ref{PID: 2, Comm: "b"}
	r := &Report{
		Locks: []lock.Lock{{Addr: 0x10, Kind: "mutex"}, {Addr: 0x20, Kind: "rwsem", Name: "some_sem"}},
		Chains: []lock.Chain{
			{Tasks: []sched.Ref{a, b}, Locks: []kernel.VirtAddr{0x10}},
			{Tasks: []sched.Ref{a, b, a}, Locks: []kernel.VirtAddr{0x20, 0x30}, Deadlock: true},
			{},
		},
	}
	for i, want := range []string{
		"a (1) waits for mutex 0x10 held by b (2)",
		"Deadlock: a (1) waits for rwsem some_sem held by b (2), which waits for lock 0x30 held by a (1)",
		"",
	} {
		if got := r.chainText(i); got != want {
			t.Errorf("%q; want %q", got, want)
		}
	}
}

// The letters of the log do when memory has no taints.
func TestTaintLines(t *testing.T) {
	modules := []Module{{Name: "ours", Taints: "OE"}, {Name: "other"}}
	r := &Report{Kernel: Kernel{Taint: "Tainted: G OE"}, Modules: modules}
	fromLog := r.taintLines()
	if len(fromLog) != 2 || fromLog[1] != "E  an unsigned module was loaded: ours" {
		t.Errorf("%q", fromLog)
	}
	for _, taint := range kernel.Taints(1<<12 | 1<<13) {
		r.Kernel.Taints = append(r.Kernel.Taints, Taint{string(taint.Letter), taint.Meaning})
	}
	if d := cmp.Diff(fromLog, r.taintLines()); d != "" {
		t.Error(d)
	}
	if lines := (&Report{Kernel: Kernel{Taint: "Not tainted"}}).taintLines(); lines != nil {
		t.Errorf("not tainted: %q", lines)
	}
}

func TestLogSaysMore(t *testing.T) {
	frames := func(n int) []stack.Frame {
		f := make([]stack.Frame, n)
		for i := range f {
			f[i].Function = "f"
		}
		return f
	}
	for _, c := range []struct {
		stack  *stack.Stack
		inLog  int
		expect bool
	}{
		{nil, 0, false},
		{nil, 3, true},
		{&stack.Stack{}, 3, true},
		{&stack.Stack{Frames: frames(2)}, 3, false}, // whole
		{&stack.Stack{Frames: frames(2), Broken: "x"}, 3, true},
		{&stack.Stack{Frames: frames(4), Broken: "x"}, 3, false},
	} {
		r := &Report{CPUs: []CPU{{Crashed: true, Stack: c.stack}}}
		r.Crash.Backtrace = make([]Frame, c.inLog)
		if got := r.logSaysMore(); got != c.expect {
			t.Errorf("%+v, %d in the log: %v", c.stack, c.inLog, got)
		}
	}
}

func TestTopTasks(t *testing.T) {
	r := &Report{Tasks: []sched.Task{
		{PID: 1, RSS: 10, MM: 1}, {PID: 2, RSS: 30, MM: 2}, {PID: 3, RSS: 30, MM: 2}, {PID: 4}, {PID: 5, RSS: 20, MM: 3},
	}}
	var got []int32
	for _, p := range r.topTasks(2) {
		got = append(got, p.PID)
	}
	if d := cmp.Diff([]int32{2, 5}, got); d != "" {
		t.Error(d)
	}
}
