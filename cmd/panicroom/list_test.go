package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/panicroom-kdump/panicroom/after"
	"github.com/panicroom-kdump/panicroom/crashenv"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/report"
	"github.com/panicroom-kdump/panicroom/saved"
)

// crashes makes complete crashes with the manifest of crashenv, and returns their
// directory and a configuration with it.
func crashes(t *testing.T, more string, names ...string) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	for i, name := range names {
		text, err := json.Marshal(crashenv.Manifest{
			Version: 1, Name: name, Complete: true,
			Crash: crashenv.Crash{Time: time.Unix(1764072000+int64(i), 0), Release: "6.12.107", Panic: "Kernel panic - not syncing: test"},
			Host:  &crashenv.Host{Name: "board"},
			Tool:  crashenv.Tool{Version: "v1", Go: "go1.26"},
		})
		if err != nil {
			t.Fatal(err)
		}
		var rep bytes.Buffer
		if err := (&report.Report{Crash: report.Crash{Kind: report.KindSysrq, Reason: "sysrq triggered crash"}}).WriteJSON(&rep); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string][]byte{crashenv.ManifestFile: text, crashenv.ReportJSONFile: rep.Bytes(), crashenv.DumpFile: make([]byte, 1<<20)} {
			if err := os.WriteFile(filepath.Join(dir, name, file), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir, configured(t, fmt.Sprintf("[[target]]\ndir = %q\n[notify]\nhooks = \"\"\n%s", dir, more))
}

// What save has saved is a crash, here one whose kernel had no log.
func TestListOfSave(t *testing.T) {
	m := kerneltest.New(1)
	m.Finish()
	dir := t.TempDir()
	if code, _, errOut := try(t, "save", "--no-report", "--target", dir, "--name", "x", m.WriteFile(t)); code != exitIncomplete {
		t.Fatalf("save: code %d, %q", code, errOut)
	}
	list, err := saved.List(dir)
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if c := list[0]; c.Complete || !c.Ours || c.Name != "x-incomplete" || c.Kernel != "6.12.107-test" || !strings.Contains(c.Why(), "log") {
		t.Errorf("%+v", c)
	}
}

func TestList(t *testing.T) {
	dir, file := crashes(t, "", "one", "two")
	code, out, errOut := try(t, "list", "--config", file)
	if code != exitDone || errOut != "" || !strings.HasPrefix(out, dir+": 2 crashes, ") || strings.Count(out, "  complete\n") != 2 || !strings.HasSuffix(out, "\n  "+dir+"/two\n") {
		t.Errorf("code %d, %q, %q", code, out, errOut)
	}
	if code, named, _ := try(t, "list", dir); code != exitDone || named != out {
		t.Errorf("code %d, %q; want %q", code, named, out)
	}
	code, out, _ = try(t, "list", "--json", dir)
	var list []saved.Crash
	if err := json.Unmarshal([]byte(out), &list); code != exitDone || err != nil {
		t.Fatalf("code %d, %v, %q", code, err, out)
	}
	if len(list) != 2 || !list[0].Complete || !list[0].Ours || list[0].Kernel != "6.12.107" || list[0].Title != "Kernel panic: sysrq triggered crash" || list[0].Host != "board" || list[0].Path != filepath.Join(dir, "one") || list[0].Size == 0 {
		t.Errorf("%+v", list)
	}
	empty := t.TempDir()
	if code, out, _ := try(t, "list", empty); code != exitDone || out != empty+": no crash\n" {
		t.Errorf("code %d, %q", code, out)
	}
	if code, out, _ := try(t, "list", "--json", empty); code != exitDone || out != "[]\n" {
		t.Errorf("code %d, %q", code, out)
	}
	if code, _, errOut := try(t, "list", filepath.Join(empty, "absent")); code != exitError || !strings.Contains(errOut, "no such file") {
		t.Errorf("code %d, %q", code, errOut)
	}
	if code, _, errOut := try(t, "list", "--config", configured(t, "[[target]]\nssh = \"h:/x\"\n")); code != exitError || !strings.Contains(errOut, "of other machines\nhint: ") {
		t.Errorf("code %d, %q", code, errOut)
	}
}

// The table fits, whatever a dead kernel has said.
func TestListFits(t *testing.T) {
	long := strings.Repeat("very long ", 30)
	boot := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	list := []saved.Crash{
		{Path: "/var/crash/a", Name: "a", Time: boot, Kernel: "6.12.107+deb13-riscv64-with-a-long-name", Size: 1023 << 20, Complete: true, Title: long},
		{Path: "/var/crash/b-incomplete", Name: "b-incomplete", Time: boot, Kernel: "6.12", Size: 5, Reasons: []string{long}},
		{Path: "/var/crash/c-incomplete", Name: "c-incomplete", Time: boot, Written: boot, Title: "x"},
	}
	var b strings.Builder
	writeList(&b, "/var/crash", list, boot, 80)
	for line := range strings.Lines(b.String()) {
		if len(line) > 81 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
	want := `/var/crash: 3 crashes, 1023 MiB

TIME (UTC)           KERNEL                             SIZE  SAVED
2026-11-25 12:00:00  6.12.107+deb13-riscv64-wi...   1023 MiB  complete
  ` + long[:75] + `...
  /var/crash/a
2026-11-25 12:00:00  6.12                                5 B  in part
  not complete: ` + long[:61] + `...
  /var/crash/b-incomplete
2026-11-25 12:00:00                                      0 B  in progress
  x
  /var/crash/c-incomplete
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// What save has saved is what after tells of, once, and takes away.
func TestAfter(t *testing.T) {
	dir, file := crashes(t, "[keep]\ncount = 1\n", "one", "two")
	state := filepath.Join(t.TempDir(), "state")
	code, out, errOut := try(t, "after", "--dry-run", "--config", file, "--state", state)
	if code != exitDone || errOut != "" || strings.Count(out, "crash of ") != 2 || !strings.Contains(out, filepath.Join(dir, "one")+" would be removed") {
		t.Errorf("code %d, %q, %q", code, out, errOut)
	}
	code, out, errOut = try(t, "after", "--config", file, "--state", state)
	if code != exitDone || errOut != "" || strings.Count(out, "crash of ") != 2 || !strings.Contains(out, "removed "+filepath.Join(dir, "one")+" (") {
		t.Errorf("code %d, %q, %q", code, out, errOut)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || entries[0].Name() != "two" {
		t.Errorf("%v, %v", entries, err)
	}
	if code, out, errOut = try(t, "after", "--config", file, "--state", state); code != exitDone || out != "" || errOut != "" {
		t.Errorf("the second time: code %d, %q, %q", code, out, errOut)
	}
	// Programs get it all as one object, problems too.
	if err := os.WriteFile(filepath.Join(state, "after.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errOut = try(t, "after", "--json", "--config", file, "--state", state)
	var res after.Result
	if err := json.Unmarshal([]byte(out), &res); code != exitError || errOut != "" || err != nil || len(res.New) != 1 || len(res.Problems) != 1 {
		t.Errorf("code %d, %q, %q, %v", code, out, errOut, err)
	}
}
