package crashenv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/device"
	"github.com/panicroom-kdump/panicroom/internal/network"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/target/sshdir"
	"github.com/panicroom-kdump/panicroom/target/targettest"
)

// manyRooms is a machine whose workers are functions, one for each target, and
// leave states.
type manyRooms struct {
	testRoom
	workers []func(c *testChild) *state
}

func (r *manyRooms) Start(role string, env ...string) (child, error) {
	if role == roleRescuer {
		return r.testRoom.Start(role, env...)
	}
	getenv := func(name string) string {
		for _, e := range env {
			if v, ok := strings.CutPrefix(e, name+"="); ok {
				return v
			}
		}
		return ""
	}
	n, before, err := turn(getenv, len(r.workers))
	if err != nil {
		return nil, err
	}
	r.worker = func(c *testChild) {
		if st := r.workers[n](c); st != nil {
			st.Target = n
			r.st = st
		}
	}
	c, err := r.testRoom.Start(role)
	var failed []string
	for _, a := range before {
		failed = append(failed, a.Target+" "+a.Phase)
	}
	r.started[len(r.started)-1] = fmt.Sprintf("worker %d after %q", n, failed)
	return c, err
}

func TestSupervisorTargets(t *testing.T) {
	fails := func(phase, reason string, log bool) func(c *testChild) *state {
		return func(c *testChild) *state {
			c.begin(phase, time.Minute, time.Second)
			c.begin("unmount", time.Minute, 0)
			c.failure = errors.New("exit status 1")
			st := &state{Ended: true, Phase: phase, Reason: phase + ": " + reason, LogSaved: log}
			if log {
				st.Manifest = &Manifest{Path: "/first/X-incomplete"}
			}
			return st
		}
	}
	saves := func(path string) func(c *testChild) *state {
		return func(c *testChild) *state {
			c.begin("dump", time.Minute, time.Second)
			return &state{Ended: true, LogSaved: true, Manifest: &Manifest{Path: path, Complete: true}}
		}
	}
	for _, c := range []struct {
		name    string
		workers []func(c *testChild) *state
		rescuer func(c *testChild)
		started []string
		end     string
		final   Final
		notes   []string
	}{
		{
			name:    "the second takes it",
			workers: []func(c *testChild) *state{fails("target", "refused", false), saves("/second/X"), saves("/third/X")},
			started: []string{"worker 0 after []", `worker 1 after ["first target"]`},
			end:     "complete: /second/X; power off", final: PowerOff,
			notes: []string{"note: target first failed, trying second: target: refused"},
		},
		{
			name: "the first hangs in the kernel, the second dies before it says a word",
			workers: []func(c *testChild) *state{
				func(c *testChild) *state { c.begin("dump", time.Minute, 0); c.hang(); return nil },
				func(c *testChild) *state { c.failure = errors.New("signal: killed"); return nil },
				saves("/third/X"),
			},
			started: []string{"worker 0 after []", `worker 1 after ["first dump"]`, `worker 2 after ["first dump" "second "]`},
			end:     "complete: /third/X; power off", final: PowerOff,
			notes: []string{"the worker hung in phase dump and was killed"},
		},
		{
			name:    "the first has the log, none the dump",
			workers: []func(c *testChild) *state{fails("dump", "no space left", true), fails("device", "no disk", false), fails("network", "no carrier", false)},
			started: []string{"worker 0 after []", `worker 1 after ["first dump"]`, `worker 2 after ["first dump" "second device"]`},
			end:     "incomplete: /first/X-incomplete: dump: no space left; halt", final: Halt,
		},
		{
			name: "the first has the log, the last worker dies",
			workers: []func(c *testChild) *state{fails("dump", "no space left", true), fails("device", "no disk", false), func(c *testChild) *state {
				c.failure = errors.New("signal: killed")
				return nil
			}},
			rescuer: func(c *testChild) {},
			started: []string{"worker 0 after []", `worker 1 after ["first dump"]`, `worker 2 after ["first dump" "second device"]`,
				"rescuer " + reasonEnv + "=the worker ended in phase start of the worker: signal: killed " + logSavedEnv + "=1"},
			end: "incomplete: /first/X-incomplete: dump: no space left; halt", final: Halt,
		},
		{
			name:    "nobody has anything",
			workers: []func(c *testChild) *state{fails("target", "refused", false), fails("device", "no disk", false), fails("network", "no carrier", false)},
			rescuer: func(c *testChild) {},
			started: []string{"worker 0 after []", `worker 1 after ["first target"]`, `worker 2 after ["first target" "second device"]`,
				"rescuer " + reasonEnv + "=network: no carrier"},
			end: "failed: network: no carrier; halt", final: Halt,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				say, out := testConsole()
				r := &manyRooms{testRoom: testRoom{rescuer: c.rescuer}, workers: c.workers}
				s := &supervisor{final: PowerOff, failed: Halt, targets: []string{"first", "second", "third"}, room: r, say: say}
				s.run(nil)
				if !slices.Equal(r.started, c.started) {
					t.Errorf("started %q; want %q", r.started, c.started)
				}
				if r.end != c.final {
					t.Errorf("the machine ended with %q; want %q", r.end, c.final)
				}
				lines := strings.Split(strings.TrimSpace(out.String()), "\n")
				if _, text, _ := strings.Cut(lines[len(lines)-1], "] end "); text != c.end {
					t.Errorf("last line %q; want \"end %s\"", lines[len(lines)-1], c.end)
				}
				for _, n := range c.notes {
					if !strings.Contains(out.String(), n) {
						t.Errorf("no note %q in:\n%s", n, out)
					}
				}
			})
		})
	}
}

