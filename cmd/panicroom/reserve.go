package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/internal/bootloader"
	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/load"
	"github.com/panicroom-kdump/panicroom/reserve"
)

// reserving is the flags of reserve.
type reserving struct {
	loading             // what is loaded decides how much it needs
	size                string
	apply, undo, shrink bool
	replace             bool
	config              func() (*config.Config, error)
	command             *cobra.Command // has the flags that were given
	filesystem, store   string         // "/" and bootloader.Store; others in tests
	kernelLog           func(limit int) ([]string, error)
}

// auto is the size that panicroom recommends.
const auto = "auto"

// liveReserving is that of this machine.
func liveReserving(configured func() (*config.Config, error)) *reserving {
	return &reserving{
		loading: loading{root: os.DirFS("/")}, config: configured, command: new(cobra.Command),
		filesystem: "/", store: bootloader.Store, kernelLog: sys.ReadKernelLog,
	}
}

func newReserve(c *command) *cobra.Command {
	r := liveReserving(nil)
	cmd := &cobra.Command{
		Use:   "reserve",
		Short: "how much memory to reserve, and reserve it at the next start",
		Long: `Tell how much memory a panic kernel needs on this machine, addend by addend, how
much is reserved, and if nothing is, why; and show what would be changed in the
files that the boot loader takes the kernel's command line from: GRUB's, boot
loader entries, those of u-boot-menu, extlinux.conf.

Nothing is changed without --apply, --undo or --shrink. A crashkernel= that
somebody else has set stays, unless --size or --replace is given; if it is too
little, --apply is refused.

The exit code is 8 if less is reserved than is needed; docs/exit-codes.md has
the others.`,
		Example: `  panicroom reserve                show it all, change nothing
  panicroom reserve --apply        set crashkernel= for the next start
  panicroom reserve --apply --size 1G-4G:160M,4G-:192M
  panicroom reserve --undo         the files as they were before
  panicroom unload && panicroom reserve --shrink && panicroom load`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			actions := 0
			for _, given := range []bool{r.apply, r.undo, r.shrink} {
				if given {
					actions++
				}
			}
			if actions > 1 {
				return usage(cmd, errors.New("--apply, --undo and --shrink are one at a time"))
			}
			if r.cpus < 1 {
				return usage(cmd, fmt.Errorf("--cpus %d: the panic kernel needs one", r.cpus))
			}
			if r.size != "" && r.size != auto {
				if err := bootloader.CheckValue(r.size); err != nil {
					return usage(cmd, fmt.Errorf("--size %w", err))
				}
			}
			return r.run(cmd.Context(), c)
		},
	}
	r.config, r.command = configFlag(cmd), cmd
	f := cmd.Flags()
	f.StringVar(&r.size, "size", "", "reserve `SIZE`, as behind crashkernel=, or auto")
	f.BoolVar(&r.apply, "apply", false, "write it into the boot loader's files")
	f.BoolVar(&r.replace, "replace", false, "in place of a crashkernel= of somebody else, too")
	f.BoolVar(&r.undo, "undo", false, "take back what --apply has written")
	f.BoolVar(&r.shrink, "shrink", false, "give back at once what is reserved and not needed")
	f.BoolVarP(&r.dryRun, "dry-run", "n", false, "only show what would be done")
	f.StringArrayVar(&r.places, "target", nil, "dumps go to `PLACE`, else the next (default: configured)")
	f.StringVar(&r.kernel, "kernel", "", "panic kernel `FILE` (default: the running kernel)")
	f.StringVar(&r.modules, "modules", "", "its modules `DIR` (default: /lib/modules/RELEASE)")
	f.IntVar(&r.cpus, "cpus", 1, "it starts `N` CPUs")
	return cmd
}

