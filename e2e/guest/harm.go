package main

import (
	"fmt"
	"os"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
)

// harm is what a culprit does. Of most of it there is no return.
func harm(what string, args []string) error {
	switch {
	case what == script.HarmWrite && len(args) == 2:
		return os.WriteFile(args[0], []byte(args[1]), 0o644)
	case what == script.HarmWait:
		for {
			time.Sleep(time.Minute)
		}
	}
	return fmt.Errorf("no such harm: %q %q", what, args)
}
