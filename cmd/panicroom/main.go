// Command panicroom is kdump for Linux in one static binary. It loads the panic
// kernel, is the only program of that kernel when it runs (PID 1), and reads
// what was saved.
//
// There is one file per verb here, each nothing but flags, options, one call
// and printing; what the verbs do lives in the packages that the module's
// documentation names in order. Called by the name kexec, makedumpfile or
// vmcore-dmesg, it is that program of kexec-tools or makedumpfile.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/crashenv"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

func main() {
	if crashenv.IsInit() {
		crashenv.Init()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch args := os.Args[1:]; filepath.Base(os.Args[0]) {
	case "kexec":
		stop() // a signal ends it
		os.Exit(newKexec(os.Stdout, os.Stderr).run(args))
	case "makedumpfile":
		m := newMakedumpfile(os.Stdin, os.Stdout, os.Stderr)
		m.deaf = stop
		os.Exit(m.run(ctx, args))
	case "vmcore-dmesg":
		stop()
		os.Exit(vmcoreDmesg(args, os.Stdout, os.Stderr))
	default:
		os.Exit(run(ctx, args, os.Stdin, os.Stdout, os.Stderr))
	}
}

// run is the whole command on given streams; it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	answer := &answerWriter{Writer: stdout}
	c := &command{stdin: stdin, stdout: answer, stderr: stderr}
	root := newRoot(c)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if _, ok := errors.AsType[answered](err); answer.err != nil && (err == nil || ok) {
		err = answer.err
	}
	if err == nil {
		return exitDone
	}
	if errors.Is(err, ui.ErrUsage) {
		c.json = c.json || wantsJSON(args)
	}
	err = namesNothing(cmd, needsRoot(err, os.Geteuid() == 0))
	code := exitCode(err)
	if _, ok := errors.AsType[answered](err); ok {
		return code
	}
	if c.json {
		// Programs that asked for JSON get their errors as JSON, where they
		// look for the answer.
		if werr := ui.WriteErrorJSON(stdout, err, code); werr != nil {
			fmt.Fprintf(stderr, "panicroom: %v\n", werr)
		}
		return code
	}
	ui.WriteError(stderr, "panicroom", err)
	return code
}

// namesNothing says where help is, of a file that a person has named wrongly and that
// nothing better is known of.
func namesNothing(cmd *cobra.Command, err error) error {
	wrong := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR)
	if !wrong || len(ui.Hints(err)) > 0 {
		return err
	}
	return ui.Hint(err, fmt.Sprintf("%s --help shows what it takes, with examples", cmd.CommandPath()))
}

// answered is an error that the answer on standard output has told already; only
// the exit code is left to give.
type answered struct{ error }

func (a answered) Unwrap() error { return a.error }

// errCanceled is what a question answered with no, or ^C, ends in.
var errCanceled = errors.New("canceled, nothing was done")
