package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/inspect"
)

func newStruct(c *command) *cobra.Command {
	var (
		of subject
		q  inspect.Struct
	)
	cmd := &cobra.Command{
		Use:   "struct CRASH TYPE [ADDRESS [COUNT]]",
		Short: "a type, or what an object of it says",
		Long: `Print a type as C declares it, with the offsets of its members, or what the
object of that type at an address says. Types are those that the kernel and its
modules carry of themselves; no debuginfo is needed. TYPE is the name of a
struct, a union, an enum or a typedef; with members behind a dot, only those:
"task_struct.pid,comm". A path goes on through members and along pointers:
"task_struct.mm->exe_file".

ADDRESS is a number in hexadecimal, or a symbol, with +OFFSET or without; of a
per-CPU variable SYMBOL:CPU. COUNT is how many objects there are in a row.`,
		Example: `  panicroom struct vmcore task_struct
  panicroom struct vmcore task_struct.pid,comm init_task
  panicroom struct vmcore rq runqueues:1 -m curr,nr_running
  panicroom struct --live list_head init_task+0x4a8`,
		Args: of.args(1, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			crash, rest := of.cut(args)
			q.Type = rest[0]
			if len(rest) > 1 {
				q.At = rest[1]
			}
			if len(rest) > 2 {
				var err error
				if q.Count, err = strconv.Atoi(rest[2]); err != nil || q.Count < 1 {
					return usage(cmd, fmt.Errorf("%q is no number of objects", rest[2]))
				}
			}
			return c.ask(cmd.Context(), &of, crash, q)
		},
	}
	of.flag(cmd)
	f := cmd.Flags()
	f.StringSliceVarP(&q.Members, "member", "m", nil, "print only the member at `PATH`, or those at several")
	f.BoolVarP(&q.Hex, "hex", "x", false, "numbers in hexadecimal")
	return cmd
}
