package capture

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// SaveLog writes the dead kernel's log to w as text, line for line what
// makedumpfile --dump-dmesg writes, and returns how many bytes that are.
// Records that cannot be read are left out and counted in the error: the one
// that says why the kernel died is the last, behind whatever is damaged.
func SaveLog(w io.Writer, k *kernel.Kernel) (int64, error) {
	return SaveLogAs(w, k, 0, kernel.LogRecord.Line)
}

// SaveLogAs is SaveLog of the records from the one with the number first on,
// see [kernel.Kernel.LogCleared], each as line has it.
func SaveLogAs(w io.Writer, k *kernel.Kernel, first uint64, line func(kernel.LogRecord) string) (int64, error) {
	return saveLog(w, since(k.Log(), first), line)
}

// since leaves records before first out. One that could not be read may have no
// number, and is not left out.
func since(records iter.Seq2[kernel.LogRecord, error], first uint64) iter.Seq2[kernel.LogRecord, error] {
	return func(yield func(kernel.LogRecord, error) bool) {
		for r, err := range records {
			if (err != nil || r.Seq >= first) && !yield(r, err) {
				return
			}
		}
	}
}

func saveLog(w io.Writer, records iter.Seq2[kernel.LogRecord, error], line func(kernel.LogRecord) string) (n int64, err error) {
	b := bufio.NewWriterSize(w, 64<<10)
	var first error
	lost := 0
	for r, rerr := range records {
		if rerr != nil {
			if lost++; first == nil {
				first = rerr
			}
			continue
		}
		text := line(r)
		b.WriteString(text)
		if werr := b.WriteByte('\n'); werr != nil {
			return n, werr
		}
		n += int64(len(text)) + 1
	}
	if lost > 0 {
		err = fmt.Errorf("%d errors in the kernel's log, the first: %w", lost, first)
	}
	return n, errors.Join(err, b.Flush())
}
