package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/kernel"
)

// Exit codes of vmcore-dmesg; docs/makedumpfile.md has them.
const (
	dmesgDone   = 0
	dmesgUsage  = 1
	dmesgFailed = 2
)

// vmcoreDmesg is the command called by the name vmcore-dmesg, which kexec-tools
// has: it prints the log of the kernel in a dump. It returns the exit code.
func vmcoreDmesg(args []string, stdout, stderr io.Writer) int {
	const usage = "usage: vmcore-dmesg VMCORE\n"
	if len(args) == 1 && (args[0] == "-?" || args[0] == "-h" || args[0] == "--help") {
		fmt.Fprint(stdout, usage+"\nPrint the log of the dead kernel in VMCORE, a dump in any format. This is\npanicroom, called by the name of a program of kexec-tools; \"panicroom log\" does\nmore.\n")
		return dmesgDone
	}
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		fmt.Fprint(stderr, usage)
		return dmesgUsage
	}
	d, k, err := openKernel(args[0])
	if err == nil {
		_, err = capture.SaveLogAs(stdout, k, 0, kernel.LogRecord.ShortLine)
		d.Close()
	}
	if err != nil {
		ui.WriteError(stderr, "vmcore-dmesg", needsRoot(err, os.Geteuid() == 0))
		return dmesgFailed
	}
	return dmesgDone
}
