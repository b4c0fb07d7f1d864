package main

import "github.com/panicroom-kdump/panicroom/capture"

// levelHelp explains --level.
const levelHelp = `--level is full (all memory), kernel (what is the kernel's), report
(of that only what a report needs) or a dump level of makedumpfile, the sum of
the pages left out: 1 for zero pages, 2 for cache, 4 for private cache, 8 for
memory of programs, 16 for free pages. full is 0, kernel is 31.`

// levelFlag is --level.
type levelFlag struct{ level *int }

// String is flag.Value's.
func (f levelFlag) String() string {
	if f.level == nil {
		return ""
	}
	return capture.LevelName(*f.level)
}

// Set is flag.Value's.
func (f levelFlag) Set(text string) (err error) {
	level, err := capture.ParseLevel(text)
	if err == nil {
		*f.level = level
	}
	return err
}

// Type is what help calls a value.
func (f levelFlag) Type() string { return "LEVEL" }
