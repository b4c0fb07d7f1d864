package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// dumpIn finds the dump that a person means: a file, or the one in the
// directory of a saved crash.
func dumpIn(path string) (string, error) {
	const list = "panicroom list shows the crashes that are saved on this machine"
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", ui.Hint(err, list)
	} else if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return path, nil
	}
	dump := filepath.Join(path, "vmcore")
	if _, err := os.Stat(dump); errors.Is(err, fs.ErrNotExist) {
		return "", ui.Hint(fmt.Errorf("%s: no vmcore in this directory: %w", path, err),
			"name the directory of one saved crash, or a dump file", list)
	} else if err != nil {
		return "", err
	}
	return dump, nil
}

// noDump says what a dump is, of a file that is none.
func noDump(err error) error {
	if errors.Is(err, vmcore.ErrUnrecognizedFormat) && len(ui.Hints(err)) == 0 {
		return ui.Hint(err, "a dump is a file in the format ELF or kdump-compressed, flattened or not; a saved crash has it in its directory, as vmcore")
	}
	return err
}

// openKernel opens a dump and the kernel in it. Closing the dump closes both.
func openKernel(path string) (*vmcore.Dump, *kernel.Kernel, error) {
	path, err := dumpIn(path)
	if err != nil {
		return nil, nil, err
	}
	d, err := vmcore.Open(path)
	if err != nil {
		return nil, nil, noDump(err)
	}
	k, err := kernel.Open(d, nil)
	if err != nil {
		d.Close()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, k, nil
}
