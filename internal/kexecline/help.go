package kexecline

// HelpText is what kexec --help prints.
func HelpText() string {
	return `Usage: kexec -p FILE [--initrd=FILE] [--reuse-cmdline] [--append=TEXT]
       kexec -l FILE [--initrd=FILE] [--reuse-cmdline] [--append=TEXT]
       kexec -e | -f FILE | -u | -p -u | -S | --print-ckr-size

Load a kernel and start it without the firmware, or have it started by a panic.
This is panicroom, called by the name and with the options of kexec-tools. FILE
is a riscv64 kernel image of any form; "panicroom load" does more.
` + Program().List() + `
Exit status: 0 done, 1 not; -S: 1 loaded, 0 not loaded, 255 unknown.
`
}
