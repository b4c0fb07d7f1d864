package crashenv

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// The reporter is this very test binary, see TestMain.
func TestReporterFails(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("children die with their parent on Linux only")
	}
	garbage := filepath.Join(t.TempDir(), "vmcore")
	if err := os.WriteFile(garbage, []byte("no dump at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, die, says string }{
		{"not a dump", "", "not a dump"},
		{"exits", "report:exit", "exit status 99"},
		{"panics", "report:panic", "panic: a test wants it"},
		{"takes memory", "report:memory", "more than its 32768"},
	} {
		var text, js bytes.Buffer
		memory, err := runReporter(t.Context(), nil, &reportRequest{Input: garbage, MemLimit: 32 << 20, Die: c.die}, &text, &js)
		if c.die == "report:memory" && memory <= 32<<20 {
			t.Errorf("%s: seen with %d bytes; want more than the limit", c.name, memory)
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || text.Len()+js.Len() > 0 {
			t.Errorf("%s: %v, %q; want an error with %q", c.name, err, text.String(), c.says)
		}
	}
	late := errors.New("late")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, late)
	defer cancel()
	if _, err := runReporter(ctx, nil, &reportRequest{Input: garbage, Die: "report:hang"}, &bytes.Buffer{}, &bytes.Buffer{}); !errors.Is(err, late) {
		t.Errorf("a reporter that hangs: %v; want it killed", err)
	}
}

func TestUnknownRole(t *testing.T) {
	p, err := start("janitor", nil, nil, nil, openNull(t))
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	if err := p.failure(); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("an unknown role: %v; want exit status 1", err)
	}
}

func openNull(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestCopyLimited(t *testing.T) {
	var b bytes.Buffer
	if err := copyLimited(&b, strings.NewReader(strings.Repeat("x", maxReport+1))); err == nil || b.Len() != maxReport {
		t.Errorf("copyLimited of too much: %d bytes, %v", b.Len(), err)
	}
	b.Reset()
	if err := copyLimited(&b, strings.NewReader("little")); err != nil || b.String() != "little" {
		t.Errorf("copyLimited: %q, %v", b.String(), err)
	}
}

func TestNoteReason(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{LogFile: 10, DumpFile: 1000, ManifestFile: draftSize} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stateName := filepath.Join(t.TempDir(), "state.json")
	st := &state{Crash: dir, LogSaved: true, Manifest: &Manifest{Version: manifestVersion, Files: []SavedFile{{Name: LogFile, Size: 10}}}}
	if err := st.write(stateName); err != nil {
		t.Fatal(err)
	}
	st, err := readState(stateName)
	if err != nil {
		t.Fatal(err)
	}
	if err := noteReason(st, "the worker was killed"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseManifest(text)
	if err != nil || m.Complete || len(m.Reasons) != 1 || m.file(DumpFile).Size != 1000 || len(m.Files) != 2 {
		t.Errorf("manifest %+v, %v", m, err)
	}
}

func TestTail(t *testing.T) {
	var l tail
	for range maxPrinted {
		l.Write([]byte("x\n"))
	}
	l.Write([]byte("a line "))
	l.Write([]byte("in two parts\nlast\nnot ended"))
	got := l.lines()
	if len(got) != maxPrinted || got[len(got)-2] != "a line in two parts" || got[len(got)-1] != "last" || got[0] != "x" {
		t.Errorf("tail has %d lines, %q", len(got), got[len(got)-2:])
	}
}
