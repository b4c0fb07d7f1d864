package mutate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/panicroom-kdump/panicroom/inspect"
	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/btf"
	"github.com/panicroom-kdump/panicroom/report"
)

// Question is asked of a kernel; the answer goes to w. The error is that the
// answer cannot be what it should be, whatever the dump: that the dump lacks
// something is part of the answer.
type Question struct {
	Name string
	Ask  func(k *kernel.Kernel, w io.Writer) error
	// Rare: it takes as long as all others together, and is asked of one dump in
	// eight.
	Rare bool
}

// maxAnswer bounds what is written as an answer, in bytes.
const maxAnswer = 64 << 20

// Questions are the report in its forms and what the verbs ask.
func Questions() []Question {
	return []Question{
		{Name: "report", Ask: askReport},
		verb("mem", inspect.MemoryUse{}, inspect.MemoryUse{Caches: true}),
		verb("ps", inspect.Tasks{}, inspect.RunQueues{}),
		verb("bt", inspect.Stacks{}, inspect.Stacks{CPUs: true}, inspect.Stacks{All: true}),
		verb("mod", inspect.Modules{}),
		verb("log", inspect.Log{}),
		verb("mount", inspect.Mounts{}),
		verb("dev", inspect.Disks{}),
		verb("net", inspect.Interfaces{}),
		rare(verb("sym", inspect.Symbols{Names: []string{"*mutex_lock*", "init_task+8"}})),
		verb("rd", inspect.Read{At: "init_task", Count: 512, Symbols: true}),
		rare(verb("struct", inspect.Struct{Type: "task_struct"}, inspect.Struct{Type: "task_struct", At: "init_task"},
			inspect.Struct{Type: "rq.curr->comm,curr->mm->pgd", At: "runqueues:1"})),
		rare(verb("inspect", inspect.Print{Name: "runqueues.curr->comm"}, inspect.WhatIs{Name: "schedule"}, inspect.Code{At: "panic"},
			inspect.List{Member: "task_struct.tasks", Head: "init_task", Object: true, Members: []string{"pid", "mm->pgd"}},
			inspect.List{Member: "module.list", Head: "modules"}, inspect.Translate{At: []string{"init_task", "modules"}})),
	}
}

func askReport(k *kernel.Kernel, w io.Writer) error {
	r, err := report.Make(k, nil)
	if err != nil {
		return err
	}
	for _, form := range []struct {
		name  string
		write func(io.Writer) error
		ok    func(byte) bool
	}{
		{"text", func(w io.Writer) error { return r.WriteText(w, 80) }, printable},
		{"JSON", r.WriteJSON, inJSON},
		{"HTML", r.WriteHTML, anyByte},
	} {
		if err := form.write(&answer{Writer: w, ok: form.ok}); err != nil {
			return fmt.Errorf("%s: %w", form.name, err)
		}
	}
	return nil
}

// verb asks as the command of that name does, for people and for programs.
func verb(name string, all ...inspect.Question) Question {
	return Question{Name: name, Ask: func(k *kernel.Kernel, w io.Writer) error {
		s, ok := inspect.New(k, false), printable
		if name == "log" {
			ok = asDmesg
		}
		for _, q := range all {
			a, err := s.Ask(q)
			if a != nil {
				// Declarations are read as they are written: that one is damaged is
				// an answer, too.
				werr := a.Write(&answer{Writer: w, ok: ok}, 80)
				if werr != nil && !errors.Is(werr, kernel.ErrCorrupt) && !errors.Is(werr, btf.ErrCorrupt) {
					return fmt.Errorf("%+v as text: %w", q, werr)
				}
				werr = json.NewEncoder(&answer{Writer: w, ok: inJSON}).Encode(a)
				if werr != nil && !errors.Is(werr, kernel.ErrCorrupt) && !errors.Is(werr, btf.ErrCorrupt) {
					return fmt.Errorf("%+v as JSON: %w", q, werr)
				}
			}
			if _, werr := fmt.Fprintln(w, err); werr != nil {
				return werr
			}
		}
		return nil
	}}
}

func rare(q Question) Question {
	q.Rare = true
	return q
}

var errAnswer = errors.New("no such answer may be")

// Bytes that may be in an answer: in one for people nothing that a terminal
// would obey, but in the log the white space that dmesg leaves in it.
func printable(c byte) bool { return c >= ' ' && c != 0x7f || c == '\n' || c == '\t' }
func asDmesg(c byte) bool   { return printable(c) || c >= '\t' && c <= '\r' }
func inJSON(c byte) bool    { return c >= ' ' || c == '\n' }
func anyByte(byte) bool     { return true }

// answer looks at what is written: no more than can be believed, and only bytes
// that are right for it.
type answer struct {
	io.Writer
	n  int
	ok func(byte) bool
}

func (a *answer) Write(p []byte) (int, error) {
	if a.n += len(p); a.n > maxAnswer {
		return 0, fmt.Errorf("%w: more than %d bytes", errAnswer, maxAnswer)
	}
	for i, c := range p {
		if !a.ok(c) {
			return 0, fmt.Errorf("%w: a byte %#x after %q", errAnswer, c, p[max(0, i-40):i])
		}
	}
	return a.Writer.Write(p)
}
