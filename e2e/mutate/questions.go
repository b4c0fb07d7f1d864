package mutate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/mm"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
	"github.com/panicroom-kdump/panicroom/report"
)

// Question is asked of a kernel; the answer goes to w. The error is that the
// answer cannot be what it should be, whatever the dump: that the dump lacks
// something is part of the answer.
type Question struct {
	Name string
	Ask  func(k *kernel.Kernel, w io.Writer) error
}

// maxAnswer bounds what is written, in bytes.
const maxAnswer = 64 << 20

// Questions are the report in its forms and what the verbs ask.
func Questions() []Question {
	return []Question{
		{"report", askReport},
		{"mem", func(k *kernel.Kernel, w io.Writer) error {
			s, err := mm.Read(k)
			c, err2 := mm.Caches(k)
			return show(w, s, c, err, err2)
		}},
		{"log", func(k *kernel.Kernel, w io.Writer) error {
			for r, err := range k.Log() {
				if err != nil {
					return show(w, err)
				}
				fmt.Fprintln(w, r.Line())
			}
			return nil
		}},
		{"mod", askModules},
		{"ps", askTasks},
		{"bt", askStacks},
		{"sym", func(k *kernel.Kernel, w io.Writer) error {
			at, err := k.Variable("init_task")
			s, off, err2 := k.SymbolAt(at + 8)
			return show(w, at, err, s, off, err2, k.Check())
		}},
	}
}

// show writes parts of an answer, errors among them.
func show(w io.Writer, parts ...any) error {
	for _, p := range parts {
		if err, ok := p.(error); ok {
			p = err.Error()
		}
		if err := json.NewEncoder(w).Encode(p); err != nil {
			return err
		}
	}
	return nil
}

func askTasks(k *kernel.Kernel, w io.Writer) error {
	tasks, err := sched.Tasks(k)
	queues, err2 := sched.RunQueues(k)
	load, err3 := sched.ReadLoad(k, tasks)
	current, err4 := sched.Current(k)
	return show(w, tasks, err, queues, err2, load, err3, current, err4)
}

// askStacks unwinds the stacks of all CPUs and tasks, as if all slept.
func askStacks(k *kernel.Kernel, w io.Writer) error {
	u, err := stack.New(k)
	if err != nil {
		return show(w, err)
	}
	tasks, err := sched.Tasks(k)
	cpus, err2 := k.CPUs()
	if err := show(w, err, err2); err != nil {
		return err
	}
	for _, c := range cpus {
		if err := show(w, u.CPU(c, 0)); err != nil {
			return err
		}
	}
	for _, t := range tasks {
		if err := show(w, u.Sleeping(t.Addr)); err != nil {
			return err
		}
	}
	return nil
}

func askModules(k *kernel.Kernel, w io.Writer) error {
	for m, err := range k.Modules() {
		if err != nil {
			return show(w, err)
		}
		n := 0
		for s, err := range k.ModuleSymbols(&m) {
			if err != nil {
				if err := show(w, err); err != nil {
					return err
				}
			}
			n += len(s.Name)
		}
		if err := show(w, m.Name, m.State, m.Size, n); err != nil {
			return err
		}
	}
	return nil
}

func askReport(k *kernel.Kernel, w io.Writer) error {
	r, err := report.Make(k, nil)
	if err != nil {
		return err
	}
	for _, form := range []struct {
		name  string
		write func(io.Writer) error
		text  bool
	}{
		{"text", func(w io.Writer) error { return r.WriteText(w, 80) }, true},
		{"JSON", r.WriteJSON, true},
		{"HTML", r.WriteHTML, false},
	} {
		if err := form.write(&answer{Writer: w, printable: form.text}); err != nil {
			return fmt.Errorf("%s: %w", form.name, err)
		}
	}
	return show(w, r.Headline())
}

var errAnswer = errors.New("no such answer may be")

// answer looks at what is written: no more than can be believed, and nothing
// that a terminal would obey.
type answer struct {
	io.Writer
	n         int
	printable bool
}

func (a *answer) Write(p []byte) (int, error) {
	if a.n += len(p); a.n > maxAnswer {
		return 0, fmt.Errorf("%w: more than %d bytes", errAnswer, maxAnswer)
	}
	for i, c := range p {
		if a.printable && (c < ' ' && c != '\n' && c != '\t' || c == 0x7f) {
			return 0, fmt.Errorf("%w: a byte %#x after %q", errAnswer, c, p[max(0, i-40):i])
		}
	}
	return a.Writer.Write(p)
}
