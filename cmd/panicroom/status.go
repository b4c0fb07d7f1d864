package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/load"
	"github.com/panicroom-kdump/panicroom/saved"
	"github.com/panicroom-kdump/panicroom/setup"
	"github.com/panicroom-kdump/panicroom/status"
)

// errNotArmed: a panic now would leave no dump, or not a whole one.
var errNotArmed = errors.New("not armed")

func newStatus(c *command) *cobra.Command {
	var textfile string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "would a crash now be saved: every link of the chain",
		Long: `Look at each link of the chain from the reserved memory to the target, one line
each: ok, warning or broken, with the remedy.

Among them: is the machine still the one that the panic kernel was loaded for,
and has the reserved memory still every byte of it? The running kernel can write
there, and nothing else would notice before the crash.

Every target is asked, other machines as the panic kernel would, with the same
keys; nothing stays there. That takes ten seconds at most, whatever hangs.

The exit code is 0 if no link is broken, and 8 if a panic now would not leave a
whole dump; docs/exit-codes.md has the others. --textfile writes the same for
Prometheus' node exporter (its textfile collector), at once or not at all.`,
		Example: `  panicroom status
  panicroom status --json | jq '.links[] | select(.state != "ok")'
  panicroom status --textfile /var/lib/prometheus/node-exporter/panicroom.prom`,
		Args: args(cobra.NoArgs),
	}
	configured := configFlag(cmd)
	cmd.Flags().StringVar(&textfile, "textfile", "", "write metrics for Prometheus to `FILE`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		facts, err := c.statusFacts(cmd.Context(), configured)
		if err != nil {
			return err
		}
		links := status.Check(facts)
		if textfile != "" {
			if err := status.WriteTextfile(textfile, facts, links); err != nil {
				return err
			}
		}
		return c.status(facts, links)
	}
	return cmd
}

// statusFacts reads what the links are checked by.
func (c *command) statusFacts(ctx context.Context, configured func() (*config.Config, error)) (*status.Facts, error) {
	root := os.DirFS("/")
	m, err := host.Read(root, nil)
	if err != nil {
		return nil, err
	}
	f := &status.Facts{Root: root, Now: time.Now(), Unfit: load.CheckKernel(m)}
	// What is loaded is as good with a configuration that is wrong; the next load will
	// not be.
	f.Config, f.ConfigErr = configured()
	memory, err := host.OpenMemory(root)
	if err == nil {
		defer memory.Close()
		f.Load, err = load.Current(m, memory.Section)
	} else {
		f.Load, err = load.Current(m, nil)
	}
	if err != nil {
		return nil, err
	}
	if p := f.Load.Plan; p != nil {
		f.Needed = p.Room.Needed()
	} else if f.Unfit == nil && f.Load.Reserved > 0 && f.Config != nil {
		f.Needed, _, f.NeededErr = c.needed(ctx, configured)
	}
	if f.Config != nil {
		f.Targets = status.Look(ctx, f.Config.Targets, c.waiting)
		for _, dir := range f.Config.Directories() {
			crashes, err := saved.List(dir)
			f.Crashes = append(f.Crashes, crashes...)
			f.CrashesErr = errors.Join(f.CrashesErr, err)
		}
	}
	f.Units = setup.ReadUnits(ctx, setup.Service, setup.AfterService, setup.ReloadService)
	return f, nil
}

// waiting tells a person at a terminal why nothing happens.
func (c *command) waiting(targets string) {
	if f, ok := c.stderr.(*os.File); ok {
		if _, ok := sys.TerminalWidth(f); ok {
			fmt.Fprintf(c.stderr, "waiting for %s\n", targets)
		}
	}
}

func (c *command) status(f *status.Facts, links []status.Link) error {
	broken := status.Worst(links) == status.Broken
	if c.json {
		enc := json.NewEncoder(c.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(struct {
			Armed   bool            `json:"armed"`
			Links   []status.Link   `json:"links"`
			Targets []status.Target `json:"targets"`
			*load.Status
		}{!broken, links, append([]status.Target{}, f.Targets...), f.Load}); err != nil {
			return err
		}
	} else {
		for _, l := range links {
			state, name := string(l.State), l.Name
			says := append([]string{l.Says}, l.More...)
			for _, hint := range l.Remedy {
				says = append(says, "hint: "+hint)
			}
			for _, text := range says {
				for _, line := range ui.Wrap(text, 80-24) {
					fmt.Fprintf(c.stdout, "%-8s %-14s %s\n", state, name, line)
					state, name = "", ""
				}
			}
		}
	}
	if broken {
		return answered{errNotArmed}
	}
	return nil
}
