package load

import (
	"bytes"
	"fmt"

	"github.com/panicroom-kdump/panicroom/internal/initramfs"
)

// CheckInitramfs checks an initramfs that somebody else has made, and notes in
// opts how much memory it takes when unpacked, and its compressions. name is for
// messages.
func CheckInitramfs(name string, data []byte, opts *Options) error {
	c, err := initramfs.Check(bytes.NewReader(data))
	if err != nil {
		return &RuleError{Rule: RuleInitramfs, Detail: fmt.Sprintf("%s: %v", name, err), Err: err,
			Remedy: []string{"make it again, on Debian: update-initramfs -u -k RELEASE", "see that the disk is not full: df " + name}}
	}
	opts.Unpacked, opts.Codecs = max(c.Unpacked, 1), c.Codecs
	return nil
}
