package crashenv

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/target"
)

func TestConsoleLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		say, out := testConsole()
		say.booted = 3 * time.Second
		e := say.events()
		e.begin("dump", time.Hour)
		pass(1250 * time.Millisecond)
		e.progress("dump", 1<<20, 4<<20, "256 pages") // too early for a line
		pass(6 * time.Second)
		e.progress("dump", 2<<20, 4<<20, "512 pages")
		e.end(PhaseResult{Name: "dump", Seconds: 12, Text: "saved 4 MiB"})
		e.end(PhaseResult{Name: "report", Error: "it is\nbroken"})
		e.end(PhaseResult{Name: "target", Error: "x", err: &target.ReadOnlyError{Target: "/var/crash"}})
		e.panicked("Kernel panic - not syncing: \x1b[31mred")
		e.note("all %s", "right")
		want := []string{
			"panicroom: [3.000] begin dump",
			"panicroom: [10.250] progress dump:  50%  2 MiB of 4 MiB, 341 KiB/s, 6.0 s left, 512 pages",
			"panicroom: [10.250] phase dump: saved 4 MiB, 12 s",
			"panicroom: [10.250] phase report: FAILED: it is; broken",
			"panicroom: [10.250] phase target: FAILED: /var/crash: target is read-only",
			"panicroom: [10.250] hint: check that the disk of /var/crash is not write-protected and that its filesystem is healthy (dmesg, fsck)",
			"panicroom: [10.250] panic: Kernel panic - not syncing: ?[31mred",
			"panicroom: [10.250] note: all right",
		}
		got := strings.Split(strings.TrimSpace(out.String()), "\n")
		// The rate counts from the first progress.
		got[1] = regexp.MustCompile(`, [0-9.]+ [KM]iB/s, [0-9.]+ s left`).ReplaceAllString(got[1], ", 341 KiB/s, 6.0 s left")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("console (-want +got):\n%s", diff)
		}
	})
}

// A record of the kernel's log has a size; a line is cut, never split.
func TestConsoleLongLines(t *testing.T) {
	say, out := testConsole()
	say.prefix = "<1>"
	say.line("note: %s", strings.Repeat("ä", 1000))
	got := out.String()
	if len(got) > maxRecord+len("<1>\n") || !strings.HasPrefix(got, "<1>panicroom: [") || !strings.HasSuffix(got, "ä...\n") {
		t.Errorf("line of %d bytes: %q", len(got), got)
	}
}

func TestOneLine(t *testing.T) {
	err := errors.Join(errors.New("one"), errors.New("two\r\nthree"))
	if got, want := oneLine(err.Error()), "one; two; three"; got != want {
		t.Errorf("oneLine = %q; want %q", got, want)
	}
}

func TestKilobytes(t *testing.T) {
	const text = "MemTotal:        2048 kB\nMemAvailable:    x kB\nHugePages_Total:       3\nMemTotal: 1 kB\n"
	for name, want := range map[string]uint64{"MemTotal": 2 << 20, "MemAvailable": 0, "MemFree": 0} {
		if got := kilobytes([]byte(text), name); got != want {
			t.Errorf("kilobytes(%s) = %d; want %d", name, got, want)
		}
	}
}
