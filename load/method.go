package load

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/panicroom-kdump/panicroom/internal/host"
)

// Method is the system call that loads a kernel.
type Method string

// The methods.
const (
	// Auto takes ByLoad where it can be had, else ByFile; the plan says why.
	Auto Method = "auto"
	// ByLoad is kexec_load(2): panicroom plans every byte.
	ByLoad Method = "load"
	// ByFile is kexec_file_load(2): the kernel places what it is given, makes
	// the device tree and the header of the dump itself, and checks the whole
	// with SHA-256 before it jumps.
	ByFile Method = "file"
)

// ParseMethod reads a method's name; "" is Auto.
func ParseMethod(s string) (Method, error) {
	switch m := Method(s); m {
	case "":
		return Auto, nil
	case Auto, ByLoad, ByFile:
		return m, nil
	}
	return "", fmt.Errorf("method %q is none of auto, load, file", s)
}

// Purpose is the slot that a kernel is loaded into.
type Purpose string

// The purposes.
const (
	ForCrash  Purpose = "crash"  // started when the running kernel panics
	ForReboot Purpose = "reboot" // started by reboot(2), instead of the firmware
)

// choose decides on the system call, and says why this one.
func choose(a *arch, m *host.Machine, opts *Options) (Method, string, error) {
	noLoad, noFile := cannotLoad(m), cannotFile(a, m, opts)
	refuse := func(detail string, remedy ...string) (Method, string, error) {
		rule := RuleMethod
		if locked(m) {
			rule = RuleLockdown
		}
		return "", "", &RuleError{Rule: rule, Detail: detail, Remedy: remedy}
	}
	const both = "boot a kernel with CONFIG_KEXEC=y; Debian's has it"
	const unlock = "see /sys/kernel/security/lockdown; it comes from lockdown= on the kernel command line or from Secure Boot in the firmware"
	switch {
	case opts.Method == ByLoad && noLoad != "":
		if locked(m) {
			return refuse("kexec_load(2) cannot be used: "+noLoad, unlock)
		}
		return refuse("kexec_load(2) cannot be used: "+noLoad, both, "or let panicroom choose: --method auto")
	case opts.Method == ByFile && noFile != "":
		return refuse("kexec_file_load(2) cannot be used: "+noFile, "let panicroom choose: --method auto")
	case opts.Method == ByLoad, opts.Method == ByFile:
		return opts.Method, "it was asked for", nil
	case noLoad == "":
		return ByLoad, "kexec_load leaves nothing to the kernel: the dump has no firmware memory in it, the device tree no stale state", nil
	case noFile == "":
		return ByFile, noLoad, nil
	case locked(m):
		return refuse(fmt.Sprintf("neither system call can be used: kexec_load: %s; kexec_file_load: %s", noLoad, noFile), unlock)
	}
	return refuse(fmt.Sprintf("neither system call can be used: kexec_load: %s; kexec_file_load: %s", noLoad, noFile), both)
}

func locked(m *host.Machine) bool { return m.Lockdown != "" && m.Lockdown != "none" }

// cannotLoad says why kexec_load(2) cannot be used, as far as the facts tell; ""
// if nothing speaks against it.
func cannotLoad(m *host.Machine) string {
	switch {
	case m.Config["CONFIG_KEXEC"] == "n":
		return fmt.Sprintf("kernel %s was built without CONFIG_KEXEC", m.Release)
	case locked(m):
		return fmt.Sprintf("the kernel is locked down (%s)", m.Lockdown)
	}
	return ""
}

// cannotFile is cannotLoad for kexec_file_load(2).
func cannotFile(a *arch, m *host.Machine, opts *Options) string {
	v := parseVersion(m.Release)
	switch {
	case m.Config["CONFIG_KEXEC_FILE"] == "n":
		return fmt.Sprintf("kernel %s was built without CONFIG_KEXEC_FILE", m.Release)
	case !v.atLeast(a.fileSince.major, a.fileSince.minor):
		return fmt.Sprintf("on %s it exists since Linux %d.%d, this is %s", a.name, a.fileSince.major, a.fileSince.minor, m.Release)
	case opts.DTB != nil:
		return "the kernel makes the device tree itself then; one of your own needs kexec_load"
	case opts.Purpose != ForReboot && len(m.CrashRegions()) > 1 && !v.atLeast(a.fileTwoRegions.major, a.fileTwoRegions.minor):
		return fmt.Sprintf("with two reserved regions, kernels before %d.%d put the low one into the dump, which the panic kernel itself writes to (this is %s)",
			a.fileTwoRegions.major, a.fileTwoRegions.minor, m.Release)
	}
	return ""
}

// Otherwise tells how to try again after a load by p has failed with err: with
// which method, and for what reason. ok is false when another system call would
// not help, or would cost what is loaded now.
//
// Only refusals that come before the kernel frees what was loaded (kernel/kexec.c
// of 7.2) lead to another try.
func (p *Plan) Otherwise(err error, opts *Options) (next Method, why string, ok bool) {
	e, is := errors.AsType[*KernelError](err)
	if !is || opts.Method != Auto && opts.Method != "" || p.Method != ByLoad || e.After == Lost || opts.DTB != nil {
		return "", "", false
	}
	switch {
	case errors.Is(e.Err, syscall.ENOSYS):
		why = "the kernel has no kexec_load"
	case errors.Is(e.Err, syscall.EACCES):
		why = "a security policy forbids kernels that do not come from a file"
	case errors.Is(e.Err, syscall.EPERM) && strings.Contains(strings.ToLower(strings.Join(e.Log, " ")), "lockdown"):
		why = "the kernel is locked down and refuses kexec_load"
	default:
		return "", "", false
	}
	return ByFile, why, true
}
