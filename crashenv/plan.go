package crashenv

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/kernel"
)

// planVersion is the version of the Plan's form. The two halves are the same
// binary, so there is only one.
const planVersion = 2

// Plan is what the crash half executes. It is plain data; the zero value of a
// field means what its comment says.
type Plan struct {
	Version int `json:"version"`

	// Release is the kernel that the modules were made for.
	Release string `json:"release"`
	// Modules are loaded in this order, those that a target needs when it is its
	// turn.
	Modules []Module `json:"modules"`
	// Targets are tried in this order, until one has taken the dump.
	Targets []Target `json:"targets"`
	// Files are what the initramfs has beside this plan.
	Files []File `json:"files,omitempty"`

	// Level is the dump level of makedumpfile(8) -d, or capture.LevelReport.
	Level int `json:"level"`
	// Form is how the dump is written.
	Form Form `json:"form,omitzero"`
	// MemLimit is what saving the dump may take, in bytes; 0 is half of what the
	// panic kernel has free then, see memLimit.
	MemLimit uint64 `json:"mem_limit,omitempty"`
	// LogLines bounds the tail of the log in the report; 0 is its default.
	LogLines int `json:"log_lines,omitempty"`
	// Final is what becomes of the machine, Failed the same when no target took
	// the dump; "" is Final.
	Final  Final `json:"final"`
	Failed Final `json:"failed,omitempty"`
	// Deadlines end phases; see [Deadlines].
	Deadlines Deadlines `json:"deadlines"`
	// Watchdog tells that a hardware watchdog was running in the healthy
	// system and must be petted.
	Watchdog bool `json:"watchdog,omitempty"`

	// Layout is that of the dead kernel's structures, if it could be read.
	Layout *kernel.Layout `json:"layout,omitempty"`
	// Host tells about the healthy system, for the manifest.
	Host Host `json:"host"`

	// Test changes what only tests may change; nil in real life.
	Test *Test `json:"test,omitempty"`
}

// Module is a kernel module in the initramfs.
type Module struct {
	Name string `json:"name"`
	// File is its path in the initramfs.
	File string `json:"file"`
	// Params are given as on the command line of modprobe.
	Params string `json:"params,omitempty"`
	// Compressed tells that the kernel has to unpack it.
	Compressed bool `json:"compressed,omitempty"`
	// Optional tells that others can do without it: crypto drivers refuse to load
	// on a CPU without the instructions they are for.
	Optional bool `json:"optional,omitempty"`
}

// Host tells where and when a Plan was made.
type Host struct {
	Name    string    `json:"name,omitempty"` // of the machine
	BootID  string    `json:"boot_id,omitempty"`
	Release string    `json:"release,omitempty"` // of the kernel that may die
	Made    time.Time `json:"made"`
}

// Test is what only tests change.
type Test struct {
	// Raw also saves a literal copy of the input as vmcore.raw.
	Raw bool `json:"raw,omitempty"`
	// Input is read instead of /proc/vmcore.
	Input string `json:"input,omitempty"`
	// Die makes the worker, in phase report the reporter, misbehave at the
	// beginning of a phase: the value is PHASE:HOW with HOW panic; exit; memory,
	// which takes all there is; late, which ends at the deadline; or hang, which
	// does not. The last two get a short deadline.
	Die string `json:"die,omitempty"`
	// Corrupt packs the binary with a byte that its digest does not know.
	Corrupt bool `json:"corrupt,omitempty"`
}

// lateSeconds is the deadline of a phase that shall be late.
const lateSeconds = 3

// deadlines shortens that of a phase that shall be late.
func (t *Test) deadlines(d Deadlines) Deadlines {
	if t == nil {
		return d
	}
	phase, how, _ := strings.Cut(t.Die, ":")
	if how != "late" && how != "hang" {
		return d
	}
	d = maps.Clone(d)
	d[phase] = lateSeconds
	return d
}

// Final is what becomes of the machine.
type Final string

// The ends of a machine.
const (
	Reboot   Final = "reboot"
	PowerOff Final = "poweroff"
	Halt     Final = "halt"
)

func (f Final) valid() bool { return f == Reboot || f == PowerOff || f == Halt }

// VMCore is the dead kernel's memory as the panic kernel shows it.
const VMCore = "/proc/vmcore"

func (p *Plan) input() string {
	if p.Test != nil && p.Test.Input != "" {
		return p.Test.Input
	}
	return VMCore
}

// ErrPlan marks a Plan that cannot be executed.
var ErrPlan = errors.New("plan is not valid")

// ParsePlan reads a Plan and checks it.
func ParsePlan(text []byte) (*Plan, error) {
	p := new(Plan)
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPlan, err)
	}
	if p.Deadlines == nil {
		p.Deadlines = DefaultDeadlines()
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Plan) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrPlan, fmt.Sprintf(format, args...))
	}
	switch {
	case p.Version != planVersion:
		return bad("version %d; this is for %d", p.Version, planVersion)
	case len(p.Targets) == 0 || len(p.Targets) > maxTargets:
		return bad("%d targets, not 1 to %d", len(p.Targets), maxTargets)
	case !p.Final.valid() || p.Failed != "" && !p.Failed.valid():
		return bad("final actions %q and %q", p.Final, p.Failed)
	case !capture.ValidLevel(p.Level):
		return bad("dump level %d, not 0 to 31", p.Level)
	case p.MemLimit > 0 && p.MemLimit < MinMemLimit:
		return bad("memory limit of %d bytes, at least %d", p.MemLimit, uint64(MinMemLimit))
	}
	if err := p.Form.Check(); err != nil {
		return bad("%v", err)
	}
	for i := range p.Targets {
		if err := p.Targets[i].check(); err != nil {
			return bad("target %d: %v", i+1, err)
		}
	}
	for _, m := range p.Modules {
		if m.Name == "" || !path.IsAbs(m.File) {
			return bad("module %q in file %q", m.Name, m.File)
		}
	}
	return nil
}
