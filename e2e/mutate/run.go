package mutate

import (
	"fmt"
	"hash"
	"hash/fnv"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Options of [Base.Run]. The zero value is good.
type Options struct {
	Seed   uint64
	First  int           // number of the first dump
	N      int           // of dumps
	Limit  time.Duration // for all questions of one dump, of CPU time; 0 is 10 s
	Memory uint64        // that this process may have, bytes; 0 is 200 MB
	// Questions are asked of each; nil is all of [Questions].
	Questions []Question
	// Begin hears of each dump before it is opened.
	Begin func(run int)
}

// The limits that hold if nothing else is said.
const (
	defaultLimit  = 10 * time.Second
	defaultMemory = 200e6
)

// Result is what came of many dumps.
type Result struct {
	Runs   int `json:"runs"`
	Opened int `json:"opened"` // that were whole enough to ask something
	// Different are those whose answers are not those of the undamaged dump:
	// their damage was seen.
	Different int           `json:"different"`
	Slowest   time.Duration `json:"slowest"`
	SlowRun   int           `json:"slow_run"`
	Memory    uint64        `json:"memory"` // of the process, at most
	// Failed is what may not happen. Nothing is asked after the first dump
	// that took too much time or memory: they may go on.
	Failed []Failure `json:"failed,omitempty"`
	// Next is the number of the first dump that was not asked.
	Next int `json:"next"`
}

// Failure is a dump that was too much.
type Failure struct {
	Run    int    `json:"run"`
	Damage string `json:"damage"`
	What   string `json:"what"`
	Stack  string `json:"stack,omitempty"`
}

func (f Failure) String() string {
	return fmt.Sprintf("dump %d: %s\n  damage: %.1000s\n%s", f.Run, f.What, f.Damage, f.Stack)
}

// Run damages dumps one after the other and asks them.
func (b *Base) Run(o Options) Result {
	if o.Limit == 0 {
		o.Limit = defaultLimit
	}
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	if o.Questions == nil {
		o.Questions = Questions()
	}
	r := Result{Next: o.First}
	var whole [2]uint64
	for i := range whole {
		whole[i] = b.whole(&o, i)
	}
	for r.Next < o.First+o.N {
		run := r.Next
		if o.Begin != nil {
			o.Begin(run)
		}
		r.Next++
		out, took, ended := b.ask(&o, run)
		r.Runs++
		if out.opened {
			r.Opened++
			if out.answer.Sum64() != whole[rarely(run)] {
				r.Different++
			}
		}
		if took > r.Slowest {
			r.Slowest, r.SlowRun = took, run
		}
		if out.Failure.What != "" {
			r.Failed = append(r.Failed, out.Failure)
		}
		// What the process has had from the system it does not give back
		// here, so this is the most that it had.
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		r.Memory = max(r.Memory, m.Sys)
		if m.Sys > o.Memory {
			r.Failed = append(r.Failed, Failure{
				Run: run, Damage: out.Damage,
				What: fmt.Sprintf("%d MB of memory, at most %d MB", m.Sys/1e6, o.Memory/1e6),
			})
			break
		}
		if !ended {
			break
		}
	}
	return r
}

// outcome is what came of one dump.
type outcome struct {
	Failure
	opened bool
	answer hash.Hash64 // of all that was said
}

// patience is how many times the limit a dump may take by the clock.
const patience = 10

// ask asks one dump, in a goroutine that is left behind when it does not end.
func (b *Base) ask(o *Options, run int) (out outcome, took time.Duration, ended bool) {
	before, until := cpuTime(), time.Now().Add(patience*o.Limit)
	done := make(chan outcome, 1)
	go func() { done <- b.one(o, run) }()
	for tick := o.Limit; ; tick = max(o.Limit/8, time.Millisecond) {
		select {
		case out = <-done:
			return out, cpuTime() - before, true
		case <-time.After(tick):
		}
		if took = cpuTime() - before; took >= o.Limit || time.Now().After(until) {
			break
		}
	}
	stacks := make([]byte, 64<<10)
	stacks = stacks[:runtime.Stack(stacks, true)]
	out.Failure = Failure{
		Run: run, Stack: string(stacks),
		What: fmt.Sprintf("no answer within %v of CPU time (%v taken)", o.Limit, took.Round(time.Millisecond)),
	}
	_, out.Damage = b.damaged(o.Seed, run)
	return out, took, false
}

func (b *Base) one(o *Options, run int) outcome {
	open, damage := b.damaged(o.Seed, run)
	out := answers(o, open, rarely(run))
	out.Run, out.Damage = run, damage
	return out
}

// rarely is 1 for dumps of which everything is asked, else 0: file and memory
// take turns.
func rarely(run int) int {
	if run/2%8 == 0 {
		return 1
	}
	return 0
}

// whole is the answer of the undamaged dump, with that to rare questions or
// without.
func (b *Base) whole(o *Options, rare int) uint64 {
	out := answers(o, func() (*kernel.Kernel, error) { return kernel.Open(b.dump, &kernel.Options{Layout: b.layout}) }, rare)
	return out.answer.Sum64()
}

// answers opens a dump and asks it everything.
func answers(o *Options, open func() (*kernel.Kernel, error), rare int) (out outcome) {
	out.answer = fnv.New64a()
	asked := "opening it"
	defer func() {
		if r := recover(); r != nil {
			out.What, out.Stack = fmt.Sprintf("%s: panic: %v", asked, r), string(debug.Stack())
		}
	}()
	k, err := open()
	if err != nil {
		return out
	}
	out.opened = true
	for _, q := range o.Questions {
		if q.Rare && rare == 0 {
			continue
		}
		asked = q.Name
		if err := q.Ask(k, out.answer); err != nil {
			out.What = fmt.Sprintf("%s: %v", q.Name, err)
			return out
		}
	}
	return out
}
