package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/load"
)

func newUnload(c *command) *cobra.Command {
	return &cobra.Command{
		Use:   "unload",
		Short: "take the panic kernel out of reserved memory",
		Long: `Take the panic kernel out of reserved memory. A panic from now on leaves no
dump. The memory stays reserved.`,
		Example: "  panicroom unload",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if err := load.Unload(); err != nil {
				return err
			}
			if c.json {
				return json.NewEncoder(c.stdout).Encode(struct {
					Loaded bool `json:"loaded"`
				}{false})
			}
			_, err := fmt.Fprintln(c.stdout, "unloaded: a panic from now on leaves no dump")
			return err
		},
	}
}
