package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/reserve"
)

// writeData writes what the test of the model reads.
func writeData(path string, all []*found) error {
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// table compares what was found with what the model says.
func table(all []*found) string {
	var b strings.Builder
	b.WriteString("| target | kernel | modules | smallest that works | with 4 MiB less | needed | recommended | more than smallest |\n|---|---|---|---|---|---|---|---|\n")
	for _, f := range all {
		rec := reserve.Recommend(f.Facts)
		name := append(strings.Split(f.Row, "/"), "", "")
		fmt.Fprintf(&b, "| %s | %s | %s | %d MiB | %s | %s | %s | %.0f %% |\n", name[0], f.Kernel, name[2], f.Minimum, f.below(),
			ui.Bytes(rec.Needed), ui.Bytes(rec.Size), (float64(rec.Size>>20)/float64(f.Minimum)-1)*100)
	}
	return b.String()
}

// below is how the largest size ended that was too small.
func (f *found) below() string {
	for _, t := range f.Tries {
		if t.MiB == f.Minimum-stepMiB {
			end, _, _ := strings.Cut(t.End, ":")
			return end
		}
	}
	return "not tried"
}
