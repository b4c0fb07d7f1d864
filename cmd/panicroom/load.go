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

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/crashenv"
	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/network"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/load"
	"github.com/panicroom-kdump/panicroom/reserve"
)

// loading is the flags of load.
type loading struct {
	places    []string // --target
	targets   []config.Target
	network   config.Network
	kernel    string
	modules   string
	initramfs string
	dtb       string
	cmdline   string
	append    string
	method    string
	reboot    bool
	force     bool
	level     int
	memory    string // --mem-limit
	memLimit  uint64
	form      crashenv.Form
	final     string
	failed    string // the end when nothing was saved; "" is final
	cpus      int
	dryRun    bool
	record    string

	hasCmdline bool // --cmdline was given, maybe empty
	test       loadingTest
	root       fs.FS // "/", a recorded machine in tests
}

// loadingTest is flags that only tests need; they are hidden.
type loadingTest struct {
	firmware, noDTB, raw, corrupt, cramped bool
	die                                    string
}

func newLoad(c *command) *cobra.Command { return (&loading{root: os.DirFS("/")}).command(c) }

func (l *loading) command(c *command) *cobra.Command {
	var configured func() (*config.Config, error)
	cmd := &cobra.Command{
		Use:   "load",
		Short: "put the panic kernel in place",
		Long: `Build the initramfs of the panic kernel for a target, check every rule of the
kernel, and load both into reserved memory. From then on a panic leaves a crash
at the target: in a directory on a local disk, on a partition of its own
(partition:/dev/vdb1), or in a directory of another machine
(ssh:[USER@]HOST[:PORT]:DIR, nfs:HOST:/DIR). Several are tried in order, until
one has taken the dump. What no flag says is taken from
the configuration; panicroom config prints it.

What was loaded before stays in place if anything is wrong, and is put back if
the kernel refuses in spite of the checks. Load again after the kernel, the
target's disk or the amount of memory has changed.

Either system call can do it, and panicroom chooses: kexec_load where the kernel
has it, for then every byte is planned here, else kexec_file_load. --method
insists on one.

` + levelHelp,
		Example: `  panicroom load                                  as it is configured
  panicroom load --target /var/crash --dry-run    show the plan, change nothing
  panicroom load --target ssh:dump@store:/crash --target /var/crash
  panicroom load --kernel /boot/vmlinux-6.12.107+deb13-riscv64 --final poweroff
  panicroom load --record my-machine --dry-run    for a bug report
  panicroom load --reboot && panicroom reboot --kexec`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !l.reboot {
				conf, err := configured()
				if err != nil {
					return err
				}
				if err := l.configure(cmd, conf); err != nil {
					return err
				}
			}
			var err error
			if l.memLimit, err = memLimit(cmd, l.memory); err != nil {
				return err
			}
			if err := l.form.Check(); err != nil {
				return usage(cmd, err)
			}
			switch crashenv.Final(l.final) {
			case crashenv.Reboot, crashenv.PowerOff, crashenv.Halt:
			default:
				return usage(cmd, fmt.Errorf("--final %q is none of reboot, poweroff, halt", l.final))
			}
			if _, err := load.ParseMethod(l.method); err != nil {
				return usage(cmd, fmt.Errorf("--method: %w", err))
			}
			l.hasCmdline = cmd.Flags().Changed("cmdline")
			if l.reboot {
				for _, name := range []string{"config", "target", "modules", "level", "format", "compress", "mem-limit", "final", "cpus", "network"} {
					if cmd.Flags().Changed(name) {
						return usage(cmd, fmt.Errorf("--%s is of a panic kernel, --reboot loads another", name))
					}
				}
				return l.next(c)
			}
			if l.cpus < 1 {
				return usage(cmd, fmt.Errorf("--cpus %d: the panic kernel needs one", l.cpus))
			}
			return l.run(cmd.Context(), c)
		},
	}
	configured = configFlag(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&l.places, "target", nil, "save to `PLACE`, else to the next")
	f.StringVar(&l.network.Method, "network", network.Copy, "get addresses `HOW`: copy or dhcp")
	f.StringVar(&l.kernel, "kernel", "", "panic kernel `FILE` (default: the running kernel)")
	f.StringVar(&l.modules, "modules", "", "its modules `DIR` (default: /lib/modules/RELEASE)")
	f.StringVar(&l.initramfs, "initramfs", "", "load `FILE` instead of building an initramfs")
	f.StringVar(&l.dtb, "dtb", "", "device tree `FILE` (default: the running kernel's)")
	f.StringVar(&l.cmdline, "cmdline", "", "use `TEXT` instead of the running command line")
	f.StringVar(&l.append, "append", "", "add `TEXT` to the command line")
	f.StringVar(&l.method, "method", string(load.Auto), "system `CALL`: auto, load or file")
	f.BoolVar(&l.reboot, "reboot", false, "load the kernel to reboot into instead")
	f.BoolVar(&l.force, "force", false, "load a kernel that is known not to work")
	l.level = capture.LevelAll
	f.Var(levelFlag{&l.level}, "level", "what is saved")
	formFlags(cmd, &l.form)
	f.StringVar(&l.memory, "mem-limit", "", "save with `SIZE` of memory (default: half the free)")
	f.StringVar(&l.final, "final", string(crashenv.Reboot), "reboot, poweroff or halt at the `END`")
	f.IntVar(&l.cpus, "cpus", 1, "start `N` CPUs; each costs memory")
	f.BoolVarP(&l.dryRun, "dry-run", "n", false, "show the plan and change nothing")
	f.StringVar(&l.record, "record", "", "record this machine in a new `DIR`, for a bug report")
	f.BoolVar(&l.test.firmware, "test-include-firmware", false, "for tests: leave firmware's memory in the dump")
	f.BoolVar(&l.test.noDTB, "test-omit-dtb", false, "for tests: leave out the device tree, which the kernel refuses")
	f.BoolVar(&l.test.raw, "test-raw", false, "for tests: also save a literal copy of /proc/vmcore")
	f.StringVar(&l.test.die, "test-die", "", "for tests: PHASE:HOW the crash environment shall misbehave")
	f.BoolVar(&l.test.corrupt, "test-corrupt", false, "for tests: pack /init with a byte more than was planned")
	f.BoolVar(&l.test.cramped, "test-cramped", false, "for tests: load where there is no memory to work with")
	for _, name := range []string{"test-include-firmware", "test-omit-dtb", "test-raw", "test-die", "test-corrupt", "test-cramped"} {
		if err := f.MarkHidden(name); err != nil {
			panic(err) // the name is not a flag
		}
	}
	return cmd
}