// reserved is what reserve says to programs.
type reserved struct {
	Present        *reserve.Present        `json:"present"`
	Recommendation *reserve.Recommendation `json:"recommendation"`
	Enough         bool                    `json:"enough"`
	Value          string                  `json:"value"` // for crashkernel=
	// Effective tells that the running kernel was started with that value.
	Effective  bool             `json:"effective"`
	BootLoader *bootloader.Plan `json:"boot_loader"`
	Applied    bool             `json:"applied"`
	Shrunk     uint64           `json:"shrunk,omitempty"` // what is reserved since
}

// errTooLittle: less is reserved than is needed.
var errTooLittle = fmt.Errorf("%w: too little memory is reserved", errNotArmed)

// errForeign: crashkernel= was set by somebody else.
var errForeign = fmt.Errorf("%w: somebody else has set crashkernel=", load.ErrRefused)

// errNoBootLoader: nothing was found to edit.
var errNoBootLoader = fmt.Errorf("%w: no boot loader was found whose files can be edited", load.ErrRefused)

func (r *reserving) run(ctx context.Context, c *command) error {
	if r.undo {
		return r.takeBack(c)
	}
	settings, err := r.config()
	if err != nil {
		return err
	}
	m, err := r.machine()
	if err != nil {
		return err
	}
	// Before what takes long, and before an image is missed that nobody needs.
	if err := load.CheckKernel(m); err != nil {
		return err
	}
	answer := reserved{}
	if answer.Recommendation, err = r.recommend(ctx, c, m, settings); err != nil {
		return err
	}
	log, err := r.kernelLog(maxLogLines)
	if err != nil && !c.json {
		fmt.Fprintf(c.stderr, "panicroom: warning: the kernel's log: %v\n", err)
	}
	answer.Present = reserve.Current(m, log)
	answer.Enough = answer.Recommendation.Enough(answer.Present.Size)
	if r.shrink {
		return r.giveBack(c, m, &answer)
	}
	answer.Value = r.value(settings, answer.Recommendation)
	want := bootloader.Wanted{Value: answer.Value, Replace: r.replace || r.size != "", Cmdline: m.Cmdline}
	ours, err := bootloader.OpenRecord(r.store)
	if err != nil {
		return err
	}
	if answer.BootLoader, err = bootloader.Make(os.DirFS(r.filesystem), want, ours); err != nil {
		return err
	}
	answer.Effective = answer.Present.Asked == answer.Value
	if r.apply {
		if err := r.write(c, &answer); err != nil {
			return err
		}
	}
	return r.tell(c, &answer)
}

// maxLogLines bounds what is read of the kernel's log.
const maxLogLines = 100_000

// value is what shall stand behind crashkernel=: of the flag, of the configuration,
// or what is recommended.
func (r *reserving) value(settings *config.Config, rec *reserve.Recommendation) string {
	for _, v := range []string{r.size, settings.Reserve.Size} {
		if v == auto {
			break
		}
		if v != "" {
			return v
		}
	}
	return strings.TrimPrefix(rec.Parameter, bootloader.Parameter)
}

// recommend finds out what would be loaded, and what that needs.
func (r *reserving) recommend(ctx context.Context, c *command, m *host.Machine, settings *config.Config) (*reserve.Recommendation, error) {
	if err := r.configure(r.command, settings); err != nil {
		return nil, err
	}
	var err error
	if r.memLimit, err = memLimit(r.command, r.memory); err != nil {
		return nil, err
	}
	quiet := *c
	quiet.json = true // says nothing of its steps
	kernel, err := r.image(&quiet, m)
	if err != nil {
		return nil, err
	}
	defer kernel.Close()
	env, err := r.environment(ctx, m, kernel)
	if err != nil {
		return nil, err
	}
	facts, err := r.facts(m, kernel, env)
	if err != nil {
		return nil, err
	}
	return reserve.Recommend(facts), nil
}

