package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/load"
	"github.com/panicroom-kdump/panicroom/setup"
)

func newSetup(c *command) *cobra.Command {
	var undo, dry bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "protect this machine: reserve memory, enable the service, load",
		Long: `Make everything that a machine needs to be protected: memory that the boot
loader reserves, directories for crashes, parameters that make a broken kernel
panic, a key pair for targets by SSH, and the service that loads the panic
kernel at each boot. Where memory is reserved already the panic kernel is loaded
at once, else after the next boot; setup says which.

A second time changes only what is missing. --undo takes back what setup has
made; saved crashes, and files that somebody has edited since, stay.`,
		Example: `  panicroom setup --dry-run    what would be done
  panicroom setup
  panicroom status             after the reboot
  panicroom setup --undo`,
		Args: args(cobra.NoArgs),
	}
	configured := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if dry && undo {
			return usage(cmd, errors.New("--dry-run and --undo are one at a time"))
		}
		steps := &setup.Steps{Machine: setup.Live(), Reserver: bootLoader{c, configured}, Say: c.step}
		if undo {
			return c.undo(cmd.Context(), steps)
		}
		conf, err := configured()
		if err != nil {
			return err
		}
		m, err := host.Read(os.DirFS("/"), nil)
		if err != nil {
			return err
		}
		if err := load.CheckKernel(m); err != nil {
			return err
		}
		program, err := os.Executable()
		if err != nil {
			return err
		}
		if program, err = filepath.EvalSymlinks(program); err != nil {
			return err
		}
		opts := setup.Options{Program: program}
		if setup.Reserved(os.DirFS("/")) > 0 {
			need, have, err := c.needed(cmd.Context(), configured)
			if err != nil {
				return err
			}
			opts.TooLittle = have < need
		}
		plan, err := setup.Make(os.DirFS("/"), conf, opts)
		if err != nil {
			return err
		}
		if dry {
			if err := steps.Show(cmd.Context(), plan); err != nil {
				return err
			}
		} else if err := steps.Do(cmd.Context(), plan); err != nil {
			return err
		}
		return c.setUp(plan, dry)
	}
	f := cmd.Flags()
	f.BoolVarP(&dry, "dry-run", "n", false, "show what would be done and change nothing")
	f.BoolVar(&undo, "undo", false, "take back what setup has made")
	return cmd
}

// undo takes back what setup has made; programs get the lines as a list.
func (c *command) undo(ctx context.Context, steps *setup.Steps) error {
	if !c.json {
		return steps.Undo(ctx)
	}
	lines := []string{}
	steps.Say = func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if err := steps.Undo(ctx); err != nil {
		return err
	}
	return json.NewEncoder(c.stdout).Encode(struct {
		Undone []string `json:"undone"`
	}{lines})
}

// setUp says what is left to a person.
func (c *command) setUp(plan *setup.Plan, dry bool) error {
	if c.json {
		enc := json.NewEncoder(c.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			Reboot bool `json:"reboot"`
			Dry    bool `json:"dry_run"`
			*setup.Plan
		}{plan.NeedsReboot(), dry, plan})
	}
	for _, n := range plan.Notes {
		fmt.Fprintf(c.stdout, "note: %s\n", n)
	}
	switch {
	case dry:
		fmt.Fprintln(c.stdout, "nothing was changed")
	case plan.NeedsReboot():
		fmt.Fprintln(c.stdout, "reboot this machine: then memory is reserved and the panic kernel is loaded")
	default:
		fmt.Fprintln(c.stdout, "this machine is set up; panicroom status has every link of the chain")
	}
	return nil
}
