// Package targettest has the suite that every implementation of
// [target.Target] passes, and a target in memory for tests of what writes to
// targets.
package targettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/target"
)

// Subject is an implementation under test.
type Subject struct {
	// New makes an empty target.
	New func(t *testing.T) target.Target
	// Read reads a file of the crash that is at path, as [target.Crash.Path]
	// said it, without the crash's help. The error for what is not there is its
	// own business.
	Read func(t *testing.T, tgt target.Target, path, file string) ([]byte, error)
	// Full makes a target that takes at least 64 KiB and less than 1 MiB. nil
	// skips what needs it.
	Full func(t *testing.T) target.Target
}

// Run tests an implementation.
func Run(t *testing.T, s Subject) {
	t.Run("Commit", func(t *testing.T) { testCommit(t, s) })
	t.Run("Abort", func(t *testing.T) { testAbort(t, s) })
	t.Run("SameName", func(t *testing.T) { testSameName(t, s) })
	t.Run("Names", func(t *testing.T) { testNames(t, s) })
	t.Run("WriteAt", func(t *testing.T) { testWriteAt(t, s) })
	t.Run("Truncate", func(t *testing.T) { testTruncate(t, s) })
	t.Run("ReadBack", func(t *testing.T) { testReadBack(t, s) })
	t.Run("OpenFile", func(t *testing.T) { testOpenFile(t, s) })
	t.Run("Cancelled", func(t *testing.T) { testCancelled(t, s) })
	t.Run("Free", func(t *testing.T) { testFree(t, s) })
	t.Run("Full", func(t *testing.T) { testFull(t, s) })
}

func begin(t *testing.T, tgt target.Target, name string) target.Crash {
	t.Helper()
	c, err := tgt.Begin(t.Context(), name)
	if err != nil {
		t.Fatalf("Begin(%q): %v", name, err)
	}
	t.Cleanup(func() { c.Abort() })
	return c
}

