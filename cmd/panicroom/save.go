package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/crashenv"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/target"
)

func newSave(c *command) *cobra.Command {
	opts := crashenv.SaveOptions{Input: crashenv.VMCore}
	var dir, memory string
	cmd := &cobra.Command{
		Use:   "save [DUMP]",
		Short: "save a dump: the log, the memory, a report",
		Long: `Save the memory of a dead kernel into a directory of crashes: its log first,
then its memory, compressed, then a report. In the panic kernel panicroom does
this by itself; by hand it is for a panic kernel with a userland of its own,
where DUMP is /proc/vmcore, or for making a saved crash of another dump.

` + levelHelp,
		Example: `  panicroom save --target /var/crash
  panicroom save --target . --level 1 vmcore.elf`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				opts.Input = args[0]
			}
			if opts.Threads < 0 {
				return usage(cmd, fmt.Errorf("--threads %d is no number of threads", opts.Threads))
			}
			if err := opts.Form.Check(); err != nil {
				return usage(cmd, err)
			}
			var err error
			if opts.MemLimit, err = memLimit(cmd, memory); err != nil {
				return err
			}
			path, err := filepath.Abs(dir)
			if err != nil {
				return err
			}
			t, err := target.NewDirectory(path)
			if err != nil {
				return err
			}
			defer t.Close()
			crashenv.LimitHeap(cmp.Or(opts.MemLimit, capture.DefaultMemLimit))
			opts.Target = t
			opts.Events = c.events()
			manifest, err := crashenv.Save(cmd.Context(), opts)
			if manifest == nil || (err != nil && !errors.Is(err, crashenv.ErrIncomplete)) {
				return noDump(err)
			}
			if c.json && err == nil {
				enc := json.NewEncoder(c.stdout)
				enc.SetIndent("", "  ")
				return enc.Encode(manifest)
			}
			if err == nil {
				_, err = fmt.Fprintln(c.stdout, manifest.Path)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "target", "/var/crash", "save to `DIR`")
	f.StringVar(&opts.Name, "name", "", "call the crash `NAME` (default: its time and the release)")
	opts.Level = capture.LevelAll
	f.Var(levelFlag{&opts.Level}, "level", "what is saved")
	formFlags(cmd, &opts.Form)
	f.IntVar(&opts.Threads, "threads", 0, "compress with `N` threads (default: one per CPU)")
	f.StringVar(&memory, "mem-limit", "", memLimitFlag)
	f.BoolVar(&opts.NoReport, "no-report", false, "leave the report out")
	return cmd
}

// events shows a person how far a save is.
func (c *command) events() crashenv.Events {
	var progress *ui.Progress
	return crashenv.Events{
		Begin: func(phase string, _ time.Duration) { progress = nil },
		Progress: func(phase string, done, total uint64, more string) {
			if progress == nil {
				progress = c.progress(phase)
			}
			progress.Update(done, total, more)
		},
		End: func(r crashenv.PhaseResult) {
			if r.Error != "" {
				fmt.Fprintf(c.stderr, "%s: failed: %s\n", r.Name, r.Error)
				return
			}
			took := time.Duration(r.Seconds * float64(time.Second))
			fmt.Fprintf(c.stderr, "%s: %s, %s\n", r.Name, r.Text, ui.Seconds(took))
		},
		Panic: func(line string) { fmt.Fprintf(c.stderr, "the kernel died of: %s\n", line) },
		Note:  func(text string) { fmt.Fprintf(c.stderr, "note: %s\n", text) },
	}
}

// progress draws on standard error, in place if it is a terminal.
func (c *command) progress(what string) *ui.Progress {
	opts := ui.ProgressOptions{}
	if f, ok := c.stderr.(*os.File); ok {
		if width, ok := sys.TerminalWidth(f); ok {
			opts.Style, opts.Width = ui.Redraw, width
		}
	}
	return ui.NewProgress(c.stderr, what, opts)
}
