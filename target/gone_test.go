package target

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A machine that has gone is asked once, and nothing waits for it a second time.
func TestGone(t *testing.T) {
	d, err := NewDirectory(filepath.Join(t.TempDir(), "crash"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.syncEach = 4096
	c, err := d.Begin(t.Context(), "crash")
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Create("vmcore")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.Write(make([]byte, 10000)); n != 10000 || err != nil {
		t.Fatalf("Write = %d, %v", n, err)
	}
	if left := f.(*directoryFile).unsynced.Load(); left != 0 {
		t.Errorf("%d bytes are not synced", left)
	}
	err = d.explain(&os.PathError{Op: "sync", Path: "vmcore", Err: syscall.ETIMEDOUT}, "vmcore", 0, 0)
	gone, ok := errors.AsType[*GoneError](err)
	if !ok || !errors.Is(err, ErrGone) || !errors.Is(err, syscall.ETIMEDOUT) || gone.Target != d.Name() || len(gone.Hints()) == 0 {
		t.Fatalf("explain: %v", err)
	}
	_, werr := f.Write([]byte("more"))
	_, aerr := f.WriteAt([]byte("more"), 0)
	_, cerr := c.Create("report.txt")
	_, oerr := c.(Opener).Open("vmcore")
	for what, err := range map[string]error{
		"Write": werr, "WriteAt": aerr, "Create": cerr, "Open": oerr,
		"Truncate": f.Truncate(0), "Sync": f.Sync(), "Close": f.Close(), "Commit": c.Commit(),
	} {
		if !errors.Is(err, ErrGone) {
			t.Errorf("%s: %v; want ErrGone", what, err)
		}
	}
	if err := c.Abort(); err != nil {
		t.Errorf("Abort: %v", err)
	}
	// A disk of this machine that is slow is no such thing.
	d.syncEach = 0
	if err := d.explain(syscall.ETIMEDOUT, "", 0, 0); errors.Is(err, ErrGone) {
		t.Errorf("a local disk: %v", err)
	}
}
