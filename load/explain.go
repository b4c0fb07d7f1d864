package load

import (
	"errors"
	"regexp"
	"strings"
	"syscall"
)

// explanation is what a refusal means and what to do about it.
type explanation struct {
	meaning string
	remedy  []string
}

// sayings are lines that the kernel logs while it refuses, with what they mean.
// The first that fits counts, so consequences stand behind their causes. From
// kernel/kexec*.c, security/lockdown, security/integrity/ima, fs/kernel_read_file.c
// and arch/riscv/kernel/{elf_kexec,kexec_elf,kexec_image,machine_kexec,machine_kexec_file}.c
// of Linux 5.19 to 7.2.
var sayings = []struct {
	line    *regexp.Regexp
	meaning string
	remedy  []string
}{
	{regexp.MustCompile(`Unknown rela relocation: 19\b`),
		"this kernel cannot link its own purgatory (R_RISCV_CALL_PLT, fixed in 6.5, 6.4.11 and late 6.1): whatever image is given, kexec_file_load fails",
		[]string{"use the other system call: panicroom load --method load", "or run a kernel of 6.5 or later"}},
	{regexp.MustCompile(`Unknown rela relocation: 20\b`),
		"this kernel cannot link its own purgatory (R_RISCV_GOT_HI20, relocatable kernels 6.4 to 6.6, fixed in 6.7): whatever image is given, kexec_file_load fails",
		[]string{"use the other system call: panicroom load --method load", "or run a kernel of 6.7 or later"}},
	{regexp.MustCompile(`Unknown rela relocation: 2\b`),
		"this kernel cannot link its own purgatory (R_RISCV_64, fixed in 6.15 and 6.12.23): whatever image is given, kexec_file_load fails",
		[]string{"use the other system call: panicroom load --method load", "or run a kernel with the fix"}},
	{regexp.MustCompile(`Unknown rela relocation: \d+`),
		"this kernel cannot link its own purgatory: whatever image is given, kexec_file_load fails",
		[]string{"use the other system call: panicroom load --method load"}},
	{regexp.MustCompile(`(?i)lockdown: .*kexec`),
		"the kernel is locked down and refuses kexec",
		[]string{"see /sys/kernel/security/lockdown; it comes from lockdown= on the kernel command line or from Secure Boot in the firmware"}},
	{regexp.MustCompile(`impossible to appraise a kernel image without a file descriptor`),
		"the integrity policy (IMA) allows only kernels that come from a signed file",
		[]string{"use the other system call: panicroom load --method file", "see /sys/kernel/security/ima/policy"}},
	{regexp.MustCompile(`Could not allocate control_code_buffer|Could not allocate swap buffer`),
		"no free page is left in the reserved memory for the kernel itself",
		[]string{"reserve more with crashkernel=, or load less"}},
	{regexp.MustCompile(`Appending elfcorehdr=<addr> exceeds cmdline size|Setting up cmdline for kdump kernel failed`),
		"the command line with elfcorehdr=ADDRESS in front, which the kernel adds for kexec_file_load, is too long",
		[]string{"shorten the command line by 30 bytes", "or use kexec_load, which needs no such word: --method load"}},
	{regexp.MustCompile(`Device tree not included in the provided image`),
		"none of the segments begins like a device tree",
		[]string{"record the machine for a bug report: panicroom load --record DIR --dry-run"}},
	{regexp.MustCompile(`Error setting up the new device tree`),
		"the kernel could not make the device tree of the new one",
		[]string{"use the other system call, which makes its own: panicroom load --method load"}},
	{regexp.MustCompile(`Error add (DTB|kernel image|initrd|elf header|elfcorehdr).* ret=-99`),
		"no hole in the reserved memory is large enough for it",
		[]string{"reserve more with crashkernel="}},
	{regexp.MustCompile(`Preparing elf core header failed|failed to (prepare|load) elfcorehdr`),
		"the kernel could not make the header of the dump",
		[]string{"use the other system call, which makes its own: panicroom load --method load"}},
	{regexp.MustCompile(`Not an ELF executable|No ELF program header|Requires an ELF interpreter`),
		"the kernel does not take the image for an ELF kernel",
		[]string{"record the machine for a bug report: panicroom load --record DIR --dry-run"}},
	{regexp.MustCompile(`(?i)signature|Enforced kernel signature verification failed`),
		"the kernel wants a signed image",
		[]string{"sign the kernel image, or boot without Secure Boot"}},
	{regexp.MustCompile(`Invalid section \d+ for symbol|Error update purgatory|Error loading purgatory`),
		"the kernel's own purgatory is broken: whatever image is given, kexec_file_load fails",
		[]string{"use the other system call: panicroom load --method load"}},
}

