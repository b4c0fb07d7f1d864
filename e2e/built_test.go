//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// TestBuilt crashes the kernels of make kernels, at an address that their own
// randomisation chose. They are relocatable and have their drivers built in,
// both of which Debian's are not. With PANICROOM_FULL=1 only: they must have
// been built.
func TestBuilt(t *testing.T) {
	t.Parallel()
	if !full() {
		return
	}
	for _, suite := range []string{"built-trixie", "built-sid"} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			k := kernel(t, suite)
			o := run(t, &lab.Scenario{
				Name: suite, Kernel: k, CPUs: 2, MemMiB: 1024, KASLRSeed: 0x9e3779b97f4a7c15, Crashkernel: "144M",
				Disk: &lab.Disk{SizeMiB: 2048}, Programs: []string{panicRoom(t, k)},
				Steps: []script.Step{lab.Burden(), loadStep("--test-raw"), crashStep(1)},
			})
			s := mustCrash(t, o, 1)
			if !strings.HasSuffix(o.Facts.Release, "-panicroom") {
				t.Errorf("release %s; want one that was built here", o.Facts.Release)
			}
			judge(t, s, true)
			_, crashed := openDump(t, s.file("vmcore"))
			// KERNELOFFSET is there from 7.2 on only.
			linked, ok1 := systemMap(t, k)["_stext"]
			ran, ok2 := crashed.Info().Symbol("_stext")
			if !ok1 || !ok2 || linked == uint64(ran) {
				t.Errorf("_stext was linked for %#x (%v) and ran at %#x (%v); want the latter elsewhere", linked, ok1, ran, ok2)
			}
		})
	}
}

// systemMap are the addresses that a kernel was linked for.
func systemMap(t *testing.T, k *lab.Kernel) map[string]uint64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(k.Root, k.Built.SystemMap))
	if err != nil {
		t.Fatal(err)
	}
	symbols := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 {
			if symbols[f[2]], err = strconv.ParseUint(f[0], 16, 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	return symbols
}
