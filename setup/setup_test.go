package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/panicroom-kdump/panicroom/internal/config"
)

// box is a machine in memory. What it does is counted, and one thing can fail.
type box struct {
	files  fstest.MapFS
	calls  int
	failAt int // 0 is never
}

var errBox = errors.New("it fails here")

func (b *box) at(name string) string { return strings.TrimPrefix(name, "/") }

func (b *box) call() error {
	b.calls++
	if b.calls == b.failAt {
		return errBox
	}
	return nil
}

func (b *box) ReadFile(name string) ([]byte, error) { return fs.ReadFile(b.files, b.at(name)) }

func (b *box) Mkdir(name string, mode fs.FileMode) error {
	if err := b.call(); err != nil {
		return err
	}
	if _, err := fs.Stat(b.files, b.at(name)); err != nil {
		b.files[b.at(name)] = &fstest.MapFile{Mode: mode | fs.ModeDir}
	}
	return nil
}

func (b *box) Create(name string, data []byte, mode fs.FileMode) error {
	if _, err := fs.Lstat(b.files, b.at(name)); err == nil {
		return fs.ErrExist
	}
	return b.Replace(name, data, mode)
}

func (b *box) Replace(name string, data []byte, mode fs.FileMode) error {
	if err := b.call(); err != nil {
		return err
	}
	if _, err := fs.Stat(b.files, filepath.Dir(b.at(name))); err != nil {
		return err
	}
	b.files[b.at(name)] = &fstest.MapFile{Data: data, Mode: mode}
	return nil
}

func (b *box) Set(name, value string) error {
	if err := b.call(); err != nil {
		return err
	}
	b.files[b.at(name)].Data = []byte(value + "\n")
	return nil
}

func (b *box) Remove(name string) error {
	info, err := fs.Stat(b.files, b.at(name))
	if err != nil {
		return err
	}
	if entries, err := fs.ReadDir(b.files, b.at(name)); info.IsDir() && (err != nil || len(entries) > 0) {
		return errors.New("directory not empty")
	}
	delete(b.files, b.at(name))
	return nil
}

func (b *box) Hostname() string { return "box" }

func (b *box) Systemctl(_ context.Context, args ...string) error {
	if err := b.call(); err != nil {
		return err
	}
	for _, unit := range args[1:] {
		link := "etc/systemd/system/multi-user.target.wants/" + unit
		switch args[0] {
		case "enable":
			b.files[link] = &fstest.MapFile{Data: []byte("/usr/lib/systemd/system/" + unit), Mode: fs.ModeSymlink | 0o777}
		case "disable":
			delete(b.files, link)
		}
	}
	return nil
}

// loader is a boot loader with one file.
type loader struct{ b *box }

func (l loader) Reserve(_ context.Context, dry bool) ([]string, error) {
	if dry {
		return []string{"+crashkernel=128M"}, nil
	}
	if err := l.b.call(); err != nil {
		return nil, err
	}
	return []string{"+crashkernel=128M"}, l.write("append ro crashkernel=128M")
}

func (l loader) Unreserve(context.Context) ([]string, error) {
	return nil, l.write("append ro")
}

func (l loader) write(text string) error {
	l.b.files["boot/extlinux.conf"].Data = []byte(text)
	return nil
}

// newBox makes a machine with systemd, and with the units of a package if packaged.
func newBox(t *testing.T, reserved uint64, packaged bool) *box {
	t.Helper()
	b := &box{files: fstest.MapFS{
		"proc/sys/kernel/panic_on_oops":    {Data: []byte("0\n")},
		"proc/sys/kernel/panic":            {Data: []byte("0\n")},
		"sys/kernel/kexec_crash_size":      {Data: fmt.Appendln(nil, reserved)},
		"boot/extlinux.conf":               {Data: []byte("append ro")},
		"etc/systemd/system/other.service": {},
		"run/systemd/system/.keep":         {},
	}}
	if packaged {
		b.files["usr/lib/systemd/system/"+Service] = &fstest.MapFile{}
		b.files["usr/lib/systemd/system/"+AfterService] = &fstest.MapFile{}
	}
	return b
}

