package stack

import (
	"errors"
	"fmt"
	"iter"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Bounds of what a stack may hold.
const (
	maxFrames     = 256 // of one stack
	maxCandidates = 32  // return addresses found by no frame pointer
	maxThreadSize = 1 << 20
	maxSites      = 2048 // return addresses whose calls are remembered
)

// source is what stacks are read from; *kernel.Kernel is one.
type source interface {
	ReadVirt(p []byte, va kernel.VirtAddr) error
	SymbolAt(va kernel.VirtAddr) (kernel.Symbol, uint64, error)
	Lookup(names ...string) (map[string]kernel.VirtAddr, error)
	Modules() iter.Seq2[kernel.Module, error]
	Layout() (*kernel.Layout, error)
	Info() *kernel.VMCoreInfo
}

var _ source = (*kernel.Kernel)(nil)

// Unwinder reads the stacks of one dead kernel. It remembers what it has found
// out about code, so that thousands of stacks cost little; it is not safe for
// concurrent use.
type Unwinder struct {
	src  source
	arch *arch
	code code

	threadSize uint64
	// Of struct task_struct: where its stack begins; the registers of a task that
	// sleeps; whether it runs.
	taskStack, threadPC, threadSP, threadFP uint64
	onCPU                                   kernel.Field
	graph                                   graphLayout
	regs                                    regsLayout

	// Per-CPU variables; perCPU is where a CPU has its part, 0 if there is none.
	irqStack, overflowStack kernel.VirtAddr
	perCPU                  func(variable kernel.VirtAddr, cpu int) kernel.VirtAddr
	cpus                    []int
	cpuStacks               map[int][]region

	memory stackMemory
}

// New prepares to read the stacks of a kernel. The error is
// kernel.ErrUnsupported for an architecture whose stacks are not known here, or
// why there is neither layout nor symbols.
func New(k *kernel.Kernel) (*Unwinder, error) {
	a, err := newArch(k.Arch().Machine)
	if err != nil {
		return nil, err
	}
	var (
		perCPU = func(kernel.VirtAddr, int) kernel.VirtAddr { return 0 }
		cpus   []int
	)
	// A kernel without SMP has no such parts, and one that is damaged there
	// still has stacks of tasks.
	if p, err := k.PerCPU(); err == nil {
		perCPU, cpus = p.Addr, p.CPUs
	}
	return newUnwinder(k, a, perCPU, cpus)
}

func newUnwinder(src source, a *arch, perCPU func(kernel.VirtAddr, int) kernel.VirtAddr, cpus []int) (*Unwinder, error) {
	u := &Unwinder{src: src, arch: a, perCPU: perCPU, cpus: cpus, cpuStacks: map[int][]region{}}
	u.memory.src = src
	if err := u.readLayout(); err != nil {
		return nil, fmt.Errorf("stacks: %w", err)
	}
	if err := u.readSymbols(); err != nil {
		return nil, fmt.Errorf("stacks: %w", err)
	}
	return u, nil
}

func (u *Unwinder) readLayout() error {
	l, err := u.src.Layout()
	if err != nil {
		return err
	}
	var missing error
	field := func(name string, size uint64) kernel.Field {
		f, ok := l.Field(name)
		if missing == nil && (!ok || f.Size < size || f.Offset > 1<<20) {
			missing = fmt.Errorf("%s: %w", name, kernel.ErrNoInfo)
		}
		return f
	}
	thread := field("task_struct.thread", 1).Offset
	u.taskStack = field("task_struct.stack", 8).Offset
	u.threadPC = thread + field("thread_struct.ra", 8).Offset
	u.threadSP = thread + field("thread_struct.sp", 8).Offset
	u.threadFP = thread + field("thread_struct.s", 8).Offset
	if missing != nil {
		return missing
	}
	if f, ok := l.Field("task_struct.on_cpu"); ok && f.Size <= 4 && f.Offset < 1<<20 {
		u.onCPU = f
	}
	u.threadSize = u.arch.threadSize
	u.graph.read(l)
	return u.regs.read(l, u.arch)
}

func (u *Unwinder) readSymbols() error {
	a := u.arch
	names := append([]string{
		"_start", "_stext", "_etext", "_sinittext", "_einittext",
		"__start_init_stack", "__end_init_stack", a.entry, a.irqStack, a.overflowStack, a.graphReturn,
	}, a.entryEnd...)
	names = append(append(names, a.first...), a.probeReturn...)
	syms, err := u.src.Lookup(names...)
	if err != nil {
		return err
	}
	if err := u.code.read(u.src, a, syms); err != nil {
		return err
	}
	// init_task's stack is the only one whose size stands anywhere: its type is
	// not among the kernel's types.
	if n := uint64(syms["__end_init_stack"] - syms["__start_init_stack"]); n >= 4096 && n <= maxThreadSize && n&(n-1) == 0 {
		u.threadSize = n
	}
	u.irqStack, u.overflowStack = syms[a.irqStack], syms[a.overflowStack]
	return nil
}

// region is a piece of virtual memory.
type region struct {
	start kernel.VirtAddr
	size  uint64
}

func (r region) has(va kernel.VirtAddr) bool { return uint64(va-r.start) < r.size }
func (r region) end() kernel.VirtAddr        { return r.start + kernel.VirtAddr(r.size) }

// stacksOf are the stacks of a CPU beside those of its tasks, in the order in
// which they are left: from the one for full stacks to that of interrupts.
func (u *Unwinder) stacksOf(cpu int) []region {
	if all, ok := u.cpuStacks[cpu]; ok {
		return all
	}
	var all []region
	if u.overflowStack != 0 {
		if at := u.perCPU(u.overflowStack, cpu); at != 0 {
			all = append(all, region{at, u.arch.overflowSize})
		}
	}
	if u.irqStack != 0 {
		if at := u.perCPU(u.irqStack, cpu); at != 0 {
			if p, err := u.pointer(at); err == nil && p != 0 {
				all = append(all, region{p, u.threadSize})
			}
		}
	}
	u.cpuStacks[cpu] = all
	return all
}

// cpuOf finds the CPU that has an address on a stack of its own; -1 if none.
func (u *Unwinder) cpuOf(sp kernel.VirtAddr) int {
	for _, cpu := range u.cpus {
		for _, r := range u.stacksOf(cpu) {
			if r.has(sp) {
				return cpu
			}
		}
	}
	return -1
}

func (u *Unwinder) pointer(va kernel.VirtAddr) (kernel.VirtAddr, error) {
	n, err := u.memory.plain(va)
	return kernel.VirtAddr(n), err
}

// taskRegion is the stack of a task.
func (u *Unwinder) taskRegion(task kernel.VirtAddr) (region, error) {
	p, err := u.pointer(task + kernel.VirtAddr(u.taskStack))
	if err != nil {
		return region{}, fmt.Errorf("task at %v: %w", task, err)
	}
	if p == 0 {
		return region{}, errors.New("the task has no stack any more")
	}
	return region{p, u.threadSize}, nil
}

// Sleeping is the stack of a task that is on no CPU: of all of them, but for
// those that ran at the crash.
func (u *Unwinder) Sleeping(task kernel.VirtAddr) Stack {
	stack, err := u.taskRegion(task)
	if err != nil {
		return broken(err)
	}
	if u.onCPU.Size != 0 {
		// An int until 6.17, a byte after.
		n, err := u.memory.plain32(task + kernel.VirtAddr(u.onCPU.Offset))
		if err == nil && n<<(32-8*u.onCPU.Size) != 0 {
			return broken(errors.New("the task was running: its stack is that of its CPU"))
		}
	}
	var values [3]kernel.VirtAddr
	for i, off := range []uint64{u.threadPC, u.threadSP, u.threadFP} {
		if values[i], err = u.pointer(task + kernel.VirtAddr(off)); err != nil {
			return broken(fmt.Errorf("registers of the task at %v: %w", task, err))
		}
	}
	w := u.newWalk(task, []region{stack})
	pc, sp, fp := values[0], values[1], values[2]
	if !stack.has(sp) && sp != stack.end() {
		return broken(fmt.Errorf("stack pointer %v is not on the task's stack, %v to %v", sp, stack.start, stack.end()))
	}
	w.enter(0, sp)
	w.pc, w.fp = pc, fp
	return w.run()
}

// CPU is the stack of what ran on a CPU at the crash. task is the address of its
// task_struct, if that is known; 0 takes the one in its registers.
func (u *Unwinder) CPU(c kernel.CPU, task kernel.VirtAddr) Stack {
	if task == 0 && c.SP>>63 != 0 {
		for _, r := range c.Registers {
			if r.Name == u.arch.current {
				task = kernel.VirtAddr(r.Value)
			}
		}
	}
	cpu := c.Number
	if cpu < 0 {
		cpu = u.cpuOf(c.SP)
	}
	stacks := append([]region(nil), u.stacksOf(cpu)...)
	stack, err := u.taskRegion(task)
	if err == nil {
		stacks = append(stacks, stack)
	} else if task == 0 {
		err = nil
	}
	w := u.newWalk(task, stacks)
	if w.user(c, stack) {
		return w.run()
	}
	regs := &registers{pc: c.PC, ra: c.RA, sp: c.SP, fp: c.FP}
	if saved := w.saved(regs); saved != nil {
		regs = saved
	}
	at := w.find(c.SP + 1)
	switch {
	case at >= 0:
		w.enter(at, c.SP)
	case w.find(c.FP) >= 0:
		// Of a full stack the stack pointer is below.
		at = w.find(c.FP)
		w.enter(at, w.stacks[at].start)
	default:
		// Stacks are aligned to their size where the kernel detects full ones.
		w.stacks = append(w.stacks, region{c.SP &^ kernel.VirtAddr(u.threadSize-1), u.threadSize})
		w.enter(len(w.stacks)-1, c.SP)
	}
	w.regs = regs
	s := w.run()
	if err != nil && s.Broken != "" {
		s.Broken += "; " + err.Error()
	}
	return s
}

func broken(err error) Stack { return Stack{Frames: []Frame{}, Broken: err.Error()} }
