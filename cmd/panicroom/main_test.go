package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
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

func TestEveryVerbHasExamples(t *testing.T) {
	root := newRoot(&command{})
	for _, verb := range root.Commands() {
		if verb.Hidden || verb.Name() == "help" {
			continue
		}
		if verb.Example == "" || verb.Short == "" {
			t.Errorf("panicroom %s --help has no example or no summary", verb.Name())
		}
	}
}
