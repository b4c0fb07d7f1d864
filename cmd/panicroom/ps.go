package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/inspect"
)

// taskStates are the letters of /proc/PID/stat.
const taskStates = "RSDTtXZPI"

func newPs(c *command) *cobra.Command {
	var (
		of subject
		q  inspect.Tasks
	)
	cmd := &cobra.Command{
		Use:   "ps CRASH [TASK]...",
		Short: "the tasks that there were",
		Long: `Print a table of tasks: PID, that of the parent, the CPU, the address of the
task_struct, the state as in ps(1), the share of memory, the size of the address
space and what of it was in memory, the name; kernel threads in brackets. ">"
marks those that were on a CPU. TASK is a PID, a name, or the address of a
task_struct.`,
		Example: `  panicroom ps vmcore
  panicroom ps --state D vmcore
  panicroom ps --user --json vmcore | jq '.tasks | max_by(.rss)'
  panicroom ps --live`,
		Args: of.args(0, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var crash string
			crash, q.Words = of.cut(args)
			if strings.Trim(q.States, taskStates) != "" {
				return usage(cmd, fmt.Errorf("--state %q has a letter that is no state; they are %s", q.States, taskStates))
			}
			if q.Kernel && q.User {
				return usage(cmd, errors.New("--kernel and --user are together no task"))
			}
			return c.ask(cmd.Context(), &of, crash, q)
		},
	}
	of.flag(cmd)
	f := cmd.Flags()
	f.BoolVarP(&q.Kernel, "kernel", "k", false, "only kernel threads")
	f.BoolVarP(&q.User, "user", "u", false, "only tasks that are none")
	f.StringVarP(&q.States, "state", "s", "", "only those in one of the `STATES`: "+taskStates)
	f.BoolVarP(&q.OnCPU, "running", "r", false, "only those that were on a CPU")
	return cmd
}