// configure takes from the configuration what no flag has said.
func (l *loading) configure(cmd *cobra.Command, conf *config.Config) error {
	flags := cmd.Flags()
	for name, v := range map[string]struct {
		flag  *string
		value string
	}{
		"kernel":   {&l.kernel, conf.Kernel.Image},
		"modules":  {&l.modules, conf.Kernel.Modules},
		"append":   {&l.append, conf.Kernel.Append},
		"method":   {&l.method, conf.Kernel.Method},
		"format":   {(*string)(&l.form.Format), conf.Dump.Format},
		"compress": {&l.form.Compression, conf.Dump.Compress},
		"final":    {&l.final, conf.After.Saved},
	} {
		if !flags.Changed(name) {
			*v.flag = v.value
		}
	}
	if !flags.Changed("cpus") {
		l.cpus = conf.Kernel.CPUs
	}
	if !flags.Changed("mem-limit") && conf.Dump.MemLimit != "auto" {
		l.memory = conf.Dump.MemLimit
	}
	if !flags.Changed("level") {
		var err error
		if l.level, err = capture.ParseLevel(conf.Dump.Level); err != nil {
			return err
		}
	}
	if !flags.Changed("final") {
		l.failed = conf.After.Failed
	}
	if !flags.Changed("network") {
		l.network.Method = conf.Network.Method
	}
	l.network.Interface = conf.Network.Interface
	l.targets = conf.Targets
	if flags.Changed("target") {
		l.targets = nil
		for _, place := range l.places {
			t, err := config.ParseTarget(place)
			if err != nil {
				return usage(cmd, fmt.Errorf("--target: %w", err))
			}
			l.targets = append(l.targets, t)
		}
	}
	return nil
}

