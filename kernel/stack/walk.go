package stack

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// walk goes along one stack from the inside to the outside. It always gets on:
// each record lies above the one before, and a stack that was left is not
// entered again.
type walk struct {
	u      *Unwinder
	task   kernel.VirtAddr // 0 if unknown
	stacks []region        // in the order in which they are left
	cur    int             // the one that is being read
	sp     kernel.VirtAddr // what is below is done
	frames []Frame

	// What comes next: registers of what was interrupted, or else a return
	// address and the frame pointer of the function that it is in.
	regs   *registers
	pc, fp kernel.VirtAddr
	// inner is the function of the last frame.
	inner region

	graph *graphStack
	over  bool   // the beginning is reached
	why   string // it cannot be reached
}

func (u *Unwinder) newWalk(task kernel.VirtAddr, stacks []region) *walk {
	u.memory.at = region{} // a kernel that lives goes on writing
	return &walk{u: u, task: task, stacks: stacks, cur: -1, frames: make([]Frame, 0, 16)}
}

// enter goes to a stack, on which sp is the lowest address in use.
func (w *walk) enter(index int, sp kernel.VirtAddr) {
	w.cur, w.sp = index, sp
	w.u.memory.use(w.stacks[index])
}

// find is the index of the stack that has an address, -1 if none has. The end
// of a stack is the frame pointer of the outermost function.
func (w *walk) find(va kernel.VirtAddr) int {
	for i, r := range w.stacks {
		if r.has(va - 1) {
			return i
		}
	}
	return -1
}

func (w *walk) fail(format string, args ...any) {
	if w.why == "" {
		w.why = fmt.Sprintf(format, args...)
	}
}

// run walks to the end.
func (w *walk) run() Stack {
	for !w.over && w.why == "" {
		switch {
		case len(w.frames) >= maxFrames:
			w.fail("more than %d frames", maxFrames)
		case w.regs != nil:
			w.interrupted()
		default:
			w.called()
		}
	}
	if w.why != "" {
		w.scan()
	}
	return Stack{Frames: w.frames, Broken: w.why}
}

// called adds the function that a return address is in and goes to its caller.
func (w *walk) called() {
	c := &w.u.code
	if w.pc>>63 == 0 {
		w.fail("the frames end at %v, before the beginning: return address %v", w.sp, w.pc)
		return
	}
	f, s := c.frame(w.pc)
	if c.begins(w.pc) {
		w.add(f, s)
		w.over = true
		return
	}
	f.FP = w.fp
	w.add(f, s)
	if !c.isText(w.pc - 1) {
		w.fail("return address %v is in no code", w.pc)
		return
	}
	w.up(w.fp)
}

// up reads the record below a frame pointer.
func (w *walk) up(fp kernel.VirtAddr) {
	a := w.u.arch
	if !w.reach(fp) {
		return
	}
	w.sp = fp
	stack := w.stacks[w.cur]
	if w.overflow(stack) && fp+kernel.VirtAddr(w.u.regs.size) == stack.end() {
		// A full stack is noticed by code that jumps here, with the return
		// address of whatever it was that filled it.
		w.exception(fp)
		return
	}
	caller, err := w.u.memory.word(fp - kernel.VirtAddr(a.callerFP))
	if err == nil {
		var ra uint64
		if ra, err = w.u.memory.word(fp - kernel.VirtAddr(a.callerPC)); err == nil {
			w.arrive(kernel.VirtAddr(ra), kernel.VirtAddr(caller), fp)
			return
		}
	}
	w.fail("frame at %v: %v", fp, err)
}

// overflow tells whether a stack is the one for those that are full.
func (w *walk) overflow(r region) bool {
	return w.u.overflowStack != 0 && r.size == w.u.arch.overflowSize && len(w.stacks) > 1 && r == w.stacks[0]
}

