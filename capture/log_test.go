package capture

import (
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// A page of the log that cannot be read does not cost what comes after it: the
// reason of the panic comes last.
func TestSaveLogGoesOnAfterDamage(t *testing.T) {
	records := func(yield func(kernel.LogRecord, error) bool) {
		_ = yield(kernel.LogRecord{Text: "Linux version"}, nil) &&
			yield(kernel.LogRecord{}, vmcore.ErrUnreadable) &&
			yield(kernel.LogRecord{}, vmcore.ErrHole) &&
			yield(kernel.LogRecord{Text: "Kernel panic"}, nil)
	}
	var b strings.Builder
	n, err := saveLog(&b, iter.Seq2[kernel.LogRecord, error](records), kernel.LogRecord.Line)
	const want = "[    0.000000] Linux version\n[    0.000000] Kernel panic\n"
	if b.String() != want || n != int64(len(want)) {
		t.Errorf("saveLog wrote %d bytes, %q; want %q", n, b.String(), want)
	}
	if !errors.Is(err, vmcore.ErrUnreadable) || !strings.Contains(err.Error(), "2 errors") {
		t.Errorf("saveLog = %v; want 2 errors, the first ErrUnreadable", err)
	}
}

// Records before the last clear are left out, but not the news that some could
// not be read.
func TestSaveLogAs(t *testing.T) {
	records := func(yield func(kernel.LogRecord, error) bool) {
		_ = yield(kernel.LogRecord{Seq: 6, Text: "old"}, nil) &&
			yield(kernel.LogRecord{}, vmcore.ErrUnreadable) &&
			yield(kernel.LogRecord{Seq: 8, Text: "new"}, nil) &&
			yield(kernel.LogRecord{Seq: 9, Text: "newer"}, nil)
	}
	var b strings.Builder
	_, err := saveLog(&b, since(records, 8), kernel.LogRecord.Line)
	if want := "[    0.000000] new\n[    0.000000] newer\n"; b.String() != want || !errors.Is(err, vmcore.ErrUnreadable) {
		t.Errorf("%q, %v; want %q and that a record was unreadable", b.String(), err, want)
	}
}
