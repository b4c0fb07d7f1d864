//go:build e2e

package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// refusal is a command that must end in one clear error with a remedy.
type refusal struct {
	step string
	exit int
	says string // in the error
	hint string // in a hint; "-" when the error is all that can be said
}

func (w refusal) check(t *testing.T, o *lab.Outcome) {
	t.Helper()
	r, ok := o.Step(w.step)
	if !ok || !r.Ended {
		t.Errorf("%s: did not run to its end", w.step)
		return
	}
	var errors, hints []string
	for line := range strings.Lines(r.Stderr) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "panicroom: "):
			errors = append(errors, line)
		case strings.HasPrefix(line, "hint: "):
			hints = append(hints, line)
		default:
			t.Errorf("%s: line %q on standard error is neither an error nor a hint", w.step, line)
		}
	}
	if r.Exit != w.exit || len(errors) != 1 || !strings.Contains(errors[0], w.says) {
		t.Errorf("%s: exit %d, errors %q; want exit %d, one error with %q", w.step, r.Exit, errors, w.exit, w.says)
	}
	if w.hint != "-" && (len(hints) == 0 || !strings.Contains(strings.Join(hints, "\n"), w.hint)) {
		t.Errorf("%s: hints %q; want one with %q", w.step, hints, w.hint)
	}
}

func named(name string, s script.Step) script.Step { s.Name = name; return s }

// arm64Image is the header of an arm64 kernel (Documentation/arch/arm64/
// booting.rst, Linux 7.2): code, load offset 0, 32 MiB, little endian with 4
// KiB pages, its magic.
func arm64Image() []byte {
	b := make([]byte, 1<<20)
	copy(b, "MZ\x40\xfa\x00\x00\x80\x14")
	copy(b[16:], "\x00\x00\x00\x02\x00\x00\x00\x00\x0a")
	copy(b[56:], "ARM\x64")
	return b
}

// What load refuses, in one machine that reserves memory.
func TestRefusals(t *testing.T) {
	t.Parallel()
	k := kernel(t, "trixie")
	image := func(name string) script.Step {
		return named(name, loadStep("--kernel", "/tmp/"+name))
	}
	asUser := named("not root", loadStep())
	asUser.Run.UID = 65534
	o := run(t, &lab.Scenario{
		Name: "refusals", Kernel: k, MemMiB: 768, Crashkernel: "144M",
		Disk: &lab.Disk{SizeMiB: 64}, Programs: []string{panicRoom(t, k)},
		Steps: []script.Step{
			{Name: "w1", Write: &script.Write{Path: "/tmp/truncated", Copy: k.Image, Size: 10 << 20}},
			{Name: "w2", Write: &script.Write{Path: "/tmp/arm64", Data: arm64Image()}},
			{Name: "w3", Write: &script.Write{Path: "/tmp/random", Random: 1 << 20}},
			// A whole initramfs with much padding, cut, and not one at all.
			{Name: "w4", Write: &script.Write{Path: "/tmp/large", Size: 100 << 20}},
			{Name: "w5", Patch: &script.Patch{Path: "/tmp/large", Data: smallInitramfs(t)}},
			{Name: "w6", Write: &script.Write{Path: "/tmp/cut", Data: smallInitramfs(t)[:10000]}},
			image("truncated"), image("arm64"), image("random"), image("nonesuch"),
			named("large initramfs", loadStep("--initramfs", "/tmp/large")),
			named("cut initramfs", loadStep("--initramfs", "/tmp/cut")),
			named("random initramfs", loadStep("--initramfs", "/tmp/random")),
			asUser,
			named("no such target", lab.Run("panicroom", "load", "--target", "/nonesuch")),
			named("target in memory", lab.Run("panicroom", "load", "--target", "/tmp")),
			named("nothing loaded", lab.Run("panicroom", "crash", "--yes")),
			loaded("still nothing"),
			loadStep(),
			loaded("loaded"),
			named("truncated after", loadStep("--kernel", "/tmp/truncated")),
			loaded("loaded after a refusal"),
			named("kernel refuses", loadStep("--test-omit-dtb")),
			loaded("loaded after the kernel refused"),
			named("unload", lab.Run("panicroom", "unload")),
			loaded("unloaded"),
		},
	})
	for _, w := range []refusal{
		{"truncated", 4, "truncated kernel image", "install the kernel"},
		{"arm64", 4, "another architecture", "kernel of this machine"},
		{"random", 4, "not a kernel image", "Debian's kernel is"},
		{"nonesuch", 1, "no such file", "-"},
		{"large initramfs", 4, "room", "crashkernel="},
		{"cut initramfs", 4, "truncated initramfs", "update-initramfs"},
		{"random initramfs", 4, "corrupt initramfs", "update-initramfs"},
		{"not root", 3, "root", "sudo"},
		{"no such target", 1, "/nonesuch", "choose a directory"},
		{"target in memory", 1, "not on a block device", "choose a directory"},
		{"nothing loaded", 4, "no panic kernel is loaded", "panicroom load"},
		{"truncated after", 4, "/tmp/truncated", ""},
		{"kernel refuses", 5, "put back", ""},
	} {
		w.check(t, o)
	}
	for step, want := range map[string]string{
		"still nothing": "0", "loaded": "1", "loaded after a refusal": "1",
		"loaded after the kernel refused": "1", "unloaded": "0",
	} {
		if r, _ := o.Step(step); strings.TrimSpace(r.Stdout) != want {
			t.Errorf("%s: kexec_crash_loaded is %q; want %s", step, r.Stdout, want)
		}
	}
	if !o.Finished {
		t.Errorf("the machine did not come to the end of the steps\n%s", o.Story())
	}
}

