package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Each shell reads its script without a complaint.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			code, script, errOut := try(t, "completion", shell)
			if code != exitDone || errOut != "" || !strings.Contains(script, "panicroom") {
				t.Fatalf("code %d, %q", code, errOut)
			}
			program, err := exec.LookPath(shell)
			if err != nil {
				if os.Getenv("CI") != "" {
					t.Fatalf("%v: scripts/prerequisites forms installs it", err)
				}
				t.Skip(err)
			}
			path := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), program, "-n", path).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s -n: %v\n%s", shell, err, out)
			}
		})
	}
}

// What the scripts ask the command for.
func TestCompletion(t *testing.T) {
	for line, want := range map[string]string{
		"sta":           "status\t",
		"target ":       "init\t",
		"load --re":     "--reboot\t",
		"completion ":   "fish",
		"help target u": "unpack\t",
		"help st":       "status\t",
		"convert --fl":  "--flatten\t",
	} {
		code, out, _ := try(t, append([]string{"__complete"}, strings.Split(line, " ")...)...)
		if code != exitDone || !strings.Contains("\n"+out, "\n"+want) {
			t.Errorf("%q is completed with code %d, %q; want %q among them", line, code, out, want)
		}
		if strings.Contains(out, "test-") {
			t.Errorf("%q: a flag for tests is in %q", line, out)
		}
	}
}
