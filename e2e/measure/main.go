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
// reserve/testdata/measured.json, where a test holds the model to it.
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
		writeData(filepath.Join("reserve", "testdata", "measured.json"), all),
		writeDocument(filepath.Join("docs", "reserve.md"), text))
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
	f := &found{}
	if b.facts {
		if f, err = b.read(r.name); err != nil {
			return err
		}
	}
	f.Row, f.Kernel = r.name, k.Release
	if f.Facts, err = b.ask(ctx, r, k); err != nil || b.facts {
		return errors.Join(err, b.keep(f))
	}
	var image, crash string // of the smallest that worked
	f.Minimum, f.Tries, err = smallest(r.low, r.high, func(mib int) (try, error) {
		t, o, saved, err := b.attempt(ctx, r, k, mib)
		b.say("%s: %dM: %s", r.name, mib, t.End)
		if err != nil || !t.Saved {
			if o != nil {
				err = joinClean(err, o)
			}
			return t, err
		}
		// Sizes that work come in falling order, so the last one is the smallest;
		// its disk is looked at when it is known.
		if image != "" {
			if err := os.Remove(image); err != nil {
				return t, err
			}
		}
		image, crash = filepath.Join(b.out, strings.ReplaceAll(r.name, "/", "-"), "smallest.img"), saved
		if err := os.Rename(o.Disk, image); err != nil {
			return t, err
		}
		return t, joinClean(nil, o)
	})
	if err != nil {
		return err
	}
	if err := b.confirm(ctx, r, k, image, crash); err != nil {
		return err
	}
	b.say("%s: the smallest is %dM", r.name, f.Minimum)
	return b.keep(f)
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
	if err != nil {
		return nil, err
	}
	f := &found{}
	return f, json.Unmarshal(text, f)
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
