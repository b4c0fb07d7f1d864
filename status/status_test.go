package status

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/load"
	"github.com/panicroom-kdump/panicroom/saved"
	"github.com/panicroom-kdump/panicroom/setup"
)

var (
	built = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	now   = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
)

// healthy is a machine without fault.
func healthy() *Facts {
	root := fstest.MapFS{
		"proc/meminfo":                  {Data: []byte("MemTotal: 1000000 kB\nMemFree: 300000 kB\nBuffers: 10000 kB\nCached: 200000 kB\nAnonPages: 300000 kB\n")},
		"boot/vmlinux":                  {ModTime: built},
		"proc/sys/kernel/panic_on_oops": {Data: []byte("1\n")}, "proc/sys/kernel/panic": {Data: []byte("10\n")},
		"run/systemd/system/x": {},
		"etc/systemd/system/sysinit.target.wants/panicroom.service":          {},
		"etc/systemd/system/multi-user.target.wants/panicroom-after.service": {},
	}
	conf := config.Default()
	return &Facts{
		Root: root, Config: conf, Now: now, Needed: 100 << 20,
		Load: &load.Status{Reserved: 128 << 20, Loaded: true, LoadsLeft: host.Unlimited, Plan: &load.Plan{
			Kernel: load.KernelInfo{Path: "/boot/vmlinux", Banner: "Linux version 6.12", Modified: built}, Loaded: now.Add(-time.Hour)},
			Held: []load.Held{{Name: "kernel", State: load.Intact}, {Name: "initramfs", State: load.Intact}}},
		Targets: []Target{{Target: conf.Targets[0], Asked: true, Free: 4 << 30, Known: true}},
		Units:   map[string]setup.Unit{setup.Service: {Active: "active"}, setup.ReloadService: {Active: "inactive"}, setup.AfterService: {Active: "active"}},
		Crashes: []saved.Crash{{Path: "/var/crash/a", Complete: true, Time: now, Title: "Kernel panic"}},
	}
}

// Where no panic kernel can be loaded, that is said, and not what would follow.
func TestUnfit(t *testing.T) {
	f := healthy()
	f.Unfit = load.CheckKernel(&host.Machine{Arch: "riscv64", Release: "6.12", NoKexec: true})
	f.Load = &load.Status{}
	links := Check(f)
	if len(links) != 2 || links[0].Name != "machine" || links[0].State != Broken || len(links[0].Remedy) == 0 || !strings.Contains(links[0].Says, "CONFIG_KEXEC") {
		t.Errorf("%+v", links)
	}
}

