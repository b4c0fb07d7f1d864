//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/e2e/referee"
	dead "github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// loadStep loads the panic kernel as a user would.
func loadStep(flags ...string) script.Step {
	s := lab.Run(append([]string{"panicroom", "load", "--target", lab.CrashDir, "--final", "poweroff"}, flags...)...)
	s.Name = "load"
	return s
}

// crashStep crashes the machine on a CPU.
func crashStep(cpu int) script.Step {
	s := lab.Run("panicroom", "crash", "--yes", "--cpu", strconv.Itoa(cpu))
	s.Name = "crash"
	return s
}

// loaded shows whether the kernel has a panic kernel, by its own word.
func loaded(name string) script.Step {
	return script.Step{Name: name, Show: &script.Show{Paths: []string{"/sys/kernel/kexec_crash_loaded"}}}
}

// manifest is what these tests ask of manifest.json, written down a second
// time so that a field that changes its name is noticed.
type manifest struct {
	Path     string   `json:"path"`
	Complete bool     `json:"complete"`
	Reasons  []string `json:"reasons"`
	Warnings []string `json:"warnings"`
	// Attempts are the targets before, which did not take the dump.
	Attempts []struct {
		Target  string  `json:"target"`
		Phase   string  `json:"phase"`
		Error   string  `json:"error"`
		Seconds float64 `json:"seconds"`
	} `json:"attempts"`
	// Integrity is what the panic kernel found of itself.
	Integrity []struct {
		What   string `json:"what"`
		Result string `json:"result"`
		Detail string `json:"detail"`
	} `json:"integrity"`
	Level int `json:"level"`
	Dump  struct {
		Pages struct {
			Total uint64 `json:"total"`
			Saved uint64 `json:"saved"`
		} `json:"pages"`
		Unreadable []struct {
			Start uint64 `json:"start"`
			End   uint64 `json:"end"`
		} `json:"unreadable"`
	} `json:"dump"`
	Memory struct {
		Total        uint64 `json:"total"`
		AvailableMin uint64 `json:"available_min"`
		PeakRSS      uint64 `json:"peak_rss"`
		Supervisor   uint64 `json:"supervisor_anonymous"`
		Reporter     uint64 `json:"reporter_anonymous"`
	} `json:"memory"`
	Files []savedFile `json:"files"`
}

// maxPeakRSS is what the process that saves the dump may touch, whatever the
// machine's size: the panic room is made for it. 15 MiB were measured on 1 GiB
// of memory, a third of which is the binary's own pages; whoever raises it
// says here what for.
const maxPeakRSS = 24 << 20

// maxSupervisor is what PID 1 may take beside its binary's pages: it must live
// when all else is killed for want of memory. 0.9 MiB were measured.
const maxSupervisor = 4 << 20

// maxReporter is what the process that reports may take beside its binary's pages.
// The sum of reserve counts 10 MiB for it and PID 1.
const maxReporter = 8 << 20

type savedFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// saved is a saved crash on this machine.
type saved struct {
	dir      string
	manifest manifest
	dmesg    string
	report   string
}

func (s *saved) file(name string) string { return filepath.Join(s.dir, name) }

// mustCrash checks that the run went the whole way, panic to power off, and
// returns what was saved.
func mustCrash(t *testing.T, o *lab.Outcome, cpu int) *saved {
	t.Helper()
	story := func(format string, args ...any) {
		t.Helper()
		t.Fatalf(format+"\n%s", append(args, o.Story())...)
	}
	for _, r := range o.Results {
		if r.Ended && r.Exit != 0 {
			story("step %s: exit %d %s", r.Name, r.Exit, r.Text)
		}
	}
	if !o.Panicked() {
		story("the kernel did not panic")
	}
	if o.CrashKernel() < 0 {
		story("the panic kernel did not start")
	}
	if failed, i := o.Console(regexp.MustCompile(`panicroom: .*FAILED`), 0); i >= 0 {
		story("a phase failed: %s", failed.Text)
	}
	if !o.PoweredOff() {
		story("the machine did not power off by itself")
	}
	crashes, err := o.Crashes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(crashes) != 1 || strings.HasSuffix(crashes[0], "-incomplete") {
		story("saved crashes %q; want one, complete", crashes)
	}
	if !o.DiskClean {
		t.Errorf("the filesystem was not unmounted")
	}
	s := readSaved(t, crashes[0])
	if !s.manifest.Complete || len(s.manifest.Reasons) > 0 || len(s.manifest.Warnings) > 0 {
		t.Errorf("manifest: complete %v, reasons %q, warnings %q; want a complete one without",
			s.manifest.Complete, s.manifest.Reasons, s.manifest.Warnings)
	}
	if peak := s.manifest.Memory.PeakRSS; peak == 0 || peak > maxPeakRSS {
		t.Errorf("saving took %d bytes of memory; want at most %d", peak, maxPeakRSS)
	}
	if init := s.manifest.Memory.Supervisor; init == 0 || init > maxSupervisor {
		t.Errorf("PID 1 took %d bytes of memory; want at most %d", init, maxSupervisor)
	}
	// A machine of some speed is through before anybody has looked.
	if reporter := s.manifest.Memory.Reporter; reporter > maxReporter {
		t.Errorf("the report took %d bytes of memory; want at most %d", reporter, maxReporter)
	} else {
		t.Logf("the report was seen with %d KiB of memory", reporter>>10)
	}
	for _, want := range []string{"dmesg.txt", "vmcore", "report.txt", "report.json"} {
		i := slices.IndexFunc(s.manifest.Files, func(f savedFile) bool { return f.Name == want })
		st, err := os.Stat(s.file(want))
		if i < 0 || err != nil {
			t.Errorf("%s: %v, in the manifest %v", want, err, i >= 0)
			continue
		}
		if f := s.manifest.Files[i]; f.Size != st.Size() || f.SHA256 != sha(t, s.file(want)) {
			t.Errorf("%s has %d bytes and another hash than the manifest says: %+v", want, st.Size(), f)
		}
	}
	asLoaded(t, s, "")
	panics := "Kernel panic - not syncing: sysrq triggered crash"
	on := regexp.MustCompile(fmt.Sprintf(`CPU: %d .*PID: \d+ .*Comm: panicroom`, cpu))
	switch {
	case !strings.Contains(s.dmesg, panics):
		t.Errorf("dmesg.txt does not tell of the panic")
	case !on.MatchString(s.dmesg):
		t.Errorf("dmesg.txt does not tell that CPU %d panicked in panicroom", cpu)
	}
	if !strings.Contains(s.report, "sysrq triggered crash") || !strings.Contains(s.report, o.Facts.Release) {
		t.Errorf("report.txt names no reason or no kernel:\n%s", s.report)
	}
	reportOfTheRoom(t, s)
	return s
}

