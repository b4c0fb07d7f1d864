package inspect

import (
	"errors"
	"fmt"
	"io"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/disasm"
)

// Code asks for instructions.
type Code struct {
	// At is where they begin. A function's name alone is all of it.
	At    string
	Count int // 0 is all of a function, or some
	// Function asks for all of the function that At is in; Until for what of it
	// stands before At, and the one there.
	Function, Until bool
}

// Bounds of code.
const (
	someInstructions = 16
	maxInstructions  = 1 << 16
	instructionsOnce = 200
)

// Instructions are code of the kernel.
type Instructions struct {
	Function     string               `json:"function,omitempty"` // that the first one is in
	Module       string               `json:"module,omitempty"`
	Instructions []disasm.Instruction `json:"instructions"`

	start, meant kernel.VirtAddr
}

// Ask answers.
func (q Code) Ask(s *Session) (Answer, error) {
	at, err := s.address(q.At)
	if err != nil {
		return nil, err
	}
	if q.Count < 0 || q.Count > maxInstructions {
		return nil, fmt.Errorf("%d instructions; at most %d are shown at once", q.Count, maxInstructions)
	}
	a := &Instructions{meant: at, start: at}
	sym, off, err := s.k.SymbolAt(at)
	if err == nil {
		a.Function, a.Module, a.start = sym.Name, sym.Module, sym.Addr
	} else if q.Function || q.Until {
		return nil, fmt.Errorf("function at %s: %w", at, err)
	}
	from, end := at, ^kernel.VirtAddr(0)
	left := q.Count
	switch {
	case q.Function || q.Until:
		from, end = sym.Addr, sym.Addr+kernel.VirtAddr(sym.Size)
		if q.Until {
			end = at + 1
		}
	case err == nil && off == 0 && left == 0:
		end = sym.Addr + kernel.VirtAddr(sym.Size)
	case left == 0:
		left = someInstructions
	}
	if left == 0 {
		left = maxInstructions
	}
	for from < end && left > 0 {
		some, err := disasm.Around(s.k, from, 0, min(left, instructionsOnce)-1)
		next := from
		for _, i := range some {
			if i.Addr < from || i.Addr >= end || left == 0 {
				continue
			}
			i.Fault = i.Addr == at && from != at
			a.Instructions = append(a.Instructions, i)
			left--
			next = i.Addr + kernel.VirtAddr(max(len(i.Bytes)/2, 1))
		}
		if err != nil && len(a.Instructions) == 0 {
			return nil, err
		}
		if err != nil || next == from {
			if len(a.Instructions) == 0 {
				return nil, errors.New("no instructions there")
			}
			return a, err
		}
		from = next
	}
	return a, nil
}

// Write writes one a line, with the distance from the function's beginning.
func (a *Instructions) Write(w io.Writer, _ int) error {
	if a.Function != "" {
		name := a.Function
		if a.Module != "" {
			name += " [" + a.Module + "]"
		}
		fmt.Fprintf(w, "%s:\n", name)
	}
	for _, i := range a.Instructions {
		mark := "   "
		if i.Addr == a.meant && i.Addr != a.Instructions[0].Addr {
			mark = "-->"
		}
		where := ""
		if a.Function != "" {
			where = fmt.Sprintf("<+%#x>", uint64(i.Addr-a.start))
		}
		text := i.Text
		if text == "" {
			text = "?"
		}
		if _, err := fmt.Fprintf(w, "%s %016x %-9s %-8s  %s\n", mark, uint64(i.Addr), where, i.Bytes, text); err != nil {
			return err
		}
	}
	return nil
}
