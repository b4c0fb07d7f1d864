//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"

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

// formSteps load the kernel in each of the forms; files is what the guest's disk
// must have for that. The initramfs is somebody else's: it does not matter here, and
// making one for each form would take most of the time.
func formSteps(t *testing.T, k *lab.Kernel, forms []string, flags ...string) (steps []script.Step, files map[string]string) {
	t.Helper()
	files = map[string]string{}
	steps = []script.Step{{Name: "initramfs", Write: &script.Write{Path: "/tmp/initramfs", Data: smallInitramfs(t)}}}
	for _, form := range forms {
		path, err := k.Form(t.Context(), form)
		if err != nil {
			t.Fatal(err)
		}
		// The name says nothing of what it is.
		name := fmt.Sprintf("images/%d", len(files))
		files[name] = path
		args := append([]string{"panicroom", "load", "--json", "--kernel", lab.CrashDir + "/" + name, "--initramfs", "/tmp/initramfs"}, flags...)
		steps = append(steps, named(form, lab.Run(args...)))
	}
	return steps, files
}

// smallInitramfs is one that nobody will start.
func smallInitramfs(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := cpio.NewWriter(&b)
	data := make([]byte, 32<<10)
	if err := w.WriteHeader(&cpio.Header{Name: "init", Mode: cpio.TypeReg | 0o755, Links: 1, Size: int64(len(data))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
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
				Disk: &lab.Disk{SizeMiB: 4096, Files: files}, Programs: []string{panicRoom(t, k)},
				// The last form it is that crashes.
				Steps: append(steps,
					named("inspect", lab.Run("panicroom", "inspect-image", fmt.Sprintf(lab.CrashDir+"/images/%d", len(forms)-1))),
					loadStep("--kernel", fmt.Sprintf(lab.CrashDir+"/images/%d", len(forms)-1)), crashStep(0)),
			})
			sameKernel(t, o, "load", forms...)
			if r, _ := o.Step("inspect"); r.Exit != 0 || !strings.Contains(r.Stdout, k.Release) {
				t.Errorf("inspect-image: exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
			}
			mustCrash(t, o, 0)
		})
	}
}

// TestBuiltForms is TestLoadForms for kernels that are relocatable and have
// kexec_file_load: both system calls, the real vmlinux in all its forms, and
// the one that lost its relocations. With PANICROOM_FULL=1 only: the kernels
// must have been built.
func TestBuiltForms(t *testing.T) {
	t.Parallel()
	if !full() {
		return
	}
	for _, suite := range []string{"built-trixie", "built-sid"} {
		for _, method := range []string{"load", "file"} {
			t.Run(suite+"/"+method, func(t *testing.T) {
				t.Parallel()
				k := kernel(t, suite)
				forms := slices.DeleteFunc(k.Forms(), func(f string) bool {
					// Half a gigabyte of debug data takes minutes to unpack under
					// emulation; TestImages does it here.
					return f == "vmlinux.norelocs" || f == "vmlinux.gz" || f == "vmlinux.xz"
				})
				steps, files := formSteps(t, k, append(forms, "vmlinux.norelocs"), "--method", method)
				last := fmt.Sprintf(lab.CrashDir+"/images/%d", slices.Index(forms, "vmlinux"))
				o := run(t, &lab.Scenario{
					Name: suite + "-forms-" + method, Kernel: k, MemMiB: 2048, Crashkernel: "192M", Limit: 40 * time.Minute,
					Disk: &lab.Disk{SizeMiB: 4096, Files: files}, Programs: []string{panicRoom(t, k)},
					Steps: append(steps, loadStep("--kernel", last, "--method", method),
						named("status", lab.Run("panicroom", "status")), crashStep(0)),
				})
				sameKernel(t, o, method, forms...)
				r, _ := o.Step("vmlinux.norelocs")
				if r.Exit != 4 || !strings.Contains(r.Stdout, "without its relocations") {
					t.Errorf("a vmlinux without relocations: exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
				}
				// The refused one came last: the check above that a crash works
				// shows that what was loaded before it stayed.
				for _, step := range []string{"load", "status"} {
					if r, _ := o.Step(step); r.Exit != 0 {
						t.Errorf("%s: exit %d\n%s%s", step, r.Exit, r.Stdout, r.Stderr)
					}
				}
				builtCrash(t, o)
			})
		}
	}
}

// builtCrash is the part of mustCrash that does not judge the steps before.
func builtCrash(t *testing.T, o *lab.Outcome) {
	t.Helper()
	crashes, err := o.Crashes(t.Context())
	if err != nil || len(crashes) != 1 || strings.HasSuffix(crashes[0], "-incomplete") || !o.PoweredOff() {
		t.Errorf("crashes %q, %v\n%s", crashes, err, o.Story())
	}
}

// A vmlinux without its relocations loads, and hangs: that is why load refuses
// it. Nothing ends such a machine but its limit.
func TestHang(t *testing.T) {
	t.Parallel()
	if !full() {
		return
	}
	k := kernel(t, "built-trixie")
	steps, files := formSteps(t, k, []string{"vmlinux.norelocs"}, "--force")
	s := &lab.Scenario{
		Name: "hang", Kernel: k, MemMiB: 1024, Crashkernel: "144M", Limit: 4 * time.Minute,
		Disk: &lab.Disk{SizeMiB: 256, Files: files}, Programs: []string{panicRoom(t, k)},
		Steps: append(steps, crashStep(0)),
	}
	o, err := s.Run(t.Context())
	if o == nil {
		t.Fatal(err)
	}
	defer o.Clean()
	if r, _ := o.Step("vmlinux.norelocs"); r.Exit != 0 || !strings.Contains(r.Stdout, "will hang") {
		t.Errorf("load --force: exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
	if _, bye := o.Console(regexp.MustCompile(`^.*Bye\.\.\.`), 0); err == nil || bye < 0 || o.CrashKernel() >= 0 {
		t.Errorf("it was said to hang: %v\n%s", err, o.Story())
	}
}
