package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/inspect"
	"github.com/panicroom-kdump/panicroom/report"
)

func newInspect(c *command) *cobra.Command {
	var (
		of       subject
		commands []string
	)
	cmd := &cobra.Command{
		Use:   "inspect CRASH",
		Short: "look into a crash, question by question",
		Long: `Open a crash and answer what is typed: the questions of bt, ps, mod, mem,
struct, rd, sym and log, and more, under the names that users of crash(8) know.
"help" lists them. Lines can be edited, TAB completes verbs, types, members and
symbols, and what was typed is kept in
$XDG_STATE_HOME/panicroom/inspect-history. Behind "|" stand filters: TEXT,
grep [-v] [-i] PATTERN, head N.

Without a terminal lines are read from standard input and answered one after the
other; with --json each answer is an object on a line of its own.`,
		Example: `  panicroom inspect vmcore
  panicroom inspect vmcore -c 'bt -a' -c 'ps | dhcp'
  echo 'foreach D bt' | panicroom inspect vmcore
  panicroom inspect --live`,
		Args: of.args(0, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			crash, _ := of.cut(args)
			d, k, err := of.open(crash)
			if err != nil {
				return err
			}
			defer d.Close()
			session := inspect.New(k, of.live)
			shell := inspect.NewShell(session, c.json)
			if len(commands) > 0 {
				return toldLines(shell.Run(cmd.Context(), strings.NewReader(strings.Join(commands, "\n")), c.stdout, c.stderr, c.width()))
			}
			in, ok := c.stdin.(*os.File)
			out, ok2 := terminalOf(c)
			if !ok || !ok2 || !inspect.IsTerminal(in) {
				return toldLines(shell.Run(cmd.Context(), c.stdin, c.stdout, c.stderr, c.width()))
			}
			history, err := inspect.OpenHistory(historyFile())
			if err != nil {
				fmt.Fprintf(c.stderr, "note: what is typed is not kept: %v\n", err)
			}
			if r, err := report.Make(k, nil); err == nil && !of.live {
				fmt.Fprintln(c.stdout, r.Headline())
			}
			fmt.Fprintln(c.stdout, "help lists what can be asked; quit or ^D ends.")
			// ^C is for the answer, and not the end.
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return shell.Interact(ctx, &inspect.Terminal{In: in, Out: out, History: history})
		},
	}
	of.flag(cmd)
	cmd.Flags().StringArrayVarP(&commands, "command", "c", nil, "answer `LINE` and end; may be given several times")
	return cmd
}

// toldLines is the error of lines that were wrong, of which each was told.
func toldLines(err error) error {
	if errors.Is(err, inspect.ErrLines) {
		return answered{err}
	}
	return err
}

// terminalOf is standard output, if it is a terminal.
func terminalOf(c *command) (*os.File, bool) {
	w, ok := c.stdout.(*answerWriter)
	if !ok {
		return nil, false
	}
	f, ok := w.Writer.(*os.File)
	return f, ok && inspect.IsTerminal(f)
}

// historyFile is where what is typed is kept, by the XDG Base Directory
// Specification; "" if that is not known.
func historyFile() string {
	dir := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "panicroom", "inspect-history")
}
