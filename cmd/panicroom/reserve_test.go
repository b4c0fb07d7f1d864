package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/boot"
	"github.com/panicroom-kdump/panicroom/internal/bootloader"
	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/load"
	"github.com/panicroom-kdump/panicroom/reserve"
)

// reservation is a machine with a boot loader, and what reserve says of it.
func reservation(t *testing.T, loader string) (*reserving, *command, *reserved, *bytes.Buffer) {
	t.Helper()
	root := t.TempDir()
	if loader != "" {
		if err := os.CopyFS(root, os.DirFS(filepath.Join("../../internal/bootloader/testdata/machines", loader))); err != nil {
			t.Fatal(err)
		}
	}
	out := &bytes.Buffer{}
	c := &command{stdout: out, stderr: out}
	r := &reserving{filesystem: root, store: filepath.Join(t.TempDir(), "store")}
	rec := reserve.Recommend(reserve.Facts{Kernel: "6.12.117+deb13-riscv64", Image: 31895552, Packed: 4 << 20, Unpacked: 13 << 20, CPUs: 2,
		Modules: []reserve.Module{{ModuleSize: boot.ModuleSize{Name: "a_module_with_quite_a_name", File: 20 << 20, Memory: 5 << 20, Start: 3 << 20}}}, ACPI: true})
	m, err := host.Read(os.DirFS("../../load/testdata/machines/virt-6.12-none-1g"), nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &reserved{Recommendation: rec, Present: reserve.Current(m, nil), Value: "144M"}
	return r, c, a, out
}

// plans makes the plan of a as run does.
func (r *reserving) plans(t *testing.T, a *reserved) {
	t.Helper()
	ours, err := bootloader.OpenRecord(r.store)
	if err != nil {
		t.Fatal(err)
	}
	if a.BootLoader, err = bootloader.Make(os.DirFS(r.filesystem), bootloader.Wanted{Value: a.Value, Replace: r.replace}, ours); err != nil {
		t.Fatal(err)
	}
}

func TestReserveTellsPeople(t *testing.T) {
	r, c, a, out := reservation(t, "u-boot-menu")
	r.plans(t, a)
	err := r.tell(c, a)
	if exitCode(err) != exitNotArmed {
		t.Errorf("%v: exit %d; want %d", err, exitCode(err), exitNotArmed)
	}
	text := out.String() + strings.Join(ui.Hints(err), "\n")
	for _, want := range []string{"kernel image", "30.4 MiB", "peak: loading a_module", "needed", "slack", "recommended", "crashkernel=", "too little",
		"not on the running kernel's command line", "u-boot-menu is used", "+U_BOOT_PARAMETERS=\"ro quiet crashkernel=144M\"", "--apply"} {
		if !strings.Contains(text, want) {
			t.Errorf("does not say %q:\n%s", want, text)
		}
	}
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestReserveAsJSON(t *testing.T) {
	r, c, a, out := reservation(t, "extlinux")
	c.json = true
	a.Enough = true
	r.plans(t, a)
	if err := r.tell(c, a); err != nil {
		t.Fatal(err)
	}
	var back reserved
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.Recommendation.Needed != a.Recommendation.Needed || len(back.BootLoader.Kept) != 1 || !back.Enough {
		t.Errorf("%+v", back)
	}
}

// Files are written and put back; what somebody else has set is refused first.
func TestReserveApplies(t *testing.T) {
	r, c, a, out := reservation(t, "extlinux")
	r.apply = true
	r.plans(t, a)
	err := r.write(c, a)
	if !errors.Is(err, errForeign) || exitCode(err) != exitRefused || !strings.Contains(strings.Join(ui.Hints(err), " "), "64M,high") {
		t.Fatalf("%v, hints %q; want a refusal that names the value", err, ui.Hints(err))
	}
	at := filepath.Join(r.filesystem, "boot/extlinux/extlinux.conf")
	before, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	r.replace, r.dryRun = true, true
	r.plans(t, a)
	if err := r.write(c, a); err != nil || a.Applied {
		t.Fatalf("dry run: %v, applied %v", err, a.Applied)
	}
	if text, _ := os.ReadFile(at); !bytes.Equal(text, before) {
		t.Fatal("a dry run has written")
	}
	r.dryRun = false
	if err := r.write(c, a); err != nil || !a.Applied {
		t.Fatalf("%v, applied %v", err, a.Applied)
	}
	if !strings.Contains(out.String(), "+    APPEND root=/dev/mmcblk0p2 rw \"quoted words\" crashkernel=144M") {
		t.Errorf("no difference shown:\n%s", out)
	}
	if err := r.tell(c, a); err != nil || !strings.Contains(out.String(), "restart for crashkernel=144M to take effect") {
		t.Errorf("%v:\n%s", err, out)
	}
	out.Reset()
	if err := r.takeBack(c); err != nil || !strings.Contains(out.String(), "as it was before") {
		t.Errorf("%v:\n%s", err, out)
	}
	if text, _ := os.ReadFile(at); !bytes.Equal(text, before) {
		t.Errorf("not as it was:\n%s", text)
	}
	out.Reset()
	if err := r.takeBack(c); err != nil || !strings.Contains(out.String(), "nothing to take back") {
		t.Errorf("twice: %v:\n%s", err, out)
	}
}

// What somebody else has set and is enough is no reason to refuse.
func TestReserveKeepsWhatIsEnough(t *testing.T) {
	r, c, a, out := reservation(t, "kdump-tools")
	a.Recommendation.Facts.RAM = 4 << 30
	r.plans(t, a)
	if err := r.write(c, a); err != nil {
		t.Errorf("512 MiB: %v", err)
	}
	if err := r.tell(c, a); !strings.Contains(out.String(), "set by somebody else: enough") {
		t.Errorf("%v\n%s", err, out)
	}
	a.Recommendation.Facts.RAM = 1 << 30 // no range has it
	if err := r.write(c, a); !errors.Is(err, errForeign) {
		t.Errorf("no range: %v; want %v", err, errForeign)
	}
}

func TestReserveWithoutBootLoader(t *testing.T) {
	r, c, a, _ := reservation(t, "")
	r.plans(t, a)
	err := r.write(c, a)
	if !errors.Is(err, load.ErrRefused) || len(ui.Hints(err)) == 0 {
		t.Errorf("%v; want a refusal that says what to do", err)
	}
}

func TestReserveValue(t *testing.T) {
	_, _, a, _ := reservation(t, "")
	recommended := strings.TrimPrefix(a.Recommendation.Parameter, "crashkernel=")
	for _, tt := range []struct{ flag, configured, want string }{
		{"", "", recommended}, {"", auto, recommended}, {"", "200M", "200M"}, {"300M", "200M", "300M"}, {auto, "200M", recommended},
	} {
		r := reserving{size: tt.flag}
		if got := r.value(&config.Config{Reserve: config.Reserve{Size: tt.configured}}, a.Recommendation); got != tt.want {
			t.Errorf("--size %q, configured %q: %s; want %s", tt.flag, tt.configured, got, tt.want)
		}
	}
}

func TestReserveUsage(t *testing.T) {
	for _, args := range [][]string{{"reserve", "x"}, {"reserve", "--size", "much"}, {"reserve", "--size", "128M;reboot"}, {"reserve", "--apply", "--undo"}, {"reserve", "--cpus", "0"}} {
		if code, _, errOut := try(t, args...); code != exitUsage || !strings.Contains(errOut, "hint: ") {
			t.Errorf("%q: exit %d\n%s", args, code, errOut)
		}
	}
}
