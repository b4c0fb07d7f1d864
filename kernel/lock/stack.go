package lock

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
)

// Stacks have 8 to 64 KiB (THREAD_SIZE), 16 if the types do not tell.
const (
	minStack     = 4 << 10
	maxStack     = 256 << 10
	defaultStack = 16 << 10
)

// farther is how far above a waiter its lock's address may be on the stack, of
// what the functions below it have saved.
const farther = 256

// openStacks learns where stacks are and which words on them are return addresses.
func (f *finder) openStacks() error {
	f.stackSize = defaultStack
	if u, err := f.k.Struct("thread_union"); err == nil && u.Size() >= minStack && u.Size() <= maxStack {
		f.stackSize = u.Size()
	}
	if t, err := f.k.Struct("thread_struct", "?sp", "?cpu_context"); err == nil && f.task.Has("thread") {
		context, err := f.k.Struct("cpu_context", "sp")
		switch {
		case t.Has("sp"): // riscv64, x86_64
			f.savedSP = f.task.Offset("thread") + t.Offset("sp")
		case t.Has("cpu_context") && err == nil: // arm64
			f.savedSP = f.task.Offset("thread") + t.Offset("cpu_context") + context.Offset("sp")
		}
	}
	var err error
	for i, name := range []string{"_stext", "_etext"} {
		if f.text[i], err = f.k.Variable(name); err != nil {
			return err
		}
	}
	return nil
}

// stack is what is in use of the stack of a task that does not run.
type stack struct {
	task  *sched.Task
	sp    kernel.VirtAddr
	words []byte
}

// contains tells whether an address is on the stack.
func (s *stack) contains(va kernel.VirtAddr) bool {
	return va >= s.sp && uint64(va-s.sp) < uint64(len(s.words))
}

// errNoStack is of a task that has ended and is not yet forgotten.
var errNoStack = errors.New("it has no stack any more")

func (f *finder) stackOf(t *sched.Task) (*stack, error) {
	if t.Stack == 0 {
		return nil, errNoStack
	}
	s := &stack{task: t, sp: t.Stack}
	if f.savedSP != 0 {
		sp, err := f.k.ReadPointer(t.Addr + kernel.VirtAddr(f.savedSP))
		if err != nil {
			return nil, err
		}
		if sp >= t.Stack && uint64(sp-t.Stack) < f.stackSize && sp%8 == 0 {
			s.sp = sp
		}
	}
	s.words = make([]byte, f.stackSize-uint64(s.sp-t.Stack))
	if err := f.k.ReadVirt(s.words, s.sp); err != nil {
		return nil, fmt.Errorf("stack at %v: %w", s.sp, err)
	}
	return s, nil
}

// all yields the words from the stack pointer on, and where they are.
func (s *stack) all(yield func(kernel.VirtAddr, kernel.VirtAddr) bool) {
	for i := 0; i+8 <= len(s.words); i += 8 {
		if !yield(s.sp+kernel.VirtAddr(i), kernel.VirtAddr(binary.LittleEndian.Uint64(s.words[i:]))) {
			return
		}
	}
}

// onStack looks for a waiter on the stack of a task. Of which kind it is, the
// function tells that it is a variable of: the call that the function waits in
// has left its return address below, nearer than any other function that waits
// for locks. What lies there from calls of before is no waiter of a list that is
// whole.
func (f *finder) onStack(t *sched.Task) (reader, kernel.VirtAddr, error) {
	s, err := f.stackOf(t)
	if err != nil {
		return nil, 0, err
	}
	var in *kind
	for at, word := range s.all {
		switch {
		case word == t.Addr && in != nil && at >= s.sp+kernel.VirtAddr(in.task):
			if lock := f.lockOf(s, in, at-kernel.VirtAddr(in.task)); lock != 0 {
				return in, lock, nil
			}
		case f.perCPU != nil && word == f.perCPU.wakes:
			if lock := f.perCPULock(t, at); lock != 0 {
				return f.perCPU, lock, nil
			}
		case word >= f.text[0] && word < f.text[1]:
			if k := f.function(word); k != nil {
				in = k
			}
		}
	}
	return nil, 0, nil
}

