package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
	"github.com/panicroom-kdump/panicroom/vmcore/vmcoretest"
)

// The running kernel is opened where it is understood; where it is not, it is said
// what can be done.
func TestOpenRunning(t *testing.T) {
	root := fstest.MapFS{"proc/iomem": {Data: []byte("80000000-87ffffff : System RAM\n  84000000-84ffffff : Crash kernel\n")}}
	d, k, err := openRunning(root, kerneltest.New(1).Finish().WriteFile(t))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if r := k.Info().Release(); r != "6.12.107-test" || !d.Live() {
		t.Errorf("live %v, release %q", d.Live(), r)
	}
	other := vmcoretest.New(kerneltest.Base, 1<<20)
	other.Machine = vmcore.MachineX86_64
	other.SetVMCoreInfo("OSRELEASE=7.2.0\nPAGESIZE=4096\n")
	for path, want := range map[string]error{other.WriteFile(t): kernel.ErrUnsupported, filepath.Join(t.TempDir(), "kcore"): fs.ErrNotExist} {
		if _, _, err := openRunning(root, path); !errors.Is(err, want) || len(ui.Hints(err)) == 0 {
			t.Errorf("%v, hints %q; want %v and what to do", err, ui.Hints(err), want)
		}
	}
}

// Verbs of a dump that says little of its kernel: what can be answered is, and what
// cannot is told with what to do.
func TestQuestions(t *testing.T) {
	m := kerneltest.New(1).Finish()
	m.Put(kerneltest.Base+vmcore.PhysAddr(1<<20), []byte("what was written"))
	dump := m.WriteFile(t)
	at := kernel.VirtAddr(kerneltest.Linear(kerneltest.Base + 1<<20)).String()
	code, out, errOut := try(t, "rd", dump, at, "2")
	if want := strings.TrimPrefix(at, "0x") + ":  "; code != exitDone || errOut != "" || !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "  what was written\n") {
		t.Errorf("rd: code %d, %q, %q", code, out, errOut)
	}
	code, out, _ = try(t, "rd", "--json", dump, at, "1")
	var got struct {
		Addr  kernel.VirtAddr `json:"addr"`
		Words []string        `json:"words"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitDone || got.Addr.String() != at || len(got.Words) != 1 {
		t.Errorf("rd --json: code %d, %+v, %v", code, got, err)
	}
	// What lies at the end of memory is answered as far as it is there.
	end := kernel.VirtAddr(kerneltest.Linear(kerneltest.Base+1<<27) - 16).String()
	if code, out, errOut := try(t, "rd", dump, end, "4"); code != exitError || strings.Count(out, "\n") != 1 || !strings.HasPrefix(errOut, "panicroom: ") {
		t.Errorf("rd at the end: code %d, %q, %q; want one line and an error", code, out, errOut)
	}
	if code, out, errOut := try(t, "rd", "--json", dump, end, "4"); code != exitError || !json.Valid([]byte(out)) || !strings.HasPrefix(errOut, "panicroom: ") {
		t.Errorf("rd --json at the end: code %d, %q, %q; want one object, and an error beside it", code, out, errOut)
	}
	for _, line := range [][]string{{"ps", dump}, {"bt", dump}, {"mod", dump}, {"sym", dump, "x"}, {"struct", dump, "page"}, {"dis", dump, "panic"}} {
		if code, out, errOut := try(t, line...); code != exitError || out != "" || !strings.HasPrefix(errOut, "panicroom: ") {
			t.Errorf("%q: code %d, %q, %q; want an error", line, code, out, errOut)
		}
	}
	code, out, errOut = try(t, "inspect", dump, "-c", "rd "+at+" 2 | written", "-c", "nothing")
	if code != exitError || !strings.Contains(out, "what was written") || !strings.HasPrefix(errOut, "line 2: ") {
		t.Errorf("inspect: code %d, %q, %q", code, out, errOut)
	}
}
