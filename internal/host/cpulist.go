package host

import (
	"fmt"
	"strconv"
	"strings"
)

// maxCPU bounds CPU numbers: NR_CPUS is at most 8192 in any configuration of
// Linux 7.2.
const maxCPU = 1 << 16

// ParseCPUList parses the kernel's list format, "0-3,8,10-11", in ascending
// order without repetition (lib/vsprintf.c, bitmap_list_string). An empty list
// is no CPU.
func ParseCPUList(s string) ([]int, error) {
	var list []int
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 32)
		last, err2 := strconv.ParseUint(to, 10, 32)
		if err1 != nil || err2 != nil || first > last || last >= maxCPU {
			return nil, fmt.Errorf("CPU list %.80q: %w", s, ErrCorrupt)
		}
		if n := len(list); n > 0 && int(first) <= list[n-1] {
			return nil, fmt.Errorf("CPU list %.80q: not ascending: %w", s, ErrCorrupt)
		}
		for cpu := first; cpu <= last; cpu++ {
			list = append(list, int(cpu))
		}
	}
	return list, nil
}
