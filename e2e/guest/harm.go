package main

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
)

// harm is what a culprit does. Of most of it there is no return.
func harm(what string, args []string) error {
	switch {
	case what == script.HarmWrite && len(args) == 2:
		return os.WriteFile(args[0], []byte(args[1]), 0o644)
	case what == script.HarmStall && len(args) == 2:
		asked := make(chan error)
		go func() {
			for {
				asked <- waitForAll()
			}
		}()
		if err := <-asked; err != nil {
			return fmt.Errorf("membarrier: %w", err)
		}
		go func() {
			for range asked {
			}
		}()
		return os.WriteFile(args[0], []byte(args[1]), 0o644)
	case what == script.HarmWait:
		// Blocked in a system call: Go calls a program of sleeping goroutines dead.
		r, _, err := os.Pipe()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		return err
	}
	return fmt.Errorf("no such harm: %q %q", what, args)
}

// waitForAll waits until every CPU was out of the kernel once: membarrier(2) with
// MEMBARRIER_CMD_GLOBAL, which waits for a grace period of RCU.
func waitForAll() error {
	const membarrier, global = 283, 1 // include/uapi/asm-generic/unistd.h, include/uapi/linux/membarrier.h
	if _, _, errno := syscall.Syscall(membarrier, global, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
