package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/load"
)

func newUnload(c *command) *cobra.Command {
	var reboot bool
	cmd := &cobra.Command{
		Use:   "unload",
		Short: "take the panic kernel out of reserved memory",
		Long: `Take the panic kernel out of reserved memory. A panic from now on leaves no
dump. The memory stays reserved.

With --reboot, take out the kernel that "panicroom load --reboot" has put in
place instead.`,
		Example: "  panicroom unload",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			purpose, says := load.ForCrash, "unloaded: a panic from now on leaves no dump"
			if reboot {
				purpose, says = load.ForReboot, "unloaded: a restart goes through the firmware"
			}
			if err := load.Unload(purpose); err != nil {
				return err
			}
			if c.json {
				return json.NewEncoder(c.stdout).Encode(struct {
					Loaded bool `json:"loaded"`
				}{false})
			}
			_, err := fmt.Fprintln(c.stdout, says)
			return err
		},
	}
	cmd.Flags().BoolVar(&reboot, "reboot", false, "the kernel to reboot into")
	return cmd
}
