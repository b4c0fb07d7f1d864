//go:build e2e

package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// A kernel that was started by kexec has the whole machine, and can be armed
// and saved like any other.
func TestReboot(t *testing.T) {
	t.Parallel()
	for _, suite := range []string{"trixie", "sid"} {
		if suite != "sid" && !full() {
			continue
		}
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			k := kernel(t, suite)
			status := func(name string) script.Step {
				return named(name, lab.Run("panicroom", "status"))
			}
			o := run(t, &lab.Scenario{
				Name: "reboot-" + suite, Kernel: k, CPUs: 2, MemMiB: 1024, Crashkernel: "144M",
				Disk: &lab.Disk{SizeMiB: 2048}, Programs: []string{panicRoom(t, k)},
				Steps: []script.Step{
					named("nothing to start", lab.Run("panicroom", "reboot", "--kexec", "--yes")),
					status("not armed"),
					loadStep(),
					status("armed"),
					named("load the next", lab.Run("panicroom", "load", "--reboot", "--initramfs", lab.NextInitrd, "--append", "started.by=kexec")),
					status("still armed"),
					{Name: "unmount", Unmount: &script.Unmount{Target: lab.CrashDir}},
					named("start it", lab.Run("panicroom", "reboot", "--kexec", "--force", "--yes")),
				},
				Next: []script.Step{
					{Name: "command line", Show: &script.Show{Paths: []string{"/proc/cmdline"}}},
					named("load again", loadStep()),
					status("armed again"),
					crashStep(0),
				},
			})
			refusal{"nothing to start", 4, "no kernel to reboot into is loaded", "load --reboot"}.check(t, o)
			if r, ok := o.Step("not armed"); !ok || r.Exit != 8 || !strings.Contains(r.Stdout, "broken   loaded") || !strings.Contains(r.Stdout, "panicroom load") {
				t.Errorf("not armed: %+v; want exit 8, and what to do", r)
			}
			for _, step := range []string{"load", "armed", "load the next", "still armed", "load again", "armed again"} {
				if r, ok := o.Step(step); !ok || r.Exit != 0 {
					t.Errorf("%s: %+v", step, r)
				}
			}
			for _, step := range []string{"armed", "still armed", "armed again"} {
				r, _ := o.Step(step)
				for _, says := range []string{"4 of 4 segments are intact", "as it was when the panic kernel was loaded"} {
					if !strings.Contains(r.Stdout, says) {
						t.Errorf("%s says %q; want %q", step, r.Stdout, says)
					}
				}
			}
			if r, ok := o.Step("command line"); !ok || !strings.Contains(r.Stdout, "crashkernel=144M started.by=kexec") {
				t.Errorf("the next kernel's command line: %+v\n%s", r, o.Story())
			}
			if o.Facts != nil && o.Facts.TotalKiB < 784<<10 {
				t.Errorf("the next kernel has %d KiB of the machine's 1 GiB", o.Facts.TotalKiB)
			}
			if !o.PoweredOff() {
				t.Errorf("the machine did not power off by itself\n%s", o.Story())
			}
			// Three kernels: the first, the next, and its panic kernel.
			starts := 0
			for _, l := range o.Lines {
				if regexp.MustCompile(`Linux version \d`).MatchString(l.Text) {
					starts++
				}
			}
			crashes, err := o.Crashes(t.Context())
			if err != nil || starts != 3 || len(crashes) != 1 || strings.HasSuffix(crashes[0], "-incomplete") {
				t.Errorf("%d kernels started, crashes %q, %v\n%s", starts, crashes, err, o.Story())
			}
		})
	}
}
