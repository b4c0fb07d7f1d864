package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is what a build tells about itself.
type version struct {
	Version string `json:"version"`            // of the module, (devel) outside a release
	Commit  string `json:"commit,omitempty"`   // of the source
	Changed bool   `json:"modified,omitempty"` // the source had uncommitted changes
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func buildVersion() version {
	v := version{Version: "(unknown)", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = info.Main.Version
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Changed = s.Value == "true"
		}
	}
	return v
}

func newVersion(c *command) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "tell module version and commit",
		Example: "  panicroom version\n  panicroom version --json",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			v := buildVersion()
			if c.json {
				return json.NewEncoder(c.stdout).Encode(v)
			}
			commit := v.Commit
			if commit == "" {
				commit = "of no recorded commit"
			}
			if v.Changed {
				commit += " (modified)"
			}
			_, err := fmt.Fprintf(c.stdout, "panicroom %s %s, %s, %s/%s\n", v.Version, commit, v.Go, v.OS, v.Arch)
			return err
		},
	}
}
