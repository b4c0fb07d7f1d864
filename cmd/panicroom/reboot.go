package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/load"
)

func newReboot(c *command) *cobra.Command {
	var kexec, yes, force, noSync bool
	cmd := &cobra.Command{
		Use:   "reboot --kexec",
		Short: "start the kernel that load --reboot has put in place",
		Long: `Start the kernel that "panicroom load --reboot" has put in place, instead of
going through the firmware. Where systemd runs, it is asked to end everything
first (systemctl kexec); with --force, or without systemd, the kernel starts at
once and only filesystems are synced.`,
		Example: `  panicroom load --reboot && panicroom reboot --kexec
  panicroom reboot --kexec --force --yes   at once, for scripts`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !kexec {
				return usage(cmd, errors.New("--kexec must be given: for any other restart there is reboot(8)"))
			}
			if err := load.CheckBoot(); err != nil {
				return err
			}
			if !yes {
				if err := c.confirm(cmd.Context(), "This machine restarts now. Type yes: "); err != nil {
					return err
				}
			}
			if _, err := os.Stat("/run/systemd/system"); err == nil && !force {
				return systemctl("kexec")
			}
			return load.Boot(!noSync)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&kexec, "kexec", false, "into the kernel that is loaded")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&force, "force", false, "at once, without ending programs")
	f.BoolVar(&noSync, "no-sync", false, "with --force: do not write back filesystems first")
	return cmd
}

// systemctl runs systemd's own command.
func systemctl(verb string) error {
	const path = "/usr/bin/systemctl"
	p, err := os.StartProcess(path, []string{path, verb}, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return err
	}
	state, err := p.Wait()
	if err == nil && !state.Success() {
		err = fmt.Errorf("systemctl %s: %v", verb, state)
	}
	return err
}
