package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/saved"
)

func newList(c *command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [DIR]...",
		Short: "the saved crashes",
		Long: `List the crashes that are saved on this machine, the oldest first: when which
kernel died of what, how large the crash is, whether it was saved whole, and its
directory. The directories are those of the configured targets; or the ones that
are named.`,
		Example: `  panicroom list
  panicroom list --json | jq -r '.[-1].path'    the newest
  panicroom list /mnt/var/crash`,
	}
	configured := configFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, dirs []string) error {
		if len(dirs) == 0 {
			conf, err := configured()
			if err != nil {
				return err
			}
			if dirs = conf.Directories(); len(dirs) == 0 {
				return ui.Hint(errors.New("the configured targets are of other machines"), "name a directory of crashes: panicroom list DIR")
			}
		} else {
			for i, dir := range dirs {
				info, err := os.Stat(dir)
				if err == nil && !info.IsDir() {
					err = &fs.PathError{Op: "list", Path: dir, Err: syscall.ENOTDIR}
				}
				if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
					return ui.Hint(err, "name a directory of saved crashes; panicroom list alone lists those of the configured targets")
				} else if err != nil {
					return err
				}
				if dirs[i], err = filepath.Abs(dir); err != nil {
					return err
				}
			}
		}
		// Without it, what is not complete may be on its way.
		boot, err := saved.BootTime(os.DirFS("/"))
		if err != nil {
			boot = time.Time{}
		}
		return c.list(dirs, boot)
	}
	return cmd
}

func (c *command) list(dirs []string, boot time.Time) error {
	all := []saved.Crash{}
	var errs []error
	for _, dir := range dirs {
		list, err := saved.List(dir)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, list...)
		if !c.json {
			writeList(c.stdout, dir, list, boot, c.width())
		}
	}
	if c.json && len(errs) == 0 {
		enc := json.NewEncoder(c.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	return errors.Join(errs...)
}

// writeList writes a table that fits the width, but for paths.
func writeList(w io.Writer, dir string, list []saved.Crash, boot time.Time, width int) {
	if len(list) == 0 {
		fmt.Fprintf(w, "%s: no crash\n", dir)
		return
	}
	var size uint64
	for _, c := range list {
		size += c.Size
	}
	many := "crashes"
	if len(list) == 1 {
		many = "crash"
	}
	fmt.Fprintf(w, "%s: %d %s, %s\n\n", dir, len(list), many, ui.Bytes(size))
	const row = "%-19s  %-28s  %9s  %s\n"
	fmt.Fprintf(w, row, "TIME (UTC)", "KERNEL", "SIZE", "SAVED")
	for _, c := range list {
		state := "complete"
		switch {
		case c.Busy(boot):
			state = "in progress"
		case !c.Complete:
			state = "in part"
		}
		fmt.Fprintf(w, row, c.Time.UTC().Format(time.DateTime), cut(c.Kernel, 28), ui.Bytes(c.Size), state)
		if c.Title != "" {
			fmt.Fprintf(w, "  %s\n", cut(c.Title, width-2))
		}
		if state == "in part" {
			fmt.Fprintf(w, "  %s\n", cut("not complete: "+c.Why(), width-2))
		}
		fmt.Fprintf(w, "  %s\n", c.Path)
	}
}

// cut shortens a printable text to some columns.
func cut(s string, columns int) string {
	if len(s) <= columns {
		return s
	}
	return s[:max(0, columns-3)] + "..."
}
