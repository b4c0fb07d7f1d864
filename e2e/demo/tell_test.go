package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/vm"
)

// story plays a short crash to a teller.
func story(t *teller) {
	for _, text := range []string{"OpenSBI v1.1", "[    0.000000] Linux version 6.12.107 (debian)"} {
		t.console(vm.Line{Text: text})
	}
	t.event(script.Event{Kind: script.Facts, Facts: &script.Machine{
		Release: "6.12.107", CPUs: 2, MMU: "sv57", TotalKiB: 1900 << 10, Crash: 128 << 20}})
	t.event(script.Event{Kind: script.Begin, Text: "panicroom load"})
	t.event(script.Event{Kind: script.Stdout, Text: "one\ntwo\n"})
	t.event(script.Event{Kind: script.End})
	t.event(script.Event{Kind: script.Begin, Text: "panicroom crash --yes"})
	for _, text := range []string{
		"[   12.3] Kernel panic - not syncing: sysrq triggered crash",
		"[    0.000000] Linux version 6.12.107 (debian)",
		"panicroom: [3.000] begin target",
		"[    3.21] panicroom: [3.210] phase target: mounted, 0.20 s",
		"panicroom: [4.000] begin dump",
		"panicroom: [5.000] progress dump:  25%  256 MiB of 1 GiB",
		"panicroom: [6.000] end complete: powers off",
		"[    9.0] reboot: Power down",
	} {
		t.console(vm.Line{Text: text})
	}
	t.close()
}

func testTeller(terminal, verbose bool) (*teller, *bytes.Buffer) {
	var b bytes.Buffer
	t := newTeller(&b, false, 80, verbose)
	t.terminal = terminal // without the ticker
	t.now = func() time.Time { return t.start.Add(1500 * time.Millisecond) }
	return t, &b
}

func TestStoryInALog(t *testing.T) {
	tell, b := testTeller(false, false)
	story(tell)
	want := `   1.5 s  firmware done, Linux 6.12.107 starts
   1.5 s  the kernel is up: Linux 6.12.107, 2 harts, sv57, 2 GiB, 128 MiB of them kept for the panic kernel
   1.5 s  # panicroom load
          one
          two
   1.5 s  # panicroom crash --yes
   1.5 s  Kernel panic - not syncing: sysrq triggered crash
   1.5 s  the panic kernel starts: Linux 6.12.107
   1.5 s  panic room: target: mounted, 0.20 s
   1.5 s  panic room: dump:  25%  256 MiB of 1 GiB
   1.5 s  panic room: end: complete: powers off
   1.5 s  end of the machine: Power down
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
}

// On a terminal the same lines stay, and progress is redrawn below them.
func TestStoryOnATerminal(t *testing.T) {
	tell, b := testTeller(true, false)
	story(tell)
	var stays []string
	for line := range strings.SplitSeq(b.String(), "\n") {
		// What stands after the last carriage return is what is seen.
		if i := strings.LastIndexByte(line, '\r'); i >= 0 {
			line = line[i+1:]
		}
		stays = append(stays, line)
	}
	seen := strings.Join(stays, "\n")
	if strings.Contains(seen, "25%") || strings.Contains(seen, "...") {
		t.Errorf("status stays on the screen:\n%s", seen)
	}
	for _, want := range []string{"          two\n", "Kernel panic", "end of the machine"} {
		if !strings.Contains(seen, want) {
			t.Errorf("no %q on the screen:\n%s", want, seen)
		}
	}
	if !strings.Contains(b.String(), "256 MiB of 1 GiB") {
		t.Errorf("progress was never drawn: %q", b.String())
	}
}

func TestStoryWithConsoles(t *testing.T) {
	tell, b := testTeller(false, true)
	story(tell)
	for _, want := range []string{"    firmware | OpenSBI", "      kernel | [   12.3] Kernel panic", "panic kernel | panicroom: [3.000]"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b)
		}
	}
}