// Reservations that are too small and not there at all.
func TestRoom(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, crashkernel, says, hint string }{
		{"no crashkernel", "", "crashkernel=", "crashkernel="},
		{"no room for the initramfs", "42M", "room", "crashkernel="},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := kernel(t, "trixie")
			o := run(t, &lab.Scenario{
				Name: "room-" + tt.crashkernel, Kernel: k, MemMiB: 768, Crashkernel: tt.crashkernel,
				Disk: &lab.Disk{SizeMiB: 64}, Programs: []string{panicRoom(t, k)},
				Steps: []script.Step{loadStep()},
			})
			refusal{"load", 4, tt.says, tt.hint}.check(t, o)
		})
	}
}

// What can be wrong with the target when the panic kernel comes to it: the
// machine powers off by itself, the error is on the console with its remedy,
// and the log is wherever it can be.
func TestTargetFails(t *testing.T) {
	t.Parallel()
	const superblock = 1024 // of ext4: s_uuid at 0x68, s_feature_ro_compat at 0x64
	tests := []struct {
		name  string
		steps []script.Step // between load and crash
		phase string        // that fails
		log   bool          // on the disk; else it is on the console
	}{
		{name: "missing", phase: "device", steps: []script.Step{
			{Name: "unmount", Unmount: &script.Unmount{Target: lab.CrashDir}},
			{Name: "another UUID", Patch: &script.Patch{Serial: lab.DiskSerial, Offset: superblock + 0x68, Data: []byte("not the same one")}},
		}},
		{name: "full", phase: "dump", log: true, steps: []script.Step{
			{Name: "fill", Fill: &script.Fill{Path: lab.CrashDir + "/filler", LeaveKiB: 2048}},
		}},
		{name: "quite full", phase: "", log: false, steps: []script.Step{
			{Name: "fill", Fill: &script.Fill{Path: lab.CrashDir + "/filler", LeaveKiB: 0}},
		}},
		{name: "read-only", phase: "", steps: []script.Step{
			{Name: "unmount", Unmount: &script.Unmount{Target: lab.CrashDir}},
			// EXT4_FEATURE_RO_COMPAT_READONLY: it can only be mounted to be read.
			{Name: "read-only", Patch: &script.Patch{Serial: lab.DiskSerial, Offset: superblock + 0x64, Data: []byte{0, 0x10, 0, 0}, Or: true}},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := kernel(t, "trixie")
			o := run(t, &lab.Scenario{
				Name: "target-" + strings.ReplaceAll(tt.name, " ", "-"), Kernel: k, MemMiB: 768, Crashkernel: "144M",
				// Without checksums, a superblock can be edited.
				Disk: &lab.Disk{SizeMiB: 256, Features: "^metadata_csum"}, Programs: []string{panicRoom(t, k)},
				Steps: append(append([]script.Step{loadStep()}, tt.steps...), crashStep(0)),
			})
			for _, r := range o.Results {
				if r.Ended && r.Exit != 0 {
					t.Errorf("step %s: exit %d %s", r.Name, r.Exit, r.Text)
				}
			}
			if !o.Panicked() || o.CrashKernel() < 0 {
				t.Fatalf("no panic or no panic kernel\n%s", o.Story())
			}
			if !o.PoweredOff() {
				t.Errorf("the machine did not power off by itself")
			}
			failed := regexp.MustCompile(`panicroom: \[[0-9.]+\] phase ` + tt.phase + `.*: FAILED: `)
			if _, i := o.Console(failed, o.CrashKernel()); i < 0 {
				t.Errorf("no line like %q on the console", failed)
			}
			if _, i := o.Console(regexp.MustCompile(`panicroom: \[[0-9.]+\] hint: `), o.CrashKernel()); i < 0 {
				t.Errorf("no hint on the console")
			}
			if _, i := o.Console(regexp.MustCompile(`panicroom: \[[0-9.]+\] end (incomplete|failed)`), o.CrashKernel()); i < 0 {
				t.Errorf("the console does not say how it ended")
			}
			if tt.log {
				crashes, err := o.Crashes(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if len(crashes) != 1 || !strings.HasSuffix(crashes[0], "-incomplete") {
					t.Fatalf("saved crashes %q; want one, incomplete", crashes)
				}
				s := readSaved(t, crashes[0])
				if s.manifest.Complete || len(s.manifest.Reasons) == 0 {
					t.Errorf("manifest: complete %v, reasons %q; want an incomplete one with reasons", s.manifest.Complete, s.manifest.Reasons)
				}
				if !strings.Contains(s.dmesg, "sysrq triggered crash") {
					t.Errorf("dmesg.txt does not tell of the panic")
				}
			} else if _, i := o.Console(regexp.MustCompile(`panicroom: \[[0-9.]+\] log: .*sysrq triggered crash`), o.CrashKernel()); i < 0 {
				t.Errorf("the log is neither on the disk nor on the console")
			}
			if t.Failed() {
				t.Log(o.Story())
			}
		})
	}
}

// A panic kernel whose own program fails still ends, with what was saved
// before.
func TestOwnFailure(t *testing.T) {
	t.Parallel()
	hows := []string{"dump:panic", "report:memory"}
	if full() {
		hows = []string{"modules:panic", "log:exit", "dump:panic", "dump:exit", "dump:memory", "dump:hang", "report:memory", "report:exit", "commit:panic"}
	}
	for _, how := range hows {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			k := kernel(t, "sid")
			o := run(t, &lab.Scenario{
				Name: "own-" + strings.ReplaceAll(how, ":", "-"), Kernel: k, MemMiB: 768, Crashkernel: "144M",
				Disk: &lab.Disk{SizeMiB: 512}, Programs: []string{panicRoom(t, k)},
				Steps: []script.Step{loadStep("--test-die", how), crashStep(0)},
			})
			if !o.Panicked() || o.CrashKernel() < 0 {
				t.Fatalf("no panic or no panic kernel\n%s", o.Story())
			}
			if !o.PoweredOff() {
				t.Errorf("the machine did not power off by itself\n%s", o.Story())
			}
			if strings.HasPrefix(how, "modules") {
				return // nothing can be on the disk
			}
			crashes, err := o.Crashes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(crashes) != 1 {
				t.Fatalf("saved crashes %q; want one\n%s", crashes, o.Story())
			}
			s := readSaved(t, crashes[0])
			if !strings.HasPrefix(how, "log") && !strings.Contains(s.dmesg, "sysrq triggered crash") {
				t.Errorf("dmesg.txt does not tell of the panic\n%s", o.Story())
			}
			// The report is an extra: without it the dump is complete.
			if complete := !strings.HasSuffix(crashes[0], "-incomplete"); complete != strings.HasPrefix(how, "report") {
				t.Errorf("complete %v\n%s", complete, o.Story())
			}
		})
	}
}

