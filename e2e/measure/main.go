// Command measure finds out how small a reservation may be: it crashes machines
// with a smaller and larger crashkernel=, for each kind of target, until it knows
// the smallest with which a crash is saved whole, and compares that with what
// panicroom reserve says. make measure runs it; docs/reserve.md has what it
// found.
//
//	measure [-rows ext4/trixie/packed,xfs/sid/packed] [-facts] [-write]
//
// What each row found is kept in OUT/measure, so that rows can be measured one
// after the other; -write puts all that is there into docs/reserve.md and
// reserve/testdata/measured.json, where a test holds the model to it. Of a row that
// was not measured here, what is there already stays.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/reserve"
)

// dataFile is what the test of the model reads, in the root of the module.
const dataFile = "reserve/testdata/measured.json"

// measurement is one run of the program.
type measurement struct {
	say     lab.Say
	out     string            // directory
	program map[string]string // under test, by the kernel's release
	names   []string          // of rows
	facts   bool              // only what the model is made of
	write   bool
}

func main() {
	start := time.Now()
	b := &measurement{program: map[string]string{}, say: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%7.1f s  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}}
	if err := b.parse(os.Args[1:]); err != nil {
		os.Exit(2) // flag has said why
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := b.run(ctx); err != nil {
		ui.WriteError(os.Stderr, "measure", err)
		os.Exit(1)
	}
}

// parse reads the command line.
func (b *measurement) parse(args []string) error {
	var all []string
	for _, r := range rows() {
		all = append(all, r.name)
	}
	b.names = all
	f := flag.NewFlagSet("measure", flag.ContinueOnError)
	f.Func("rows", "what to measure (default "+strings.Join(all, ",")+"; none for nothing)", func(v string) error {
		b.names = strings.Split(v, ",")
		if v == "none" {
			b.names = nil
		}
		for _, name := range b.names {
			if !slices.Contains(all, name) {
				return fmt.Errorf("%q is none of %s", name, strings.Join(all, ","))
			}
		}
		return nil
	})
	f.BoolVar(&b.facts, "facts", false, "ask only anew what the model is made of; the sizes found stay")
	f.BoolVar(&b.write, "write", false, "write docs/reserve.md and reserve/testdata/measured.json")
	return f.Parse(args)
}

func (b *measurement) run(ctx context.Context) error {
	out, err := lab.OutDir()
	if err != nil {
		return err
	}
	b.out = filepath.Join(out, "measure")
	for _, r := range rows() {
		if !slices.Contains(b.names, r.name) {
			continue
		}
		if err := b.row(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	all, err := b.kept()
	if err != nil {
		return err
	}
	text := table(all)
	fmt.Print(text)
	if !b.write {
		return nil
	}
	return errors.Join(
		writeData(dataFile, all),
		lab.WriteDocument(filepath.Join("docs", "reserve.md"), "make measure found", text))
}

// found is what is known of a row; a test of package reserve reads it too.
type found struct {
	Row     string        `json:"row"`
	Kernel  string        `json:"kernel"` // release
	Minimum int           `json:"minimum_mib"`
	Tries   []try         `json:"tries"`
	Facts   reserve.Facts `json:"facts"`
}

// row measures one row and keeps what it found.
func (b *measurement) row(ctx context.Context, r row) error {
	k, err := lab.FetchKernel(ctx, lab.KernelOptions{Suite: r.suite, Say: b.say})
	if err != nil {
		return err
	}
	if b.program[k.Release], err = lab.PanicRoom(ctx, k); err != nil {
		return err
	}
	if r.files, err = r.config(k); err != nil {
		return err
	}
	f, err := b.read(r.name)
	if errors.Is(err, fs.ErrNotExist) && !b.facts {
		f, err = &found{}, nil
	}
	if err != nil {
		return err
	}
	f.Row, f.Kernel = r.name, k.Release
	at, err := b.place(ctx, r, k, b.dir(r))
	if err != nil {
		return err
	}
	if err := b.search(ctx, r, k, at, f); err != nil {
		said, serr := at.stop()
		if said != "" {
			err = fmt.Errorf("%w\nthe server said:\n%s", err, said)
		}
		return errors.Join(err, serr)
	}
	if _, err := at.stop(); err != nil {
		return err
	}
	return b.keep(f)
}

// search finds what is to be found of a row.
func (b *measurement) search(ctx context.Context, r row, k *lab.Kernel, at place, f *found) (err error) {
	if f.Facts, err = b.ask(ctx, r, k, at); err != nil || b.facts {
		return err
	}
	low, high := f.start()
	f.Minimum, f.Tries, err = smallest(low, high, func(mib int) (try, error) {
		t, o, saved, err := b.attempt(ctx, r, k, at, mib)
		b.say("%s: %dM: %s", r.name, mib, t.End)
		// Sizes that work come in falling order, so the last one is the smallest; what
		// it saved is looked at when it is known.
		if err == nil && t.Saved {
			err = at.keep(o, saved)
		}
		if o != nil {
			err = joinClean(err, o)
		}
		return t, err
	})
	if err != nil {
		return err
	}
	if err := at.confirm(ctx); err != nil {
		return fmt.Errorf("the console said that a crash was saved whole: %w", err)
	}
	b.say("%s: the smallest is %dM", r.name, f.Minimum)
	return nil
}

// start is where to look first: where the border was when it was measured last, or
// below what the model says.
func (f *found) start() (low, high int) {
	const below = 2 // steps
	if f.Minimum > 0 {
		return f.Minimum - stepMiB, f.Minimum
	}
	high = int(reserve.Recommend(f.Facts).Needed>>20) / stepMiB * stepMiB
	return high - below*stepMiB, high
}

// keep writes what was found of a row into the output directory, and read reads it.
func (b *measurement) keep(f *found) error {
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(b.file(f.Row), append(text, '\n'), 0o644)
}

func (b *measurement) read(row string) (*found, error) {
	text, err := os.ReadFile(b.file(row))
	if errors.Is(err, fs.ErrNotExist) {
		return recorded(row)
	}
	if err != nil {
		return nil, err
	}
	f := &found{}
	return f, json.Unmarshal(text, f)
}

// recorded is what the test of the model knows of a row.
func recorded(row string) (*found, error) {
	text, err := os.ReadFile(dataFile)
	if err != nil {
		return nil, err
	}
	var all []*found
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", dataFile, err)
	}
	for _, f := range all {
		if f.Row == row {
			return f, nil
		}
	}
	return nil, fmt.Errorf("%s in %s: %w", row, dataFile, fs.ErrNotExist)
}

// kept is what was found of all rows, in their order; a row that was never measured
// is left out.
func (b *measurement) kept() ([]*found, error) {
	var all []*found
	for _, r := range rows() {
		f, err := b.read(r.name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			b.say("%s was never measured", r.name)
		case err != nil:
			return nil, err
		default:
			all = append(all, f)
		}
	}
	return all, nil
}

func (b *measurement) file(row string) string {
	return filepath.Join(b.out, strings.ReplaceAll(row, "/", "-")+".json")
}

// joinClean removes the large files of a run.
func joinClean(err error, o *lab.Outcome) error {
	if cerr := o.Clean(); err == nil {
		err = cerr
	}
	return err
}