// write applies the plan and runs what must run then.
func (r *reserving) write(c *command, answer *reserved) error {
	p := answer.BootLoader
	if len(p.Used()) == 0 {
		return ui.Hint(errNoBootLoader, fmt.Sprintf("put %s%s on the kernel's command line where this machine's boot loader has it, then restart, then run panicroom setup", bootloader.Parameter, answer.Value))
	}
	var hints []string
	for _, k := range p.Kept {
		if !enough(k, answer.Recommendation) {
			hints = append(hints, fmt.Sprintf("%s has %s%s", k.Path, bootloader.Parameter, strings.Join(k.Values, ", "+bootloader.Parameter)))
		}
	}
	if len(hints) > 0 {
		return ui.Hint(errForeign, append(hints, "panicroom reserve --apply --replace puts "+answer.Value+" there; --undo brings the other back")...)
	}
	if !c.json {
		for _, e := range p.Edits {
			fmt.Fprint(c.stdout, e.Diff)
		}
	}
	if r.dryRun {
		return nil
	}
	if err := p.Apply(r.filesystem, r.store, answer.Value); err != nil {
		return err
	}
	answer.Applied = true
	return r.runAll(c, p.Commands())
}

// enough tells whether values that somebody else has set would do.
func enough(k bootloader.Kept, rec *reserve.Recommendation) bool {
	return !slices.ContainsFunc(k.Values, func(v string) bool { return !rec.EnoughAsked(v) })
}

// runAll runs programs of the boot loaders.
func (r *reserving) runAll(c *command, commands [][]string) error {
	for _, argv := range commands {
		c.step("running %s", strings.Join(argv, " "))
		if err := program(argv); err != nil {
			return ui.Hint(err, "the files are written; what the boot loader reads is made from them by "+strings.Join(argv, " "))
		}
	}
	return nil
}

// takeBack undoes --apply.
func (r *reserving) takeBack(c *command) error {
	var done []bootloader.Undone
	if r.dryRun {
		record, err := bootloader.OpenRecord(r.store)
		if err != nil {
			return err
		}
		if record != nil {
			for _, ch := range record.Changed {
				done = append(done, bootloader.Undone{Path: ch.Path, How: "would be taken back"})
			}
		}
	} else {
		var err error
		if done, err = bootloader.Undo(r.filesystem, r.store); err != nil {
			return err
		}
	}
	if c.json {
		if err := json.NewEncoder(c.stdout).Encode(struct {
			Undone []bootloader.Undone `json:"undone"`
		}{done}); err != nil {
			return err
		}
	}
	if len(done) == 0 {
		c.step("nothing to take back: panicroom has changed no file of a boot loader")
	}
	var commands [][]string
	for _, u := range done {
		c.step("%s: %s", u.Path, u.How)
		if u.Run != nil && !slices.ContainsFunc(commands, func(argv []string) bool { return slices.Equal(argv, u.Run) }) {
			commands = append(commands, u.Run)
		}
	}
	return r.runAll(c, commands)
}

// giveBack shrinks what is reserved now to what is recommended.
func (r *reserving) giveBack(c *command, m *host.Machine, answer *reserved) error {
	rec := answer.Recommendation
	to, err := load.ShrinkTo(m, rec.Size, rec.Facts.Image+rec.Facts.Packed)
	if err != nil {
		return err
	}
	if !r.dryRun && to < m.CrashSize {
		if to, err = load.Shrink(to); err != nil {
			return err
		}
	}
	answer.Shrunk = to
	if c.json {
		return json.NewEncoder(c.stdout).Encode(answer)
	}
	if to == m.CrashSize {
		c.step("%s are reserved, and needed: nothing to give back", ui.Bytes(to))
		return nil
	}
	c.step("%s were reserved, %s are now: %s are back in use until the next start", ui.Bytes(m.CrashSize), ui.Bytes(to), ui.Bytes(m.CrashSize-to))
	return nil
}

