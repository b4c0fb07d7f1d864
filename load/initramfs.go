package load

import (
	"bytes"
	"fmt"

	"github.com/panicroom-kdump/panicroom/internal/initramfs"
)

// CheckInitramfs checks an initramfs that somebody else has made, and returns
// how much memory it takes when unpacked, for [Options.Unpacked]. name is for
// messages.
func CheckInitramfs(name string, data []byte) (unpacked uint64, err error) {
	c, err := initramfs.Check(bytes.NewReader(data))
	if err != nil {
		return 0, &RuleError{Rule: RuleInitramfs, Detail: fmt.Sprintf("%s: %v", name, err), Err: err,
			Remedy: []string{"make it again, on Debian: update-initramfs -u -k RELEASE", "see that the disk is not full: df " + name}}
	}
	return max(c.Unpacked, 1), nil
}
