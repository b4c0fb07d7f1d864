package main

import (
	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/crashenv"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

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

// formFlags are the flags of how a crash's dump is written.
func formFlags(cmd *cobra.Command, form *crashenv.Form) {
	f := cmd.Flags()
	f.StringVar((*string)(&form.Format), "format", string(capture.FormatKdump), "kdump or elf: `F`")
	f.StringVar(&form.Compression, "compress", vmcore.CompressionZstd.String(), "zstd, lzo, snappy, zlib or none: `C`")
}
