package main

import (
	"fmt"
	"io"
	"os"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
)

// harm is what a culprit does. Of most of it there is no return.
func harm(what string, args []string) error {
	switch {
	case what == script.HarmWrite && len(args) == 2:
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
