package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/crashenv"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// memLimitFlag says what --mem-limit of save and convert is.
const memLimitFlag = "take at most `SIZE` of memory (default: 64M)"

// memLimit reads --mem-limit; 0 if it was not given.
func memLimit(cmd *cobra.Command, text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := ui.ParseBytes(text)
	switch {
	case err != nil:
		return 0, usage(cmd, fmt.Errorf("--mem-limit: %w", err))
	case n < crashenv.MinMemLimit:
		return 0, usage(cmd, fmt.Errorf("--mem-limit %s: it takes at least %s", text, ui.Bytes(crashenv.MinMemLimit)))
	}
	return n, nil
}
