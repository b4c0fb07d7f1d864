// Command mutate damages a dump in many ways and asks panicroom's questions of
// each: nothing but answers and errors may come of it. make mutate runs it.
//
//	mutate -dump vmcore [-n 10000] [-seed 1] [-first 0] [-jobs 2]
//	       [-limit 10s] [-memory 200]
//
// What fails is printed with its number; -first NUMBER -n 1 with the same seed
// and dump makes the same damage again.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/mutate"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// settings are the command line.
type settings struct {
	dump           string
	seed           uint64
	n, first, jobs int
	limit          time.Duration
	memory         uint64 // MB
	child          bool
}

func main() {
	var s settings
	flag.StringVar(&s.dump, "dump", "", "the `file` to damage copies of")
	flag.Uint64Var(&s.seed, "seed", 1, "of all damage")
	flag.IntVar(&s.n, "n", 10000, "dumps")
	flag.IntVar(&s.first, "first", 0, "number of the first")
	flag.IntVar(&s.jobs, "jobs", runtime.NumCPU(), "processes")
	flag.DurationVar(&s.limit, "limit", 10*time.Second, "time for one dump")
	flag.Uint64Var(&s.memory, "memory", 200, "`MB` that a process may have")
	flag.BoolVar(&s.child, "child", false, "be one of the processes")
	flag.Parse()
	if s.dump == "" || s.n < 0 || s.jobs < 1 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	run := s.run
	if s.child {
		run = s.runChild
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		ui.WriteError(os.Stderr, "mutate", err)
		os.Exit(1)
	}
}

// progress is after how many dumps a process says how far it is.
const progress = 500

// enough is how many dumps tell whether their damage is seen.
const enough = 40

// line is what a child prints: the number of the dump that it is about to open,
// or at the end what came of all.
type line struct {
	Begin  int            `json:"begin"`
	Result *mutate.Result `json:"result,omitempty"`
}

func (s *settings) runChild(context.Context) error {
	b, file, err := mutate.Open(s.dump)
	if err != nil {
		return err
	}
	defer file.Close()
	out := json.NewEncoder(os.Stdout)
	r := b.Run(mutate.Options{
		Seed: s.seed, First: s.first, N: s.n, Limit: s.limit, Memory: s.memory * 1e6,
		Begin: func(run int) { _ = out.Encode(line{Begin: run}) },
	})
	return out.Encode(line{Result: &r})
}

// run shares the dumps out among processes: what ends one of them, as running
// out of memory does, is not the end of the others.
func (s *settings) run(ctx context.Context) error {
	start := time.Now()
	var (
		mu  sync.Mutex
		all mutate.Result
		wg  sync.WaitGroup
	)
	errs := make([]error, s.jobs)
	each := (s.n + s.jobs - 1) / s.jobs
	for i := range s.jobs {
		part := *s
		part.first = s.first + i*each
		part.n = max(0, min(each, s.n-i*each))
		wg.Go(func() {
			errs[i] = part.finish(ctx, func(r mutate.Result) {
				mu.Lock()
				defer mu.Unlock()
				all.Runs += r.Runs
				all.Opened += r.Opened
				all.Different += r.Different
				all.Memory = max(all.Memory, r.Memory)
				all.Failed = append(all.Failed, r.Failed...)
				if r.Slowest > all.Slowest {
					all.Slowest, all.SlowRun = r.Slowest, r.SlowRun
				}
				for _, f := range r.Failed {
					fmt.Println(f)
				}
			})
		})
	}
	wg.Wait()
	fmt.Printf("%s, seed %d: %d damaged dumps; %d could be asked, %d of them answered otherwise than the whole one; slowest %v of CPU time (dump %d), most memory %d MB, %v in all\n",
		s.dump, s.seed, all.Runs, all.Opened, all.Different, all.Slowest.Round(time.Millisecond), all.SlowRun, all.Memory/1e6,
		time.Since(start).Round(time.Second))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if n := len(all.Failed); n > 0 {
		return fmt.Errorf("%d of %d damaged dumps did what none may", n, all.Runs)
	}
	if all.Runs >= enough && (all.Opened < all.Runs/2 || all.Different < all.Runs/4) {
		return errors.New("most of the damage was not seen, so this says nothing")
	}
	return nil
}

// finish goes through the dumps of one process, with another process after
// each failure that may have spoilt one.
func (s *settings) finish(ctx context.Context, tell func(mutate.Result)) error {
	end := s.first + s.n
	for s.first < end {
		s.n = end - s.first
		r, err := s.child1(ctx)
		if err != nil {
			return err
		}
		tell(*r)
		s.first = r.Next
	}
	return nil
}

// child1 runs one process to its end.
func (s *settings) child1(ctx context.Context) (*mutate.Result, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-child", "-dump", s.dump, "-seed", strconv.FormatUint(s.seed, 10),
		"-first", strconv.Itoa(s.first), "-n", strconv.Itoa(s.n), "-limit", s.limit.String(), "-memory", strconv.FormatUint(s.memory, 10))
	var said bytes.Buffer
	cmd.Stderr = &said
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// A process that does not even look at its clock is ended from here.
	patience := 20*s.limit + time.Minute
	watch := time.AfterFunc(patience, cancel)
	defer watch.Stop()
	begun := -1
	var result *mutate.Result
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		watch.Reset(patience)
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			continue
		}
		if l.Result != nil {
			result = l.Result
		} else {
			begun = l.Begin
			if begun%progress == 0 {
				fmt.Fprintf(os.Stderr, "dump %d\n", begun)
			}
		}
	}
	err = cmd.Wait()
	if result != nil {
		return result, nil
	}
	if begun < 0 {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	return &mutate.Result{Runs: begun - s.first + 1, Next: begun + 1, Failed: []mutate.Failure{{
		Run: begun, What: fmt.Sprintf("the process ended: %v", err), Stack: head(said.String()),
	}}}, nil
}

// head is the beginning of what a process said at its end, where Go says why.
func head(s string) string { return s[:min(len(s), 16<<10)] }
