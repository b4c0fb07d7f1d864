package load

import (
	"errors"
	"fmt"
	"slices"
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

// obstacle is why a system call cannot be used, and what could be done about it.
type obstacle struct {
	why    string
	remedy []string
	rule   Rule
}

// choice is the system call that was decided on, and why; instead is the
// obstacle to the other one if that was preferred.
type choice struct {
	method  Method
	why     string
	instead *obstacle
}

// choose decides on the system call.
func choose(a *arch, m *host.Machine, opts *Options) (*choice, error) {
	noLoad, noFile := cannotLoad(m), cannotFile(a, m, opts)
	refuse := func(o *obstacle, detail string, remedy ...string) (*choice, error) {
		return nil, &RuleError{Rule: o.rule, Detail: detail, Remedy: append(slices.Clone(o.remedy), remedy...)}
	}
	switch {
	case opts.Method == ByLoad && noLoad != nil:
		return refuse(noLoad, "kexec_load(2) cannot be used: "+noLoad.why, "let panicroom choose: --method auto, or -a for kexec")
	case opts.Method == ByFile && noFile != nil:
		return refuse(noFile, "kexec_file_load(2) cannot be used: "+noFile.why, "let panicroom choose: --method auto, or -a for kexec")
	case opts.Method == ByLoad, opts.Method == ByFile:
		return &choice{method: opts.Method, why: "it was asked for"}, nil
	case noLoad == nil:
		return &choice{method: ByLoad, why: "every byte is planned here: no firmware memory in the dump, no stale state in the device tree"}, nil
	case noFile == nil:
		return &choice{method: ByFile, why: "kexec_load cannot be used: " + noLoad.why, instead: noLoad}, nil
	}
	return refuse(noLoad, fmt.Sprintf("neither system call can be used: kexec_load: %s; kexec_file_load: %s", noLoad.why, noFile.why))
}

// cannotLoad says what speaks against kexec_load(2), as far as the facts tell;
// nil if nothing does.
func cannotLoad(m *host.Machine) *obstacle {
	switch {
	case m.Config["CONFIG_KEXEC"] == "n":
		return &obstacle{rule: RuleMethod, why: fmt.Sprintf("kernel %s was built without CONFIG_KEXEC", m.Release),
			remedy: []string{"boot a kernel with CONFIG_KEXEC=y; Debian's has it"}}
	case m.Lockdown != "" && m.Lockdown != "none":
		return &obstacle{rule: RuleLockdown, why: fmt.Sprintf("the kernel is locked down (%s)", m.Lockdown),
			remedy: []string{"see /sys/kernel/security/lockdown; it comes from lockdown= on the kernel command line or from Secure Boot in the firmware"}}
	}
	return nil
}

// cannotFile is cannotLoad for kexec_file_load(2).
func cannotFile(a *arch, m *host.Machine, opts *Options) *obstacle {
	v := parseVersion(m.Release)
	no := func(format string, args ...any) *obstacle {
		return &obstacle{rule: RuleMethod, why: fmt.Sprintf(format, args...)}
	}
	switch {
	case m.Config["CONFIG_KEXEC_FILE"] == "n":
		return no("kernel %s was built without CONFIG_KEXEC_FILE", m.Release)
	case !v.atLeast(a.fileSince.major, a.fileSince.minor):
		return no("on %s it exists since Linux %d.%d, this is %s", a.name, a.fileSince.major, a.fileSince.minor, m.Release)
	case opts.DTB != nil:
		return no("the kernel makes the device tree itself then; one of your own needs kexec_load")
	case opts.Purpose != ForReboot && len(m.CrashRegions()) > 1 && !v.atLeast(a.fileTwoRegions.major, a.fileTwoRegions.minor):
		return no("with two reserved regions, kernels before %d.%d put the low one into the dump, which the panic kernel itself writes to (this is %s)",
			a.fileTwoRegions.major, a.fileTwoRegions.minor, m.Release)
	}
	return nil
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
