package main

import "testing"

// What the panic kernel died of is not what panicroom tells of the dead one.
func TestMemoryLines(t *testing.T) {
	for line, want := range map[string]string{
		"Out of memory: Killed process 93 (exe) total-vm:1kB":                                     "Out of memory: Killed process 93 (exe) total-vm:1kB",
		"[    4.200100] exe: page allocation failure: order:0":                                    "exe: page allocation failure: order:0",
		"Kernel panic - not syncing: No working init found.":                                      "Kernel panic - not syncing: No working init found.",
		"panicroom: [14.287] panic: Kernel panic - not syncing: sysrq triggered crash":            "",
		"panicroom: [14.287] note: the report says: Out of memory: Killed process 1 (systemd) xx": "",
	} {
		got := ""
		if m := memory.FindStringSubmatch(line); m != nil {
			got = m[1]
		}
		if got != want {
			t.Errorf("%q: %q; want %q", line, got, want)
		}
	}
}