// function tells for which kind of lock the function around a return address
// waits; nil for others.
func (f *finder) function(at kernel.VirtAddr) *kind {
	k, known := f.functions[at]
	if !known {
		// The call may be the last instruction of the function.
		if s, _, err := f.k.SymbolAt(at - 1); err == nil {
			k = f.ofFunction(s.Name)
		}
		f.functions[at] = k
	}
	return k
}

// lockOf finds the lock that something on a stack waits for, if it is a waiter
// indeed; 0 if not.
func (f *finder) lockOf(s *stack, k *kind, waiter kernel.VirtAddr) kernel.VirtAddr {
	if !f.whole(waiter + kernel.VirtAddr(k.list)) {
		return 0
	}
	if k.lock.Has("wait_list") {
		head := f.head(waiter, k.list, k.task)
		if head == 0 {
			return 0
		}
		return head - kernel.VirtAddr(k.lock.Offset("wait_list"))
	}
	// The waiters are in a ring without a head. The address of the lock is a
	// variable of the one who waits.
	ring := f.ring(waiter, k)
	for at, word := range s.all {
		if at > waiter+farther {
			break
		}
		if word%8 != 0 || word>>63 == 0 {
			continue
		}
		// Much on the stack points to the waiter; what does so from a lock's place
		// must be a lock, too.
		first, err := f.k.ReadPointer(word + kernel.VirtAddr(k.lock.Offset("first_waiter")))
		if err != nil || !ring[first] {
			continue
		}
		if o, err := k.lock.At(word); err == nil && k.waited(o) && !s.contains(word) {
			return word
		}
	}
	return 0
}

// whole tells whether a list_head is in a list: both neighbours know it.
func (f *finder) whole(node kernel.VirtAddr) bool {
	next, err1 := f.k.ReadPointer(node)
	prev, err2 := f.k.ReadPointer(node + 8)
	if err1 != nil || err2 != nil {
		return false
	}
	back, err1 := f.k.ReadPointer(next + 8)
	forth, err2 := f.k.ReadPointer(prev)
	return err1 == nil && err2 == nil && back == node && forth == node
}

// isWaiter tells whether what has a list_head there is a waiter: it names a task
// on whose stack it lies. A lock's list_head does not.
func (f *finder) isWaiter(waiter kernel.VirtAddr, task uint64) bool {
	p, err := f.k.ReadPointer(waiter + kernel.VirtAddr(task))
	if err != nil {
		return false
	}
	t := f.taskAt(p)
	return t != nil && waiter >= t.Stack && uint64(waiter-t.Stack) < f.stackSize
}

// head follows a list of waiters to its head; 0 if it has none.
func (f *finder) head(waiter kernel.VirtAddr, list, task uint64) kernel.VirtAddr {
	start := waiter + kernel.VirtAddr(list)
	at := start
	for range maxWaiters {
		next, err := f.k.ReadPointer(at)
		if err != nil || next == start {
			return 0
		}
		if !f.isWaiter(next-kernel.VirtAddr(list), task) {
			return next
		}
		at = next
	}
	return 0
}

// ring are the waiters in a ring.
func (f *finder) ring(waiter kernel.VirtAddr, k *kind) map[kernel.VirtAddr]bool {
	all := map[kernel.VirtAddr]bool{}
	for at := waiter; !all[at] && len(all) < maxWaiters && f.isWaiter(at, k.task); {
		all[at] = true
		next, err := f.k.ReadPointer(at + kernel.VirtAddr(k.list))
		if err != nil {
			break
		}
		at = next - kernel.VirtAddr(k.list)
	}
	return all
}

// perCPULock finds the percpu_rw_semaphore that somebody waits for, from where
// its wait_queue_entry has the function that wakes it; 0 if that is none.
func (f *finder) perCPULock(t *sched.Task, function kernel.VirtAddr) kernel.VirtAddr {
	p := f.perCPU
	entry := function - kernel.VirtAddr(p.entry.Offset("func"))
	who, err := f.k.ReadPointer(entry + kernel.VirtAddr(p.entry.Offset("private")))
	if err != nil || who != t.Addr || !f.whole(entry+kernel.VirtAddr(p.entry.Offset("entry"))) {
		return 0
	}
	head := f.head(entry, p.entry.Offset("entry"), p.entry.Offset("private"))
	if head == 0 {
		return 0
	}
	return head - kernel.VirtAddr(p.head.Offset("head")+p.lock.Offset("waiters"))
}
