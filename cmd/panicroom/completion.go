package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// newCompletion prints what a shell completes command lines with.
func newCompletion(c *command) *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "what a shell completes command lines with",
		Long: `Print the script with which bash, zsh or fish completes command lines of
panicroom. The packages bring them.`,
		Example: `  source <(panicroom completion bash)
  panicroom completion zsh > "${fpath[1]}/_panicroom"
  panicroom completion fish > ~/.config/fish/completions/panicroom.fish`,
		Args:      args(cobra.ExactArgs(1)),
		ValidArgs: shells,
		Hidden:    true, // who has a package does not need it
		RunE: func(cmd *cobra.Command, given []string) error {
			root := cmd.Root()
			switch given[0] {
			case "bash":
				return root.GenBashCompletionV2(c.stdout, true)
			case "zsh":
				return root.GenZshCompletion(c.stdout)
			case "fish":
				return root.GenFishCompletion(c.stdout, true)
			}
			var hints []string
			if meant := ui.Like(given[0], shells); meant != "" {
				hints = append(hints, "did you mean "+meant+"?")
			}
			return usage(cmd, fmt.Errorf("%q is none of %s", given[0], strings.Join(shells, ", ")), hints...)
		},
	}
}
