package stack

import (
	"encoding/binary"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// graphLayout is how the function graph tracer remembers where the functions
// return to that it watches: task_struct.ret_stack, kernel/trace/fgraph.c. Until
// 6.10 it is an array of struct ftrace_ret_stack, and curr_ret_stack the index of
// the last one; since 6.11 an array of words, with curr_ret_stack in use, of
// which each of these structs is followed by data and a word that leads back to
// it.
type graphLayout struct {
	known         bool
	stack, cur    uint64 // offsets in struct task_struct
	size, ret, fn uint64 // of struct ftrace_ret_stack: bytes and offsets
}

// Bounds: FTRACE_RETFUNC_DEPTH is 50, SHADOW_STACK_SIZE is 4096 bytes
// (kernel/trace/fgraph.c, Linux 7.2).
const (
	maxGraphDepth = 256
	maxGraphBytes = 64 << 10
)

func (g *graphLayout) read(l *kernel.Layout) {
	var ok [5]bool
	var f kernel.Field
	f, ok[0] = l.Field("task_struct.ret_stack")
	g.stack = f.Offset
	f, ok[1] = l.Field("task_struct.curr_ret_stack")
	g.cur = f.Offset
	g.size, ok[2] = l.Size("ftrace_ret_stack")
	f, ok[3] = l.Field("ftrace_ret_stack.ret")
	g.ret = f.Offset
	f, ok[4] = l.Field("ftrace_ret_stack.func")
	g.fn = f.Offset
	g.known = ok == [5]bool{true, true, true, true, true} &&
		g.size >= 16 && g.size <= 256 && g.size%8 == 0 && g.ret <= g.size-8 && g.fn <= g.size-8
}

// graphStack is what the tracer remembers of one task, the innermost first.
type graphStack struct {
	code  *code
	calls []graphCall
}

type graphCall struct{ ret, fn kernel.VirtAddr }

// next is where the function returns to that is in a region. What was passed is
// not looked at again.
func (s *graphStack) next(fn region) (kernel.VirtAddr, bool) {
	for i, c := range s.calls {
		// Of functions that went on to another without coming back only the
		// first knows where that was.
		if fn.has(c.fn) && c.ret == s.code.graph {
			fn = s.tail(i, fn)
			continue
		}
		if fn.has(c.fn) && c.ret != s.code.graph {
			s.calls = s.calls[i+1:]
			return c.ret, true
		}
	}
	return 0, false
}

// tail is the function that went on to call i without coming back.
func (s *graphStack) tail(i int, fn region) region {
	if i+1 < len(s.calls) {
		return region{s.calls[i+1].fn, 1}
	}
	return fn
}

// of reads what the tracer remembers of a task; nothing if that fails.
func (g *graphLayout) of(u *Unwinder, task kernel.VirtAddr) *graphStack {
	s := &graphStack{code: &u.code}
	if !g.known || task == 0 {
		return s
	}
	stack, err := u.pointer(task + kernel.VirtAddr(g.stack))
	if err != nil || stack == 0 {
		return s
	}
	cur, err := u.memory.plain32(task + kernel.VirtAddr(g.cur))
	if err != nil || int32(cur) < 0 {
		return s
	}
	if s.calls = g.words(u, stack, uint64(cur)); s.calls == nil {
		s.calls = g.structs(u, stack, uint64(cur))
	}
	return s
}

// plausible tells one of the tracer's structs from other memory.
func (g *graphLayout) plausible(u *Unwinder, c graphCall) bool {
	return u.code.isText(c.fn) && u.code.isText(c.ret)
}

func (g *graphLayout) at(b []byte) graphCall {
	return graphCall{
		ret: kernel.VirtAddr(binary.LittleEndian.Uint64(b[g.ret:])),
		fn:  kernel.VirtAddr(binary.LittleEndian.Uint64(b[g.fn:])),
	}
}

// words reads the form since 6.11; nil if it is not that.
func (g *graphLayout) words(u *Unwinder, stack kernel.VirtAddr, n uint64) []graphCall {
	if n == 0 || 8*n > maxGraphBytes {
		return nil
	}
	b := make([]byte, 8*n)
	if u.src.ReadVirt(b, stack) != nil {
		return nil
	}
	var all []graphCall
	for n > 0 {
		// The low ten bits say how many words back the struct is.
		n--
		back := binary.LittleEndian.Uint64(b[8*n:]) & 0x3ff
		if back < g.size/8 || back > n {
			return nil
		}
		n -= back
		c := g.at(b[8*n:])
		if !g.plausible(u, c) {
			return nil
		}
		all = append(all, c)
	}
	return all
}

// structs reads the form until 6.10; nil if it is not that.
func (g *graphLayout) structs(u *Unwinder, stack kernel.VirtAddr, last uint64) []graphCall {
	if last >= maxGraphDepth {
		return nil
	}
	b := make([]byte, (last+1)*g.size)
	if u.src.ReadVirt(b, stack) != nil {
		return nil
	}
	var all []graphCall
	for i := int(last); i >= 0; i-- {
		c := g.at(b[uint64(i)*g.size:])
		if !g.plausible(u, c) {
			return nil
		}
		all = append(all, c)
	}
	return all
}
