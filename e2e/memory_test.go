//go:build e2e

package e2e

import (
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// Machines whose memory is laid out in other ways. A raw copy of 8 GiB would
// take too long: what the referees say of the matrix is believed, and here the
// dump is read by our own reports and checks.
func TestMemory(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		suite       string
		mem, nodes  int
		crashkernel string
		regions     int
	}{
		{"8GiB", "trixie", 8192, 1, "128M", 1},
		{"8GiB-high", "sid", 8192, 1, "256M,high", 2},
		{"8GiB-high", "trixie", 8192, 1, "256M,high", 2},
		{"nodes", "trixie", 1024, 2, "128M", 1},
		{"nodes", "sid", 1024, 2, "128M", 1},
		{"8GiB", "sid", 8192, 1, "128M", 1},
	}
	for i, tt := range tests {
		if i%2 == 1 && !full() {
			continue
		}
		t.Run(tt.name+"/"+tt.suite, func(t *testing.T) {
			t.Parallel()
			k := kernel(t, tt.suite)
			load := loadStep()
			if tt.mem < 4096 {
				load = loadStep("--test-raw")
			}
			o := run(t, &lab.Scenario{
				Name: "memory-" + tt.name + "-" + tt.suite, Kernel: k, CPUs: 2,
				MemMiB: tt.mem, Nodes: tt.nodes, Crashkernel: tt.crashkernel,
				Disk: &lab.Disk{SizeMiB: 2048}, Programs: []string{panicRoom(t, k)},
				Steps: []script.Step{lab.Burden(), load, crashStep(1)},
			})
			s := mustCrash(t, o, 1)
			if tt.mem < 4096 {
				judge(t, s, false)
			}
		})
	}
}

// An elfcorehdr that wrongly has the firmware's memory in it must cost the
// firmware's pages and nothing else.
func TestFirmwareMemory(t *testing.T) {
	t.Parallel()
	k := kernel(t, "trixie")
	o := run(t, &lab.Scenario{
		Name: "firmware", Kernel: k, CPUs: 2, MemMiB: 1024, Crashkernel: "128M",
		Disk: &lab.Disk{SizeMiB: 2048}, Programs: []string{panicRoom(t, k)},
		Steps: []script.Step{loadStep("--test-raw", "--test-include-firmware"), crashStep(0)},
	})
	s := mustCrash(t, o, 0)
	var unreadable uint64
	for _, u := range s.manifest.Dump.Unreadable {
		// QEMU's OpenSBI lies at the start of memory, in less than 2 MiB.
		if u.Start < 0x80000000 || u.End > 0x80200000 {
			t.Errorf("%#x-%#x is called unreadable; that is not the firmware's", u.Start, u.End)
		}
		unreadable += u.End - u.Start
	}
	if unreadable < 256<<10 {
		t.Errorf("%d bytes of the firmware are listed as unreadable; want at least 256 KiB", unreadable)
	}
	judge(t, s, false)
}
