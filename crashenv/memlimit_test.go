package crashenv

import (
	"testing"

	"github.com/panicroom-kdump/panicroom/capture"
)

func TestMemLimit(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct{ asked, available, want uint64 }{
		{0, 100 * mib, 50 * mib},
		{0, 20 * mib, 32 * mib},
		{0, 8 << 30, 256 * mib},
		{0, 0, capture.DefaultMemLimit},
		{48 * mib, 20 * mib, 48 * mib},
	} {
		if got := memLimit(c.asked, c.available); got != c.want {
			t.Errorf("memLimit(%d, %d) = %d; want %d", c.asked, c.available, got, c.want)
		}
	}
}