// A panic room that something has written into is used all the same, and the
// crash tells. The status of the machine that is still healthy tells before: it
// finds what was loaded through /proc/kcore.
func TestIntegrity(t *testing.T) {
	t.Parallel()
	suites := []string{"sid"}
	if full() {
		suites = []string{"sid", "trixie"}
	}
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			testIntegrity(t, suite)
		})
	}
}

func testIntegrity(t *testing.T, suite string) {
	k := kernel(t, suite)
	status := lab.Run("panicroom", "status", "--json")
	status.Name = "status"
	o := run(t, &lab.Scenario{
		Name: "integrity-" + suite, Kernel: k, MemMiB: 768, Crashkernel: "144M",
		Disk: &lab.Disk{SizeMiB: 512}, Programs: []string{panicRoom(t, k)},
		Steps: []script.Step{loadStep("--test-corrupt"), status, crashStep(0)},
	})
	if r, ok := o.Step("status"); !ok || r.Exit != 0 || strings.Count(r.Stdout, `"state": "intact"`) != 4 {
		t.Errorf("status: exit %d; want four segments intact:\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
	if !o.PoweredOff() {
		t.Fatalf("the machine did not power off by itself\n%s", o.Story())
	}
	crashes, err := o.Crashes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(crashes) != 1 {
		t.Fatalf("saved crashes %q; want one\n%s", crashes, o.Story())
	}
	s := readSaved(t, crashes[0])
	asLoaded(t, s, "/init")
	if m := s.manifest; !m.Complete || len(m.Warnings) != 1 || !strings.Contains(m.Warnings[0], "/init") {
		t.Errorf("complete %v, warnings %q; want a complete crash that warns of /init", m.Complete, m.Warnings)
	}
	if !regexp.MustCompile(`(?m)^  warning +the panic room's /init is not as it was loaded$`).MatchString(s.report) {
		t.Errorf("the report does not warn:\n%s", s.report)
	}
	failed := regexp.MustCompile(`panicroom: \[[0-9.]+\] phase integrity: FAILED: /init: not as it was loaded`)
	if _, i := o.Console(failed, o.CrashKernel()); i < 0 {
		t.Errorf("the console does not tell\n%s", o.Story())
	}
}

// A kernel that is locked down refuses kexec_load, and Debian's has no other
// call: that is what must be said, and not a number.
func TestLockdown(t *testing.T) {
	t.Parallel()
	k := kernel(t, "trixie")
	o := run(t, &lab.Scenario{
		Name: "lockdown", Kernel: k, MemMiB: 768, Crashkernel: "144M", Cmdline: "lockdown=integrity",
		Disk: &lab.Disk{SizeMiB: 64}, Programs: []string{panicRoom(t, k)},
		Steps: []script.Step{
			loadStep(),
			named("by file", loadStep("--method", "file")),
			loaded("still nothing"),
		},
	})
	refusal{"load", 5, "locked down", "/sys/kernel/security/lockdown"}.check(t, o)
	refusal{"by file", 5, "CONFIG_KEXEC_FILE", "--method load"}.check(t, o)
	if r, _ := o.Step("still nothing"); strings.TrimSpace(r.Stdout) != "0" {
		t.Errorf("kexec_crash_loaded is %q; want 0", r.Stdout)
	}
}
