//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// savingTo is what the panic kernel says of where a crash is.
var savingTo = regexp.MustCompile(`saving to ` + lab.CrashDir + `/(\S+)-incomplete`)

// A directory on a filesystem that is not for Linux alone, and on one for flash: both
// are mounted by modules that need others, and the one has neither modes nor names
// with colons. xfs and btrfs are in e2e/measure.
func TestTargetFilesystems(t *testing.T) {
	t.Parallel()
	for kind, colons := range map[string]bool{"vfat": false, "f2fs": true} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			const mib = 384
			k := kernel(t, "trixie")
			o := run(t, &lab.Scenario{
				Name: "target-" + kind, Kernel: k, MemMiB: 640, Crashkernel: "144M", Disk: &lab.Disk{SizeMiB: mib, Type: kind}, Programs: []string{panicRoom(t, k)},
				Steps: []script.Step{loadTo([]string{lab.CrashDir}), crashStep(0)},
			})
			ends(t, o)
			r, _ := o.Step("load")
			if warns := strings.Contains(r.Stderr, "others can read"); warns != (kind == "vfat") {
				t.Errorf("load warns of readers: %v\n%s", warns, r.Stderr)
			}
			line, at := o.Console(savingTo, o.CrashKernel())
			if at < 0 {
				t.Fatalf("the panic kernel does not say where the crash is\n%s", o.Story())
			}
			name := savingTo.FindStringSubmatch(line.Text)[1]
			if strings.Contains(name, ":") != colons {
				t.Errorf("the crash is called %s; want colons: %v", name, colons)
			}
			dir := filepath.Join(nextBoot(t, k, o, kind, name, mib), name)
			// Its modes are those of the copy.
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			s := onlyCrash(t, o, filepath.Dir(dir))
			if want := lab.CrashDir + "/" + name; s.manifest.Path != want {
				t.Errorf("path %s; want %s", s.manifest.Path, want)
			}
			if t.Failed() {
				t.Log(o.Story())
			}
		})
	}
}

// nextBoot has the next boot list and report what the last has left on its disk, and
// copies the crash of that name to where it can be looked at.
func nextBoot(t *testing.T, k *lab.Kernel, o *lab.Outcome, kind, name string, mib uint64) string {
	t.Helper()
	const data = "/data"
	steps := []script.Step{
		{Name: "map", Map: &script.Map{Serial: "left", Name: "left", Sectors: mib << 11, Target: data, Type: kind}},
		named("list", lab.Run("panicroom", "list", "--json", data)),
		named("report", lab.Run("panicroom", "report", filepath.Join(data, name, "vmcore"))),
	}
	for _, file := range []string{"dmesg.txt", "vmcore", "report.txt", "report.json", "manifest.json"} {
		steps = append(steps, script.Step{Name: file, Write: &script.Write{
			Path: filepath.Join(lab.CrashDir, name, file), Mode: 0o600, Copy: filepath.Join(data, name, file)}})
	}
	next := run(t, &lab.Scenario{
		Name: "target-" + kind + "-next", Kernel: k, MemMiB: 640, Disk: &lab.Disk{SizeMiB: int(mib)}, Programs: []string{panicRoom(t, k)},
		Modules: append([]string{"dm_mod"}, lab.FilesystemModules(kind)...), Extra: attach(o.Disk, "left"), Steps: steps,
	})
	for _, s := range steps {
		if r, ok := next.Step(s.Name); !ok || r.Exit != 0 {
			t.Fatalf("%s: exit %d %s\n%s", s.Name, r.Exit, r.Text, next.Story())
		}
	}
	var list []struct {
		Name     string `json:"name"`
		Complete bool   `json:"complete"`
		Ours     bool   `json:"ours"`
	}
	r, _ := next.Step("list")
	if err := json.Unmarshal([]byte(r.Stdout), &list); err != nil || len(list) != 1 || !list[0].Complete || !list[0].Ours || list[0].Name != name {
		t.Errorf("list: %v\n%s", err, r.Stdout)
	}
	if r, _ := next.Step("report"); !strings.Contains(r.Stdout, "sysrq triggered crash") {
		t.Errorf("the report of the dump does not tell of the panic\n%s", r.Stdout)
	}
	dir, err := next.Files(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
