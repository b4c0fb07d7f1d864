package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/after"
	"github.com/panicroom-kdump/panicroom/crashenv"
)

func newAfter(c *command) *cobra.Command {
	opts := after.Options{}
	cmd := &cobra.Command{
		Use:   "after",
		Short: "tell of new crashes, call hooks, take old crashes away",
		Long: `Do what is to be done on the boot after a crash; the service does it at each
boot. Each crash that has come since the last time is told in one line: where
it is and what happened. The hooks are called for it, and the webhook is posted.
Then the oldest crashes go, as many as the configuration says.

It does nothing twice: what has been told is noted in the directory --state. One
hook that fails does not stop the others; the exit code is 1 then.`,
		Example: `  panicroom after --dry-run    what would be done
  panicroom after`,
		Args: args(cobra.NoArgs),
	}
	configured := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var err error
		if opts.Config, err = configured(); err != nil {
			return err
		}
		if !c.json {
			opts.Say = func(line string) { fmt.Fprintln(c.stdout, line) }
		}
		opts.Unpack = func(ctx context.Context) ([]string, error) {
			return crashenv.Unpack(ctx, "/", opts.Config.Targets, opts.Config.Directories()[0])
		}
		res, err := after.Run(cmd.Context(), opts)
		if res == nil || !c.json {
			return err
		}
		enc := json.NewEncoder(c.stdout)
		enc.SetIndent("", "  ")
		if jerr := enc.Encode(res); jerr != nil {
			return jerr
		}
		if errors.Is(err, after.ErrProblems) {
			return answered{err}
		}
		return err
	}
	f := cmd.Flags()
	f.StringVar(&opts.State, "state", after.StateDir, "note in `DIR` what was told")
	f.BoolVarP(&opts.DryRun, "dry-run", "n", false, "say what would be done, do nothing")
	return cmd
}