func write(t *testing.T, c target.Crash, name, text string) {
	t.Helper()
	f, err := c.Create(name)
	if err != nil {
		t.Fatalf("Create(%q): %v", name, err)
	}
	for _, part := range strings.SplitAfter(text, " ") {
		if n, err := f.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("Write = %d, %v; want %d, nil", n, err, len(part))
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatalf("Sync: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func wantFile(t *testing.T, s Subject, tgt target.Target, path, file, want string) {
	t.Helper()
	if got, err := s.Read(t, tgt, path, file); err != nil || string(got) != want {
		t.Errorf("%s of %s = %q, %v; want %q", file, path, got, err, want)
	}
}

func testCommit(t *testing.T, s Subject) {
	tgt := s.New(t)
	if tgt.Name() == "" {
		t.Error("target has no name")
	}
	c := begin(t, tgt, "2026-11-23T08:37:12Z-6.12.107")
	before := c.Path()
	if !strings.HasSuffix(before, "2026-11-23T08:37:12Z-6.12.107"+target.IncompleteSuffix) {
		t.Errorf("Path before Commit = %q; want the name with %q", before, target.IncompleteSuffix)
	}
	write(t, c, "dmesg.txt", "the kernel said this")
	wantFile(t, s, tgt, before, "dmesg.txt", "the kernel said this")
	write(t, c, "vmcore", "")
	if err := c.Commit(); err != nil {
		t.Fatalf("Commit: %v", err)
	}
	after := c.Path()
	if after != strings.TrimSuffix(before, target.IncompleteSuffix) {
		t.Errorf("Path after Commit = %q; was %q", after, before)
	}
	wantFile(t, s, tgt, after, "dmesg.txt", "the kernel said this")
	wantFile(t, s, tgt, after, "vmcore", "")
	if _, err := s.Read(t, tgt, before, "dmesg.txt"); err == nil {
		t.Error("the incomplete crash is still there after Commit")
	}
	if _, err := c.Create("late"); !errors.Is(err, target.ErrFinished) {
		t.Errorf("Create after Commit: %v; want ErrFinished", err)
	}
	if err := c.Commit(); !errors.Is(err, target.ErrFinished) {
		t.Errorf("second Commit: %v; want ErrFinished", err)
	}
	if err := c.Abort(); err != nil {
		t.Errorf("Abort after Commit: %v; want nil", err)
	}
	wantFile(t, s, tgt, after, "dmesg.txt", "the kernel said this")
}

func testAbort(t *testing.T, s Subject) {
	tgt := s.New(t)
	c := begin(t, tgt, "half")
	write(t, c, "dmesg.txt", "all we have")
	if err := c.Abort(); err != nil {
		t.Fatalf("Abort: %v", err)
	}
	if !strings.HasSuffix(c.Path(), "half"+target.IncompleteSuffix) {
		t.Errorf("Path after Abort = %q; want it incomplete", c.Path())
	}
	wantFile(t, s, tgt, c.Path(), "dmesg.txt", "all we have")
	if err := c.Abort(); err != nil {
		t.Errorf("second Abort: %v; want nil", err)
	}
	if err := c.Commit(); !errors.Is(err, target.ErrFinished) {
		t.Errorf("Commit after Abort: %v; want ErrFinished", err)
	}
}

func testSameName(t *testing.T, s Subject) {
	tgt := s.New(t)
	var paths []string
	for i := range 4 {
		c := begin(t, tgt, "again")
		write(t, c, "n", fmt.Sprint(i))
		if i%2 == 0 { // complete and incomplete ones are in the way alike
			if err := c.Commit(); err != nil {
				t.Fatalf("Commit of number %d: %v", i, err)
			}
		}
		paths = append(paths, c.Path())
	}
	for i, p := range paths {
		wantFile(t, s, tgt, p, "n", fmt.Sprint(i))
	}
	if !strings.HasSuffix(paths[2], "again.3") {
		t.Errorf("third crash of the same name is at %q; want again.3", paths[2])
	}
}

func testNames(t *testing.T, s Subject) {
	tgt := s.New(t)
	c := begin(t, tgt, "good")
	for _, name := range []string{"", ".", "..", ".hidden", "../up", "a/b", "a\\b", "a\x00b", "a\nb", "a b", "ä",
		"-rf", "x" + target.IncompleteSuffix, strings.Repeat("n", 201)} {
		if _, err := tgt.Begin(t.Context(), name); !errors.Is(err, target.ErrName) {
			t.Errorf("Begin(%q): %v; want ErrName", name, err)
		}
		if _, err := c.Create(name); !errors.Is(err, target.ErrName) {
			t.Errorf("Create(%q): %v; want ErrName", name, err)
		}
	}
	write(t, c, "once", "first")
	if _, err := c.Create("once"); !errors.Is(err, target.ErrExists) {
		t.Errorf("second Create: %v; want ErrExists", err)
	}
	wantFile(t, s, tgt, c.Path(), "once", "first")
}

func testWriteAt(t *testing.T, s Subject) {
	tgt := s.New(t)
	c := begin(t, tgt, "random-access")
	f, err := c.Create("vmcore")
	if err != nil {
		t.Fatal(err)
	}
	const blocks, size = 16, 4096
	var g sync.WaitGroup
	for i := range blocks {
		if i == 3 {
			continue // a hole
		}
		g.Go(func() {
			if n, err := f.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, size), int64(i)*size); n != size || err != nil {
				t.Errorf("WriteAt block %d = %d, %v", i, n, err)
			}
		})
	}
	g.Wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := s.Read(t, tgt, c.Path(), "vmcore")
	if err != nil || len(got) != blocks*size {
		t.Fatalf("read %d bytes, %v; want %d", len(got), err, blocks*size)
	}
	for i := range blocks {
		want := byte(i + 1)
		if i == 3 {
			want = 0
		}
		if !bytes.Equal(got[i*size:(i+1)*size], bytes.Repeat([]byte{want}, size)) {
			t.Errorf("block %d is not all %d", i, want)
		}
	}
}

