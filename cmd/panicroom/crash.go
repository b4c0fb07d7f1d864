package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/load"
)

func newCrash(c *command) *cobra.Command {
	var (
		yes  bool
		cpu  int
		opts load.CrashOptions
	)
	cmd := &cobra.Command{
		Use:   "crash",
		Short: "crash this machine now (asks first)",
		Long: `Make the running kernel panic, through /proc/sysrq-trigger. The panic kernel
saves a dump and restarts the machine. Everything that runs here ends at once.

Filesystems are synced first. Nothing happens if no panic kernel is loaded,
unless --force is given.`,
		Example: `  panicroom crash
  panicroom crash --yes           do not ask; for scripts
  panicroom crash --yes --cpu 1   let CPU 1 be the one that panics`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("cpu") {
				if cpu < 0 {
					return usage(cmd, fmt.Errorf("no CPU has the number %d", cpu))
				}
				opts.CPU = &cpu
			}
			if !opts.Force {
				if err := load.CheckCrash(); err != nil {
					return err
				}
			}
			if !yes {
				if err := c.confirm(cmd.Context(), "This machine crashes now, and everything that runs on it ends. Type yes: "); err != nil {
					return err
				}
			}
			return load.Crash(&opts)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&opts.Force, "force", false, "crash even if no panic kernel is loaded")
	f.BoolVar(&opts.NoSync, "no-sync", false, "do not write back filesystems first, as in a real crash")
	f.IntVar(&cpu, "cpu", 0, "the CPU that panics (default: whichever runs this)")
	return cmd
}

// confirm asks a person, who must type yes. ^C is no.
func (c *command) confirm(ctx context.Context, question string) error {
	if f, ok := c.stdin.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice == 0 {
			return ui.Hint(fmt.Errorf("%w: nobody can be asked, standard input is no terminal", errCanceled),
				"--yes answers beforehand")
		}
	}
	fmt.Fprint(c.stderr, question)
	canceled := errCanceled
	answer := make(chan string, 1)
	go func() {
		// An answer without a line end is none.
		line, err := bufio.NewReader(c.stdin).ReadString('\n')
		if err != nil {
			line = ""
		}
		answer <- line
	}()
	select {
	case line := <-answer:
		if strings.TrimSpace(line) == "yes" {
			return nil
		}
		if line == "" {
			fmt.Fprintln(c.stderr)
			canceled = ui.Hint(canceled, "--yes answers beforehand")
		}
	case <-ctx.Done():
		fmt.Fprintln(c.stderr)
	}
	return canceled
}
