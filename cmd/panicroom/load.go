package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/crashenv"
	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/kimage"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/load"
)

// loading is the flags of load.
type loading struct {
	target    string
	kernel    string
	modules   string
	initramfs string
	dtb       string
	cmdline   string
	append    string
	level     int
	final     string
	cpus      int
	dryRun    bool
	record    string

	test loadingTest
}

// loadingTest is flags that only tests need; they are hidden.
type loadingTest struct {
	firmware, noDTB, raw bool
	die                  string
}

func newLoad(c *command) *cobra.Command {
	var l loading
	cmd := &cobra.Command{
		Use:   "load",
		Short: "put the panic kernel in place",
		Long: `Build the initramfs of the panic kernel for a target directory, check every
rule of the kernel, and load both into reserved memory. From then on a panic
leaves a crash in the target directory.

What was loaded before stays in place if anything is wrong, and is put back if
the kernel refuses in spite of the checks. Load again after the kernel, the
target's disk or the amount of memory has changed.`,
		Example: `  panicroom load --target /var/crash
  panicroom load --target /var/crash --dry-run    show the plan, change nothing
  panicroom load --kernel /boot/vmlinux-6.12.107+deb13-riscv64 --final poweroff
  panicroom load --record my-machine --dry-run    for a bug report`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if l.level < 0 || l.level > 31 {
				return usage(cmd, fmt.Errorf("--level %d is not in 0 to 31", l.level))
			}
			switch crashenv.Final(l.final) {
			case crashenv.Reboot, crashenv.PowerOff, crashenv.Halt:
			default:
				return usage(cmd, fmt.Errorf("--final %q is none of reboot, poweroff, halt", l.final))
			}
			return l.run(cmd.Context(), c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&l.target, "target", "/var/crash", "directory for crashes, on a local filesystem")
	f.StringVar(&l.kernel, "kernel", "", "image of the panic kernel (default: that of the running kernel)")
	f.StringVar(&l.modules, "modules", "", "its modules (default: /lib/modules/RELEASE)")
	f.StringVar(&l.initramfs, "initramfs", "", "load this initramfs instead of building one")
	f.StringVar(&l.dtb, "dtb", "", "device tree to start from (default: the running kernel's)")
	f.StringVar(&l.cmdline, "cmdline", "", "whole command line (default: made from the running kernel's)")
	f.StringVar(&l.append, "append", "", "add this to the command line")
	f.IntVar(&l.level, "level", 31, "dump level: sum of 1 zero, 2 cache, 4 private cache, 8 user, 16 free pages left out")
	f.StringVar(&l.final, "final", string(crashenv.Reboot), "what the machine does after saving: reboot, poweroff or halt")
	f.IntVar(&l.cpus, "cpus", 1, "CPUs of the panic kernel; each costs memory")
	f.BoolVarP(&l.dryRun, "dry-run", "n", false, "show the plan and change nothing")
	f.StringVar(&l.record, "record", "", "also record this machine in a new directory, for a bug report")
	f.BoolVar(&l.test.firmware, "test-include-firmware", false, "for tests: leave firmware's memory in the dump")
	f.BoolVar(&l.test.noDTB, "test-omit-dtb", false, "for tests: leave out the device tree, which the kernel refuses")
	f.BoolVar(&l.test.raw, "test-raw", false, "for tests: also save a literal copy of /proc/vmcore")
	f.StringVar(&l.test.die, "test-die", "", "for tests: PHASE:HOW the crash environment shall misbehave")
	for _, name := range []string{"test-include-firmware", "test-omit-dtb", "test-raw", "test-die"} {
		if err := f.MarkHidden(name); err != nil {
			panic(err) // the name is not a flag
		}
	}
	return cmd
}

func (l *loading) run(ctx context.Context, c *command) error {
	root := os.DirFS("/")
	machine, err := l.machine(root)
	if err != nil {
		return err
	}
	image, release, err := l.image(machine)
	if err != nil {
		return err
	}
	opts := &load.Options{
		Cmdline:    l.cmdline,
		KernelPath: l.kernel,
		Append:     l.append,
		Test:       load.TestOptions{IncludeFirmware: l.test.firmware, OmitDTB: l.test.noDTB},
	}
	if opts.Seed, err = load.FreshSeed(); err != nil {
		return err
	}
	if l.dtb != "" {
		if opts.DTB, err = os.ReadFile(l.dtb); err != nil {
			return err
		}
	}
	var initramfs []byte
	var env *crashenv.Environment
	if l.initramfs != "" {
		if initramfs, err = os.ReadFile(l.initramfs); err != nil {
			return err
		}
	} else {
		if env, err = l.environment(ctx, machine, release); err != nil {
			return err
		}
		initramfs = env.Initramfs
		opts.Unpacked = env.Unpacked
		opts.Append = strings.TrimSpace(crashenv.String(env.Cmdline) + " " + opts.Append)
	}
	plan, err := load.Make(machine, image, initramfs, opts)
	if err != nil {
		return err
	}
	if env != nil {
		plan.Warnings = append(plan.Warnings, env.Missing...)
	}
	if !l.dryRun {
		if err := load.Execute(plan); err != nil {
			return err
		}
	}
	return l.say(c, plan, env)
}

// machine reads the facts, and records them if that is wanted.
func (l *loading) machine(root fs.FS) (*host.Machine, error) {
	if l.record != "" {
		return host.Record(root, l.record)
	}
	return host.Read(root, nil)
}

// image finds and reads the kernel image, and tells the release of its modules.
func (l *loading) image(m *host.Machine) (data []byte, release string, err error) {
	if l.kernel == "" {
		if l.kernel, err = findKernel(m.Release); err != nil {
			return nil, "", err
		}
	}
	f, image, err := kimage.Open(l.kernel)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	if data, err = os.ReadFile(l.kernel); err != nil {
		return nil, "", err
	}
	release = image.Release
	if release == "" {
		release = m.Release
	}
	return data, release, nil
}

// findKernel finds the image of a release where distributions put it.
func findKernel(release string) (string, error) {
	candidates := []string{
		"/boot/vmlinux-" + release, // Debian riscv64
		"/boot/vmlinuz-" + release,
		"/boot/Image-" + release, // openSUSE
		"/usr/lib/modules/" + release + "/vmlinuz",
		"/lib/modules/" + release + "/vmlinuz",
		"/usr/lib/modules/" + release + "/Image",
	}
	for _, name := range candidates {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			return name, nil
		}
	}
	return "", ui.Hint(fmt.Errorf("no image of the running kernel %s: %w", release, fs.ErrNotExist),
		"looked for "+strings.Join(candidates, ", "),
		"name it with --kernel FILE")
}

