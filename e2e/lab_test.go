//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// The lab itself: a machine that panics with nothing loaded ends, its steps and
// files are told rightly.
func TestLab(t *testing.T) {
	t.Parallel()
	k := kernel(t, "trixie")
	s := &lab.Scenario{
		Name: "lab", Kernel: k, CPUs: 2, MemMiB: 768, SV: 39, KeepRAM: true,
		Disk: &lab.Disk{SizeMiB: 256}, Programs: []string{panicRoom(t, k)},
		Steps: []script.Step{
			lab.Burden(),
			lab.Run("panicroom", "version"),
			{Name: "no such program", Run: &script.Run{Args: []string{"/nonesuch"}}},
			{Name: "file", Write: &script.Write{Path: lab.CrashDir + "/dir/file", Data: []byte("text\n")}},
			{Name: "panic", Write: &script.Write{Path: "/proc/sysrq-trigger", Data: []byte("c")}},
			lab.Run("never"),
		},
	}
	o := run(t, s)
	if !o.Panicked() || o.Finished || o.CrashKernel() >= 0 {
		t.Errorf("panicked %v, finished %v, crash kernel's line %d; want a panic and nothing after\n%s",
			o.Panicked(), o.Finished, o.CrashKernel(), o.Story())
	}
	if r, ok := o.Step("panicroom version"); !ok || r.Exit != 0 || !strings.Contains(r.Stdout, "panicroom") {
		t.Errorf("panicroom version: %+v", r)
	}
	if r, ok := o.Step("no such program"); !ok || r.Exit == 0 || r.Text == "" {
		t.Errorf("no such program: %+v; want a failure", r)
	}
	if r, ok := o.Step("panic"); !ok || r.Ended {
		t.Errorf("panic: %+v; want no end", r)
	}
	if _, ok := o.Step("never"); ok {
		t.Errorf("a step ran after the crash\n%s", o.Story())
	}
	if o.Facts.CPUs != 2 || o.Facts.Crash != 0 || o.Facts.Release != k.Release {
		t.Errorf("facts %+v", o.Facts)
	}
}
