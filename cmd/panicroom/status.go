package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/load"
)

// errNotArmed: a panic now would leave no dump, or not a whole one.
var errNotArmed = errors.New("not armed")

func newStatus(c *command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "is the panic kernel in place, intact, and right for this machine",
		Long: `Tell whether a panic kernel is loaded, whether the machine is still the one it
was loaded for, and whether the reserved memory still has every byte of it: the
running kernel can write there, and nothing else would notice before the crash.

The exit code is 0 if all is well and 8 if a panic now would not leave a whole
dump; docs/exit-codes.md has the others.`,
		Example: `  panicroom status
  panicroom status --json`,
		Args: args(cobra.NoArgs),
	}
	configured := configFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		// What is loaded is as good with a configuration that is wrong; the
		// next load will not be.
		_, wrong := configured()
		root := os.DirFS("/")
		m, err := host.Read(root, nil)
		if err != nil {
			return err
		}
		memory, err := host.OpenMemory(root)
		var s *load.Status
		if err == nil {
			defer memory.Close()
			s, err = load.Current(m, memory.Section)
		} else {
			s, err = load.Current(m, nil)
		}
		if err != nil {
			return err
		}
		return c.status(s, wrong)
	}
	return cmd
}

func (c *command) status(s *load.Status, wrong error) error {
	if c.json {
		enc := json.NewEncoder(c.stdout)
		enc.SetIndent("", "  ")
		text := ""
		if wrong != nil {
			text = wrong.Error()
		}
		if err := enc.Encode(struct {
			Armed bool   `json:"armed"`
			Wrong string `json:"configuration_error,omitempty"`
			*load.Status
		}{s.Armed(), text, s}); err != nil {
			return err
		}
		if s.Armed() {
			return nil
		}
		return answered{errNotArmed}
	}
	line := func(label, format string, args ...any) {
		fmt.Fprintf(c.stdout, "%-14s %s\n", label, fmt.Sprintf(format, args...))
	}
	line("reserved", "%s", ui.Bytes(s.Reserved))
	var remedy []string
	switch {
	case s.Reserved == 0:
		line("loaded", "no: no memory is reserved")
		remedy = append(remedy, "panicroom load says how to reserve memory")
	case !s.Loaded:
		line("loaded", "no: a panic now leaves no dump")
		remedy = append(remedy, "panicroom load")
	case s.Plan == nil:
		line("loaded", "yes, but not by panicroom: nothing more is known of it")
	default:
		line("loaded", "%s", s.Plan.Kernel.Path)
		line("", "%s", s.Plan.Kernel.Banner)
		line("method", "%s: %s", s.Plan.Method.Call(), s.Plan.Why)
		c.held(line, s.Held)
		if len(s.Stale) == 0 {
			line("machine", "as it was when the panic kernel was loaded")
		}
		label := "machine"
		for _, what := range s.Stale {
			line(label, "%s", what)
			label = ""
		}
		if !s.Armed() {
			remedy = append(remedy, "load again: panicroom load")
		}
	}
	if wrong != nil {
		line("configuration", "%v", wrong)
		remedy = append(remedy, ui.Hints(wrong)...)
	}
	if s.LoadsLeft != host.Unlimited {
		line("loads left", "%d, by kernel.kexec_load_limit_panic", s.LoadsLeft)
	}
	if !s.Armed() {
		return ui.Hint(errNotArmed, remedy...)
	}
	return nil
}

// held says what the reserved memory has, in one line if all is well.
func (c *command) held(line func(label, format string, args ...any), list []load.Held) {
	label, intact := "memory", 0
	for _, h := range list {
		if h.State == load.Intact {
			intact++
			continue
		}
		line(label, "%s is %s: %s", h.Name, h.State, h.Detail)
		label = ""
	}
	if intact > 0 {
		line(label, "%d of %d segments are intact (SHA-256)", intact, len(list))
	}
}