// tell says what is needed, what is there, and what would be changed.
func (r *reserving) tell(c *command, a *reserved) error {
	var verdict error
	if !a.Enough && !r.apply {
		verdict = errTooLittle
	}
	if c.json {
		enc := json.NewEncoder(c.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(a); err != nil {
			return err
		}
		if verdict != nil {
			return answered{verdict}
		}
		return nil
	}
	if !r.apply {
		c.need(a.Recommendation)
		fmt.Fprintln(c.stdout)
	}
	c.present(a)
	hints := c.places(r, a)
	if verdict != nil {
		return ui.Hint(verdict, append(hints, a.Present.Remedy...)...)
	}
	return nil
}

// need prints the sum.
func (c *command) need(rec *reserve.Recommendation) {
	rows := append(slices.Clone(rec.Addends), reserve.Addend{Name: "needed", Bytes: rec.Needed}, rec.Slack,
		reserve.Addend{Name: "recommended", Bytes: rec.Size, Reason: rec.Parameter})
	width := 0
	for _, a := range rows {
		width = max(width, len(a.Name))
	}
	for _, a := range rows {
		const columns = 80
		head := fmt.Sprintf("%-*s  %9s  ", width, a.Name, ui.Bytes(a.Bytes))
		for i, line := range ui.Wrap(a.Reason, columns-len(head)) {
			if i > 0 {
				head = strings.Repeat(" ", len(head))
			}
			fmt.Fprintln(c.stdout, strings.TrimRight(head+line, " "))
		}
	}
}

// line prints text behind a label, over several lines if it is long.
func (c *command) line(label, text string) {
	for i, part := range ui.Wrap(text, 65) {
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(c.stdout, "%-14s %s\n", label, part)
	}
}

// present prints what is reserved.
func (c *command) present(a *reserved) {
	enough := "enough"
	if !a.Enough {
		enough = "too little"
	}
	c.line("reserved", fmt.Sprintf("%s: %s", ui.Bytes(a.Present.Size), enough))
	for _, region := range a.Present.Regions {
		c.line("", fmt.Sprintf("%#x-%#x  %s", region.Start, region.End, ui.Bytes(region.Size())))
	}
	for _, why := range a.Present.Why {
		c.line("", why)
	}
}

// places prints what is changed where, and returns what to do.
func (c *command) places(r *reserving, a *reserved) (hints []string) {
	p := a.BootLoader
	for _, f := range p.Found {
		used := "is used"
		if !f.Used {
			used = "is not used"
		}
		c.line("boot loader", fmt.Sprintf("%s %s: %s", f.Loader, used, f.Why))
	}
	for _, k := range p.Kept {
		verdict := "too little: --replace changes it"
		if enough(k, a.Recommendation) {
			verdict = "enough"
		}
		c.line("kept", fmt.Sprintf("%s has %s%s, set by somebody else: %s", k.Path, bootloader.Parameter, strings.Join(k.Values, ", "), verdict))
	}
	for _, n := range p.Notes {
		c.line("note", n)
	}
	switch {
	case len(p.Used()) == 0:
		c.line("change", "no boot loader was found whose files can be edited")
		return []string{fmt.Sprintf("put %s%s on the kernel's command line, then restart", bootloader.Parameter, a.Value)}
	case a.Applied && len(p.Edits) > 0:
		c.line("changed", fmt.Sprintf("%d files; restart for %s%s to take effect", len(p.Edits), bootloader.Parameter, a.Value))
		return nil
	case len(p.Edits) > 0:
		if !r.apply { // else it has been shown
			for _, e := range p.Edits {
				fmt.Fprintf(c.stdout, "\n%s", e.Diff)
			}
		}
		return []string{"panicroom reserve --apply writes it, then restart"}
	case slices.ContainsFunc(p.Kept, func(k bootloader.Kept) bool { return !enough(k, a.Recommendation) }):
		return []string{"panicroom reserve --apply --replace, then restart"}
	case len(p.Kept) > 0:
		c.line("change", "none")
		return []string{"restart"}
	case a.Effective:
		c.line("change", fmt.Sprintf("none: %s%s is set, and the running kernel has it", bootloader.Parameter, a.Value))
	default:
		c.line("change", fmt.Sprintf("none: %s%s is set, and takes effect with the next start", bootloader.Parameter, a.Value))
		return []string{"restart"}
	}
	return nil
}
