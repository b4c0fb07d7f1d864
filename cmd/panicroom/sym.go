package main

import (
	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/inspect"
)

func newSym(c *command) *cobra.Command {
	var of subject
	cmd := &cobra.Command{
		Use:   "sym CRASH NAME|ADDRESS...",
		Short: "symbols by their names, or what is at an address",
		Long: `Print where functions and variables of the kernel and its modules are. A name
may have wildcards, as files have them in a shell: * ? [a-z]. An address, in
hexadecimal, is answered with the symbol that it is in and how far.`,
		Example: `  panicroom sym vmcore init_task
  panicroom sym vmcore 'tcp_v4_*'
  panicroom sym vmcore ffffffff80a74f36
  panicroom sym --live jiffies`,
		Args: of.args(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			crash, names := of.cut(args)
			return c.ask(cmd.Context(), &of, crash, inspect.Symbols{Names: names})
		},
	}
	of.flag(cmd)
	return cmd
}
