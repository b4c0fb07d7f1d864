package capture

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// SaveLog writes the dead kernel's log to w as text, line for line what
// makedumpfile --dump-dmesg writes, and returns how many bytes that are. When
// the log's ring buffer is damaged it saves what comes before the damage and
// returns the error.
func SaveLog(w io.Writer, k *kernel.Kernel) (n int64, err error) {
	b := bufio.NewWriterSize(w, 64<<10)
	for r, rerr := range k.Log() {
		if rerr != nil {
			err = fmt.Errorf("kernel log after %d bytes: %w", n, rerr)
			break
		}
		line := r.Line()
		b.WriteString(line)
		if werr := b.WriteByte('\n'); werr != nil {
			return n, werr
		}
		n += int64(len(line)) + 1
	}
	return n, errors.Join(err, b.Flush())
}