func TestHealthy(t *testing.T) {
	links := Check(healthy())
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
		if l.State != OK || l.Says == "" || len(l.Remedy) != 0 {
			t.Errorf("%+v; want ok, with words and without a remedy", l)
		}
	}
	want := []string{"reserved", "loaded", "kernel", "memory", "machine", "target", "sysctl", "service", "crashes"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

// Each fault shows in its link, with a remedy, and in no other.
func TestFaults(t *testing.T) {
	file := func(name string, m *fstest.MapFile) func(*Facts) {
		return func(f *Facts) {
			if m == nil {
				delete(f.Root.(fstest.MapFS), name)
				return
			}
			f.Root.(fstest.MapFS)[name] = m
		}
	}
	other := config.Target{NFS: "server:/crash"}
	for _, tt := range []struct {
		name  string
		do    func(*Facts)
		link  string
		state State
		says  string
	}{
		{"too little", func(f *Facts) { f.Needed = 129 << 20 }, "reserved", Broken, "129 MiB that this machine needs"},
		{"how much is not known", func(f *Facts) { f.Needed, f.NeededErr = 0, errors.New("no image") }, "reserved", Warning, "no image"},
		{"not by panicroom", func(f *Facts) { f.Load.Plan, f.Load.Held = nil, nil }, "loaded", Warning, "not by panicroom"},
		{"no load is left", func(f *Facts) { f.Load.LoadsLeft = 0 }, "loaded", Warning, "/boot/vmlinux"},
		{"the kernel was removed", file("boot/vmlinux", nil), "kernel", Warning, "what is in memory works"},
		{"the kernel was upgraded", file("boot/vmlinux", &fstest.MapFile{ModTime: now}), "kernel", Warning, "another file"},
		{"a byte has changed", func(f *Facts) { f.Load.Held[1].State = load.Damaged }, "memory", Broken, "1 of 2 segments"},
		{"memory came", func(f *Facts) { f.Load.Stale = []string{"1 GiB of memory came", "x"} }, "machine", Broken, "1 GiB of memory came"},
		{"a module is missing", func(f *Facts) { f.Load.Plan.Warnings = []string{"no module x"} }, "warnings", Warning, "no module x"},
		{"the disk is full", func(f *Facts) { f.Targets[0].Free = 1 << 20 }, "target", Broken, "full"},
		{"the disk is small", func(f *Facts) { f.Targets[0].Free = 100 << 20 }, "target", Warning, "100 MiB free"},
		{"no target", func(f *Facts) { f.Targets[0].Err = errors.New("no route") }, "target", Broken, "no route"},
		{"one of two targets", func(f *Facts) {
			f.Targets = append(f.Targets, Target{Target: other, Asked: true, Err: errors.New("no route")})
		}, "target", Warning, "nfs server:/crash: no route"},
		{"crashes wait", func(f *Facts) {
			f.Targets[0].Target, f.Targets[0].Waiting, f.Targets[0].Device = config.Target{Partition: "LABEL=room"}, 2, "/dev/vdb1"
		}, "target", Warning, "partition LABEL=room: 4 GiB free"},
		{"another machine is full", func(f *Facts) {
			f.Targets[0].Target, f.Targets[0].Free = config.Target{SSH: "dump@store:/srv"}, 1<<20
		}, "target", Broken, "ssh dump@store:/srv is full"},
		{"an oops is no panic", file("proc/sys/kernel/panic_on_oops", &fstest.MapFile{Data: []byte("0\n")}), "sysctl", Warning, "kernel.panic_on_oops is 0"},
		{"not enabled", file("etc/systemd/system/sysinit.target.wants/panicroom.service", nil), "service", Warning, "not enabled"},
		{"after is not enabled", file("etc/systemd/system/multi-user.target.wants/panicroom-after.service", nil), "service", Warning, "not enabled"},
		{"no systemd", file("run/systemd/system/x", nil), "service", Warning, "no systemd"},
		{"failed", func(f *Facts) { f.Units[setup.Service] = setup.Unit{Active: "failed", Result: "exit-code"} }, "service", Warning, "has failed: exit-code"},
		{"stopped", func(f *Facts) { f.Units[setup.Service] = setup.Unit{Active: "inactive"} }, "service", Warning, "not active"},
		{"a reload failed", func(f *Facts) { f.Units[setup.ReloadService] = setup.Unit{Active: "failed", Result: "exit-code"} }, "service", Warning, "could not be loaded again"},
		{"no network", func(f *Facts) { f.Config.Targets = append(f.Config.Targets, other) }, "service", Warning, "does not wait for the network"},
		{"in part", func(f *Facts) { f.Crashes[0].Complete = false }, "crashes", Warning, "saved in part"},
		{"crashes not known", func(f *Facts) { f.CrashesErr = os.ErrPermission }, "crashes", Warning, "permission"},
		{"a wrong configuration", func(f *Facts) { f.Config, f.Targets, f.ConfigErr = nil, nil, errors.New("x.toml:1: no") }, "configuration", Warning, "x.toml:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := healthy()
			tt.do(f)
			bad := slices.DeleteFunc(Check(f), func(l Link) bool { return l.State == OK })
			if len(bad) != 1 || bad[0].Name != tt.link || bad[0].State != tt.state || !strings.Contains(bad[0].Says, tt.says) {
				t.Errorf("%+v; want one: %s, %s, %q", bad, tt.link, tt.state, tt.says)
			}
			if len(bad) == 1 && len(bad[0].Remedy) == 0 && !slices.Contains([]string{"warnings", "crashes", "target"}, tt.link) && f.NeededErr == nil {
				t.Errorf("%+v has no remedy", bad[0])
			}
			if got := Worst(Check(f)); got != tt.state {
				t.Errorf("Worst = %s; want %s", got, tt.state)
			}
		})
	}
}

func TestNothing(t *testing.T) {
	for _, s := range []*load.Status{{}, {Reserved: 1 << 27}} {
		f := &Facts{Root: fstest.MapFS{}, Load: s, Config: config.Default(), Now: now}
		if links := Check(f); Worst(links) != Broken {
			t.Errorf("%+v: %+v; want a broken link", s, links)
		}
	}
}

