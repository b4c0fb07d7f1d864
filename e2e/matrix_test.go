//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/e2e/referee"
)

// cell is one machine of the matrix.
type cell struct {
	suite string // trixie has 6.12, sid 7.2 at the time of writing
	sv    int
	cpus  int
	cpu   int // that panics
}

// harts are those that panic where there are four, by paging mode: two of them,
// so that on each kernel each of the four has its turn.
var harts = map[int][]int{39: {3, 0}, 48: {1, 2}, 57: {0, 2}}

// TestMatrix crashes both kernels in each paging mode, with one hart and with
// four, on different harts, and lets the referees judge the dumps. Without
// PANICROOM_FULL=1 only the cells run that together have each value and each
// kernel's each paging mode once.
func TestMatrix(t *testing.T) {
	t.Parallel()
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
			cells := []cell{{suite, sv, 1, 0}}
			for _, hart := range harts[sv] {
				cells = append(cells, cell{suite, sv, 4, hart})
			}
			for _, c := range cells {
				if !chosen[c] && !full() {
					continue
				}
				t.Run(fmt.Sprintf("%s/sv%d/harts%d/panics%d", c.suite, c.sv, c.cpus, c.cpu), func(t *testing.T) {
					t.Parallel()
					c.test(t)
				})
			}
		}
	}
}

func (c cell) test(t *testing.T) {
	k := kernel(t, c.suite)
	m := &lab.Scenario{
		Name:   fmt.Sprintf("matrix-%s-sv%d-%dharts-cpu%d", c.suite, c.sv, c.cpus, c.cpu),
		Kernel: k, SV: c.sv, CPUs: c.cpus, MemMiB: 1024, Crashkernel: "144M",
		Disk: &lab.Disk{SizeMiB: 2048}, Programs: []string{panicRoom(t, k)},
		Steps: []script.Step{lab.Burden(), loadStep("--test-raw")},
	}
	busy := c.cpus == 4
	if busy {
		inAndOut(m, map[int]int{39: 1, 48: 1, 57: 4}[c.sv])
	}
	m.Steps = append(m.Steps, crashStep(c.cpu))
	o := run(t, m)
	s := mustCrash(t, o, c.cpu)
	if busy {
		t.Run("in flight", func(t *testing.T) { seesInAndOut(t, o, s.file("vmcore")) })
	}
	// makedumpfile takes a minute under emulation: one paging mode of each
	// kernel is enough to know what it makes of our dumps, for it and we have
	// the modes in one table. In full it judges each mode once.
	thorough := c.sv == 57 || full()
	thorough = thorough && c.cpus == 4 && (c.cpu == harts[c.sv][0] || !full())
	judge(t, s, thorough)
	raw := s.file("vmcore.raw")
	j := judged(t, raw)
	t.Run("levels", func(t *testing.T) { rightPages(t, j, raw) })
	if thorough {
		c.forms(t, k, j, s)
		t.Run("damaged", func(t *testing.T) { answersDamaged(t, s.file("vmcore")) })
	}
	for level, suite := range []string{"sid", "trixie"} {
		if thorough && (full() || c.suite == suite) {
			sameAsMakedumpfile(t, s, level)
		}
		if thorough && c.suite == suite && level == 1 {
			worksWithMakedumpfile(t, s)
		}
	}
}

// worksWithMakedumpfile has panicroom, called by that name on this machine, and
// makedumpfile finish each other's flattened and split dumps.
func worksWithMakedumpfile(t *testing.T, s *saved) {
	t.Helper()
	program, err := lab.Build(t.Context(), "cmd/panicroom", runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	ours := filepath.Join(t.TempDir(), "makedumpfile")
	if err := os.Symlink(program, ours); err != nil {
		t.Fatal(err)
	}
	if _, err := referee.DropIn(t.Context(), referee.Inputs{Dump: s.file("vmcore"), Raw: s.file("vmcore.raw"), Say: t.Logf}, ours); err != nil {
		t.Error(err)
	}
}

// forms lets the readers of all others open dumps of this crash in every form. The
// forms are met with sv57, whose dumps all of them open.
func (c cell) forms(t *testing.T, k *lab.Kernel, j *referee.Judge, s *saved) {
	raw := s.file("vmcore.raw")
	turn := map[string]int{"trixie": 0, "sid": 1}[c.suite]
	if c.sv == 57 {
		t.Run("forms", func(t *testing.T) { everyForm(t, j, raw, turn) })
	}
	if !full() {
		return
	}
	if c.sv == 57 {
		t.Run("differences", func(t *testing.T) { knownDifferences(t, j) })
	}
	t.Run("crash", func(t *testing.T) { crashOpens(t, k, j, s, c.sv, turn) })
}

// sameAsMakedumpfile makes a dump of level 0 or 1 from the raw copy, on this
// machine, and compares it with makedumpfile's: at these levels it is right.
func sameAsMakedumpfile(t *testing.T, s *saved, level int) {
	t.Helper()
	d, k := openDump(t, s.file("vmcore.raw"))
	path := filepath.Join(t.TempDir(), "vmcore")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := capture.Run(t.Context(), d, k, out, capture.Options{Level: level}); err != nil {
		t.Fatal(err)
	}
	_, err = referee.Check(t.Context(), referee.Inputs{
		Dump: path, Raw: s.file("vmcore.raw"), Level: level, Referees: referee.Own | referee.Remake, Say: t.Logf,
	})
	if err != nil {
		t.Error(err)
	}
}
