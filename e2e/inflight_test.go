//go:build e2e

package e2e

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
	dead "github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/block"
	deadfs "github.com/panicroom-kdump/panicroom/kernel/fs"
	"github.com/panicroom-kdump/panicroom/kernel/net"
)

// stuckWrites are the sizes of the writes that the disk does not answer.
var stuckWrites = []int{4096, 8192, 16384, 32768, 65536, 131072}

// inAndOut has a scenario leave writes, mounts and network interfaces to find in
// its dump, and show what the guest sees of them. The disk that the writes go to
// has so many queues: with one, Linux schedules its requests.
func inAndOut(s *lab.Scenario, queues int) {
	show := func(name string, paths ...string) script.Step {
		return script.Step{Name: name, Show: &script.Show{Paths: paths}}
	}
	s.Stuck = &lab.StuckDisk{Queues: queues}
	s.Modules = append(s.Modules, "dummy")
	s.Steps = append(s.Steps,
		script.Step{Name: "network", Network: &script.Network{
			Device: "dummy0", Addresses: []string{"192.0.2.7/24", "198.51.100.9/32", "2001:db8::7/64"},
		}},
		lab.Stick(stuckWrites...),
		show("mounts", "/proc/mounts"),
		show("mac", "/sys/class/net/dummy0/address"))
}

// seesInAndOut checks that a dump tells what inAndOut has left.
func seesInAndOut(t *testing.T, o *lab.Outcome, dump string) {
	t.Helper()
	_, k := openDump(t, dump)
	seesDisks(t, o, k)
	seesMounts(t, o, k)
	seesInterfaces(t, o, k)
}

func seesDisks(t *testing.T, o *lab.Outcome, k *dead.Kernel) {
	disks, err := block.Disks(k)
	if err != nil {
		t.Errorf("disks: %v", err)
	}
	var sizes []int
	for _, d := range disks {
		sizes = append(sizes, int(d.Bytes>>20))
		if d.Bytes != lab.StuckMiB<<20 {
			if len(d.InFlight) > 0 || len(d.Queued) > 0 {
				t.Errorf("%s: %+v in flight, %+v queued; want none", d.Name, d.InFlight, d.Queued)
			}
			continue
		}
		var got []int
		for _, r := range slices.Concat(d.InFlight, d.Queued) {
			got = append(got, int(r.Bytes))
			at := slices.Index(stuckWrites, int(r.Bytes))
			if r.Op != "write" || r.Sector != uint64(at+1)<<20/512 || r.Age == 0 || time.Duration(r.Age) > time.Hour {
				t.Errorf("%s: %+v; want a write to MiB %d, some seconds old", d.Name, r, at+1)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, stuckWrites) || len(d.Queued) > 0 {
			t.Errorf("%s: writes of %d bytes, %d of them queued; want %d, all in flight", d.Name, got, len(d.Queued), stuckWrites)
		}
	}
	slices.Sort(sizes)
	want := []int{lab.StuckMiB, o.Scenario.Disk.SizeMiB}
	if slices.Sort(want); !slices.Equal(sizes, want) {
		t.Errorf("disks of %d MiB; want %d", sizes, want)
	}
}

func seesMounts(t *testing.T, o *lab.Outcome, k *dead.Kernel) {
	mounts, err := deadfs.Mounts(k)
	if err != nil {
		t.Errorf("mounts: %v", err)
	}
	words := []string{"ro", "rw", "sync", "dirsync", "mand", "lazytime", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime"}
	var got, want []string
	for _, m := range mounts {
		// What all is mounted on is not to be seen from below.
		if m.Type != "nullfs" {
			got = append(got, fmt.Sprintln(m.Device, m.Point, m.Type, m.Flags))
		}
	}
	r, _ := o.Step("mounts")
	for line := range strings.Lines(r.Stdout) {
		f := strings.Fields(line)
		flags := slices.DeleteFunc(strings.Split(f[3], ","), func(s string) bool { return !slices.Contains(words, s) })
		want = append(want, fmt.Sprintln(f[0], f[1], f[2], flags))
	}
	if !slices.Equal(got, want) {
		t.Errorf("mounts are\n%v; want\n%v", got, want)
	}
}

func seesInterfaces(t *testing.T, o *lab.Outcome, k *dead.Kernel) {
	all, err := net.Interfaces(k)
	if err != nil {
		t.Errorf("interfaces: %v", err)
	}
	slices.SortFunc(all, func(a, b net.Interface) int { return cmp.Compare(a.Index, b.Index) })
	mac, _ := o.Step("mac")
	want := []struct {
		name, mac string
		mtu       uint32
		flags     string
		addresses []string
	}{
		{"lo", "", 65536, "up loopback running lower_up", []string{"127.0.0.1/8", "::1/128"}},
		{"dummy0", strings.TrimSpace(mac.Stdout), 1500, "up broadcast running noarp lower_up", []string{"192.0.2.7/24", "198.51.100.9/32", "2001:db8::7/64"}},
	}
	if len(all) != len(want) {
		t.Fatalf("interfaces %+v; want %+v", all, want)
	}
	for i, w := range want {
		got := all[i]
		// The kernel gives dummy0 an address of its own too.
		got.Addresses = slices.DeleteFunc(got.Addresses, func(a string) bool { return strings.HasPrefix(a, "fe80:") })
		if got.Name != w.name || got.MAC != w.mac || got.MTU != w.mtu || strings.Join(got.Flags, " ") != w.flags || !slices.Equal(got.Addresses, w.addresses) {
			t.Errorf("interface %+v; want %+v", got, w)
		}
	}
}