// reportOfTheRoom checks that the panic kernel, which was told where members of
// structs are, came to what is found here with the types in the dump.
func reportOfTheRoom(t *testing.T, s *saved) {
	t.Helper()
	text, err := os.ReadFile(s.file("report.json"))
	if err != nil {
		t.Error(err)
		return
	}
	if diff := cmp.Diff(reportOf(t, s.file("vmcore")), strings.Split(string(text), "\n")); diff != "" {
		t.Errorf("report of the dump (-) and of the panic kernel (+):\n%s", diff)
	}
}

// asLoaded checks that the panic kernel has found all of itself as it was
// loaded, but for one part. What the kernel's own loader has put in place has
// no seal.
func asLoaded(t *testing.T, s *saved, but string) {
	t.Helper()
	results := map[string]string{}
	for _, v := range s.manifest.Integrity {
		results[v.What] = v.Result
		want := "ok"
		if v.What == but {
			want = "mismatch"
		}
		sealed := !strings.HasPrefix(v.What, "/") || v.What == "/plan.json"
		if sealed && strings.Contains(v.Detail, "kexec_file_load") {
			want = "not verified"
		}
		if v.Result != want {
			t.Errorf("integrity of %s: %s (%s); want %s", v.What, v.Result, v.Detail, want)
		}
	}
	for _, what := range []string{"device tree", "elfcorehdr", "/plan.json", "/init"} {
		if results[what] == "" {
			t.Errorf("integrity of %s is not in the manifest: %v", what, results)
		}
	}
}

// readSaved reads the saved crash in a directory, and checks that nobody else
// may.
func readSaved(t *testing.T, dir string) *saved {
	t.Helper()
	s := &saved{dir: dir}
	for name, into := range map[string]*string{"dmesg.txt": &s.dmesg, "report.txt": &s.report} {
		if text, err := os.ReadFile(s.file(name)); err == nil {
			*into = string(text)
		}
	}
	text, err := os.ReadFile(s.file("manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &s.manifest); err != nil {
		t.Fatalf("manifest.json: %v", err)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s has mode %v; want %v", path, st.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// openDump opens a dump and the kernel in it, until the test ends.
func openDump(t *testing.T, files ...string) (*vmcore.Dump, *dead.Kernel) {
	t.Helper()
	d, err := vmcore.Open(files[0], files[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	k, err := dead.Open(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d, k
}

// judge lets the referees compare the dump with the raw copy of the same
// crash; refilter has makedumpfile filter it again too.
func judge(t *testing.T, s *saved, refilter bool) *referee.Report {
	t.Helper()
	in := referee.Inputs{
		Dump: s.file("vmcore"), Raw: s.file("vmcore.raw"), Dmesg: s.file("dmesg.txt"),
		Level: s.manifest.Level, Referees: referee.Own | referee.Readers | referee.Log, Say: t.Logf,
	}
	if refilter {
		in.Referees |= referee.Refilter
	}
	for _, u := range s.manifest.Dump.Unreadable {
		in.Unreadable = append(in.Unreadable, referee.Range{Start: u.Start, End: u.End})
	}
	r, err := referee.Check(t.Context(), in)
	if err != nil {
		t.Error(err)
	}
	return r
}
