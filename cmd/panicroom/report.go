package main

import (
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/report"
)

func newReport(c *command) *cobra.Command {
	var (
		opts report.Options
		page string
	)
	cmd := &cobra.Command{
		Use:   "report CRASH",
		Short: "what happened, from a dump",
		Long: `Say what happened: why the kernel died, on which CPU and in which task,
stacks, registers, who was blocked, memory, I/O under way, modules, the end of
the log. It needs no debuginfo. CRASH is the directory of a saved crash or a
dump file.

--html writes one page that needs no other file and no network, with the whole
log and all tasks, to be searched, sorted, folded and printed. Only its owner
can read the file. With "-" the page goes to standard output.`,
		Example: `  panicroom report /var/crash/2026-11-24T08:37:12Z-6.12.107
  panicroom report --html crash.html vmcore
  panicroom report --json vmcore | jq .crash`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.LogLines < 0 {
				return usage(cmd, fmt.Errorf("--log-lines %d is no number of lines", opts.LogLines))
			}
			if page != "" {
				if c.json {
					return usage(cmd, errors.New("--json and --html are two forms of the report; it is one of them at a time"))
				}
				if sameFile(args[0], page) {
					return usage(cmd, fmt.Errorf("--html %s would replace the dump", page))
				}
				if opts.LogLines == 0 {
					opts.LogLines = math.MaxInt
				}
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
			switch {
			case c.json:
				return r.WriteJSON(c.stdout)
			case page == "-":
				return r.WriteHTML(c.stdout)
			case page != "":
				return r.SaveHTML(page)
			}
			return r.WriteText(c.stdout, c.width())
		},
	}
	cmd.Flags().IntVar(&opts.LogLines, "log-lines", 0, "show the last `N` lines of the log (default: its end)")
	cmd.Flags().StringVar(&page, "html", "", "write a page into `FILE`")
	return cmd
}

// sameFile tells whether two names are of one file, that is there.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
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
