// Command verify compares what panicroom says of dead kernels with what crash says
// of the same dumps: make verify-with-crash runs it. docs/verify.md has what it
// printed, what is compared, and where the two may differ.
//
//	verify [-machines trixie,sid] [-fresh] [-reuse] [-write]
//	verify -dump DUMP -vmlinux VMLINUX
//
// It exits with 1 on a difference that nothing explains.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// verify is one run of everything.
type verify struct {
	say lab.Say

	machines      []string
	fresh         bool // crash the machines again
	reuse         bool // crash's answers of an earlier run
	write         bool
	dump, vmlinux string
}

func main() {
	v, err := parseFlags(os.Args[1:])
	if err != nil {
		os.Exit(2) // flag has said why
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := v.run(ctx); err != nil {
		ui.WriteError(os.Stderr, "verify", err)
		os.Exit(1)
	}
}

// parseFlags reads the command line.
func parseFlags(args []string) (*verify, error) {
	start := time.Now()
	v := &verify{say: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%7.1f s  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}}
	f := flag.NewFlagSet("verify", flag.ContinueOnError)
	for _, m := range machines {
		v.machines = append(v.machines, m.Name)
	}
	all := v.machines
	f.Func("machines", "which machines (default "+strings.Join(all, ",")+")", func(s string) error {
		v.machines = strings.Split(s, ",")
		for _, name := range v.machines {
			if !slices.Contains(all, name) {
				return fmt.Errorf("%q is none of %s", name, strings.Join(all, ","))
			}
		}
		return nil
	})
	f.BoolVar(&v.fresh, "fresh", false, "crash the machines again, though there are dumps of them")
	f.BoolVar(&v.reuse, "reuse", false, "take crash's answers of the last run about the same dump")
	f.BoolVar(&v.write, "write", false, "write the result into docs/verify.md")
	f.StringVar(&v.dump, "dump", "", "compare what is said of this `DUMP` only")
	f.StringVar(&v.vmlinux, "vmlinux", "", "its kernel with debug data")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 || (v.dump == "") != (v.vmlinux == "") || v.dump != "" && v.write {
		f.Usage()
		return nil, errors.New("wrong usage")
	}
	return v, nil
}

// errDiffer means that there are differences without a reason.
var errDiffer = errors.New("panicroom and crash differ, and nothing explains it")

func (v *verify) run(ctx context.Context) error {
	var results []*result
	for _, m := range machines {
		if v.dump != "" || !slices.Contains(v.machines, m.Name) {
			continue
		}
		d, err := v.saved(ctx, m)
		if err != nil {
			return err
		}
		r, err := v.judge(ctx, d)
		if err != nil {
			return fmt.Errorf("machine %s: %w", m.Name, err)
		}
		results = append(results, r)
	}
	if v.dump != "" {
		r, err := v.judge(ctx, &dump{machine: machine{Name: "dump"}, Path: v.dump, Vmlinux: v.vmlinux})
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	var text strings.Builder
	for _, r := range results {
		text.WriteString(r.table())
	}
	fmt.Print(text.String())
	out, err := lab.OutDir()
	if err != nil {
		return err
	}
	path := filepath.Join(out, "verify", "table.md")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
		return err
	}
	v.say("the tables are in %s", path)
	if v.write {
		if err := lab.WriteDocument(filepath.Join("docs", "verify.md"), "make verify-with-crash found", text.String()); err != nil {
			return err
		}
	}
	for _, r := range results {
		if n := r.wrong(); n > 0 {
			return fmt.Errorf("%s: %d times: %w", r.dump.Name, n, errDiffer)
		}
	}
	return nil
}

// result is what came of one dump.
type result struct {
	dump        *dump
	Release     string // of the kernel
	Crash       string // version
	Took        time.Duration
	Ours        time.Duration
	comparisons []*comparison
}

func (r *result) wrong() int {
	n := 0
	for _, c := range r.comparisons {
		n += len(c.Wrong)
	}
	return n
}

// judge asks both about one dump and compares.
func (v *verify) judge(ctx context.Context, d *dump) (*result, error) {
	a, err := v.answers(ctx, d)
	if err != nil {
		return nil, err
	}
	t, err := parse(a.Text)
	if err != nil {
		return nil, err
	}
	r := &result{dump: d, Crash: a.Version, Took: a.Took}
	file, err := vmcore.Open(d.Path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	begin := time.Now()
	o, err := ask(file)
	if err != nil {
		return nil, err
	}
	r.Ours = time.Since(begin)
	r.Release = o.report.Kernel.Release
	r.comparisons = compareAll(o, t)
	for _, c := range r.comparisons {
		c.something(d.ours())
	}
	return r, nil
}

// mayBeNone are questions to which a dump of somebody's may have no answer; those of
// our machines have one to each.
var mayBeNone = []string{askModules, askBlocked, askNet, askDisks}

// something makes sure that anything was compared.
func (c *comparison) something(ours bool) {
	if c.Things == 0 && c.Unanswered == "" && (ours || !slices.Contains(mayBeNone, c.Question)) {
		c.differ("", difference{c.Question, "nothing that could be compared", "nothing either"})
	}
}

// compareAll compares the answers to all questions.
func compareAll(o *ours, t *theirs) []*comparison {
	var all []*comparison
	for _, compare := range []func(*ours, *theirs) *comparison{
		compareSys, compareLog, compareModules, compareTasks, compareTimes, compareStacks, compareBlocked,
		compareMemory, compareZones, compareCaches, compareRunQueues, compareMounts, compareNet, compareDisks,
	} {
		all = append(all, compare(o, t))
	}
	return all
}
