package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
)

// measuredEnv has the command line of a child of peak, one argument a line.
const measuredEnv = "PANICROOM_TEST_MEASURED"

// TestMeasured is the life of such a child: it says at its end how much memory
// it had resident at most.
func TestMeasured(t *testing.T) {
	line := os.Getenv(measuredEnv)
	if line == "" {
		return
	}
	if code := run(t.Context(), strings.Split(line, "\n"), os.Stdin, os.Stdout, os.Stderr); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	// Not what wait4(2) says: that begins with the memory of the parent.
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if peak, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			fmt.Print("\npeak", peak)
		}
	}
}

// peak runs a command line in a process of its own and returns the most memory
// that it had resident, in bytes.
func peak(t *testing.T, args ...string) uint64 {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestMeasured$")
	cmd.Env = append(os.Environ(), measuredEnv+"="+strings.Join(args, "\n"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, stderr.String())
	}
	_, text, _ := strings.Cut(string(out), "\npeak")
	text, _, _ = strings.Cut(text, " kB")
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 40)
	if err != nil {
		t.Fatalf("%q said %q", args, out)
	}
	return n << 10
}

// A terabyte is converted in the memory that two gigabytes take, and in no
// more than is said, however many threads are asked for.
func TestMemoryDoesNotGrow(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("VmHWM is Linux's")
	}
	const section, mib = 128 << 20, 1 << 20
	sizes := []uint64{2 << 30, 64 << 30}
	if os.Getenv("PANICROOM_FULL") == "1" {
		sizes = append(sizes, 1<<40)
	}
	for _, format := range []string{"kdump", "elf"} {
		var least uint64
		for _, size := range sizes {
			m := kerneltest.NewVast(int(size / section))
			// Pages that do not get smaller fill all buffers.
			noise := make([]byte, 48*mib)
			rand.NewChaCha8([32]byte{}).Read(noise)
			m.Put(kerneltest.Base+64*mib, noise)
			m.Finish()
			in := m.WriteFile(t)
			out := filepath.Join(t.TempDir(), "out")
			got := peak(t, "convert", "--level", "31", "--threads", "64", "--format", format, in, out)
			t.Logf("%s of %d GiB: %d MiB", format, size>>30, got/mib)
			if got > 64*mib {
				t.Errorf("%s of %d GiB: %d MiB resident; the limit is 64", format, size>>30, got/mib)
			}
			if least == 0 {
				least = got
			}
			// Garbage comes and goes.
			if got > least+8*mib {
				t.Errorf("%s of %d GiB: %d MiB resident, of %d GiB it was %d", format, size>>30, got/mib, sizes[0]>>30, least/mib)
			}
			for _, file := range []string{in, out} {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
