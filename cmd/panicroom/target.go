package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/target/partition"
	"github.com/panicroom-kdump/panicroom/target/sshdir"
)

func newTarget(c *command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "target",
		Short: "prepare places for crashes",
		Long: `Prepare what a target of a crash needs before it can be one: a partition that
holds nothing but crashes, or a key to log in to another machine with.`,
		Example: `  panicroom target init /dev/vdb1       a partition for crashes
  panicroom target key                  a key for another machine`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTargetInit(c), newTargetUnpack(c), newTargetKey(c))
	return cmd
}

func newTargetInit(c *command) *cobra.Command {
	return &cobra.Command{
		Use:   "init DEVICE",
		Short: "prepare a partition for crashes",
		Long: `Write a header to a partition, so that load takes it for a target. A partition
that holds anything is refused: a filesystem, swap, a part of a RAID array or of
LVM, data of an unknown kind. One that is prepared already stays as it is.`,
		Example: "  panicroom target init /dev/vdb1\n  panicroom load --target partition:/dev/vdb1",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, given []string) error {
			uuid, err := partition.Init(given[0])
			if err != nil {
				return notThatDevice(given[0], err)
			}
			return c.answer(map[string]string{"device": given[0], "uuid": uuid}, "%s is for crashes (UUID %s)\n", given[0], uuid)
		},
	}
}

func newTargetUnpack(c *command) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "unpack DEVICE",
		Short: "move crashes from a partition into a directory",
		Long: `Move the crashes that a panic kernel has left on a partition into a directory,
where report and the like find them. Each is taken off the partition when it is
safe in the directory. On a machine that saves to a partition this happens by
itself when it boots.`,
		Example: "  panicroom target unpack /dev/vdb1",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			paths, err := partition.Unpack(cmd.Context(), given[0], dir)
			if c.json && err == nil {
				return json.NewEncoder(c.stdout).Encode(map[string][]string{"crashes": append([]string{}, paths...)})
			}
			for _, p := range paths {
				fmt.Fprintln(c.stdout, p)
			}
			return notThatDevice(given[0], err)
		},
	}
	cmd.Flags().StringVar(&dir, "to", "/var/crash", "unpack into `DIR`")
	return cmd
}

// notThatDevice says what to do about a device that is not there, or is no target.
func notThatDevice(name string, err error) error {
	switch {
	case len(ui.Hints(err)) > 0:
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return ui.Hint(err, "lsblk shows the partitions of this machine")
	case errors.Is(err, partition.ErrNotOurs):
		return ui.Hint(err, "panicroom target init "+name+" makes it one, if it holds nothing else")
	}
	return err
}

func newTargetKey(c *command) *cobra.Command {
	return &cobra.Command{
		Use:   "key [FILE]",
		Short: "make a key to log in to another machine with",
		Long: `Make a pair of keys that only saving crashes uses, unless the file has one, and
print the public key. The line belongs into ~/.ssh/authorized_keys of the user
on the other machine; with "restrict" before it the key can do nothing but what
is needed. FILE is /etc/panicroom/id_ed25519 if it is left out.`,
		Example: "  panicroom target key\n  panicroom load --target ssh:dump@store.example.org:/srv/crash",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, given []string) error {
			file := "/etc/panicroom/id_ed25519"
			if len(given) > 0 {
				file = given[0]
			}
			comment := "panicroom"
			if host, err := os.Hostname(); err == nil {
				comment += "@" + host
			}
			public, _, err := sshdir.MakeKey(file, comment)
			if err != nil {
				return err
			}
			return c.answer(map[string]string{"file": file, "public": public}, "%s\n", public)
		},
	}
}

// answer says something to a program, or to a person.
func (c *command) answer(object any, format string, args ...any) error {
	if c.json {
		return json.NewEncoder(c.stdout).Encode(object)
	}
	_, err := fmt.Fprintf(c.stdout, format, args...)
	return err
}