// explain says what a refusal means: by what the kernel said, else by the
// errno and the place in Linux 7.2 that returns it, as measured with 6.12 and
// 7.2.
func explain(by Method, err error, log []string) explanation {
	for _, s := range sayings {
		for _, line := range log {
			if s.line.MatchString(line) {
				return explanation{s.meaning, s.remedy}
			}
		}
	}
	see := []string{"see what the kernel says: dmesg | tail"}
	is := func(errno syscall.Errno) bool { return errors.Is(err, errno) }
	switch {
	case is(syscall.EPERM):
		return explanation{"not root, kernel.kexec_load_disabled, kernel.kexec_load_limit_panic used up, or lockdown",
			[]string{"sysctl kernel.kexec_load_disabled kernel.kexec_load_limit_panic; cat /sys/kernel/security/lockdown"}}
	case is(syscall.EBUSY):
		return explanation{"somebody else is loading a kernel at this moment", []string{"try again"}}
	case is(syscall.EFAULT):
		return explanation{"the data could not be read", see}
	case is(syscall.EACCES) && by == ByLoad:
		return explanation{"a security module forbids images that come without a file",
			[]string{"use the other system call: panicroom load --method file", "see /sys/kernel/security/ima/policy"}}
	case is(syscall.EACCES):
		return explanation{"a security module forbids this image", []string{"see /sys/kernel/security/ima/policy"}}
	case is(syscall.ENOSYS) && by == ByLoad:
		return explanation{"the kernel was built without CONFIG_KEXEC", []string{"boot a kernel with CONFIG_KEXEC=y; Debian's has it"}}
	case is(syscall.ENOSYS):
		return explanation{"the kernel was built without CONFIG_KEXEC_FILE", []string{"use the other system call: panicroom load --method load"}}
	case is(syscall.EADDRNOTAVAIL) && by == ByLoad:
		return explanation{"a segment or the entry is outside of the reserved memory or not at a page boundary", see}
	case is(syscall.EADDRNOTAVAIL):
		return explanation{"no hole in the reserved memory is large enough", []string{"reserve more with crashkernel="}}
	case is(syscall.EINVAL) && by == ByLoad:
		return explanation{"no device tree among the segments, segments that overlap, a foreign architecture or an unknown flag", see}
	case is(syscall.EINVAL), is(syscall.ENOEXEC):
		return explanation{"the kernel does not know this kind of image, or could not finish its plan for it",
			[]string{"use the other system call: panicroom load --method load", "see what the kernel says: dmesg | tail"}}
	case is(eKeyRejected), is(eNoKey):
		return explanation{"the image is not signed with a key that the kernel trusts",
			[]string{"sign the kernel image, or use the other system call: panicroom load --method load"}}
	case is(syscall.ENOMEM):
		return explanation{"no room is left in the reserved memory for the kernel's own pages", []string{"reserve more with crashkernel=, or load less"}}
	}
	return explanation{"", see}
}

// Errors of signature checks; other systems do not name them
// (include/uapi/asm-generic/errno.h).
const (
	eNoKey       = syscall.Errno(126)
	eKeyRejected = syscall.Errno(129)
)

// kexecLines keeps the lines of a log that may be about kexec: others log
// meanwhile too.
func kexecLines(log []string) []string {
	var kept []string
	for _, line := range log {
		low := strings.ToLower(line)
		for _, word := range []string{"kexec", "crash", "purgatory", "elfcorehdr", "lockdown", "ima", "device tree", "dtb", "kernel image", "relocation"} {
			if strings.Contains(low, word) {
				kept = append(kept, line)
				break
			}
		}
	}
	return kept
}