func (l *loading) run(ctx context.Context, c *command) error {
	opts, err := l.options()
	if err != nil {
		return err
	}
	opts.Test = load.TestOptions{IncludeFirmware: l.test.firmware, OmitDTB: l.test.noDTB}
	machine, err := l.machine()
	if err != nil {
		return err
	}
	// Before what takes long.
	if err := load.CheckMachine(machine, opts); err != nil {
		return err
	}
	kernel, err := l.image(c, machine)
	if err != nil {
		return err
	}
	defer kernel.Close()
	var initramfs []byte
	var env *crashenv.Environment
	if l.initramfs != "" {
		if initramfs, err = readInitramfs(l.initramfs, opts); err != nil {
			return err
		}
	} else {
		var all []string
		for _, t := range l.targets {
			all = append(all, t.String())
		}
		c.step("building the initramfs for %s", strings.Join(all, ", "))
		if env, err = l.environment(ctx, machine, kernel); err != nil {
			return err
		}
		initramfs = env.Initramfs
		opts.Unpacked = env.Unpacked
		opts.Warnings = env.Missing
		opts.Environment = &env.Seal
		opts.Append = strings.TrimSpace(crashenv.String(env.Cmdline) + " " + opts.Append)
		facts, err := l.facts(machine, kernel, env)
		if err != nil {
			return err
		}
		opts.WorkingMemory = reserve.Working(facts)
	}
	if l.test.cramped {
		opts.WorkingMemory = 1
	}
	with := ""
	if env != nil {
		with = fmt.Sprintf(" with %d modules", len(env.Plan.Modules))
	}
	c.step("checking: kernel %s, initramfs %s%s, reserved memory %s",
		ui.Bytes(kernel.Image.ImageSize), ui.Bytes(uint64(len(initramfs))), with, ui.Bytes(machine.CrashSize))
	plan, err := l.load(c, machine, kernel, initramfs, opts)
	if err != nil {
		return err
	}
	return l.say(c, plan, env)
}

// options are what the flags say about any load.
func (l *loading) options() (*load.Options, error) {
	method, err := load.ParseMethod(l.method)
	if err != nil {
		return nil, err
	}
	opts := &load.Options{Append: l.append, Method: method, Force: l.force}
	if l.hasCmdline {
		opts.Cmdline = &l.cmdline
	}
	if opts.Seed, err = load.FreshSeed(); err != nil {
		return nil, err
	}
	if l.dtb != "" {
		if opts.DTB, err = os.ReadFile(l.dtb); err != nil {
			return nil, err
		}
	}
	return opts, nil
}

// load plans and, unless that is all that is wanted, loads.
func (l *loading) load(c *command, m *host.Machine, kernel *load.Kernel, initramfs []byte, opts *load.Options) (*load.Plan, error) {
	plan := func(opts *load.Options) (*load.Plan, error) { return load.Make(m, kernel, initramfs, opts) }
	if l.dryRun {
		return plan(opts)
	}
	return c.carryOut(opts, plan, load.Execute)
}

// carryOut makes a plan and executes it; by the other system call if the first
// cannot do it.
func (c *command) carryOut(opts *load.Options, plan func(*load.Options) (*load.Plan, error), execute func(*load.Plan) error) (*load.Plan, error) {
	first, err := plan(opts)
	if err != nil {
		return nil, err
	}
	c.step("loading %d segments with %s", len(first.Segments), first.Method.Call())
	err = execute(first)
	method, why, ok := first.Otherwise(err, opts)
	if !ok {
		return first, err
	}
	c.step("%s; trying the other system call", why)
	again := *opts
	again.Method = method
	other, err2 := plan(&again)
	if err2 == nil {
		other.Why = why
		err2 = execute(other)
	}
	if err2 != nil {
		return first, fmt.Errorf("%w; and with %s: %w", err, method.Call(), err2)
	}
	return other, nil
}

