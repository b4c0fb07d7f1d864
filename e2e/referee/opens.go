package referee

import (
	"context"
	_ "embed" // opens.py
	"fmt"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

//go:embed opens.py
var opensScript string

// Opened is what libkdumpfile says of a dump.
type Opened struct {
	Pages int    `json:"pages"` // that the dump says to have
	Wrong int    `json:"wrong"` // of them, that are not the memory's or cannot be read
	First string `json:"first"` // of those
	Error string `json:"error"` // it did not open
}

// Open lets libkdumpfile of Debian sid read every page of some dumps of one
// memory, which lies in a file from the physical address base on.
func Open(ctx context.Context, memory string, base uint64, dumps []string, say func(string, ...any)) ([]Opened, error) {
	root, err := lab.FetchSysroot(ctx, lab.SysrootOptions{Suite: "sid", Arch: "amd64", Packages: readerPackages, Say: say})
	if err != nil {
		return nil, err
	}
	job := struct {
		Memory string   `json:"memory"`
		Base   uint64   `json:"base"`
		Dumps  []string `json:"dumps"`
	}{memory, base, dumps}
	var said struct {
		Answers []Opened `json:"answers"`
	}
	if err := runPython(ctx, root, opensScript, job, &said); err != nil {
		return nil, err
	}
	if len(said.Answers) != len(dumps) {
		return nil, fmt.Errorf("%d answers about %d dumps", len(said.Answers), len(dumps))
	}
	return said.Answers, nil
}
