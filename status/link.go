package status

import (
	"fmt"
	"io/fs"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/load"
	"github.com/panicroom-kdump/panicroom/saved"
	"github.com/panicroom-kdump/panicroom/setup"
)

// State is how well a link holds.
type State string

// How well a link holds.
const (
	OK State = "ok"
	// Warning: a panic now leaves a whole dump, but something is not as it should be,
	// or the next boot or the next load will not.
	Warning State = "warning"
	// Broken: a panic now leaves no dump, or not a whole one.
	Broken State = "broken"
)

// Link is one link of the chain.
type Link struct {
	Name   string   `json:"name"` // a word; several links may have the same
	State  State    `json:"state"`
	Says   string   `json:"says"`             // one line
	More   []string `json:"more,omitempty"`   // lines
	Remedy []string `json:"remedy,omitempty"` // commands, files, or what to do
}

// Facts are what is known of the machine.
type Facts struct {
	Root fs.FS // "/"
	// Config is what is in force; nil if ConfigErr says why there is none.
	Config    *config.Config
	ConfigErr error
	// Unfit is why no panic kernel can be loaded here, whatever is done; nil if one
	// can.
	Unfit error
	Load  *load.Status
	// Needed is what should be reserved, in bytes, 0 if nobody knows; NeededErr says
	// why.
	Needed    uint64
	NeededErr error
	// Targets are as of Config.
	Targets []Target
	// Crashes are saved on this machine, the oldest first; CrashesErr says of which
	// directory that is not known.
	Crashes    []saved.Crash
	CrashesErr error
	// Units are what systemd says; nil where there is none.
	Units map[string]setup.Unit
	Now   time.Time
}

// Check looks at each link.
func Check(f *Facts) []Link {
	var all []Link
	if f.Unfit != nil {
		// Nothing is to be said of links that cannot be.
		all = one("machine", Broken, ui.Hints(f.Unfit), "%v", f.Unfit)
		if len(f.Crashes) > 0 {
			all = append(all, crashes(f)...)
		}
		return append(configuration(f), all...)
	}
	for _, check := range []func(*Facts) []Link{
		configuration, reserved, loaded, kernel, memory, machine, warnings, targets, sysctls, service, crashes,
	} {
		all = append(all, check(f)...)
	}
	return all
}

// Worst is the worst state of all links.
func Worst(links []Link) State {
	worst := OK
	for _, l := range links {
		switch {
		case l.State == Broken:
			return Broken
		case l.State == Warning:
			worst = Warning
		}
	}
	return worst
}

// one makes a list of one link.
func one(name string, state State, remedy []string, format string, args ...any) []Link {
	return []Link{{Name: name, State: state, Says: fmt.Sprintf(format, args...), Remedy: remedy}}
}

func remedy(lines ...string) []string { return lines }
