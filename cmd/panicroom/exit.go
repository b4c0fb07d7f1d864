package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/panicroom-kdump/panicroom/crashenv"
	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/kimage"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/load"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Exit codes are an interface: docs/exit-codes.md is this table.
const (
	exitDone          = 0
	exitError         = 1 // anything without a code of its own
	exitUsage         = 2 // the command line is wrong
	exitNeedsRoot     = 3
	exitRefused       = 4 // a rule of ours or the kernel's would be broken; nothing was changed
	exitKernelRefused = 5 // the kernel refused in spite of our checks
	exitIncomplete    = 6 // a dump was saved, but not all of it
	exitNotADump      = 7
	exitNotArmed      = 8 // a panic now would leave no dump, or not a whole one
	exitConfig        = 9 // the configuration is wrong
)

// needsRoot says of what a user may not do that root may, and how.
func needsRoot(err error, root bool) error {
	if !root && errors.Is(err, fs.ErrPermission) && !errors.Is(err, load.ErrNotRoot) {
		err = fmt.Errorf("%w: %w", err, load.ErrNotRoot)
	}
	if errors.Is(err, load.ErrNotRoot) && len(ui.Hints(err)) == 0 {
		err = ui.Hint(err, "run the command as root, for example with sudo")
	}
	return err
}

// exitCode maps an error to the exit code that scripts see.
func exitCode(err error) int {
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, ui.ErrUsage):
		return exitUsage
	// Before the others: a refusal may be for want of being root.
	case errors.Is(err, load.ErrNotRoot):
		return exitNeedsRoot
	case errors.Is(err, load.ErrKernelRefused):
		return exitKernelRefused
	case errors.Is(err, load.ErrRefused), isImageError(err):
		return exitRefused
	case errors.Is(err, errNotArmed):
		return exitNotArmed
	case errors.Is(err, config.ErrInvalid):
		return exitConfig
	case errors.Is(err, crashenv.ErrIncomplete):
		return exitIncomplete
	case errors.Is(err, vmcore.ErrUnrecognizedFormat), errors.Is(err, vmcore.ErrCorrupt):
		return exitNotADump
	}
	return exitError
}

// isImageError tells whether a kernel image is what was refused.
func isImageError(err error) bool {
	_, ok := errors.AsType[*kimage.Error](err)
	return ok
}
