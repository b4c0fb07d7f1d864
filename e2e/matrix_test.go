//go:build e2e

package e2e

import (
	"fmt"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// cell is one machine of the matrix.
type cell struct {
	suite string // trixie has 6.12, sid 7.2 at the time of writing
	sv    int
	cpus  int
	cpu   int // that panics
}

// TestMatrix crashes both kernels in each paging mode, with one hart and with
// four, on different harts, and lets the referees judge the dumps. Without
// PANICROOM_FULL=1 only the cells run that together have each value and each
// kernel's each paging mode once.
func TestMatrix(t *testing.T) {
	chosen := map[cell]bool{
		{"trixie", 39, 4, 3}: true,
		{"trixie", 48, 1, 0}: true,
		{"trixie", 57, 4, 0}: true,
		{"sid", 39, 1, 0}:    true,
		{"sid", 48, 4, 1}:    true,
		{"sid", 57, 4, 2}:    true,
	}
	for _, suite := range []string{"trixie", "sid"} {
		for _, sv := range []int{39, 48, 57} {
			for _, cpus := range []int{1, 4} {
				for cpu := range cpus {
					c := cell{suite, sv, cpus, cpu}
					if !chosen[c] && !full() {
						continue
					}
					t.Run(fmt.Sprintf("%s/sv%d/harts%d/panics%d", suite, sv, cpus, cpu), func(t *testing.T) {
						t.Parallel()
						c.test(t)
					})
				}
			}
		}
	}
}

func (c cell) test(t *testing.T) {
	k := kernel(t, c.suite)
	o := run(t, &lab.Scenario{
		Name:   fmt.Sprintf("matrix-%s-sv%d-%dharts-cpu%d", c.suite, c.sv, c.cpus, c.cpu),
		Kernel: k, SV: c.sv, CPUs: c.cpus, MemMiB: 1024, Crashkernel: "128M",
		Disk: &lab.Disk{SizeMiB: 2048}, Programs: []string{panicRoom(t, k)},
		Steps: []script.Step{lab.Burden(), loadStep("--test-raw"), crashStep(c.cpu)},
	})
	s := mustCrash(t, o, c.cpu)
	// Debian's readers take a minute under emulation: one paging mode of each
	// kernel is enough to know that they can read our dumps, for they and we
	// have the modes in one table.
	judge(t, s, full() || c.sv == 57)
}
