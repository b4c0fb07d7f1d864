package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/load"
)

// try runs a command line and returns what it said.
func try(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(context.Background(), args, strings.NewReader(""), &out, &errOut)
	return code, out.String(), errOut.String()
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{{"nosuchverb"}, {"version", "extra"}, {"version", "--nosuchflag"}} {
		code, out, errOut := try(t, args...)
		if code != exitUsage || out != "" {
			t.Errorf("run(%q) = %d, %q; want %d and nothing on stdout", args, code, out, exitUsage)
		}
		if !strings.HasPrefix(errOut, "panicroom: wrong usage: ") || !strings.Contains(errOut, "\nhint: panicroom") {
			t.Errorf("run(%q) said %q; want one line of error and a hint", args, errOut)
		}
	}
}

func TestErrorsAsJSON(t *testing.T) {
	code, out, errOut := try(t, "--json", "nosuchverb")
	var got struct {
		Error struct {
			Message  string   `json:"message"`
			Hints    []string `json:"hints"`
			ExitCode int      `json:"exit_code"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	if code != exitUsage || got.Error.ExitCode != code || got.Error.Message == "" || len(got.Error.Hints) == 0 {
		t.Errorf("code %d, %+v", code, got)
	}
	if errOut != "" {
		t.Errorf("stderr %q; want nothing beside the JSON", errOut)
	}
}

func TestNumbersOutOfRange(t *testing.T) {
	for _, args := range [][]string{{"load", "--cpus", "0"}, {"load", "--level", "32"}, {"load", "--final", "sleep"},
		{"save", "--level", "-1", "x"}, {"save", "--threads", "-1", "x"}, {"save", "--mem-limit", "8M", "x"},
		{"load", "--mem-limit", "much"}, {"load", "--format", "raw"}, {"save", "--compress", "gzip", "x"}, {"load", "--reboot", "--mem-limit", "64M"}, {"convert", "--mem-limit", "-1", "x", "y"},
		{"report", "--log-lines", "-1", "x"}, {"crash", "--cpu", "-1"}} {
		if code, _, errOut := try(t, args...); code != exitUsage {
			t.Errorf("run(%q) = %d, %q; want %d", args, code, errOut, exitUsage)
		}
	}
}

// What is wrong with the machine is said before an image is looked for, and
// what is being done is said on the way, though not to programs.
func TestLoadSteps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "machine")
	if err := os.CopyFS(dir, os.DirFS("../../load/testdata/machines/virt-6.12-sv57-2g")); err != nil {
		t.Fatal(err)
	}
	try := func(asJSON bool) (string, error) {
		var out bytes.Buffer
		l := loading{root: os.DirFS(dir), kernel: "/nonesuch"}
		err := l.run(t.Context(), &command{json: asJSON, stdout: &out})
		return out.String(), err
	}
	if out, err := try(false); !errors.Is(err, fs.ErrNotExist) || out != "reading /nonesuch\n" {
		t.Errorf("load said %q, %v", out, err)
	}
	if out, err := try(true); !errors.Is(err, fs.ErrNotExist) || out != "" {
		t.Errorf("load --json said %q, %v", out, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sys/kernel/kexec_crash_size"), []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var rule *load.RuleError
	if out, err := try(false); !errors.As(err, &rule) || rule.Rule != load.RuleCrashkernel || out != "" {
		t.Errorf("load without reserved memory said %q, %v; want the rule %q", out, err, load.RuleCrashkernel)
	}
}

// What is missing besides the modules is not told with their remedy.
func TestNoModules(t *testing.T) {
	missing := &fs.PathError{Op: "open", Path: "/etc/panicroom/known_hosts", Err: fs.ErrNotExist}
	if hints := ui.Hints(noModules(t.TempDir(), missing)); len(hints) != 0 {
		t.Errorf("the modules are there: hints %q", hints)
	}
	if hints := ui.Hints(noModules(filepath.Join(t.TempDir(), "absent"), missing)); len(hints) != 1 {
		t.Errorf("the modules are missing: hints %q", hints)
	}
	if noModules("/absent", nil) != nil {
		t.Error("an error of nothing")
	}
}

func TestConfirm(t *testing.T) {
	for answer, want := range map[string]error{"yes\n": nil, "no\n": errCanceled, "\n": errCanceled, "": errCanceled, "yes": errCanceled} {
		c := &command{stdin: strings.NewReader(answer), stderr: new(bytes.Buffer)}
		if err := c.confirm(t.Context(), "? "); !errors.Is(err, want) {
			t.Errorf("confirm with %q = %v; want %v", answer, err, want)
		}
	}
	// ^C ends the waiting for an answer that does not come.
	silent, writer := io.Pipe()
	defer writer.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := &command{stdin: silent, stderr: new(bytes.Buffer)}
	if err := c.confirm(ctx, "? "); !errors.Is(err, errCanceled) {
		t.Errorf("confirm after ^C = %v", err)
	}
}

// What a user may not do has a code of its own and says what to do.
func TestNeedsRoot(t *testing.T) {
	denied := &fs.PathError{Op: "open", Path: "/var/crash/x/vmcore", Err: fs.ErrPermission}
	for _, c := range []struct {
		err   error
		root  bool
		code  int
		hints int
	}{
		{denied, false, exitNeedsRoot, 1},
		{denied, true, exitError, 0}, // a read-only attribute, a security module
		{fmt.Errorf("mkdir: %w", load.ErrNotRoot), false, exitNeedsRoot, 1},
		{fs.ErrNotExist, false, exitError, 0},
	} {
		err := needsRoot(c.err, c.root)
		if code, hints := exitCode(err), ui.Hints(err); code != c.code || len(hints) != c.hints {
			t.Errorf("%v, root %v: code %d, hints %q; want %d and %d", c.err, c.root, code, hints, c.code, c.hints)
		}
	}
}
