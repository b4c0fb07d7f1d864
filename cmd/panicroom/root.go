package main

import (
	"io"

	"github.com/spf13/cobra"
)

// command is what all verbs share: the streams and the flags above the verbs.
type command struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	json           bool
}

// exitHelp is docs/exit-codes.md in short.
const exitHelp = `The exit code is 0 when all is done, 1 for an error without a code of its own, 2
if the command line is wrong, 3 if it needs root, 4 if something was refused and
nothing changed, 5 if the kernel refused, 6 if a dump was saved in part, 7 if a
file is no dump, 8 if a panic would leave no dump, 9 if the configuration is
wrong.`

func newRoot(c *command) *cobra.Command {
	root := &cobra.Command{
		Use:   "panicroom",
		Short: "kdump for Linux in one static binary",
		Long: `panicroom keeps a second kernel in reserved memory. When the running kernel
panics, the second one starts with panicroom as its only program: it saves the
dead kernel's memory, says what happened, and brings the machine back.

` + exitHelp,
		Example: `  panicroom setup                        protect this machine
  panicroom status                       is it protected?
  panicroom crash                        try it: crash this machine (asks first)
  panicroom report /var/crash/2026-…     what happened, from a saved crash`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          args(cobra.NoArgs),
	}
	versionVerb := newVersion(c)
	version := root.Flags().Bool("version", false, versionVerb.Short)
	root.RunE = func(cmd *cobra.Command, given []string) error {
		if *version {
			return versionVerb.RunE(cmd, given)
		}
		return cmd.Help()
	}
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().BoolVar(&c.json, "json", false, "answer, errors too, as JSON for programs")
	root.SetHelpCommand(newHelp())
	root.AddCommand(
		newLoad(c),
		newUnload(c),
		newSetup(c),
		newStatus(c),
		newReserve(c),
		newTarget(c),
		newReboot(c),
		newCrash(c),
		newSave(c),
		newReport(c),
		newLog(c),
		newInspect(c),
		newBt(c),
		newPs(c),
		newMod(c),
		newMem(c),
		newStruct(c),
		newRd(c),
		newSym(c),
		newDis(c),
		newConvert(c),
		newList(c),
		newAfter(c),
		newInspectImage(c),
		newConfig(c),
		newCompletion(c),
		versionVerb,
	)
	return root
}
