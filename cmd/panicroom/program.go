package main

import (
	"fmt"
	"os"
	"strings"
)

// program runs a program of the system, named by its path, and lets it say what it
// says on standard error.
func program(args []string) error {
	p, err := os.StartProcess(args[0], args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stderr, os.Stderr}})
	if err != nil {
		return err
	}
	state, err := p.Wait()
	if err == nil && !state.Success() {
		err = fmt.Errorf("%s: %v", strings.Join(args, " "), state)
	}
	return err
}
