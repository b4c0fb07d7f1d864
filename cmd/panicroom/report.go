package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/report"
)

func newReport(c *command) *cobra.Command {
	var opts report.Options
	cmd := &cobra.Command{
		Use:   "report CRASH",
		Short: "what happened, from a dump",
		Long: `Say what happened: why the kernel died, on which CPU and in which task,
registers, the call trace, modules, the end of the log. It needs no debuginfo.
CRASH is the directory of a saved crash or a dump file.`,
		Example: `  panicroom report /var/crash/2026-11-24T08:37:12Z-6.12.107
  panicroom report --json vmcore | jq .crash`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.LogLines < 0 {
				return usage(cmd, fmt.Errorf("--log-lines %d is no number of lines", opts.LogLines))
			}
			d, k, err := openKernel(args[0])
			if err != nil {
				return err
			}
			defer d.Close()
			r, err := report.Make(k, &opts)
			if err != nil {
				return err
			}
			if c.json {
				return r.WriteJSON(c.stdout)
			}
			return r.WriteText(c.stdout, c.width())
		},
	}
	cmd.Flags().IntVar(&opts.LogLines, "log-lines", 0, "show the last `N` lines of the log (default: what it needs)")
	return cmd
}

// width is that of the terminal, or 80 columns where there is none.
func (c *command) width() int {
	out := c.stdout
	if w, ok := out.(*answerWriter); ok {
		out = w.Writer
	}
	if f, ok := out.(*os.File); ok {
		if columns, ok := sys.TerminalWidth(f); ok {
			return columns
		}
	}
	return 80
}
