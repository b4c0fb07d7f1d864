package load

import (
	"errors"
	"fmt"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

var (
	// ErrRefused is wrapped by errors about a rule that was found broken before
	// anything was done; see [RuleError].
	ErrRefused = errors.New("refused")
	// ErrKernelRefused is wrapped when the kernel itself refused; see
	// [KernelError].
	ErrKernelRefused = errors.New("the kernel refused")
	// ErrNotRoot is wrapped when the kernel hides facts from this user, or
	// refuses because of who asks.
	ErrNotRoot = host.ErrNotRoot
)

// Rule names what a plan must obey. The names are API: they stand in messages
// and JSON.
type Rule string

// The rules.
const (
	RuleArchitecture Rule = "architecture"  // a machine and an image we know
	RuleKexec        Rule = "kexec"         // the kernel can load panic kernels
	RuleCrashkernel  Rule = "crashkernel"   // memory is reserved
	RuleLoadDisabled Rule = "load-disabled" // kernel.kexec_load_disabled is 0
	RuleLoadLimit    Rule = "load-limit"    // kernel.kexec_load_limit_panic is not used up
	RuleLockdown     Rule = "lockdown"      // the kernel is not locked down
	RuleMethod       Rule = "method"        // there is a system call that can do it
	RuleImage        Rule = "image"         // the file is a whole kernel image
	RuleInitramfs    Rule = "initramfs"     // there is one
	RuleCmdline      Rule = "command-line"  // short enough, without what cannot be there
	RuleDeviceTree   Rule = "device-tree"   // there is one, it can be read, it is small enough
	RuleRoom         Rule = "room"          // everything fits into the reserved memory
	RuleHalf         Rule = "half"          // what is loaded is at most half of the machine's memory
	RuleCoverage     Rule = "coverage"      // the dump will have what is needed to read it
	RuleSegments     Rule = "segments"      // aligned, apart, inside the reserved memory
	RuleWithin       Rule = "within"        // inside of what was asked for, if that was
	RuleLoaded       Rule = "loaded"        // a panic kernel is in place
	RuleSysrq        Rule = "sysrq"         // the kernel can be crashed on demand
	RuleShrink       Rule = "shrink"        // the reserved memory can be made less
)

// RuleError is a broken rule: which, the numbers, and what to do.
type RuleError struct {
	Rule   Rule
	Detail string
	Remedy []string
	Err    error // what was found, or nil
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("%v by the rule %q: %s", ErrRefused, e.Rule, e.Detail)
}

// Is makes every RuleError an [ErrRefused].
func (e *RuleError) Is(target error) bool { return target == ErrRefused }

func (e *RuleError) Unwrap() error { return e.Err }

// Hints says what to do.
func (e *RuleError) Hints() []string {
	if len(e.Remedy) > 0 || len(ui.Hints(e.Err)) > 0 {
		return e.Remedy
	}
	return []string{e.Rule.remedy()}
}

// remedy is what to do where nothing better is known.
func (r Rule) remedy() string {
	switch r {
	case RuleArchitecture:
		return "dumps of other machines can be read here: panicroom report CRASH"
	case RuleKexec:
		return "boot a kernel with CONFIG_KEXEC=y and CONFIG_CRASH_DUMP=y; Debian's has both"
	case RuleImage:
		return "name a kernel of this machine: panicroom load --kernel FILE; panicroom inspect-image FILE says what a file is"
	case RuleInitramfs:
		return "name one: panicroom load --initramfs FILE; without that flag a panic kernel gets one of panicroom's"
	case RuleCmdline:
		return "give another command line: panicroom load --cmdline TEXT"
	case RuleDeviceTree:
		return "give another device tree: panicroom load --dtb FILE"
	case RuleRoom:
		return "end programs that take much memory, and try again"
	}
	return "record the machine for a bug report: panicroom load --record DIR --dry-run"
}

// noKexec is the error of a kernel that has no slot for a purpose.
func noKexec(p Purpose) error {
	what, file := "panic kernels", "kexec_crash_loaded"
	if p == ForReboot {
		what, file = "kexec", "kexec_loaded"
	}
	return &RuleError{Rule: RuleKexec, Detail: fmt.Sprintf("the kernel has no support for %s (no /sys/kernel/%s)", what, file)}
}

// CheckMachine checks what has nothing to do with what shall be loaded: the
// architecture, and the kernel's conditions in the order in which
// kernel/kexec.c of 7.2 has them. [Make] begins with it; asked before, it spares
// the work of finding an image and building an initramfs.
func CheckMachine(m *host.Machine, opts *Options) error {
	if opts == nil {
		opts = &Options{}
	}
	a, err := archOf(m.Arch)
	if err != nil {
		return err
	}
	if opts.Purpose != ForReboot {
		if err := CheckKernel(m); err != nil {
			return err
		}
	}
	limit, knob := m.LimitPanic, "kernel.kexec_load_limit_panic"
	if opts.Purpose == ForReboot {
		limit, knob = m.LimitReboot, "kernel.kexec_load_limit_reboot"
	}
	switch {
	case m.LoadDisabled:
		return &RuleError{Rule: RuleLoadDisabled,
			Detail: "kernel.kexec_load_disabled is 1, and it cannot be set back before a restart",
			Remedy: []string{"find who sets it: grep -r kexec_load_disabled /etc/sysctl.conf /etc/sysctl.d /usr/lib/sysctl.d; load the panic kernel before that, or remove it and restart"}}
	case limit == 0:
		return &RuleError{Rule: RuleLoadLimit,
			Detail: knob + " is 0: every load that was allowed since the start of the machine is used up, and it can only be lowered",
			Remedy: []string{"restart the machine, and raise " + knob + " where it is set in /etc/sysctl.d"}}
	}
	if _, err := choose(a, m, opts); err != nil {
		return err
	}
	if opts.Purpose != ForReboot && (m.CrashSize == 0 || len(m.CrashRegions()) == 0) {
		return noCrashkernel(m)
	}
	return nil
}

// CheckKernel checks that a machine and its kernel can have panic kernels at all,
// whatever is reserved: nothing helps where not.
func CheckKernel(m *host.Machine) error {
	if _, err := archOf(m.Arch); err != nil {
		return err
	}
	if m.NoKexec {
		return &RuleError{Rule: RuleKexec,
			Detail: fmt.Sprintf("kernel %s has no /sys/kernel/kexec_crash_size: it was built without CONFIG_KEXEC or CONFIG_CRASH_DUMP", m.Release)}
	}
	return nil
}

func noCrashkernel(m *host.Machine) error {
	e := &RuleError{Rule: RuleCrashkernel}
	var asked string
	for _, word := range strings.Fields(m.Cmdline) {
		if strings.HasPrefix(word, "crashkernel=") {
			asked = word // the last one wins
		}
	}
	size := suggestReservation(m)
	switch {
	case asked == "":
		e.Detail = "no memory is reserved for a panic kernel: crashkernel= is not on the kernel's command line"
		e.Remedy = []string{
			"panicroom reserve --apply puts it there for this boot loader; then restart",
			fmt.Sprintf("by hand: add %s to GRUB_CMDLINE_LINUX in /etc/default/grub, run update-grub, restart", size),
			"with U-Boot's extlinux: add it to U_BOOT_PARAMETERS in /etc/default/u-boot, run u-boot-update, restart"}
	case m.CrashSize == 0:
		e.Detail = fmt.Sprintf("the kernel did not reserve memory although its command line has %s (the machine has %s)", asked, ui.Bytes(m.MemTotal))
		e.Remedy = []string{
			"see why: dmesg | grep -i crashkernel",
			fmt.Sprintf("%s, without @OFFSET, lets the kernel find a place", size)}
	default:
		e.Detail = fmt.Sprintf("the kernel has %s reserved, but /proc/iomem has no line \"Crash kernel\"", ui.Bytes(m.CrashSize))
	}
	return e
}

// regions returns the reserved memory, the main region first. Segments may only
// lie in the main one, crashk_res, the higher of two
// (kernel/crash_reserve.c); the panic kernel may use both.
func regions(m *host.Machine) ([]host.Range, error) {
	list := m.CrashRegions()
	switch len(list) {
	case 1:
	case 2:
		list[0], list[1] = list[1], list[0]
	default:
		return nil, &RuleError{Rule: RuleCrashkernel,
			Detail: fmt.Sprintf("/proc/iomem has %d lines \"Crash kernel\"; one or two are known", len(list))}
	}
	var sum uint64
	for i, r := range list {
		if r.Size() == 0 || i > 0 && r.End > list[0].Start {
			return nil, &RuleError{Rule: RuleCrashkernel, Detail: fmt.Sprintf("reserved regions %v overlap or are empty", list)}
		}
		sum += r.Size()
	}
	if sum != m.CrashSize {
		return nil, &RuleError{Rule: RuleCrashkernel,
			Detail: fmt.Sprintf("/proc/iomem shows %d reserved bytes, /sys/kernel/kexec_crash_size %d", sum, m.CrashSize),
			Remedy: []string{"somebody may be shrinking the reservation; try again"}}
	}
	return list, nil
}