func TestTurn(t *testing.T) {
	env := func(all []string) func(string) string {
		return func(name string) string {
			for _, e := range all {
				if v, ok := strings.CutPrefix(e, name+"="); ok {
					return v
				}
			}
			return ""
		}
	}
	before := []Attempt{{Target: "ssh", Phase: "dump", Error: "lost; \"so\"\n", Seconds: 1.5}}
	if n, got, err := turn(env(turnEnv(1, before)), 2); n != 1 || err != nil || !cmp.Equal(got, before) {
		t.Errorf("turn = %d, %+v, %v", n, got, err)
	}
	if n, got, err := turn(env(turnEnv(0, nil)), 1); n != 0 || err != nil || got != nil {
		t.Errorf("first turn = %d, %+v, %v", n, got, err)
	}
	for _, text := range []string{"2", "-1", "x"} {
		if n, _, err := turn(env([]string{turnNumberEnv + "=" + text}), 2); err == nil {
			t.Errorf("turn %q of 2 targets = %d; want an error", text, n)
		}
	}
}

// A target's time is over: what runs is told so, and whoever would kill us knows.
func TestPhaseOfLateTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := &TargetLateError{"ssh", 30 * time.Second}
		ctx, cancel := context.WithTimeoutCause(t.Context(), late.Limit, late)
		defer cancel()
		var told time.Duration
		p := phases{deadlines: Deadlines{PhaseDump: 3600}, events: Events{Begin: func(_ string, limit time.Duration) { told = limit }}}
		err := p.run(ctx, PhaseDump, func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", errors.New("stopped")
		})
		failed, ok := errors.AsType[*PhaseError](err)
		if !ok || failed.Phase != PhaseDump || !errors.Is(err, late) || told != late.Limit {
			t.Errorf("run: %v, told %v; want an error of the dump because of the target's %v", err, told, late.Limit)
		}
	})
}

