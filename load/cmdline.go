package load

import (
	"fmt"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/kimage"
)

// dropped are the parameters of the running kernel that a panic kernel must
// not inherit, each with its reason. A name that ends in "*" stands for all
// that begin so.
var dropped = []struct{ name, because string }{
	{"crashkernel", "it would reserve memory inside of the reserved memory (no is_kdump check on riscv since 6.7)"},
	{"elfcorehdr", "an older kernel's header; ours stands in the device tree"},
	{"BOOT_IMAGE", "the boot loader's note to itself"},
	{"initrd", "read by the EFI stub, which a panic kernel is not started by"},
	{"root", "the initramfs is all there is"},
	{"rootflags", "the initramfs is all there is"},
	{"rootfstype", "the initramfs is all there is"},
	{"rootwait", "the initramfs is all there is"},
	{"rootdelay", "the initramfs is all there is"},
	{"nfsroot", "the initramfs is all there is"},
	{"netroot", "the initramfs is all there is"},
	{"ro", "the initramfs is all there is"},
	{"rw", "the initramfs is all there is"},
	{"init", "the initramfs has its own"},
	{"rdinit", "the initramfs has its own"},
	{"resume", "a hibernated image must not be touched"},
	{"resume_offset", "a hibernated image must not be touched"},
	{"rd.*", "of another initramfs"},
	{"systemd.*", "there is no systemd"},
	{"ignition.*", "it is not the first start of the machine"},
	{"fsck.*", "nothing is repaired"},
	{"quiet", "a panic kernel's console is its only voice"},
	{"splash", "a panic kernel's console is its only voice"},
	{"loglevel", "a panic kernel's console is its only voice"},
	{"mem", "the device tree says what memory there is"},
	{"memmap", "the device tree says what memory there is"},
	{"kernelcore", "it divides memory that is not there"},
	{"movablecore", "it divides memory that is not there"},
	{"hugepages", "it takes memory that is not there"},
	{"hugepagesz", "goes with hugepages"},
	{"default_hugepagesz", "goes with hugepages"},
	{"hugetlb_cma", "it takes memory that is not there"},
	{"cma", "it takes memory that is not there"},
	{"swiotlb", "it takes memory that is not there"},
	{"log_buf_len", "it takes memory that is not there"},
	{"trace_buf_size", "it takes memory that is not there"},
	{"ftrace*", "it takes memory that is not there"},
	{"slub_debug", "it takes memory that is not there"},
	{"slab_debug", "it takes memory that is not there"},
	{"page_owner", "it takes memory that is not there"},
	{"numa", "of the whole machine"},
	{"nr_cpus", "of the whole machine"},
	{"maxcpus", "of the whole machine"},
	{"possible_cpus", "of the whole machine"},
	{"isolcpus", "names CPUs that will not be there"},
	{"nohz_full", "names CPUs that will not be there"},
	{"rcu_nocbs", "names CPUs that will not be there"},
	{"irqaffinity", "names CPUs that will not be there"},
	{"panic", "how long to wait before a restart is the panic kernel's own matter"},
	{"panic_on_warn", "a warning must not cost the dump"},
	{"panic_on_oops", "an oops must not cost the dump"},
	{"oops", "an oops must not cost the dump"},
	{"softlockup_panic", "a slow disk must not cost the dump"},
	{"hung_task_panic", "a slow disk must not cost the dump"},
	{"crash_kexec_post_notifiers", "there is no second panic kernel"},
	{"panic_on_taint", "a tainted kernel can still save"},
	{"kgdbwait", "nobody sits at the debugger"},
	{"sysctl.*", "settings of the running system; vm.nr_hugepages takes memory, kernel.panic_on_oops costs the dump"},
}

// InheritCmdline returns what a panic kernel should keep of the running
// kernel's command line: consoles and hardware stay, what sizes or divides
// memory, names a root filesystem or configures the system goes.
func InheritCmdline(running string) string {
	var kept []string
	for _, word := range words(running) {
		if word == "--" { // what follows is for init
			break
		}
		name, _, _ := strings.Cut(word, "=")
		// The kernel takes - and _ for the same in names of parameters.
		name = strings.ReplaceAll(strings.Trim(name, `"`), "-", "_")
		if !slices.ContainsFunc(dropped, func(d struct{ name, because string }) bool {
			prefix, all := strings.CutSuffix(d.name, "*")
			return name == d.name || all && strings.HasPrefix(name, prefix)
		}) {
			kept = append(kept, word)
		}
	}
	return strings.Join(kept, " ")
}

