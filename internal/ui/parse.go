package ui

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseBytes reads a size as people write it: a number of bytes, or of binary
// units with K, M, G or T behind it, to which iB or B may be added, like "64M",
// "1.5 GiB" or what [Bytes] says.
func ParseBytes(s string) (uint64, error) {
	bad := fmt.Errorf("%q is no size; write it like 64M or 1G", s)
	t := strings.ToUpper(strings.TrimSpace(s))
	t = strings.TrimSpace(strings.TrimSuffix(strings.TrimSuffix(t, "B"), "I"))
	shift := 0
	if n := len(t); n > 0 {
		if i := strings.IndexByte("KMGT", t[n-1]); i >= 0 {
			shift = 10 * (i + 1)
			t = strings.TrimSpace(t[:n-1])
		}
	}
	if strings.Trim(t, "0123456789.") != "" {
		return 0, bad
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(t), 64)
	if n *= float64(uint64(1) << shift); err != nil || n >= math.MaxInt64 || (shift == 0 && n != math.Trunc(n)) {
		return 0, bad
	}
	return uint64(n), nil
}