func testTruncate(t *testing.T, s Subject) {
	tgt := s.New(t)
	c := begin(t, tgt, "truncate")
	f, err := c.Create("manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a draft with room", "the text"} {
		if _, err := f.WriteAt([]byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(int64(len("the text"))); err != nil {
		t.Fatalf("Truncate: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	wantFile(t, s, tgt, c.Path(), "manifest.json", "the text")
}

func testReadBack(t *testing.T, s Subject) {
	c := begin(t, s.New(t), "read-back")
	o, ok := c.(target.Opener)
	if !ok {
		t.Skip("the target cannot be read back")
	}
	write(t, c, "dmesg.txt", "written and read")
	f, err := o.Open("dmesg.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 4)
	if n, err := f.ReadAt(b, 12); n != 4 || string(b) != "read" {
		t.Errorf("ReadAt = %d, %v, %q; want read", n, err, b)
	}
	if all, err := io.ReadAll(f); err != nil || string(all) != "written and read" {
		t.Errorf("ReadAll = %q, %v", all, err)
	}
	if _, err := o.Open("vmcore"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of no file: %v; want fs.ErrNotExist", err)
	}
}

func testOpenFile(t *testing.T, s Subject) {
	tgt := s.New(t)
	c := begin(t, tgt, "open")
	f, err := c.Create("vmcore")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Commit(); err == nil {
		t.Fatal("Commit with an open file: nil; want an error")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err == nil {
		t.Error("second Close: nil; want an error")
	}
	if err := c.Commit(); err != nil {
		t.Errorf("Commit after Close: %v", err)
	}
}

func testCancelled(t *testing.T, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.New(t).Begin(ctx, "late"); !errors.Is(err, context.Canceled) {
		t.Errorf("Begin with a cancelled context: %v; want context.Canceled", err)
	}
}

func testFree(t *testing.T, s Subject) {
	free, err := s.New(t).Free()
	if errors.Is(err, sys.ErrNotSupportedOnOS) {
		t.Skip(err)
	}
	if err != nil || free == 0 {
		t.Errorf("Free of an empty target = %d, %v; want more than 0", free, err)
	}
}

func testFull(t *testing.T, s Subject) {
	if s.Full == nil {
		t.Skip("no full target to test with")
	}
	tgt := s.Full(t)
	c := begin(t, tgt, "too-much")
	write(t, c, "dmesg.txt", "saved before")
	f, err := c.Create("vmcore")
	if err != nil {
		t.Fatal(err)
	}
	block := bytes.Repeat([]byte{1}, 16<<10)
	var at int64
	for at < 1<<20 {
		var n int
		n, err = f.WriteAt(block, at)
		at += int64(n)
		if err != nil {
			break
		}
	}
	var full *target.NoSpaceError
	if !errors.Is(err, target.ErrNoSpace) || !errors.As(err, &full) {
		t.Fatalf("1 MiB written to a smaller target: %v; want ErrNoSpace", err)
	}
	if full.Target != tgt.Name() || full.File != "vmcore" || full.Offset != at || full.Length <= 0 {
		t.Errorf("error %+v; want target %q, file vmcore, offset %d, a length", full, tgt.Name(), at)
	}
	f.Close() // may complain again
	if err := c.Abort(); err != nil {
		t.Errorf("Abort on a full target: %v", err)
	}
	wantFile(t, s, tgt, c.Path(), "dmesg.txt", "saved before")
	if got, err := s.Read(t, tgt, c.Path(), "vmcore"); err != nil || int64(len(got)) < at {
		t.Errorf("vmcore = %d bytes, %v; want the %d that fitted", len(got), err, at)
	}
}