// netRoot is testRoot with a network device.
func netRoot() fstest.MapFS {
	return testRoot(fstest.MapFS{
		"sys/class/net/eth0": link("../../devices/platform/10008000.virtio_mmio/virtio8/net/eth0"),
		"sys/devices/platform/10008000.virtio_mmio/virtio8/driver":           link("../../../../bus/virtio/drivers/virtio_net"),
		"sys/devices/platform/10008000.virtio_mmio/virtio8/net/eth0/mtu":     file("1500\n"),
		"sys/bus/virtio/drivers/virtio_net/module":                           link("../../../../module/virtio_net"),
		"sys/module/virtio_net/initstate":                                    file("live\n"),
		"sys/class/block/vdb/dev":                                            file("254:16\n"),
		"sys/dev/block/254:16":                                               link("../../devices/platform/10008000.virtio_mmio/virtio9/block/vdb"),
		"sys/devices/platform/10008000.virtio_mmio/virtio9/driver":           link("../../../../bus/virtio/drivers/virtio_blk"),
		"sys/devices/platform/10008000.virtio_mmio/virtio9/block/vdb/uevent": file("DEVNAME=vdb\n"),
		"dev/vdb":                   file(""),
		"dev/vda1":                  file(""),
		"dev/disk/by-partuuid/0a1b": link("../../vdb"),
		"sys/class/block/vda1/dev":  file("254:1\n"),
	})
}

// netModules is testModules with those of the network.
func netModules() fstest.MapFS {
	m := fstest.MapFS{}
	for k, v := range testModules {
		m[k] = v
	}
	m["modules.dep"] = file(string(testModules["modules.dep"].Data) +
		"kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/virtio/virtio.ko.xz\n" +
		"kernel/fs/nfs/nfs.ko.xz: kernel/net/sunrpc.ko.xz\nkernel/fs/nfs/nfsv4.ko.xz: kernel/fs/nfs/nfs.ko.xz kernel/net/sunrpc.ko.xz\nkernel/net/sunrpc.ko.xz:\n" +
		"kernel/net/packet/af_packet.ko.xz:\n")
	m["modules.alias"] = file(string(testModules["modules.alias"].Data) + "alias fs-nfs4 nfs\n")
	for _, name := range []string{"drivers/net/virtio_net", "fs/nfs/nfs", "fs/nfs/nfsv4", "net/sunrpc", "net/packet/af_packet"} {
		m["kernel/"+name+".ko.xz"] = file(name)
	}
	return m
}

func testRecord(to []netip.Addr, iface string) (*network.Facts, error) {
	f := &network.Facts{
		Links:     []network.LinkFact{{Index: 2, Name: "eth0", Kind: "device", MAC: "52:54:00:12:34:56", Permanent: "52:54:00:12:34:56", MTU: 1500}},
		Addresses: []network.AddressFact{{Link: 2, Prefix: netip.MustParsePrefix("10.0.0.2/24")}},
	}
	for _, a := range to {
		r := network.RouteFact{To: a, Link: 2, Gateway: netip.MustParseAddr("10.0.0.1"), Source: netip.MustParseAddr("10.0.0.2")}
		if a.Is6() {
			r = network.RouteFact{To: a, Error: "network is unreachable"}
		}
		f.Routes = append(f.Routes, r)
	}
	return f, nil
}

// netOptions are those of a Build with targets that are anywhere.
func netOptions(t *testing.T, targets ...config.Target) Options {
	t.Helper()
	opts := testOptions(t)
	opts.Root, opts.Modules, opts.Targets, opts.Record = netRoot(), netModules(), targets, testRecord
	opts.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
		if host != "store.example.org" {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{netip.MustParseAddr("2001:db8::9"), netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("::ffff:198.51.100.9")}, nil
	}
	ours := make([]byte, 4096)
	copy(ours, device.DumpsMagic)
	copy(ours[24:], "0123456789abcdef")
	disk := opts.Open
	opts.Open = func(name string) (io.ReaderAt, io.Closer, error) {
		if name == "vdb" {
			return bytes.NewReader(ours), io.NopCloser(nil), nil
		}
		return disk(name)
	}
	return opts
}

