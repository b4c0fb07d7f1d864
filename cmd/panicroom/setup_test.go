package main

import (
	"encoding/json"
	"io/fs"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/setup"
)

// bare is a machine on which setup was never run.
type bare struct{ setup.Machine }

func (bare) ReadFile(name string) ([]byte, error) { return nil, fs.ErrNotExist }

// Programs get an answer to --undo, too.
func TestSetupUndo(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var out strings.Builder
		c := &command{stdout: &out, json: asJSON}
		if err := c.undo(t.Context(), &setup.Steps{Machine: bare{}, Say: c.step}); err != nil {
			t.Fatal(err)
		}
		if !asJSON {
			if !strings.HasPrefix(out.String(), "nothing to undo: ") {
				t.Errorf("said %q", out.String())
			}
			continue
		}
		var got struct {
			Undone []string `json:"undone"`
		}
		if err := json.Unmarshal([]byte(out.String()), &got); err != nil || len(got.Undone) != 1 {
			t.Errorf("%q: %v", out.String(), err)
		}
	}
}
