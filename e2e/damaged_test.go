//go:build e2e

package e2e

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// answersDamaged damages copies of a dump and asks everything of them, as make
// mutate does ten thousand times; in a process of its own, whose memory and time
// are its own.
func answersDamaged(t *testing.T, dump string) {
	t.Helper()
	program, err := lab.Build(t.Context(), "e2e/mutate/cmd/mutate", runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	n := "150"
	if full() {
		n = "2000"
	}
	out, err := exec.CommandContext(t.Context(), program, "-dump", dump, "-n", n, "-jobs", "1").CombinedOutput()
	t.Log(strings.TrimSpace(string(out)))
	if err != nil {
		t.Errorf("damaged dumps: %v", err)
	}
}