// words splits a command line at spaces outside of double quotes, as the
// kernel does (lib/cmdline.c, next_arg).
func words(s string) []string {
	var list []string
	quoted, start := false, -1
	for i := 0; i <= len(s); i++ {
		end := i == len(s) || !quoted && (s[i] == ' ' || s[i] == '\t' || s[i] == '\n')
		switch {
		case end && start >= 0:
			list, start = append(list, s[start:i]), -1
		case !end && start < 0:
			start = i
		}
		if i < len(s) && s[i] == '"' {
			quoted = !quoted
		}
	}
	return list
}

// SameCmdline returns the running kernel's command line for a kernel to reboot
// into: all but what boot loaders put in for themselves.
func SameCmdline(running string) string { return Without(running, "BOOT_IMAGE", "initrd") }

// Without returns a command line without the parameters of the given names.
func Without(line string, names ...string) string {
	var kept []string
	for _, word := range words(line) {
		name, _, _ := strings.Cut(strings.Trim(word, `"`), "=")
		if !slices.Contains(names, name) {
			kept = append(kept, word)
		}
	}
	return strings.Join(kept, " ")
}

// cmdline makes the new kernel's command line and checks it.
func cmdline(a *arch, m *host.Machine, image *kimage.Image, p *Plan, opts *Options) (string, error) {
	var line string
	switch {
	case opts.Cmdline != nil:
		line = *opts.Cmdline
	case p.Purpose == ForReboot:
		line = SameCmdline(m.Cmdline)
	default:
		line = InheritCmdline(m.Cmdline)
	}
	if opts.Append != "" {
		line = strings.TrimSpace(line + " " + opts.Append)
	}
	for _, c := range []byte(line) {
		if c < ' ' || c == 0x7f {
			return "", &RuleError{Rule: RuleCmdline, Detail: fmt.Sprintf("the command line has the control character %#02x", c)}
		}
	}
	for _, word := range words(line) {
		if p.Purpose == ForReboot {
			break
		}
		name, _, _ := strings.Cut(word, "=")
		// crashkernel= is searched for, and found inside of other words too
		// (kernel/crash_reserve.c, get_last_crashkernel).
		if strings.Contains(word, "crashkernel=") {
			name = "crashkernel"
		}
		switch name {
		case "crashkernel", "elfcorehdr", "mem", "memmap":
			return "", &RuleError{Rule: RuleCmdline,
				Detail: fmt.Sprintf("%q must not stand on a panic kernel's command line: the device tree says what memory it has", word),
				Remedy: []string{fmt.Sprintf("remove %s from the command line given", word)}}
		}
	}
	limit, whose := a.cmdlineSize(parseVersion(image.Release)), fmt.Sprintf("the new kernel (%s)", image.Release)
	used := len(line) + 1
	if p.Method == ByFile {
		// The running kernel puts a word in front and checks the whole by its own
		// limit.
		if running := a.cmdlineSize(parseVersion(m.Release)); running < limit {
			limit, whose = running, fmt.Sprintf("the running kernel (%s)", m.Release)
		}
		if p.Purpose == ForCrash {
			used += elfcorehdrWord
		}
	}
	if used > limit {
		return "", &RuleError{Rule: RuleCmdline,
			Detail: fmt.Sprintf("the command line has %d bytes, %s reads %d", used-1, whose, limit-1),
			Remedy: []string{fmt.Sprintf("shorten it by %d bytes", used-limit), "panicroom load --dry-run shows the line"}}
	}
	return line, nil
}

// cmdlineWarnings finds words that the kernel sees where nobody meant them.
func (p *Plan) cmdlineWarnings(a *arch) {
	for _, trap := range a.traps {
		if strings.Contains(p.Cmdline, trap) && !slices.Contains(words(p.Cmdline), trap) {
			p.warn("the command line has %q inside of another word, and the kernel obeys it there too", trap)
		}
	}
}
