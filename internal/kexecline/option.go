package kexecline

import "github.com/panicroom-kdump/panicroom/internal/getopt"

// Compatible is the program whose command lines are understood.
const Compatible = "kexec-tools 2.0.32"

// The groups of options beside those of getopt.
const (
	Asking  getopt.Group = "Questions, which change nothing"
	Acting  getopt.Group = "What to do"
	Feeding getopt.Group = "What to load"
	Manner  getopt.Group = "How"
)

// Program is kexec with all options that are known. Options of other
// architectures than riscv64 say so (Elsewhere).
func Program() *getopt.Program {
	return &getopt.Program{
		Name:    "kexec",
		Options: table,
		Groups:  []getopt.Group{Asking, Acting, Feeding, Manner, getopt.NoEffect, getopt.Without},
	}
}

// Names of options that the code asks for.
const (
	optHelp     = "help"
	optVersion  = "version"
	optStatus   = "status"
	optSize     = "print-ckr-size"
	optLoad     = "load"
	optPanic    = "load-panic"
	optUnload   = "unload"
	optExec     = "exec"
	optForce    = "force"
	optFile     = "kexec-file-syscall"
	optSyscall  = "kexec-syscall"
	optAuto     = "kexec-syscall-auto"
	optAppend   = "append"
	optCmdline  = "command-line"
	optReuse    = "reuse-cmdline"
	optInitrd   = "initrd"
	optRamdisk  = "ramdisk"
	optDTB      = "dtb"
	optTreeBlob = "devicetreeblob"
	optType     = "type"
	optMemMin   = "mem-min"
	optMemMax   = "mem-max"
	optNoSync   = "no-sync"
	optDebug    = "debug"
)

// Reasons that several options share.
const (
	onlyX86 = "x86"

	noJump       = "no riscv64 kernel can be returned to from the kernel that it has started (CONFIG_KEXEC_JUMP)"
	noXen        = "it updates a running Xen hypervisor, which panicroom knows nothing of"
	noVGA        = "it is for the VGA console of the code that kexec-tools runs between two kernels; riscv64 has no such code"
	noPurgatory  = "it is for the serial port of the code that kexec-tools runs between two kernels; riscv64 has no such code"
	leaveOut     = "leave it out"
	consoleWords = "name the new kernel's console on its command line: --append=\"console=ttyS0 ...\""
)