func (l *loading) environment(ctx context.Context, m *host.Machine, release string) (*crashenv.Environment, error) {
	modules := l.modules
	if modules == "" {
		modules = filepath.Join("/lib/modules", release)
	}
	dir, err := filepath.Abs(l.target)
	if err != nil {
		return nil, err
	}
	opts := crashenv.Options{
		Dir:     dir,
		Release: release,
		Modules: os.DirFS(modules),
		Level:   l.level,
		Final:   crashenv.Final(l.final),
		CPUs:    l.cpus,
	}
	if release == m.Release {
		opts.Config = func(symbol string) (string, bool) { v, ok := m.Config[symbol]; return v, ok }
	}
	if l.test.raw || l.test.die != "" {
		opts.Test = &crashenv.Test{Raw: l.test.raw, Die: l.test.die}
	}
	env, err := crashenv.Build(ctx, opts)
	if errors.Is(err, fs.ErrNotExist) && l.modules == "" {
		return nil, ui.Hint(err, "the modules of the panic kernel belong into "+modules+"; or name their directory with --modules")
	}
	return env, err
}

// loaded is what load says to programs.
type loaded struct {
	Loaded      bool           `json:"loaded"` // false for a dry run
	Plan        *load.Plan     `json:"plan"`
	Environment *crashenv.Plan `json:"environment,omitempty"`
}

func (l *loading) say(c *command, plan *load.Plan, env *crashenv.Environment) error {
	if c.json {
		answer := loaded{Loaded: !l.dryRun, Plan: plan}
		if env != nil {
			answer.Environment = env.Plan
		}
		enc := json.NewEncoder(c.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(answer)
	}
	if l.dryRun {
		_, err := fmt.Fprint(c.stdout, plan)
		return err
	}
	for _, w := range plan.Warnings {
		fmt.Fprintf(c.stderr, "panicroom: warning: %s\n", w)
	}
	where := "the given initramfs"
	if env != nil {
		where = fmt.Sprintf("%s (%s %s)", env.Plan.Target.Path, env.Plan.Target.Type, env.Plan.Target.UUID)
	}
	fmt.Fprintf(c.stdout, "loaded %s\n", plan.Kernel.Path)
	fmt.Fprintf(c.stdout, "crashes go to %s\n", where)
	_, err := fmt.Fprintf(c.stdout, "%s of memory are in the dump's headers; %s of %s reserved are free for saving it\n",
		ui.Bytes(plan.DumpSize()), ui.Bytes(plan.Room.Free), ui.Bytes(plan.Room.Reserved))
	return err
}