// sshTarget is one with its key, and that key.
func sshTarget(t *testing.T, place string) (config.Target, string) {
	t.Helper()
	dir := t.TempDir()
	c := config.Target{SSH: place, Key: filepath.Join(dir, "key"), KnownHosts: filepath.Join(dir, "known_hosts"), Deadline: time.Minute}
	public, _, err := sshdir.MakeKey(c.Key, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.KnownHosts, []byte("store.example.org,198.51.100.9 "+public+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	return c, string(key)
}

func TestBuildTargets(t *testing.T) {
	ssh, key := sshTarget(t, "dump@store.example.org:/srv/crash")
	env, err := Build(t.Context(), netOptions(t, ssh, config.Target{NFS: "198.51.100.9:/export", Options: "port=2050"},
		config.Target{Partition: "PARTUUID=0a1b"}, config.Target{Dir: "/var/crash"}))
	if err != nil {
		t.Fatal(err)
	}
	type brief struct{ Kind, Path, Key, UUID, Modules string }
	var got []brief
	for _, tgt := range env.Plan.Targets {
		got = append(got, brief{string(tgt.Kind), tgt.Path, tgt.Key, tgt.UUID, strings.Join(tgt.Modules, " ")})
	}
	if diff := cmp.Diff([]brief{
		{"ssh", "dump@store.example.org:/srv/crash", "/keys/0", "", "virtio virtio_net starfive_wdt"},
		{"nfs", "198.51.100.9:/export", "", "", "virtio virtio_net sunrpc nfs nfsv4"},
		{"partition", "PARTUUID=0a1b", "", "30313233-3435-3637-3839-616263646566", "virtio virtio_blk"},
		{"directory", "/data/crash", "", "30313233-3435-3637-3839-616263646566", "virtio virtio_blk jbd2 ext4"},
	}, got); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	tgt := env.Plan.Targets[0]
	if tgt.Seconds != 60 || len(tgt.SSH.HostKeys) != 1 || !slices.Equal(tgt.SSH.Addresses, []netip.Addr{netip.MustParseAddr("198.51.100.9")}) {
		t.Errorf("server %+v; want the address that there is a way to, once, and one host key", tgt.SSH)
	}
	if way := tgt.Network; way == nil || way.Links[0].Permanent != "52:54:00:12:34:56" || way.Routes[0].Gateway != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("network %+v", way)
	}
	var all []string
	for _, m := range env.Plan.Modules {
		all = append(all, m.Name)
	}
	for _, tgt := range env.Plan.Targets {
		// In the same order as in the plan's list.
		at := -1
		for _, m := range tgt.Modules {
			i := slices.Index(all, m)
			if i <= at {
				t.Errorf("module %s of %s is number %d of %q", m, tgt.Path, i, all)
			}
			at = i
		}
	}
	// The key is in the initramfs, and nowhere else.
	_, contents := unpack(t, env.Initramfs)
	if contents["keys/0"] != key {
		t.Errorf("the initramfs has the key %q", contents["keys/0"])
	}
	plan, err := json.Marshal(env.Plan)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(key), "\n") {
		if strings.Contains(string(plan), line) || strings.Contains(contents["plan.json"], line) {
			t.Errorf("the plan has %q of the private key in it", line)
		}
	}
	if _, err := ParsePlan([]byte(contents["plan.json"])); err != nil {
		t.Error(err)
	}
}