var table = []getopt.Option{
	{Long: optHelp, Short: 'h', Group: Asking, Help: "print this text"},
	{Long: optVersion, Short: 'v', Group: Asking, Help: "print the version of kexec-tools whose command lines are understood, and panicroom's own"},
	{Long: optStatus, Short: 'S', Group: Asking, Help: "exit with 1 if a panic kernel is loaded, with 0 if none is; with -l, ask after the kernel that -e would start"},
	{Long: optSize, Group: Asking, Help: "print the size in bytes of the reserved memory that panic kernels go into; 0 if there is none"},

	{Long: optLoad, Short: 'l', Group: Acting, Help: "load FILE as the kernel that -e starts"},
	{Long: optPanic, Short: 'p', Group: Acting, Help: "load FILE as the panic kernel; -l beside it changes nothing"},
	{Long: optUnload, Short: 'u', Group: Acting, Help: "unload the kernel that -e would start; with -p, the panic kernel"},
	{Long: optExec, Short: 'e', Group: Acting, Help: "start the kernel that -l has loaded, now: nothing is shut down, disks are written back first"},
	{Long: optForce, Short: 'f', Group: Acting, Help: "load FILE and start it now, as -l and -e one after the other; beside -e without FILE it changes nothing"},

	{Long: optInitrd, Value: "FILE", Group: Feeding, Help: "the initramfs; without it the kernel gets none"},
	{Long: optRamdisk, Value: "FILE", Group: Feeding, Help: "the same as --initrd", Elsewhere: "arm64, x86"},
	{Long: optAppend, Value: "TEXT", Group: Feeding, Help: "the end of the command line, after a space; alone it is the whole"},
	{Long: optCmdline, Value: "TEXT", Group: Feeding, Help: "the command line, or its beginning if there is an --append"},
	{Long: optReuse, Group: Feeding, Help: "begin with the running kernel's command line, without BOOT_IMAGE= and, for a panic kernel, without crashkernel=; so too when no option names a command line"},
	{Long: optDTB, Value: "FILE", Group: Feeding, Help: "the device tree, instead of the one this machine was booted with"},
	{Long: optTreeBlob, Value: "FILE", Group: Feeding, Help: "the same as --dtb", Elsewhere: "ppc64"},
	{Long: optType, Short: 't', Value: "TYPE", Group: Feeding, Help: "refuse FILE if it is of another type: elf-riscv, image-riscv or vmlinuz-riscv"},
	{Long: optMemMin, Value: "ADDR", Group: Feeding, Help: "refuse to load anything below this physical address"},
	{Long: optMemMax, Value: "ADDR", Group: Feeding, Help: "refuse to load anything above this physical address"},

	{Long: optFile, Short: 's', Group: Manner, Help: "load by kexec_file_load(2) or not at all"},
	{Long: optSyscall, Short: 'c', Group: Manner, Help: "load by kexec_load(2) or not at all"},
	{Long: optAuto, Short: 'a', Group: Manner, Help: "load by whichever of the two can do it; so it is without -s, -c and -a. The last of the three counts"},
	{Long: optNoSync, Short: 'y', Group: Manner, Help: "do not write disks back before -e or -f starts the kernel"},
	{Long: optDebug, Short: 'd', Group: Manner, Help: "print how the command line was understood, and the complete plan before it is carried out"},

	{Long: "no-checks", Short: 'i', Group: getopt.NoEffect, Support: getopt.Ignored,
		Why: "it turns off a check that kexec-tools does not have on riscv64; what panicroom checks it always checks"},
	{Long: "no-ifdown", Short: 'x', Group: getopt.NoEffect, Support: getopt.Ignored,
		Why: "no network interfaces are taken down by -e; the kernel stops its devices itself"},
	{Long: "no-cma", Group: getopt.NoEffect, Support: getopt.Ignored,
		Why: "where a kernel waits until it is copied to its place makes no difference to it, and panic kernels wait in reserved memory"},
	{Long: "force-dtb", Group: getopt.NoEffect, Support: getopt.Ignored,
		Why: "the running machine's device tree is always handed on"},
	{Long: "args-linux", Group: getopt.NoEffect, Support: getopt.Ignored, Elsewhere: onlyX86,
		Why: "a command line is always handed on as Linux reads it; Debian's kdump-config adds this for ELF kernels"},
	{Long: "elf64-core-headers", Group: getopt.NoEffect, Support: getopt.Ignored, Elsewhere: "ppc64, x86",
		Why: "the header of the dump is always ELF64"},

	{Long: "entry", Value: "ADDR", Group: getopt.Without, Support: getopt.Refused,
		Why:     "a kernel starts where its image says, and anywhere else it does not start",
		Instead: leaveOut},
	{Long: "reuseinitrd", Group: getopt.Without, Support: getopt.Refused,
		Why:     "the running kernel has freed its initramfs, and what it still has would be outside of the memory that a panic kernel may use",
		Instead: "name the file with --initrd; a kernel that was booted with retain_initrd may show it as /sys/firmware/initrd"},
	{Long: "hotplug", Group: getopt.Without, Support: getopt.Refused,
		Why:     "no riscv64 kernel up to 7.2 can change the header of the dump when CPUs or memory come and go",
		Instead: "leave it out: the header knows every CPU that can come; after memory has come or gone, load again"},
	{Long: "load-preserve-context", Group: getopt.Without, Support: getopt.Refused, Why: noJump, Instead: "use -l"},
	{Long: "load-jump-back-helper", Group: getopt.Without, Support: getopt.Refused, Why: noJump, Instead: "restart the machine to come back"},
	{Long: "load-live-update", Group: getopt.Without, Support: getopt.Refused, Why: noXen, Instead: "use -l"},
	{Long: "exec-live-update", Group: getopt.Without, Support: getopt.Refused, Why: noXen, Instead: "use -e"},
	{Long: "elf32-core-headers", Group: getopt.Without, Support: getopt.Refused, Elsewhere: onlyX86,
		Why:     "an ELF32 header cannot name memory above 4 GiB",
		Instead: leaveOut},
	{Long: "args-elf", Group: getopt.Without, Support: getopt.Refused, Elsewhere: onlyX86,
		Why: "it is for ELF programs that are not Linux; on riscv64 only Linux is loaded", Instead: leaveOut},
	{Long: "args-none", Group: getopt.Without, Support: getopt.Refused, Elsewhere: onlyX86,
		Why: "it is for ELF programs that are not Linux; on riscv64 only Linux is loaded", Instead: leaveOut},
	{Long: "module", Value: "FILE", Group: getopt.Without, Support: getopt.Refused, Elsewhere: onlyX86,
		Why: "it is for Multiboot kernels; on riscv64 only Linux is loaded", Instead: leaveOut},
	{Long: "real-mode", Group: getopt.Without, Support: getopt.Refused, Elsewhere: onlyX86,
		Why: "riscv64 has no such mode", Instead: leaveOut},
	{Long: "entry-32bit", Group: getopt.Without, Support: getopt.Refused, Elsewhere: onlyX86,
		Why: "a riscv64 kernel has one entry", Instead: leaveOut},
	{Long: "noefi", Group: getopt.Without, Support: getopt.Refused, Elsewhere: onlyX86,
		Why:     "what EFI left stands in the device tree, and without it the new kernel finds neither the memory map nor the ACPI tables",
		Instead: "put efi=noruntime or noefi on the new kernel's command line"},
	{Long: "pass-memmap-cmdline", Group: getopt.Without, Support: getopt.Refused, Elsewhere: onlyX86,
		Why: "the device tree says which memory a kernel may use", Instead: leaveOut},
	{Long: "reset-vga", Group: getopt.Without, Support: getopt.Refused, Elsewhere: onlyX86, Why: noVGA, Instead: leaveOut},
	{Long: "console-vga", Group: getopt.Without, Support: getopt.Refused, Elsewhere: onlyX86, Why: noVGA, Instead: consoleWords},
	{Long: "reuse-video-type", Group: getopt.Without, Support: getopt.Refused, Elsewhere: onlyX86, Why: "a riscv64 kernel gets no boot parameters with a video mode in them", Instead: leaveOut},
	{Long: "console-serial", Group: getopt.Without, Support: getopt.Refused, Elsewhere: onlyX86, Why: noPurgatory, Instead: consoleWords},
	{Long: "serial", Value: "PORT", Group: getopt.Without, Support: getopt.Refused, Elsewhere: "arm64, x86", Why: noPurgatory, Instead: consoleWords},
	{Long: "serial-baud", Value: "RATE", Group: getopt.Without, Support: getopt.Refused, Elsewhere: onlyX86, Why: noPurgatory, Instead: consoleWords},
	{Long: "dt-no-old-root", Group: getopt.Without, Support: getopt.Refused, Elsewhere: "arm, ppc64",
		Why:     "root= is taken over only with the whole command line",
		Instead: "say the whole command line with --command-line"},
	{Long: "atags", Group: getopt.Without, Support: getopt.Refused, Elsewhere: "arm", Why: "riscv64 kernels read a device tree", Instead: "leave it out, or use --dtb"},
	{Long: "image-size", Value: "SIZE", Group: getopt.Without, Support: getopt.Refused, Elsewhere: "arm",
		Why: "a riscv64 image says itself how much memory it takes", Instead: leaveOut},
	{Long: "page-offset", Value: "ADDR", Group: getopt.Without, Support: getopt.Refused, Elsewhere: "arm",
		Why: "it is read from the running kernel", Instead: leaveOut},
}