// machine reads the facts, and records them if that is wanted.
func (l *loading) machine() (*host.Machine, error) {
	if l.record != "" {
		return host.Record(l.root, l.record)
	}
	return host.Read(l.root, nil)
}

// step tells a person what is being done; some of it takes seconds.
func (c *command) step(format string, args ...any) {
	if !c.json {
		fmt.Fprintf(c.stdout, format+"\n", args...)
	}
}

// image finds and reads the kernel image.
func (l *loading) image(c *command, m *host.Machine) (*load.Kernel, error) {
	if l.kernel == "" {
		var err error
		if l.kernel, err = findKernel(m.Release); err != nil {
			return nil, err
		}
	}
	c.step("reading %s", l.kernel)
	return load.OpenKernel(l.kernel, l.force)
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
	return findFile(candidates, "no image of the running kernel "+release, "name it as image in [kernel] of "+config.File+"; load and reserve take --kernel FILE, too")
}

func (l *loading) environment(ctx context.Context, m *host.Machine, kernel *load.Kernel) (*crashenv.Environment, error) {
	release := kernel.Image.Release
	if release == "" {
		release = m.Release
	}
	given := l.modules != ""
	if !given {
		l.modules = filepath.Join("/lib/modules", release)
	}
	opts := crashenv.Options{
		Targets: l.targets,
		Network: l.network,
		Release: release,
		Modules: os.DirFS(l.modules),
		Level:   l.level,

		Form:     l.form,
		MemLimit: l.memLimit,
		Final:    crashenv.Final(l.final),
		Failed:   crashenv.Final(l.failed),
		CPUs:     l.cpus,
	}
	if l.test.raw || l.test.die != "" || l.test.corrupt {
		opts.Test = &crashenv.Test{Raw: l.test.raw, Die: l.test.die, Corrupt: l.test.corrupt}
	}
	env, err := crashenv.Build(ctx, opts)
	if !given {
		err = noModules(l.modules, err)
	}
	return env, err
}

// noModules says where modules belong, if it was their directory that is missing:
// a key or a device may be, too.
func noModules(dir string, err error) error {
	if _, absent := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || !errors.Is(absent, fs.ErrNotExist) {
		return err
	}
	return ui.Hint(err, "the modules of the panic kernel belong into "+dir+"; or name their directory as modules in [kernel] of "+config.File+"; load and reserve take --modules DIR, too")
}

// facts are what decides how much memory the panic kernel needs.
func (l *loading) facts(m *host.Machine, kernel *load.Kernel, env *crashenv.Environment) (reserve.Facts, error) {
	f := reserve.OfMachine(m)
	f.Kernel, f.Image, f.ACPI, f.CPUs = env.Plan.Release, kernel.Image.ImageSize, load.FromACPI(m), l.cpus
	return f, env.Facts(&f, os.DirFS(l.modules))
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
	fmt.Fprintf(c.stdout, "loaded %s\n", plan.Kernel.Path)
	if plan.Purpose == load.ForReboot {
		_, err := fmt.Fprintln(c.stdout, "to start it: panicroom reboot --kexec")
		return err
	}
	where := "where the given initramfs puts them"
	if env != nil {
		var all []string
		for _, t := range env.Plan.Targets {
			all = append(all, t.String())
		}
		where = "to " + strings.Join(all, ", or else to ")
	}
	fmt.Fprintf(c.stdout, "crashes go %s\n", where)
	_, err := fmt.Fprintf(c.stdout, "%s of memory are in the dump's headers; %s of %s reserved are free for saving it\n",
		ui.Bytes(plan.DumpSize()), ui.Bytes(plan.Room.Free), ui.Bytes(plan.Room.Reserved))
	return err
}
