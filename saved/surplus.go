package saved

import (
	"fmt"
	"slices"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Removal is a crash that has to go, and why.
type Removal struct {
	Crash Crash  `json:"crash"`
	Why   string `json:"why"`
}

// Surplus says which of the crashes in a directory have to go so that the limits
// hold, the oldest first. free is what the filesystem has free, in bytes, boot the
// time when the machine was booted.
//
// The newest crash stays, the newest complete one, what may be on its way
// ([Crash.Busy]), and what is not [Crash.Ours]; the last does not count either.
// So the limits may not hold afterwards.
func Surplus(list []Crash, keep config.Keep, free uint64, boot time.Time) []Removal {
	list = slices.DeleteFunc(slices.Clone(list), func(c Crash) bool { return !c.Ours })
	slices.SortFunc(list, older)
	newest, newestComplete := len(list)-1, -1
	var bytes uint64
	for i, c := range list {
		bytes += c.Size
		if c.Complete {
			newestComplete = i
		}
	}
	var gone []Removal
	for i, c := range list {
		why := ""
		switch left := len(list) - len(gone); {
		case keep.Count > 0 && left > keep.Count:
			why = fmt.Sprintf("there are %d, %d stay", left, keep.Count)
		case keep.Bytes > 0 && bytes > keep.Bytes:
			why = fmt.Sprintf("they take %s, %s may stay", ui.Bytes(bytes), ui.Bytes(keep.Bytes))
		case free < keep.Free:
			why = fmt.Sprintf("%s are free, %s shall be", ui.Bytes(free), ui.Bytes(keep.Free))
		default:
			return gone
		}
		if i == newest || i == newestComplete || c.Busy(boot) {
			continue
		}
		gone = append(gone, Removal{c, why})
		bytes -= c.Size
		free += c.Size
	}
	return gone
}
