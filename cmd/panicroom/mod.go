package main

import (
	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/inspect"
)

func newMod(c *command) *cobra.Command {
	var of subject
	cmd := &cobra.Command{
		Use:   "mod CRASH [NAME]...",
		Short: "the modules that were loaded",
		Long: `Print the loaded modules, the newest first: the address of struct module, where
the code is, the size in bytes, the state, and why the module taints the kernel,
with the letters of /proc/modules.`,
		Example: `  panicroom mod vmcore
  panicroom mod vmcore ext4 virtio_net
  panicroom mod --live`,
		Args: of.args(0, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			crash, names := of.cut(args)
			return c.ask(cmd.Context(), &of, crash, inspect.Modules{Names: names})
		},
	}
	of.flag(cmd)
	return cmd
}