// reach goes to the stack of a frame pointer, if that is a place for a record.
func (w *walk) reach(fp kernel.VirtAddr) bool {
	record := kernel.VirtAddr(w.u.arch.callerFP)
	if fp&7 != 0 {
		w.fail("frame pointer %v is no multiple of 8", fp)
		return false
	}
	if r := w.stacks[w.cur]; r.has(fp - 1) {
		if fp < w.sp+record {
			w.fail("frame pointer %v does not go up from %v", fp, w.sp)
			return false
		}
		return true
	}
	if i := w.find(fp); i > w.cur && w.stacks[i].has(fp-record) {
		w.enter(i, fp-record)
		return true
	}
	w.fail("frame pointer %v is not on the stack, %v to %v", fp, w.stacks[w.cur].start, w.stacks[w.cur].end())
	return false
}

// arrive says where it goes on: at return address ra in a function with the
// frame pointer fp, whose stack pointer was sp when it called.
func (w *walk) arrive(ra, fp, sp kernel.VirtAddr) {
	c := &w.u.code
	if ra == c.graph && ra != 0 {
		ra = w.caller()
	}
	if !c.entry.has(ra) {
		w.pc, w.fp = ra, fp
		return
	}
	f, s := c.frame(ra)
	w.add(f, s)
	w.exception(sp)
}

// caller is the return address that the function graph tracer keeps for the
// function of the last frame; its own if it has none.
func (w *walk) caller() kernel.VirtAddr {
	if w.graph == nil {
		w.graph = w.u.graph.of(w.u, w.task)
	}
	if ra, ok := w.graph.next(w.inner); ok {
		return ra
	}
	return w.u.code.graph
}

// exception goes on with what was interrupted, whose registers are at an
// address of the stack that is being read.
func (w *walk) exception(at kernel.VirtAddr) {
	stack := w.stacks[w.cur]
	if end := at + kernel.VirtAddr(w.u.regs.bytes); at < w.sp || end < at || end > stack.end() {
		w.fail("registers of the exception at %v are not on the stack", at)
		return
	}
	r, err := w.u.readRegs(at)
	if err != nil {
		w.fail("%v", err)
		return
	}
	if r.told.User {
		w.frames = append(w.frames, Frame{PC: r.pc, Interrupted: true, Regs: r.told})
		w.over = true
		return
	}
	above := at + kernel.VirtAddr(w.u.regs.size)
	switch i := w.find(r.sp); {
	case i == w.cur && r.sp >= above:
		w.sp = r.sp
	case i > w.cur:
		w.enter(i, r.sp)
	case w.overflow(stack) && w.find(r.fp) > w.cur:
		// It was full: the stack pointer was below its beginning.
		i = w.find(r.fp)
		w.enter(i, w.stacks[i].start)
	default:
		w.frames = append(w.frames, Frame{PC: r.pc, Interrupted: true, Regs: r.told,
			Doubt: fmt.Sprintf("its stack pointer %v is on no stack above", r.sp)})
		w.fail("the exception's stack pointer %v is on no stack above %v", r.sp, at)
		return
	}
	w.regs = r
}

// interrupted adds the function that was interrupted and goes to its caller,
// which is harder than from a call: it may have had no frame yet, none any more
// or none at all.
func (w *walk) interrupted() {
	r, c := w.regs, &w.u.code
	w.regs = nil
	f := Frame{PC: r.pc, Interrupted: r.told != nil, Regs: r.told}
	sym, named := kernel.Symbol{}, false
	if c.isText(r.pc) {
		if sym, named = c.symbol(r.pc); !named {
			f.Doubt = "no function is known there"
		}
	}
	if named {
		f.name(sym, r.pc)
	}
	w.frames = append(w.frames, f)
	w.inner = region{sym.Addr, sym.Size}

	ra := r.ra
	if ra == c.graph && ra != 0 && named {
		ra = w.caller()
	}
	if !c.returnsTo(ra) || ra == c.graph {
		// The register has served for something else: the record has it.
		w.own(r.fp)
		return
	}
	if s := c.at(ra); named && s.named && s.sym.Module == sym.Module && sameFunction(s.sym.Name, sym.Name) {
		// It has called something, so it has a frame; or it has called itself
		// and has no frame yet.
		if framed, known := c.framed(sym, r.pc); framed || !known {
			w.own(r.fp)
			return
		}
		w.arrive(ra, r.fp, r.sp)
		return
	}
	// It has called nothing: the register tells where it was called. The record
	// tells whether it is its own.
	if r.fp&7 == 0 && w.find(r.fp) >= w.cur {
		word, err := w.u.memory.word(r.fp - kernel.VirtAddr(w.u.arch.callerPC))
		switch saved := kernel.VirtAddr(word); {
		case err != nil:
		case saved == r.ra:
			w.own(r.fp)
			return
		case saved&7 == 0 && saved > r.fp && w.find(saved) >= w.cur:
			// The frame pointer alone was saved, where the return address is
			// otherwise.
			w.frames[len(w.frames)-1].FP = r.fp
			w.sp = max(w.sp, r.fp)
			w.arrive(ra, saved, r.fp)
			return
		}
	}
	w.arrive(ra, r.fp, r.sp)
}

