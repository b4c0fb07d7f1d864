package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/inspect"
)

func newMem(c *command) *cobra.Command {
	var (
		of subject
		q  inspect.MemoryUse
	)
	cmd := &cobra.Command{
		Use:   "mem CRASH",
		Short: "what memory was used for",
		Long: `Print what memory was used for at the crash, as /proc/meminfo would have said,
and its zones with their free blocks; or with --slab the slab caches, those with
the most memory first.`,
		Example: `  panicroom mem vmcore
  panicroom mem --slab --top 20 vmcore
  panicroom mem --live`,
		Args: of.args(0, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			crash, _ := of.cut(args)
			if q.Most < 0 || q.Most > 0 && !q.Caches {
				return usage(cmd, errors.New("--top is a number of slab caches, for --slab"))
			}
			return c.ask(cmd.Context(), &of, crash, q)
		},
	}
	of.flag(cmd)
	f := cmd.Flags()
	f.BoolVarP(&q.Caches, "slab", "s", false, "the slab caches")
	f.IntVarP(&q.Most, "top", "n", 0, "only the `N` caches with the most memory")
	return cmd
}