// tree is all files of the machine, and what has no file in it. Directories that were
// made on the way to a file stay, and nobody minds.
func (b *box) tree() map[string]string {
	all := map[string]string{}
	for name, f := range b.files {
		if !f.Mode.IsDir() || name == "var/crash" {
			all["/"+name] = string(f.Data)
		}
	}
	return all
}

func (b *box) steps(t *testing.T) *Steps {
	return &Steps{Machine: b, Reserver: loader{b}, Say: t.Logf}
}

func (b *box) make(t *testing.T, conf *config.Config) *Plan {
	t.Helper()
	p, err := Make(b.files, conf, Options{Program: "/opt/panicroom"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// remote is a configuration with a target of each kind that setup does something for.
func remote() *config.Config {
	c := config.Default()
	c.Targets = append(c.Targets, config.Target{SSH: "root@backup:/srv", Key: "/etc/panicroom/id_ed25519", KnownHosts: "/etc/panicroom/known_hosts"})
	return c
}

func names(p *Plan) (all []string) {
	for _, a := range p.Actions {
		all = append(all, a.Name())
	}
	return all
}

func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		name     string
		reserved uint64
		packaged bool
		conf     *config.Config
		want     []string
	}{
		{"a package, nothing reserved", 0, true, config.Default(), []string{
			"directory /var/crash", "reserve memory (auto)", "file /etc/sysctl.d/60-panicroom.conf",
			"sysctl kernel.panic_on_oops = 1", "sysctl kernel.panic = 10", "enable panicroom.service, panicroom-after.service"}},
		{"a package, reserved", 1 << 27, true, config.Default(), []string{
			"directory /var/crash", "file /etc/sysctl.d/60-panicroom.conf",
			"sysctl kernel.panic_on_oops = 1", "sysctl kernel.panic = 10", "enable panicroom.service, panicroom-after.service",
			"start panicroom.service"}},
		{"another machine", 1 << 27, true, remote(), []string{
			"directory /var/crash", "key pair /etc/panicroom/id_ed25519", "file /etc/sysctl.d/60-panicroom.conf",
			"sysctl kernel.panic_on_oops = 1", "sysctl kernel.panic = 10",
			"file /etc/systemd/system/panicroom.service.d/network.conf", "enable panicroom.service, panicroom-after.service",
			"start panicroom.service"}},
		{"the program alone", 1 << 27, false, config.Default(), []string{
			"directory /var/crash", "file /etc/sysctl.d/60-panicroom.conf",
			"sysctl kernel.panic_on_oops = 1", "sysctl kernel.panic = 10",
			"file /etc/udev/rules.d/60-panicroom.rules",
			"file /etc/systemd/system/panicroom-after.service", "file /etc/systemd/system/panicroom-reload.service",
			"file /etc/systemd/system/panicroom-reload.timer", "file /etc/systemd/system/panicroom.service",
			"enable panicroom.service, panicroom-after.service", "start panicroom.service"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newBox(t, tt.reserved, tt.packaged).make(t, tt.conf)
			if diff := cmp.Diff(tt.want, names(p)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			if got, want := p.NeedsReboot(), tt.reserved == 0; got != want {
				t.Errorf("NeedsReboot() = %v; want %v", got, want)
			}
		})
	}
}

// What is reserved and not enough is as good as nothing.
func TestPlanTooLittle(t *testing.T) {
	b := newBox(t, 1<<26, true)
	p, err := Make(b.files, config.Default(), Options{TooLittle: true})
	if err != nil {
		t.Fatal(err)
	}
	got := names(p)
	if !p.NeedsReboot() || !slices.Contains(got, "reserve memory (auto)") || got[len(got)-1] == "start "+Service {
		t.Errorf("actions %q; want memory reserved and nothing started", got)
	}
}

func TestPlanWithoutSystemd(t *testing.T) {
	b := newBox(t, 0, true)
	delete(b.files, "run/systemd/system/.keep")
	if p, err := Make(b.files, config.Default(), Options{}); !errors.Is(err, ErrNoSystemd) {
		t.Errorf("Make = %+v, %v; want %v", p, err, ErrNoSystemd)
	}
}

// A second setup changes nothing, and undo leaves nothing.
func TestDoAgainAndUndo(t *testing.T) {
	for _, packaged := range []bool{true, false} {
		for _, reserved := range []uint64{0, 1 << 27} {
			t.Run(fmt.Sprintf("packaged=%v reserved=%d", packaged, reserved), func(t *testing.T) {
				b := newBox(t, reserved, packaged)
				before := b.tree()
				if err := b.steps(t).Do(t.Context(), b.make(t, remote())); err != nil {
					t.Fatal(err)
				}
				done := b.tree()
				if cmp.Equal(before, done) {
					t.Fatal("setup has changed nothing")
				}
				if got := done["/proc/sys/kernel/panic_on_oops"]; got != "1\n" {
					t.Errorf("panic_on_oops is %q", got)
				}
				p := b.make(t, remote())
				var want []string
				if reserved == 0 {
					want = []string{"reserve memory (auto)"} // the reboot is still to come
				} else {
					want = []string{"start panicroom.service"}
				}
				if diff := cmp.Diff(want, names(p)); diff != "" {
					t.Errorf("actions of a second setup (-want +got):\n%s", diff)
				}
				if err := b.steps(t).Do(t.Context(), p); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(done, b.tree()); diff != "" {
					t.Errorf("a second setup has changed (-first +second):\n%s", diff)
				}
				if err := b.steps(t).Undo(t.Context()); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(before, b.tree()); diff != "" {
					t.Errorf("after undo (-before +after):\n%s", diff)
				}
				if err := b.steps(t).Undo(t.Context()); err != nil {
					t.Errorf("a second undo: %v", err)
				}
			})
		}
	}
}

// A setup that fails anywhere can be undone, and can be done again.
func TestInterrupted(t *testing.T) {
	whole := newBox(t, 0, false)
	if err := whole.steps(t).Do(t.Context(), whole.make(t, remote())); err != nil {
		t.Fatal(err)
	}
	for at := 1; at <= whole.calls; at++ {
		b := newBox(t, 0, false)
		before := b.tree()
		b.failAt = at
		if err := b.steps(t).Do(t.Context(), b.make(t, remote())); !errors.Is(err, errBox) {
			t.Fatalf("call %d: %v; want %v", at, err, errBox)
		}
		b.failAt = 0
		again := newBox(t, 0, false)
		again.failAt = at
		if err := again.steps(t).Do(t.Context(), again.make(t, remote())); err == nil {
			t.Fatalf("call %d does not fail", at)
		}
		again.failAt = 0
		if err := again.steps(t).Do(t.Context(), again.make(t, remote())); err != nil {
			t.Errorf("call %d failed, and setup again: %v", at, err)
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(whole.tree())), slices.Sorted(maps.Keys(again.tree()))); diff != "" {
			t.Errorf("call %d failed; setup again made other files (-whole +again):\n%s", at, diff)
		}
		if err := b.steps(t).Undo(t.Context()); err != nil {
			t.Errorf("call %d failed, and undo: %v", at, err)
		}
		if diff := cmp.Diff(before, b.tree()); diff != "" {
			t.Errorf("call %d failed; after undo (-before +after):\n%s", at, diff)
		}
	}
}

// What somebody has edited stays, and is not taken for ours.
func TestUndoLeavesEdits(t *testing.T) {
	b := newBox(t, 1<<27, true)
	if err := b.steps(t).Do(t.Context(), b.make(t, config.Default())); err != nil {
		t.Fatal(err)
	}
	const edited = "kernel.panic_on_oops = 0\n"
	b.files[b.at(SysctlFile)].Data = []byte(edited)
	b.files["var/crash/2026-11-25/vmcore"] = &fstest.MapFile{}
	p := b.make(t, config.Default())
	if len(p.Notes) != 1 || !strings.Contains(p.Notes[0], SysctlFile) {
		t.Errorf("notes %q; want one about %s", p.Notes, SysctlFile)
	}
	if err := b.steps(t).Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.tree()[SysctlFile]; got != edited {
		t.Errorf("%s is %q; want %q", SysctlFile, got, edited)
	}
	if _, err := fs.Stat(b.files, "var/crash/2026-11-25"); err != nil {
		t.Error(err)
	}
}

func TestKey(t *testing.T) {
	private, public, err := newKey("panicroom@box")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, comment, _, _, err := ssh.ParseAuthorizedKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if comment != "panicroom@box" || string(key.Marshal()) != string(signer.PublicKey().Marshal()) {
		t.Errorf("public key %s does not belong to the private one", public)
	}
	other, _, err := newKey("panicroom@box")
	if err != nil || string(other) == string(private) {
		t.Errorf("the second key is the first: %v", err)
	}
}

func TestKeyModes(t *testing.T) {
	b := newBox(t, 1<<27, true)
	if err := b.steps(t).Do(t.Context(), b.make(t, remote())); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{
		"etc/panicroom": 0o700 | fs.ModeDir, "etc/panicroom/id_ed25519": 0o600, "etc/panicroom/id_ed25519.pub": 0o644,
		"var/crash": 0o700 | fs.ModeDir, JournalFile: 0o600, SysctlFile: 0o644,
	} {
		info, err := fs.Stat(b.files, b.at(name))
		if err != nil {
			t.Error(err)
		} else if info.Mode() != want {
			t.Errorf("%s has mode %v; want %v", name, info.Mode(), want)
		}
	}
}

func TestParseUnits(t *testing.T) {
	got := parseUnits("Id=panicroom.service\nActiveState=active\nResult=success\n\nId=panicroom-reload.service\nActiveState=failed\nResult=exit-code\n")
	want := map[string]Unit{"panicroom.service": {"active", "success"}, "panicroom-reload.service": {"failed", "exit-code"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The units name the program that a package brings; without one they name ours.
func TestUnitsNameTheProgram(t *testing.T) {
	files, err := unitFiles("/opt/panicroom")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, f := range files {
		named += strings.Count(string(f.Data), "=/opt/panicroom ")
		if strings.Contains(string(f.Data), packagedProgram) {
			t.Errorf("%s still names %s", f.Path, packagedProgram)
		}
	}
	if named != 4 {
		t.Errorf("the units name the program %d times; want 4", named)
	}
}

func TestSysctls(t *testing.T) {
	want := []Sysctl{{"kernel.panic_on_oops", "1"}, {"kernel.panic", "10"}}
	if diff := cmp.Diff(want, Sysctls()); diff != "" {
		t.Error(diff)
	}
}

// Files of a real machine are there whole, with their mode, or not at all.
func TestLive(t *testing.T) {
	dir := t.TempDir()
	m := Live()
	at := filepath.Join(dir, "a/b")
	if err := m.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.Mkdir(at, 0o755); err != nil {
		t.Errorf("a directory that is there: %v", err)
	}
	name := filepath.Join(at, "file")
	if err := m.Create(name, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Create(name, []byte("two"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create of a file that is there = %v; want %v", err, fs.ErrExist)
	}
	if err := m.Replace(name, []byte("three"), 0o640); err != nil {
		t.Fatal(err)
	}
	text, err := m.ReadFile(name)
	info, serr := os.Stat(name)
	if err != nil || serr != nil || string(text) != "three" || info.Mode() != 0o640 {
		t.Errorf("%q, %v, %v, %v", text, info.Mode(), err, serr)
	}
	entries, err := os.ReadDir(at)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files are left: %v", len(entries), err)
	}
	if info, err := os.Stat(at); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v; want mode 0700", info.Mode(), err)
	}
}
