//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// chosenForms are those that without PANICROOM_FULL=1 stand for all: each way
// in, and each piece of code of our own behind it.
var chosenForms = []string{"Image", "Image.gz", "Image.lzo", "Image.elf", "zboot-zstd", "uki-zboot"}

// planned is what these tests ask of load --json.
type planned struct {
	Loaded bool `json:"loaded"`
	Plan   struct {
		Method string `json:"method"`
		Why    string `json:"why"`
		Kernel struct {
			Form      string `json:"form"`
			Banner    string `json:"banner"`
			ImageSize uint64 `json:"image_size"`
		} `json:"kernel"`
		Segments []struct {
			Name   string `json:"name"`
			Mem    uint64 `json:"mem"`
			SHA256 string `json:"sha256"`
		} `json:"segments"`
	} `json:"plan"`
}

func (p *planned) kernel() string {
	for _, s := range p.Plan.Segments {
		if s.Name == "kernel" {
			return s.SHA256
		}
	}
	return ""
}

// formSteps load the kernel in each of the forms; files is what the guest needs
// for that. The initramfs is somebody else's: it does not matter here, and
// making one for each form would take most of the time.
func formSteps(t *testing.T, k *lab.Kernel, forms []string, flags ...string) (steps []script.Step, files map[string]string) {
	t.Helper()
	files = map[string]string{}
	steps = []script.Step{{Name: "initramfs", Write: &script.Write{Path: "/tmp/initramfs", Random: 64 << 10}}}
	for _, form := range forms {
		path, err := k.Form(t.Context(), form)
		if err != nil {
			t.Fatal(err)
		}
		// The name says nothing of what it is.
		at := fmt.Sprintf("/images/%d", len(files))
		files[at] = path
		args := append([]string{"panicroom", "load", "--json", "--kernel", at, "--initramfs", "/tmp/initramfs"}, flags...)
		steps = append(steps, named(form, lab.Run(args...)))
	}
	return steps, files
}

// sameKernel checks that all of these forms were loaded and are one kernel.
func sameKernel(t *testing.T, o *lab.Outcome, method string, forms ...string) {
	t.Helper()
	var first planned
	for i, form := range forms {
		r, _ := o.Step(form)
		var p planned
		if err := json.Unmarshal([]byte(r.Stdout), &p); err != nil || r.Exit != 0 || !p.Loaded {
			t.Errorf("%s: exit %d, %v\n%s%s", form, r.Exit, err, r.Stdout, r.Stderr)
			continue
		}
		t.Logf("%-12s %6.1f s  %s", form, r.Took.Seconds(), p.Plan.Kernel.Form)
		if p.Plan.Method != method || p.kernel() == "" {
			t.Errorf("%s: loaded by %q, segments %+v", form, p.Plan.Method, p.Plan.Segments)
		}
		if i == 0 {
			first = p
			continue
		}
		if p.kernel() != first.kernel() || p.Plan.Kernel.ImageSize != first.Plan.Kernel.ImageSize || p.Plan.Kernel.Banner != first.Plan.Kernel.Banner {
			t.Errorf("%s is another kernel than %s:\n%+v\n%+v", form, forms[0], p.Plan, first.Plan)
		}
	}
}

// Every form of a kernel is loaded, and is the same kernel: what is in memory
// then does not tell which it was. So one crash is enough for all.
func TestLoadForms(t *testing.T) {
	t.Parallel()
	for _, suite := range []string{"trixie", "sid"} {
		if suite != "trixie" && !full() {
			continue
		}
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			k := kernel(t, suite)
			forms := k.Forms()
			if !full() {
				forms = slices.DeleteFunc(forms, func(f string) bool { return !slices.Contains(chosenForms, f) })
			}
			steps, files := formSteps(t, k, forms)
			o := run(t, &lab.Scenario{
				Name: "forms-" + suite, Kernel: k, MemMiB: 2048, Crashkernel: "192M",
				Disk: &lab.Disk{SizeMiB: 2048}, Programs: []string{panicRoom(t, k)}, Files: files,
				// The last form it is that crashes.
				Steps: append(steps,
					named("inspect", lab.Run("panicroom", "inspect-image", fmt.Sprintf("/images/%d", len(forms)-1))),
					loadStep("--kernel", fmt.Sprintf("/images/%d", len(forms)-1)), crashStep(0)),
			})
			sameKernel(t, o, "load", forms...)
			if r, _ := o.Step("inspect"); r.Exit != 0 || !strings.Contains(r.Stdout, k.Release) {
				t.Errorf("inspect-image: exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
			}
			mustCrash(t, o, 0)
		})
	}
}