// own goes up from the frame that is the last function's own.
func (w *walk) own(fp kernel.VirtAddr) {
	w.frames[len(w.frames)-1].FP = fp
	w.up(fp)
}

// add adds a frame that was called into another, and tells the other if it is
// not what was called.
func (w *walk) add(f Frame, s *site) {
	if n := len(w.frames); n > 0 && s.target != "" {
		last := &w.frames[n-1]
		if last.Function != "" && !s.same.has(last.PC) && !sameFunction(s.target, last.Function) {
			last.Tail = s.target
		}
	}
	w.frames = append(w.frames, f)
	w.inner = region{s.sym.Addr, s.sym.Size}
}

// scan adds what looks like return addresses on the rest of the stack.
func (w *walk) scan() {
	if w.cur < 0 {
		return
	}
	c := &w.u.code
	n := 0
	stack := w.stacks[w.cur]
	for at := (w.sp + 7) &^ 7; stack.has(at) && n < maxCandidates && len(w.frames) < maxFrames; at += 8 {
		word, err := w.u.memory.word(at)
		if err != nil {
			at |= pageSize - 8 // the rest of the page is not there either
			continue
		}
		ra := kernel.VirtAddr(word)
		if !c.isText(ra-1) || !c.at(ra).call.ok {
			continue
		}
		f, _ := c.frame(ra)
		f.Doubt = "found on the stack, not by a frame"
		w.frames = append(w.frames, f)
		n++
	}
}

// user adds a CPU that was in user mode, where its task's stack is empty but for
// the registers. It is false for one that was not.
func (w *walk) user(c kernel.CPU, stack region) bool {
	if c.PC>>63 != 0 {
		return false
	}
	f := Frame{PC: c.PC, Interrupted: true}
	if stack.size > w.u.regs.size {
		if r, err := w.u.readRegs(stack.end() - kernel.VirtAddr(w.u.regs.size)); err == nil && r.pc == c.PC && r.sp == c.SP && r.told.User {
			f.Regs = r.told
		}
	}
	if f.Regs == nil {
		// The kernel itself may have gone astray to such an address.
		if c.SP>>63 != 0 {
			return false
		}
		f.Regs = &Regs{Registers: c.Registers, User: true}
	}
	w.frames = append(w.frames, f)
	w.over = true
	return true
}

// saved finds the same registers on a stack, where an exception left them; nil
// if there was none.
func (w *walk) saved(r *registers) *registers {
	size := kernel.VirtAddr(w.u.regs.size)
	places := []kernel.VirtAddr{r.sp - size}
	if len(w.stacks) > 0 && w.overflow(w.stacks[0]) {
		places = append(places, w.stacks[0].end()-size)
	}
	for _, at := range places {
		s, err := w.u.readRegs(at)
		if err == nil && s.pc == r.pc && s.sp == r.sp && s.fp == r.fp && s.ra == r.ra && !s.told.User {
			return s
		}
	}
	return nil
}
