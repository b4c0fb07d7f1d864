package main

import (
	"github.com/spf13/cobra"
)

// newHelp is --help as people type it who know other commands.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]...",
		Short: "flags and examples of a command",
		Example: `  panicroom help load
  panicroom help target init`,
		ValidArgsFunction: func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
			of, err := verb(cmd.Root(), given)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, c := range of.Commands() {
				if c.IsAvailableCommand() {
					names = append(names, c.Name()+"\t"+c.Short)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, given []string) error {
			of, err := verb(cmd.Root(), given)
			if err != nil {
				return err
			}
			of.InitDefaultHelpFlag() // so that it is in the list
			return of.Help()
		},
	}
}

// verb finds a command by the words behind that of cmd.
func verb(cmd *cobra.Command, words []string) (*cobra.Command, error) {
next:
	for _, word := range words {
		for _, c := range cmd.Commands() {
			if c.Name() == word {
				cmd = c
				continue next
			}
		}
		return nil, unknownVerb(cmd, word)
	}
	return cmd, nil
}
