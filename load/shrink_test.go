package load

import (
	"errors"
	"testing"
)

// A low region stays whole, what is loaded must fit beside it, sizes are whole
// pages; and what the kernel would refuse is refused before.
func TestShrinkTo(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		machine            string
		size, loaded, want uint64
		inPlace            bool
		rule               Rule
	}{
		{machine: "virt-7.2-sv57-2g", size: 128 * mib, loaded: 45 * mib, want: 128 * mib},
		{machine: "virt-7.2-sv57-2g", size: 128*mib + 1, loaded: 45 * mib, want: 128*mib + 4096},
		{machine: "virt-7.2-sv57-2g", size: 256 * mib, want: 256 * mib}, // all there is
		{machine: "virt-7.2-sv57-2g", size: 257 * mib, rule: RuleShrink},
		{machine: "virt-7.2-sv57-2g", size: 128 * mib, inPlace: true, rule: RuleShrink},
		{machine: "virt-6.12-8g-high", size: 200 * mib, loaded: 45 * mib, want: 200 * mib},
		{machine: "virt-6.12-8g-high", size: 130 * mib, loaded: 45 * mib, want: (128 + 45) * mib},
		{machine: "virt-6.12-none-1g", size: 128 * mib, rule: RuleCrashkernel},
	} {
		m := recorded(t, tt.machine)
		m.CrashLoaded = tt.inPlace
		got, err := ShrinkTo(m, tt.size, tt.loaded)
		rule := Rule("")
		if e, ok := errors.AsType[*RuleError](err); ok {
			rule = e.Rule
			if len(e.Remedy) == 0 {
				t.Errorf("%s to %d: no remedy", tt.machine, tt.size)
			}
		}
		if got != tt.want || rule != tt.rule {
			t.Errorf("%s to %d: %d, %v; want %d, rule %q", tt.machine, tt.size, got, err, tt.want, tt.rule)
		}
	}
}
