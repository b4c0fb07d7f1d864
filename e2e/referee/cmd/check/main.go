// Command check lets the referees judge one dump:
//
//	check -raw RAW -dump DUMP [-dmesg DMESG] [-level 31] [-json] [-own | -vmlinux VMLINUX]
//
// RAW is an ELF copy of /proc/vmcore taken in the same crash. With VMLINUX, the
// kernel with its debug data, crash is asked and nobody else. It exits with 1 if a
// referee disagrees with the dump.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"

	"github.com/panicroom-kdump/panicroom/e2e/referee"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

func main() {
	var in referee.Inputs
	flag.StringVar(&in.Raw, "raw", "", "ELF copy of /proc/vmcore")
	flag.StringVar(&in.Dump, "dump", "", "kdump-compressed dump of the same crash")
	flag.StringVar(&in.Dmesg, "dmesg", "", "the kernel log as it was saved")
	flag.IntVar(&in.Level, "level", 31, "dump level")
	own := flag.Bool("own", false, "without anybody else's readers")
	vmlinux := flag.String("vmlinux", "", "ask crash, with this kernel")
	asJSON := flag.Bool("json", false, "print the report as JSON")
	flag.Parse()
	if in.Raw == "" || in.Dump == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if *own {
		in.Referees = referee.Own
	}
	in.Say = func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r, err := check(ctx, in, *vmlinux)
	if r != nil {
		if werr := write(r, *asJSON); werr != nil {
			ui.WriteError(os.Stderr, "check", werr)
			os.Exit(1)
		}
	}
	if err != nil {
		ui.WriteError(os.Stderr, "check", err)
		os.Exit(1)
	}
}

func check(ctx context.Context, in referee.Inputs, vmlinux string) (*referee.Report, error) {
	if vmlinux == "" {
		return referee.Check(ctx, in)
	}
	j, err := referee.NewJudge(in.Raw, in.Say)
	if err != nil {
		return nil, err
	}
	r, err := j.Crash(ctx, vmlinux, referee.Form{Kind: referee.Kdump, Level: in.Level, Files: []string{in.Dump}})
	return r, errors.Join(err, j.Close())
}

func write(r *referee.Report, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	for _, f := range r.Findings {
		verdict := "ok   "
		if !f.OK {
			verdict = "WRONG"
		}
		fmt.Printf("%s  %s: %s\n", verdict, f.Check, f.Detail)
	}
	var names []string
	for name := range r.Classes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Printf("%8d pages %s\n", r.Classes[name], name)
	}
	fmt.Printf("%8d pages in the dump\n", r.Dumped)
	names = names[:0]
	for name := range r.Seconds {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Printf("%7.1fs %s\n", r.Seconds[name], name)
	}
	return nil
}
