//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// What is reserved and not needed is given back to the running kernel, and a crash
// afterwards is saved whole, the memory that came back included. On the way the
// boot loader's file is edited and put back.
func TestReserve(t *testing.T) {
	t.Parallel()
	const (
		fixture = "../internal/bootloader/testdata/machines/extlinux-dos/boot/extlinux/extlinux.conf"
		given   = 256 << 20
	)
	before, err := os.ReadFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	k := kernel(t, "trixie")
	reserve := func(name string, flags ...string) script.Step {
		return named(name, lab.Run(append([]string{"panicroom", "reserve", "--target", lab.CrashDir}, flags...)...))
	}
	show := func(name, path string) script.Step {
		return script.Step{Name: name, Show: &script.Show{Paths: []string{path}}}
	}
	const size = "/sys/kernel/kexec_crash_size"
	o := run(t, &lab.Scenario{
		Name: "reserve", Kernel: k, CPUs: 2, MemMiB: 1024, Crashkernel: strconv.Itoa(given>>20) + "M",
		Disk: &lab.Disk{SizeMiB: 2048}, Programs: []string{panicRoom(t, k)},
		Files: map[string]string{extlinux: fixture},
		Steps: []script.Step{
			reserve("recommend", "--json"),
			reserve("apply", "--apply"),
			show("edited", extlinux),
			reserve("undo", "--undo"),
			show("undone", extlinux),
			loadStep(),
			reserve("shrink while loaded", "--shrink"),
			named("unload", lab.Run("panicroom", "unload")),
			reserve("shrink", "--shrink"),
			show("size", size),
			named("again", loadStep("--test-raw")),
			crashStep(1),
		},
	})
	step := func(name string, exit int) string {
		t.Helper()
		r, ok := o.Step(name)
		if !ok || !r.Ended || r.Exit != exit {
			t.Fatalf("%s: %+v; want exit %d\n%s", name, r, exit, o.Story())
		}
		return r.Stdout
	}
	var answer struct {
		Recommendation struct {
			Needed, Size uint64
			Addends      []struct{ Name string }
		}
		Enough bool
		Value  string
	}
	if err := json.Unmarshal([]byte(step("recommend", 0)), &answer); err != nil {
		t.Fatal(err)
	}
	rec := answer.Recommendation
	if !answer.Enough || rec.Needed == 0 || rec.Size <= rec.Needed || rec.Size >= given || len(rec.Addends) < 5 || answer.Value != strconv.FormatUint(rec.Size>>20, 10)+"M" {
		t.Errorf("recommended: %+v", answer)
	}
	step("apply", 0)
	if text := step("edited", 0); strings.Count(text, "crashkernel="+answer.Value) != 2 {
		t.Errorf("not in both labels:\n%s", text)
	}
	step("undo", 0)
	if text := step("undone", 0); text != string(before) {
		t.Errorf("undone: %q; want %q", text, before)
	}
	step("load", 0)
	refusal{"shrink while loaded", 4, "is loaded", "panicroom unload"}.check(t, o)
	step("shrink", 0)
	if text := strings.TrimSpace(step("size", 0)); text != strconv.FormatUint(rec.Size, 10) {
		t.Errorf("%s bytes are reserved; want %d", text, rec.Size)
	}
	step("again", 0)
	// The step that was refused is no fault of the run.
	for i, r := range o.Results {
		if r.Name == "shrink while loaded" {
			o.Results[i].Exit = 0
		}
	}
	s := mustCrash(t, o, 1)
	judge(t, s, false)
	// What came back is memory of the dead kernel like any other.
	pages := uint64(1024<<20-rec.Size) / 4096
	if n := s.manifest.Dump.Pages.Total; n < pages-1024 || n > pages {
		t.Errorf("the dump knows of %d pages; want nearly all of %d", n, pages)
	}
}
