package saved

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// BootTime is when the machine whose root directory is root was booted, by its
// clock of now (btime of proc_stat(5)).
func BootTime(root fs.FS) (time.Time, error) {
	const name = "proc/stat"
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "btime "); ok {
			s, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			if err != nil {
				return time.Time{}, fmt.Errorf("/%s: btime: %w", name, err)
			}
			return time.Unix(s, 0), nil
		}
	}
	return time.Time{}, fmt.Errorf("/%s has no btime", name)
}
