//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/vm"
)

// system is a Debian root filesystem with systemd, on a machine that U-Boot starts.
type system struct {
	*lab.Live
	t   *testing.T
	ctx context.Context
}

// systemLimit is for all boots of a test, on a busy machine.
const systemLimit = 90 * time.Minute

// needSystem is at the head of every test of a system.
func needSystem(t *testing.T) {
	t.Helper()
	if !full() && os.Getenv("PANICROOM_SYSTEM") != "1" {
		t.Skip("half an hour of emulation, and a root filesystem that root has to make: make system")
	}
}

// bootSystem boots it, with the package at packageFile and more of Debian's beside it.
func bootSystem(t *testing.T, name string, limit time.Duration, more ...string) (*system, *lab.System) {
	t.Helper()
	needSystem(t)
	s, err := lab.FetchSystem(t.Context(), lab.SystemOptions{Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	deb, err := lab.Package(t.Context(), "riscv64")
	if err != nil {
		t.Fatal(err)
	}
	run := lab.SystemRun{Name: name, Files: map[string]string{packageFile: deb}, Limit: limit}
	for _, list := range [][]string{s.OldDebs, s.NewDebs, more} {
		for _, deb := range list {
			run.Files[path.Join("/srv", plain(deb))] = deb
		}
	}
	if os.Getenv("V") == "1" {
		run.OnLine = func(l vm.Line) { fmt.Printf("%s %6.1f s | %s\n", name, l.At.Seconds(), l.Text) }
	}
	l, err := s.Boot(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Kill()
		l.Wait()
		if t.Failed() {
			t.Log(l.Story())
		} else if err := l.Clean(); err != nil {
			t.Error(err)
		}
	})
	y := &system{Live: l, t: t, ctx: t.Context()}
	y.up()
	return y, s
}

// packageFile is where the system has the package to be tested.
const packageFile = "/srv/panicroom.deb"

// plain is a package's name without what a shell or debfs would not take.
func plain(deb string) string { return strings.ReplaceAll(filepath.Base(deb), "~", "-") }

// up waits for the first boot.
func (y *system) up() {
	y.t.Helper()
	if _, err := y.Up(y.ctx); err != nil {
		y.t.Fatal(err)
	}
	y.settle()
}

// settle waits until systemd has nothing more to do, and wants nothing to have failed.
func (y *system) settle() {
	y.t.Helper()
	r, err := y.Do(y.ctx, lab.Run("systemctl", "is-system-running", "--wait"))
	if err != nil {
		y.t.Fatal(err)
	}
	if got := strings.TrimSpace(r.Stdout); got != "running" {
		failed, _ := y.Do(y.ctx, lab.Run("systemctl", "--failed", "--no-legend"))
		y.t.Errorf("the system is %s:\n%s", got, failed.Stdout)
	}
}

// must runs a program that shall succeed and returns what it said.
func (y *system) must(args ...string) string {
	y.t.Helper()
	r, err := y.Run(y.ctx, args...)
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Logf("%s (%s)", r.Name, r.Took.Round(time.Second))
	return r.Stdout
}

// down runs a program that ends the system, and waits for it to be back.
func (y *system) down(args ...string) {
	y.t.Helper()
	began := time.Now()
	r, err := y.Do(y.ctx, lab.Run(args...))
	if err == nil && r.Ended { // it was asked for, and is about to come
		if r.Exit != 0 {
			y.t.Fatalf("%s: exit %d\n%s%s", r.Name, r.Exit, r.Stdout, r.Stderr)
		}
		_, err = y.Up(y.ctx)
	}
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Logf("%s: back after %s", r.Name, time.Since(began).Round(time.Second))
	y.settle()
}

// crash crashes the system and waits until it has come back by itself.
func (y *system) crash() {
	y.t.Helper()
	from := len(y.Lines())
	y.down("panicroom", "crash", "--yes")
	// The panic kernel and not the timeout of a panic has restarted it.
	started, panicked := 0, false
	for _, l := range y.Lines()[from:] {
		panicked = panicked || kernelPanicked.MatchString(l.Text)
		if panicked && firstLine.MatchString(l.Text) {
			started++
		}
	}
	if !panicked || started != 2 {
		y.t.Errorf("the kernel panicked: %v; %d kernels have started since, want the panic kernel and the system's", panicked, started)
	}
}

var (
	kernelPanicked = regexp.MustCompile(`Kernel panic - not syncing`)
	firstLine      = regexp.MustCompile(`Linux version \d`)
)

// chain is what status says to programs.
type chain struct {
	Armed bool `json:"armed"`
	Links []struct {
		Name, State, Says string
		More, Remedy      []string
	} `json:"links"`
	Plan *struct {
		Release string    `json:"release"`
		Loaded  time.Time `json:"loaded"`
		Kernel  struct {
			Path string `json:"path"`
		} `json:"kernel"`
	} `json:"plan"`
}

// status asks for all links and wants each to be ok.
func (y *system) status() *chain {
	y.t.Helper()
	r, err := y.Do(y.ctx, lab.Run("panicroom", "status", "--json"))
	if err != nil {
		y.t.Fatal(err)
	}
	var c chain
	if err := json.Unmarshal([]byte(r.Stdout), &c); err != nil || c.Plan == nil {
		y.t.Fatalf("status: %v\n%s%s", err, r.Stdout, r.Stderr)
	}
	for _, l := range c.Links {
		if l.State != "ok" {
			y.t.Errorf("status: %s is %s: %s %q", l.Name, l.State, l.Says, l.Remedy)
		}
	}
	if r.Exit != 0 || !c.Armed || len(c.Links) < 9 {
		y.t.Errorf("status: exit %d, armed %v, %d links", r.Exit, c.Armed, len(c.Links))
	}
	return &c
}

// journal waits until a unit has said something since the boot.
func (y *system) journal(unit, text string) {
	y.t.Helper()
	y.must("bash", "-c", `grep --quiet --max-count=1 --fixed-strings "$2" < <(timeout 1200 journalctl --follow --no-tail --boot --unit="$1" --output=cat)`, "journal", unit, text)
}

// listed is a crash as list says it to programs.
type listed struct {
	Path     string `json:"path"`
	Kernel   string `json:"kernel"`
	Complete bool   `json:"complete"`
	Title    string `json:"title"`
}

// list wants so many complete crashes, each with a report of what crash did.
func (y *system) list(want int) []listed {
	y.t.Helper()
	var crashes []listed
	text := y.must("panicroom", "list", "--json")
	if err := json.Unmarshal([]byte(text), &crashes); err != nil {
		y.t.Fatalf("list: %v\n%s", err, text)
	}
	if len(crashes) != want {
		y.t.Fatalf("%d crashes are listed; want %d\n%s", len(crashes), want, text)
	}
	for _, c := range crashes {
		if !c.Complete || !strings.Contains(c.Title, "sysrq") {
			y.t.Errorf("listed crash %+v; want a complete one of sysrq", c)
		}
		if report := y.must("panicroom", "report", c.Path); !strings.Contains(report, "sysrq triggered crash") {
			y.t.Errorf("the report of %s does not say that sysrq triggered the crash:\n%s", c.Path, report)
		}
	}
	return crashes
}

// extlinux is the file that U-Boot's menu is made of.
const extlinux = "/boot/extlinux/extlinux.conf"

// install installs the package and sets the system up: reserved memory, the service.
// The files of its boot loader that setup must change are at conf, and there a line
// that matches command is a kernel's command line.
func (y *system) install(conf, command string) {
	y.t.Helper()
	// A busy machine emulates slowly: its time is not the unit's business.
	if _, err := y.Do(y.ctx, script.Step{Name: "no hurry", Write: &script.Write{
		Path: "/etc/systemd/system/panicroom.service.d/lab.conf", Data: []byte("[Service]\nTimeoutStartSec=1h\n")}}); err != nil {
		y.t.Fatal(err)
	}
	y.must("dpkg", "--install", packageFile)
	r, err := y.Do(y.ctx, lab.Run("systemctl", "is-enabled", "panicroom.service", "panicroom-after.service"))
	if err != nil || strings.Count(r.Stdout, "disabled") != 2 {
		y.t.Errorf("after the installation, before setup, the units are %q, %v; want them disabled", r.Stdout, err)
	}
	y.must("cp", conf, "/srv/before.conf")
	y.must("panicroom", "setup", "--dry-run")
	if _, err := y.Run(y.ctx, "cmp", conf, "/srv/before.conf"); err != nil {
		y.t.Errorf("a dry run has changed the boot loader's file: %v", err)
	}
	said := y.must("panicroom", "setup")
	if !strings.Contains(said, "reboot this machine") {
		y.t.Errorf("setup does not say that a reboot is needed:\n%s", said)
	}
	if text := y.must("cat", conf); !regexp.MustCompile(`(?m)^\s*` + command + `\s.*crashkernel=\d+M`).MatchString(text) {
		y.t.Errorf("setup has reserved no memory in:\n%s", text)
	}
}

// A package is installed, one command is typed, and a Debian machine is protected:
// from crashes, through updates of its kernel, and until it is taken back.
func TestSystem(t *testing.T) {
	y, s := bootSystem(t, "system", systemLimit)
	y.install(extlinux, "append")

	// Not yet reserved: status says what is missing.
	r, err := y.Do(y.ctx, lab.Run("panicroom", "status"))
	if err != nil || r.Exit != 8 || !strings.Contains(r.Stdout, "broken   reserved") {
		t.Errorf("status before the reboot: %v, %+v; want exit 8 and what is missing", err, r)
	}
	y.down("systemctl", "reboot")
	first := y.status()
	if got := first.Plan.Kernel.Path; got != s.Old.Image {
		t.Errorf("loaded is %s; want %s", got, s.Old.Image)
	}
	if said := y.must("panicroom", "setup"); strings.Contains(said, "reboot") {
		t.Errorf("a second setup wants something:\n%s", said)
	}

	y.crash()
	y.status()
	crashes := y.list(1)
	if crashes[0].Kernel != s.Old.Release {
		t.Errorf("the crash is of kernel %s; want %s", crashes[0].Kernel, s.Old.Release)
	}
	// The boot after it tells of it, and nothing waits for that.
	y.journal("panicroom-after.service", crashes[0].Path)

	// The running kernel's package again: its hook has the panic kernel loaded again.
	before := y.status().Plan.Loaded
	y.must("dpkg", "--install", path.Join("/srv", plain(s.OldDebs[0])))
	y.journal("panicroom.service", "Reloaded panicroom.service")
	if after := y.status().Plan.Loaded; !after.After(before) {
		t.Errorf("loaded at %s before the kernel's package was installed again, and at %s after", before, after)
	}

	// Memory that comes has it loaded again, too. None can be plugged in here, so udev
	// only says what it would do.
	r, err = y.Do(y.ctx, lab.Run("udevadm", "test", "--action=add", "/sys/devices/system/memory/memory16"))
	if err != nil || !strings.Contains(r.Stdout+r.Stderr, "restart panicroom-reload.timer") {
		t.Errorf("a block of memory that is added: %v\n%s%s", err, r.Stdout, r.Stderr)
	}

	// A newer one. What is loaded stays that of the running kernel until the reboot.
	install := []string{"dpkg", "--install"}
	for _, deb := range s.NewDebs {
		install = append(install, path.Join("/srv", plain(deb)))
	}
	y.must(install...)
	if got := y.status(); got.Plan.Release != s.Old.Release {
		t.Errorf("after the update, before the reboot, what is loaded is for %s; want %s", got.Plan.Release, s.Old.Release)
	}
	y.down("systemctl", "reboot")
	if got := y.status(); got.Plan.Release != s.New.Release || got.Plan.Kernel.Path != s.New.Image {
		t.Errorf("after the update and the reboot %s for %s is loaded; want %s for %s", got.Plan.Kernel.Path, got.Plan.Release, s.New.Image, s.New.Release)
	}
	y.crash()
	crashes = y.list(2)
	if got := crashes[1].Kernel; got != s.New.Release {
		t.Errorf("the second crash is of kernel %s; want %s", got, s.New.Release)
	}
	y.files(crashes)

	// Of two crashes one is to stay.
	if _, err := y.Do(y.ctx, script.Step{Name: "keep one", Write: &script.Write{Path: "/etc/panicroom.d/keep.toml", Data: []byte("[keep]\ncount = 1\n")}}); err != nil {
		t.Fatal(err)
	}
	y.must("panicroom", "after")
	if left := y.list(1); left[0].Path != crashes[1].Path {
		t.Errorf("%s is left; want the newest, %s", left[0].Path, crashes[1].Path)
	}

	// Taken back: the boot loader's file is as it was, but for the kernel that came.
	y.must("panicroom", "setup", "--undo")
	if got := strings.TrimSpace(y.must("cat", "/sys/kernel/kexec_crash_loaded")); got != "0" {
		t.Errorf("after setup --undo a panic kernel is loaded: %s", got)
	}
	if conf := y.must("cat", extlinux); strings.Contains(conf, "crashkernel=") {
		t.Errorf("setup --undo has left crashkernel= in:\n%s", conf)
	}
	y.must("rm", "--recursive", "/etc/panicroom.d") // ours, not the package's
	y.must("dpkg", "--purge", "panicroom")
	r, err = y.Do(y.ctx, lab.Run("find", "/etc", "/usr", "/var/lib", "-name", "*panicroom*", "-not", "-path", "/var/lib/dpkg/*"))
	if err != nil || r.Stdout != "" {
		t.Errorf("purging the package has left: %v\n%s", err, r.Stdout)
	}
	if left := y.must("ls", "/var/crash"); strings.TrimSpace(left) != filepath.Base(crashes[1].Path) {
		t.Errorf("/var/crash has %q; want the crash that was saved", left)
	}
}

// files wants all files of crashes, for nobody but root.
func (y *system) files(crashes []listed) {
	y.t.Helper()
	for _, c := range crashes {
		for _, name := range []string{"vmcore", "dmesg.txt", "report.txt", "report.json", "manifest.json"} {
			y.must("test", "-s", path.Join(c.Path, name))
		}
	}
	modes := y.must("stat", "--format=%a %n", crashes[0].Path, path.Join(crashes[0].Path, "vmcore"))
	if !strings.HasPrefix(modes, "700 ") || !strings.Contains(modes, "\n600 ") {
		y.t.Errorf("modes of a crash and its dump: %s", modes)
	}
}

// grubFirst is GRUB's configuration until update-grub makes one: in a running system
// only does it know what the root is.
const grubFirst = `search --no-floppy --fs-uuid --set=root %[1]s
linux /boot/vmlinux-%[2]s root=UUID=%[1]s ro console=ttyS0 panic=-1
initrd /boot/initrd.img-%[2]s
boot
`

// GRUB is the boot loader of the same system, started by U-Boot as an EFI program.
func TestSystemGRUB(t *testing.T) {
	needSystem(t)
	debs, err := lab.FetchDebs(t.Context(), "trixie", []string{"grub-efi-riscv64-bin", "grub2-common"}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	y, s := bootSystem(t, "system-grub", systemLimit, debs...)
	install := []string{"dpkg", "--install", "--skip-same-version", "--refuse-downgrade"}
	for _, deb := range debs {
		install = append(install, path.Join("/srv", plain(deb)))
	}
	y.must(install...)
	y.must("mkdir", "--parents", "/EFI/BOOT", "/boot/grub")
	y.must("cp", "--recursive", "/usr/lib/grub/riscv64-efi", "/boot/grub/")
	y.must("grub-mkimage", "--format=riscv64-efi", "--output=/EFI/BOOT/BOOTRISCV64.EFI", "--prefix=(hd0,msdos1)/boot/grub",
		"part_msdos", "ext2", "normal", "linux", "search", "search_fs_uuid", "echo", "test", "configfile", "minicmd", "reboot")
	for path, text := range map[string]string{
		"/boot/grub/grub.cfg": fmt.Sprintf(grubFirst, lab.SystemUUID, s.Old.Release),
		"/etc/default/grub": "GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_TERMINAL=console\n" +
			"GRUB_CMDLINE_LINUX=\"console=ttyS0 panic=-1\"\nGRUB_CMDLINE_LINUX_DEFAULT=\"rootwait\"\n",
	} {
		if _, err := y.Do(y.ctx, script.Step{Name: path, Write: &script.Write{Path: path, Data: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
	}
	y.must("dpkg", "--purge", "u-boot-menu")
	y.must("rm", "--recursive", "--force", "/boot/extlinux")
	y.down("systemctl", "reboot")

	y.install("/boot/grub/grub.cfg", "linux")
	y.down("systemctl", "reboot")
	if command := y.must("cat", "/proc/cmdline"); !strings.Contains(command, "BOOT_IMAGE=") || !strings.Contains(command, "rootwait") || !strings.Contains(command, "crashkernel=") {
		t.Errorf("the command line is not what GRUB was told: %s", command)
	}
	y.status()
	y.crash()
	y.status()
	t.Logf("status and list for people:\n%s\n%s", y.must("panicroom", "status"), y.must("panicroom", "list"))
	y.list(1)
	y.must("panicroom", "setup", "--undo")
	if text := y.must("cat", "/boot/grub/grub.cfg"); strings.Contains(text, "crashkernel=") {
		t.Errorf("setup --undo has left crashkernel= in:\n%s", text)
	}
}

// One crash after the other, without a person: each is saved whole, and the machine
// comes back each time. N in the environment is how many.
func TestSoak(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("N"))
	if err != nil || n < 1 {
		t.Skip("an hour of emulation for 50 crashes: make soak N=50")
	}
	y, _ := bootSystem(t, "soak", systemLimit+time.Duration(n)*20*time.Minute)
	y.install(extlinux, "append")
	// The disk has room for so many: only what a report needs is saved of each.
	for name, text := range map[string]string{"keep": "[keep]\ncount = 0\n", "level": "[dump]\nlevel = \"report\"\n"} {
		if _, err := y.Do(y.ctx, script.Step{Name: name, Write: &script.Write{Path: "/etc/panicroom.d/" + name + ".toml", Data: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
	}
	y.down("systemctl", "reboot")
	var took []time.Duration
	for i := range n {
		began := time.Now()
		y.crash()
		took = append(took, time.Since(began))
		y.status()
		if t.Failed() {
			t.Fatalf("crash %d of %d", i+1, n)
		}
	}
	y.list(n)
	t.Logf("%d crashes, from the panic until the system is up again: %s at least, %s at most", n, slices.Min(took).Round(time.Second), slices.Max(took).Round(time.Second))
}
