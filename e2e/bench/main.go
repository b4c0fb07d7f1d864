// Command bench measures panicroom beside makedumpfile: both read the same
// cores of riscv64 machines on this machine, and the same /proc/vmcore in a
// crash kernel; and its report beside crash. make bench runs it; docs/performance.md has what it printed
// and how it measures.
//
//	bench [-parts speed,report,room,memory] [-cores 2G,16G,256G] [-levels 1,31]
//	      [-compress zstd,lzo,snappy,zlib] [-runs 3] [-report-runs 5] [-write]
//
// MAKEDUMPFILE_SRC names a folder with the source of a makedumpfile to build in
// place of Debian's newest, MAKEDUMPFILE one that is built already.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// bench is one run of everything.
type bench struct {
	kernel *lab.Kernel
	peer   *peer
	say    lab.Say

	parts, cores, compress []string
	levels                 []int
	runs, roomRuns         int
	reportRuns             int
	write                  bool
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == measureCommand {
		if err := runMeasured(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	b, err := parse(os.Args[1:])
	if err != nil {
		os.Exit(2) // flag has said why
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := b.run(ctx); err != nil {
		ui.WriteError(os.Stderr, "bench", err)
		os.Exit(1)
	}
}

// parse reads the command line.
func parse(args []string) (*bench, error) {
	start := time.Now()
	b := &bench{say: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%7.1f s  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	list := func(into *[]string, name, all, usage string) {
		*into = strings.Split(all, ",")
		f.Func(name, usage+" (default "+all+")", func(v string) error {
			*into = strings.Split(v, ",")
			for _, x := range *into {
				if !slices.Contains(strings.Split(all, ","), x) {
					return fmt.Errorf("%q is none of %s", x, all)
				}
			}
			return nil
		})
	}
	list(&b.parts, "parts", "speed,report,room,memory", "what to measure")
	list(&b.cores, "cores", "2G,16G,256G", "cores for speed and report")
	list(&b.compress, "compress", "zstd,lzo,snappy,zlib", "compressions for speed")
	var levels []string
	list(&levels, "levels", "1,31", "levels for speed")
	f.IntVar(&b.runs, "runs", 3, "`N` runs of each program")
	f.IntVar(&b.roomRuns, "room-runs", 2, "`N` runs of each program in the crash kernel")
	f.IntVar(&b.reportRuns, "report-runs", 5, "`N` runs of the report")
	f.BoolVar(&b.write, "write", false, "write the result into docs/performance.md")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	for _, l := range levels {
		n, err := strconv.Atoi(l)
		if err != nil {
			return nil, err
		}
		b.levels = append(b.levels, n)
	}
	b.runs, b.roomRuns, b.reportRuns = max(1, b.runs), max(1, b.roomRuns), max(1, b.reportRuns)
	return b, nil
}

func (b *bench) run(ctx context.Context) error {
	others := slices.ContainsFunc(b.parts, func(p string) bool { return p != "report" })
	if others {
		built, err := os.MkdirTemp("", "panicroom-bench-peer-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(built)
		if b.peer, err = findPeer(ctx, built, b.say); err != nil {
			return err
		}
	}
	var err error
	if b.kernel, err = lab.FetchKernel(ctx, lab.KernelOptions{Suite: "trixie", Say: b.say}); err != nil {
		return err
	}
	text, err := b.about(ctx, b.peer, b.runs)
	if err != nil {
		return err
	}
	ofReport := ""
	if slices.Contains(b.parts, "report") {
		if ofReport, err = b.about(ctx, nil, b.reportRuns); err != nil {
			return err
		}
		all, version, err := b.report(ctx)
		if err != nil {
			return err
		}
		ofReport += reportTable(all, version) + "\n"
	}
	if slices.Contains(b.parts, "speed") {
		results, err := b.speed(ctx)
		if err != nil {
			return err
		}
		text += "## Speed and size\n\n" + tables(results)
	}
	if slices.Contains(b.parts, "room") {
		all, err := b.room(ctx)
		if err != nil {
			return err
		}
		text += "## In the crash kernel\n\n" + roomTable(all) + "\n"
	}
	if slices.Contains(b.parts, "memory") {
		var all []*memory
		for _, m := range machines {
			x, err := b.memoryOf(ctx, m)
			if err != nil {
				return err
			}
			all = append(all, x)
		}
		text += "## Memory\n\n" + memoryTable(all) + "\n"
	}
	if !others {
		text = ""
	}
	fmt.Print(text + ofReport)
	out, err := lab.OutDir()
	if err != nil {
		return err
	}
	path := filepath.Join(out, "bench", "table.md")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(text+ofReport), 0o644); err != nil {
		return err
	}
	b.say("the tables are in %s", path)
	if !b.write {
		return nil
	}
	// Each stands for itself: they are rarely measured together.
	document := filepath.Join("docs", "performance.md")
	if others {
		err = lab.WriteDocument(document, "make bench measured", text)
	}
	if err == nil && ofReport != "" {
		err = lab.WriteDocument(document, "make bench measured of the report", ofReport)
	}
	return err
}

// speed measures both programs on every core, at every level, with every
// compression.
func (b *bench) speed(ctx context.Context) ([]*result, error) {
	var results []*result
	for _, m := range machines {
		if !slices.Contains(b.cores, m.Name) {
			continue
		}
		c, err := b.core(ctx, m, false)
		if err != nil {
			return nil, err
		}
		for _, level := range b.levels {
			// Without a look at the page structs, a sparse core is hours of zeros.
			if m.Burden == nil && level != 31 {
				continue
			}
			for _, f := range flags {
				if !slices.Contains(b.compress, f.compression) {
					continue
				}
				r, err := b.compare(ctx, c, level, f.compression, f.flag)
				if err != nil {
					return nil, err
				}
				results = append(results, r)
			}
		}
	}
	return results, nil
}