func TestEstimate(t *testing.T) {
	root := healthy().Root
	for level, want := range map[string]uint64{"full": 1000000, "0": 1000000, "16": 700000, "24": 400000, "31": 200000, "kernel": 200000, "report": 200000} {
		if got := Estimate(root, level); got != want<<10 {
			t.Errorf("Estimate(%s) = %d KiB; want %d", level, got>>10, want)
		}
	}
	if got := Estimate(fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal: 1 kB\nMemFree: 5 kB\nx\n:")}}, "31"); got != 0 {
		t.Errorf("Estimate of nonsense = %d", got)
	}
}

const wantMetrics = `# HELP panicroom_armed 1 if a panic now would leave a whole dump.
# TYPE panicroom_armed gauge
panicroom_armed 0
# HELP panicroom_link_state Links of the chain: 0 ok, 1 warning, 2 broken; the worst of those with one name.
# TYPE panicroom_link_state gauge
panicroom_link_state{link="reserved"} 0
panicroom_link_state{link="loaded"} 0
panicroom_link_state{link="kernel"} 0
panicroom_link_state{link="memory"} 0
panicroom_link_state{link="machine"} 0
panicroom_link_state{link="target"} 2
panicroom_link_state{link="sysctl"} 0
panicroom_link_state{link="service"} 0
panicroom_link_state{link="crashes"} 0
# HELP panicroom_reserved_bytes Memory that is reserved for the panic kernel.
# TYPE panicroom_reserved_bytes gauge
panicroom_reserved_bytes 134217728
# HELP panicroom_needed_bytes Memory that the panic kernel needs here.
# TYPE panicroom_needed_bytes gauge
panicroom_needed_bytes 104857600
# HELP panicroom_loaded_timestamp_seconds When the panic kernel was loaded.
# TYPE panicroom_loaded_timestamp_seconds gauge
panicroom_loaded_timestamp_seconds 1795604400
# HELP panicroom_crashes Saved crashes on this machine.
# TYPE panicroom_crashes gauge
panicroom_crashes 1
# HELP panicroom_last_crash_timestamp_seconds When the last saved crash happened.
# TYPE panicroom_last_crash_timestamp_seconds gauge
panicroom_last_crash_timestamp_seconds 1795608000
# HELP panicroom_target_usable 1 if a target can be reached and written to; those that were not asked are left out.
# TYPE panicroom_target_usable gauge
panicroom_target_usable{target="dir /a\"b\\c"} 1
panicroom_target_usable{target="nfs server:/b"} 0
# HELP panicroom_target_free_bytes Room of targets, where it is known.
# TYPE panicroom_target_free_bytes gauge
panicroom_target_free_bytes{target="dir /a\"b\\c"} 1024
`

func TestTextfile(t *testing.T) {
	f := healthy()
	f.Targets[0].Dir, f.Targets[0].Free = `/a"b\c`, 1024
	f.Targets = append(f.Targets, Target{Target: config.Target{NFS: "server:/b"}, Asked: true, Err: errors.New("no route")})
	name := filepath.Join(t.TempDir(), "panicroom.prom")
	if err := WriteTextfile(name, f, Check(f)); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantMetrics, string(got)); diff != "" {
		t.Error(diff)
	}
	// Of a target that was not asked nothing is known.
	f.Targets = append(f.Targets, Target{Target: config.Target{SSH: "server:/b"}, Note: "not asked"})
	if got := string(Textfile(f, Check(f))); strings.Contains(got, `"ssh server:/b"`) {
		t.Error(got)
	}
	info, err := os.Stat(name)
	entries, derr := os.ReadDir(filepath.Dir(name))
	if err != nil || derr != nil || info.Mode().Perm() != 0o644 || len(entries) != 1 {
		t.Errorf("mode %v, %d files: %v %v", info.Mode(), len(entries), err, derr)
	}
}

func TestBuild(t *testing.T) {
	for banner, want := range map[string]string{
		"Linux version 6.12.107+deb13-riscv64 (debian-kernel@lists.debian.org) (riscv64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0, GNU ld (GNU Binutils for Debian) 2.44) #1 SMP Debian 6.12.107-1 (2026-08-29)": "Linux version 6.12.107+deb13-riscv64 #1 SMP Debian 6.12.107-1 (2026-08-29)",
		"Linux version 6.12":        "Linux version 6.12",
		"Linux version 6.12 (cut o": "Linux version 6.12 (cut o",
		"":                          "",
	} {
		if got := build(banner); got != want {
			t.Errorf("build(%q) = %q; want %q", banner, got, want)
		}
	}
}
