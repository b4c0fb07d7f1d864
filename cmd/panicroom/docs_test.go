package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manual is the page of the command, with hyphens as people type them.
func manual(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../man/panicroom.8")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), `\-`, "-")
}

// The manual has every command, and every flag where its command is described.
func TestManualHasEveryVerb(t *testing.T) {
	page := manual(t)
	synopsis, rest, ok := strings.Cut(page, ".SH DESCRIPTION")
	if !ok {
		t.Fatal("no description")
	}
	sections := regexp.MustCompile(`(?m)^\.TP\n`).Split(rest, -1)
	everyVerb(t, func(t *testing.T, cmd *cobra.Command, words []string) {
		if cmd.Hidden || len(words) == 0 || cmd.Name() == "help" {
			return
		}
		if !strings.Contains(synopsis, "\n.B "+cmd.CommandPath()) && !cmd.HasSubCommands() {
			t.Errorf("the synopsis has no line %s", cmd.CommandPath())
		}
		var about string
		for _, s := range sections {
			if title, _, _ := strings.Cut(s, "\n"); regexp.MustCompile(`\b` + regexp.QuoteMeta(words[0]) + `\b`).MatchString(title) {
				about += s
			}
		}
		if about == "" {
			t.Fatalf("no paragraph begins with %s", words[0])
		}
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Hidden || f.Name == "help" || f.Name == "config" { // said of all
				return
			}
			if !regexp.MustCompile(`--` + regexp.QuoteMeta(f.Name) + `\b`).MatchString(about) {
				t.Errorf("the paragraph %s does not have --%s", words[0], f.Name)
			}
		})
	})
}

// The manual and --help have every exit code.
func TestExitCodesAreTold(t *testing.T) {
	_, status, ok := strings.Cut(manual(t), `.SH "EXIT STATUS"`)
	if !ok {
		t.Fatal("the manual has no exit status")
	}
	status, _, _ = strings.Cut(status, ".SH ")
	_, help, _ := try(t, "--help")
	for code := exitDone; code <= exitConfig; code++ {
		word := regexp.MustCompile(fmt.Sprintf(`(?s)\s%d[\s,:|]`, code))
		if !word.MatchString(status) {
			t.Errorf("the manual has no exit status %d", code)
		}
		if !word.MatchString(help) {
			t.Errorf("--help has no exit code %d", code)
		}
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// An answer that is lost is an error, of every command that has one.
func TestAnswerIsLost(t *testing.T) {
	dir := t.TempDir()
	for _, line := range [][]string{{"--help"}, {"load", "--help"}, {"help"}, {"version"}, {"version", "--json"}, {"config"}, {"config", "--json"},
		{"config", "--shipped"}, {"list", dir}, {"list", "--json", dir}, {"completion", "bash"}, {"completion", "zsh"}, {"completion", "fish"}} {
		var errOut strings.Builder
		if code := run(t.Context(), line, strings.NewReader(""), full{}, &errOut); code != exitError || !strings.Contains(errOut.String(), "no space left on device") {
			t.Errorf("%q: code %d, %q; want %d", line, code, errOut.String(), exitError)
		}
	}
	if code := run(t.Context(), []string{"version"}, strings.NewReader(""), io.Discard, io.Discard); code != exitDone {
		t.Errorf("version: code %d", code)
	}
}
