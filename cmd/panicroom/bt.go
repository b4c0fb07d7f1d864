package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/inspect"
)

func newBt(c *command) *cobra.Command {
	var (
		of subject
		q  inspect.Stacks
	)
	cmd := &cobra.Command{
		Use:   "bt CRASH [TASK]...",
		Short: "who called whom: stacks of CPUs and tasks",
		Long: `Print the stack of the CPU that crashed, or those of tasks, the innermost
function first. TASK is a PID, a name, or the address of a task_struct. Where an
exception or an interrupt came, the registers of that moment are printed. A
frame with "?" cannot be trusted, and it is said why.`,
		Example: `  panicroom bt vmcore            the CPU that crashed
  panicroom bt -a vmcore         all CPUs
  panicroom bt -D vmcore         tasks in uninterruptible sleep
  panicroom bt vmcore 1 kswapd0
  panicroom bt --live -D`,
		Args: of.args(0, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var crash string
			crash, q.Words = of.cut(args)
			which := 0
			for _, set := range []bool{q.CPUs, q.Blocked, q.All, len(q.Words) > 0} {
				if set {
					which++
				}
			}
			if which > 1 {
				return usage(cmd, errors.New("tasks are named, or meant by one of -a, -D and -t"))
			}
			return c.ask(cmd.Context(), &of, crash, q)
		},
	}
	of.flag(cmd)
	f := cmd.Flags()
	f.BoolVarP(&q.CPUs, "cpus", "a", false, "what ran on each CPU")
	f.BoolVarP(&q.Blocked, "blocked", "D", false, "tasks in uninterruptible sleep")
	f.BoolVarP(&q.All, "tasks", "t", false, "all tasks")
	return cmd
}
