package main

import (
	"bufio"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/kernel"
)

func newLog(c *command) *cobra.Command {
	var of subject
	cmd := &cobra.Command{
		Use:   "log CRASH",
		Short: "print the dead kernel's log",
		Long: `Print the log of the kernel in a dump, as dmesg would have. CRASH is the
directory of a saved crash or a dump file.

With --json each record is an object on a line of its own.`,
		Example: `  panicroom log /var/crash/2026-11-24T08:37:12Z-6.12.107
  panicroom log vmcore | grep -i oops
  panicroom log --live`,
		Args: of.args(0, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			crash, _ := of.cut(args)
			d, k, err := of.open(crash)
			if err != nil {
				return err
			}
			defer d.Close()
			out := bufio.NewWriter(until(cmd.Context(), c.stdout))
			if err := writeLog(out, k, c.json); err != nil {
				out.Flush() // what comes before the damage is worth seeing
				return err
			}
			return out.Flush()
		},
	}
	of.flag(cmd)
	return cmd
}

func writeLog(w *bufio.Writer, k *kernel.Kernel, asJSON bool) error {
	enc := json.NewEncoder(w)
	for r, err := range k.Log() {
		if err != nil {
			return err
		}
		if asJSON {
			if err := enc.Encode(r); err != nil {
				return err
			}
			continue
		}
		w.WriteString(r.Line())
		if err := w.WriteByte('\n'); err != nil {
			return err
		}
	}
	return nil
}