func TestBuildDHCP(t *testing.T) {
	opts := netOptions(t, config.Target{NFS: "198.51.100.9:/export"})
	opts.Network.Method = network.DHCP
	env, err := Build(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	tgt := env.Plan.Targets[0]
	if tgt.Network.Method != network.DHCP || len(tgt.Network.Addresses) > 0 || !slices.Contains(tgt.Modules, "af_packet") {
		t.Errorf("target %+v, network %+v", tgt, tgt.Network)
	}
}

func TestBuildTargetFails(t *testing.T) {
	ssh, _ := sshTarget(t, "dump@store.example.org:/srv/crash")
	change := func(f func(*config.Target)) config.Target { c := ssh; f(&c); return c }
	for _, c := range []struct {
		name   string
		target config.Target
		says   string
		hint   string
	}{
		{"no such host", config.Target{NFS: "nonesuch:/export"}, "no address of nonesuch", "write the address"},
		{"no way", config.Target{NFS: "[2001:db8::9]:/export"}, "unreachable", ""},
		{"unknown host key", change(func(c *config.Target) { c.SSH = "dump@store.example.org:2222:/srv/crash" }), "has no key of", "ssh-keyscan"},
		{"no key", change(func(c *config.Target) { c.Key += ".none" }), "private key", "panicroom target key"},
		{"not for crashes", config.Target{Partition: "/dev/vda1"}, "it holds ext4", "panicroom target init"},
		{"no partition", config.Target{Partition: "PARTUUID=ffff"}, "not exist", ""},
		{"nothing", config.Target{}, "nowhere", ""},
	} {
		if _, err := Build(t.Context(), netOptions(t, c.target)); err == nil || !strings.Contains(err.Error(), c.says) ||
			!strings.Contains(strings.Join(ui.Hints(err), "\n"), c.hint) {
			t.Errorf("%s: %v, hints %q; want %q, %q", c.name, err, ui.Hints(err), c.says, c.hint)
		}
		// With another one, the rest goes on.
		env, err := Build(t.Context(), netOptions(t, c.target, config.Target{Dir: "/var/crash"}))
		if err != nil || len(env.Plan.Targets) != 1 || !slices.ContainsFunc(env.Missing, func(m string) bool { return strings.Contains(m, c.says) }) {
			t.Fatalf("%s, and another: %v; %+v", c.name, err, env)
		}
		if !slices.Contains(env.Plan.Targets[0].Modules, "starfive_wdt") {
			t.Errorf("%s: the watchdog is not loaded with the first target that is left", c.name)
		}
	}
	empty := netOptions(t, config.Target{Partition: "/dev/vdb"})
	empty.Open = func(string) (io.ReaderAt, io.Closer, error) {
		return bytes.NewReader(make([]byte, 1<<20)), io.NopCloser(nil), nil
	}
	if _, err := Build(t.Context(), empty); err == nil || !strings.Contains(strings.Join(ui.Hints(err), "\n"), "panicroom target init /dev/vdb") {
		t.Errorf("an empty partition: %v, %q", err, ui.Hints(err))
	}
}

func TestTargetCheck(t *testing.T) {
	ssh, _ := sshTarget(t, "dump@store.example.org:/srv/crash")
	good := func() []Target {
		env, err := Build(t.Context(), netOptions(t, ssh, config.Target{NFS: "198.51.100.9:/export"}, config.Target{Partition: "PARTUUID=0a1b"}, config.Target{Dir: "/var/crash"}))
		if err != nil {
			t.Fatal(err)
		}
		return env.Plan.Targets
	}()
	for i, changes := range []map[string]func(*Target){
		{"server": func(t *Target) { t.SSH = nil }, "key": func(t *Target) { t.Key = "" }, "network": func(t *Target) { t.Network = nil }, "time": func(t *Target) { t.Seconds = -1 }},
		{"export": func(t *Target) { t.Export = nil }, "directory": func(t *Target) { e := *t.Export; e.Dir = "x"; t.Export = &e }, "way": func(t *Target) { t.Network = &network.Plan{Method: network.Copy} }},
		{"UUID": func(t *Target) { t.UUID = "" }, "path": func(t *Target) { t.Path = "" }, "kind": func(t *Target) { t.Kind = "tape" }},
		{"UUID": func(t *Target) { t.UUID = "" }, "type": func(t *Target) { t.Type = "" }},
	} {
		for name, change := range changes {
			tgt := good[i]
			if err := tgt.check(); err != nil {
				t.Fatal(err)
			}
			change(&tgt)
			if err := tgt.check(); err == nil {
				t.Errorf("%s without its %s: nil; want an error", good[i].Kind, name)
			}
		}
	}
}

func TestExportMount(t *testing.T) {
	a4, a6 := netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("2001:db8::9")
	tgt := &Target{Options: "port=2050", Export: &Export{Dir: "/export"}, Network: &network.Plan{Routes: []network.Route{{To: a4, Source: netip.MustParseAddr("10.0.0.2")}}}}
	for _, c := range []struct {
		a            netip.Addr
		source, data string
	}{
		{a4, "198.51.100.9:/export", "vers=4.2,addr=198.51.100.9,proto=tcp,softerr,timeo=50,retrans=2,clientaddr=10.0.0.2,port=2050"},
		{a6, "[2001:db8::9]:/export", "vers=4.2,addr=2001:db8::9,proto=tcp6,softerr,timeo=50,retrans=2,port=2050"},
	} {
		if source, data := exportMount(tgt, c.a, "4.2"); source != c.source || data != c.data {
			t.Errorf("exportMount(%s) = %q, %q; want %q, %q", c.a, source, data, c.source, c.data)
		}
	}
}

// The manifest of the target that took the dump tells of those that did not.
func TestSaveAttempts(t *testing.T) {
	before := []Attempt{{Target: "dump@store:/crash", Phase: PhaseTarget, Error: "target: connection refused", Seconds: 0.25}}
	m, err := save(t, &testDead{}, targettest.NewMemory(1<<30), func(o *SaveOptions) { o.attempts = before })
	if err != nil || !m.Complete {
		t.Fatalf("Save = %+v, %v", m, err)
	}
	if diff := cmp.Diff(before, m.Attempts); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
}

func TestBrief(t *testing.T) {
	err := errors.Join(errors.New("dump: store: lost"), errors.New("store: lost"), errors.New("commit: store: lost\nagain"), errors.New("store: lost"))
	if got, want := brief(err), "dump: store: lost; commit: store: lost; again"; got != want {
		t.Errorf("brief = %q; want %q", got, want)
	}
}

// lvmRoot is testRoot with /srv/crash on a volume that the device mapper makes of
// the disk.
func lvmRoot() fstest.MapFS {
	return testRoot(fstest.MapFS{
		"proc/self/mountinfo":                        file("27 1 254:1 / / rw - ext4 /dev/vda1 rw\n28 27 252:0 / /data rw - ext4 /dev/mapper/vg-crash rw\n"),
		"sys/dev/block/252:0":                        link("../../devices/virtual/block/dm-0"),
		"sys/devices/virtual/block/dm-0/uevent":      file("DEVNAME=dm-0\n"),
		"sys/devices/virtual/block/dm-0/dm/name":     file("vg-crash\n"),
		"sys/devices/virtual/block/dm-0/slaves/vda1": link("../../../../platform/10008000.virtio_mmio/virtio7/block/vda/vda1"),
	})
}

func TestBuildMapped(t *testing.T) {
	volume := make([]byte, 8192)
	copy(volume[512:], "LABELONE")
	volume[512+20] = 32
	copy(volume[512+24:], "LVM2 0010a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p")
	opts := testOptions(t)
	opts.Root = lvmRoot()
	disk := opts.Open
	opts.Open = func(name string) (io.ReaderAt, io.Closer, error) {
		switch name {
		case "dm-0":
			return disk("vda1")
		case "vda1":
			return bytes.NewReader(volume), io.NopCloser(nil), nil
		}
		return nil, nil, os.ErrNotExist
	}
	opts.Table = func(major, minor uint32) ([]sys.MapperTarget, error) {
		if major != 252 || minor != 0 {
			t.Errorf("table of %d:%d", major, minor)
		}
		return []sys.MapperTarget{{Length: 8192, Type: "linear", Params: "254:1 2048"}}, nil
	}
	env, err := Build(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	want := Target{Kind: Directory, UUID: "30313233-3435-3637-3839-616263646566", Type: "ext4", Options: "errors=remount-ro",
		Dir: "/crash", Path: "/data/crash", Device: "/dev/dm-0", Seconds: 3600, Modules: []string{"virtio", "virtio_blk", "jbd2", "ext4", "starfive_wdt"},
		Mapped: &device.Mapped{Parts: []device.Part{{Sectors: 8192, On: "0a1b2c-3d4e-5f6g-7h8i-9j0k-1l2m-3n4o5p", From: 2048}}}}
	if diff := cmp.Diff(want, env.Plan.Targets[0]); diff != "" {
		t.Errorf("target (-want +got):\n%s", diff)
	}
	for kind, is := range map[string]error{"crypt": device.ErrStacked, "linear": device.ErrNoVolume} {
		opts.Table = func(_, _ uint32) ([]sys.MapperTarget, error) {
			return []sys.MapperTarget{{Length: 8192, Type: kind, Params: "254:1 2048"}}, nil
		}
		volume = make([]byte, 8192)
		if _, err := Build(t.Context(), opts); !errors.Is(err, is) {
			t.Errorf("%s: %v; want %v", kind, err, is)
		}
	}
}
