package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// command is what all verbs share: the streams and the flags above the verbs.
type command struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	json           bool
}

func newRoot(c *command) *cobra.Command {
	root := &cobra.Command{
		Use:   "panicroom",
		Short: "kdump for Linux in one static binary",
		Long: `panicroom keeps a second kernel in reserved memory. When the running kernel
panics, the second one starts with panicroom as its only program: it saves the
dead kernel's memory, says what happened, and brings the machine back.`,
		Example: `  panicroom load --target /var/crash     put the panic kernel in place
  panicroom crash                        try it: crash this machine (asks first)
  panicroom report /var/crash/2026-…     what happened, from a saved crash`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          args(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err) })
	root.PersistentFlags().BoolVar(&c.json, "json", false, "answer, errors too, as JSON for programs")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		newLoad(c),
		newUnload(c),
		newStatus(c),
		newTarget(c),
		newReboot(c),
		newCrash(c),
		newSave(c),
		newReport(c),
		newLog(c),
		newConvert(c),
		newList(c),
		newAfter(c),
		newInspectImage(c),
		newConfig(c),
		newVersion(c),
	)
	return root
}

// args makes a cobra check of the arguments say what is wrong in our way.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return usage(cmd, err)
		}
		return nil
	}
}

// usage marks err as the fault of the command line and says where help is.
func usage(cmd *cobra.Command, err error) error {
	return ui.Hint(fmt.Errorf("%w: %w", ui.ErrUsage, err),
		fmt.Sprintf("%s --help shows flags and examples", cmd.CommandPath()))
}
