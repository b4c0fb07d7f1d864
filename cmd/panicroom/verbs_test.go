package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// everyVerb calls f for each command of the tree, the root's too, with the words that
// it is called by.
func everyVerb(t *testing.T, f func(t *testing.T, cmd *cobra.Command, words []string)) {
	root := newRoot(&command{})
	root.InitDefaultHelpCmd()
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		words := strings.Fields(cmd.CommandPath())[1:]
		t.Run(cmd.CommandPath(), func(t *testing.T) { f(t, cmd, words) })
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// with is a command line that begins with words.
func with(words []string, more ...string) []string { return append(slices.Clone(words), more...) }

func TestHelpOfEveryVerb(t *testing.T) {
	everyVerb(t, func(t *testing.T, cmd *cobra.Command, words []string) {
		code, help, errOut := try(t, with(words, "--help")...)
		if code != exitDone || errOut != "" {
			t.Fatalf("--help: code %d, %q", code, errOut)
		}
		for _, part := range []string{cmd.Short, "\nUsage:\n", "\nExamples:\n  ", "\nFlags:\n"} {
			if part == "" || part == cmd.Short && cmd.Long != "" {
				continue
			}
			if !strings.Contains(help, part) {
				t.Errorf("--help has no %q", part)
			}
		}
		if cmd.Short == "" || !strings.Contains(cmd.Example, "panicroom") {
			t.Errorf("no summary, or no example: %q, %q", cmd.Short, cmd.Example)
		}
		for line := range strings.Lines(help) {
			if line = strings.TrimSuffix(line, "\n"); len([]rune(line)) > 80 {
				t.Errorf("--help has a line of %d columns: %s", len([]rune(line)), line)
			}
		}
		if _, same, _ := try(t, with([]string{"help"}, words...)...); same != help {
			t.Errorf("help says\n%s\nand --help\n%s", same, help)
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && (f.Usage == "" || !strings.Contains(help, "--"+f.Name)) {
				t.Errorf("--help does not say what --%s is", f.Name)
			}
		})
	})
}

// Every command refuses a flag that it does not have, and knows which was meant.
func TestUnknownFlagOfEveryVerb(t *testing.T) {
	everyVerb(t, func(t *testing.T, cmd *cobra.Command, words []string) {
		asks := "hint: " + cmd.CommandPath() + " --help shows"
		for _, flag := range []string{"--nosuchflag", "-Q", "--json=perhaps"} {
			code, out, errOut := try(t, with(words, flag)...)
			if code != exitUsage || out != "" || !strings.HasPrefix(errOut, "panicroom: wrong usage: ") || !strings.Contains(errOut, asks) {
				t.Errorf("%s: code %d, %q, %q; want %d and where help is", flag, code, out, errOut, exitUsage)
			}
		}
		names := []string{"json"}
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		for _, name := range names {
			_, _, errOut := try(t, with(words, "--"+name+"x")...)
			if f := cmd.Flags().Lookup(name); f != nil && f.Hidden {
				if strings.Contains(errOut, "--"+name+"?") {
					t.Errorf("--%sx: %q tells of a flag for tests", name, errOut)
				}
			} else if !strings.Contains(errOut, "hint: did you mean --"+name+"?\n") {
				t.Errorf("--%sx: %q does not say which was meant", name, errOut)
			}
		}
		refusedAsJSON(t, exitUsage, with(words, "--nosuchflag", "--json")...)
	})
}

// refusedAsJSON tries a command line that asks for JSON and is refused.
func refusedAsJSON(t *testing.T, want int, args ...string) {
	t.Helper()
	code, out, errOut := try(t, args...)
	var got struct {
		Error struct {
			Message  string   `json:"message"`
			Hints    []string `json:"hints"`
			ExitCode int      `json:"exit_code"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || errOut != "" {
		t.Errorf("%q: %q is not one object: %v; beside it %q", args, out, err, errOut)
	}
	if code != got.Error.ExitCode || want != 0 && code != want || got.Error.Message == "" || len(got.Error.Hints) == 0 {
		t.Errorf("%q: code %d, %+v; want a message and a hint", args, code, got.Error)
	}
}

func TestUnknownVerbs(t *testing.T) {
	everyVerb(t, func(t *testing.T, cmd *cobra.Command, words []string) {
		if len(words) == 0 {
			return
		}
		wrong := slices.Clone(words)
		wrong[len(wrong)-1] += "x"
		for _, line := range [][]string{wrong, with([]string{"help"}, wrong...)} {
			code, out, errOut := try(t, line...)
			if code != exitUsage || out != "" || !strings.Contains(errOut, "hint: did you mean "+cmd.CommandPath()+"?\n") {
				t.Errorf("%q: code %d, %q, %q", line, code, out, errOut)
			}
		}
	})
}

// Too many arguments and too few are told with what the command takes.
func TestArgumentsOfEveryVerb(t *testing.T) {
	everyVerb(t, func(t *testing.T, cmd *cobra.Command, words []string) {
		if cmd.Args == nil {
			return // any number
		}
		for n := range 4 {
			given := []string{"a", "b", "c"}[:n]
			if cmd.Args(cmd, given) == nil {
				continue
			}
			code, out, errOut := try(t, with(words, given...)...)
			if code != exitUsage || out != "" || strings.Contains(errOut, "arg(s)") || !strings.Contains(errOut, "panicroom") || !strings.Contains(errOut, "\nhint: ") {
				t.Errorf("%d arguments: code %d, %q, %q", n, code, out, errOut)
			}
		}
	})
}

// Every command says what to do next when it is refused. A command that is not here
// fails the test: there is a line to be written for it.
func TestRefusalsOfEveryVerb(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	absent := filepath.Join(dir, "absent")
	text := file("text", "not a dump, nor a kernel, nor a directory\n")
	wrong := file("wrong.toml", "[dump]\nlevle = \"full\"\n")
	beyond := filepath.Join(text, "x") // below a file
	empty := t.TempDir()
	cases := map[string][][]string{
		"panicroom":               {{"--textfile", "x"}, {""}},
		"panicroom load":          {{"--config", wrong}, {"--config", absent}, {"--target", "ssh:x"}, {"--reboot", "--level", "1"}},
		"panicroom unload":        {{"all"}}, // without a mistake it would unload
		"panicroom setup":         {{"--config", wrong}, {"--dry-run", "--undo"}},
		"panicroom status":        {{"--textfile", beyond}, {"--textfile", filepath.Join(absent, "x")}},
		"panicroom reserve":       {{"--config", wrong}, {"--apply", "--undo"}, {"--size", "much"}},
		"panicroom target":        {{"format"}},
		"panicroom target init":   {{absent}, {beyond}, {text}, {empty}},
		"panicroom target unpack": {{absent}, {beyond}, {text}, {empty}},
		"panicroom target key":    {{beyond}, {empty}},
		"panicroom reboot":        {{}, {"--kexec"}}, // there is nobody to say yes
		"panicroom crash":         {{}, {"--force"}, {"--cpu", "-1"}},
		"panicroom save":          {{"--target", filepath.Join(dir, "new"), text}, {"--target", text, text}, {"--target", empty, absent}, {"--target", empty, text}, {"--target", empty, empty}},
		"panicroom report":        {{absent}, {beyond}, {text}, {empty}},
		"panicroom log":           {{absent}, {beyond}, {text}, {empty}},
		"panicroom inspect":       {{absent}, {text}, {empty}, {beyond}},
		"panicroom bt":            {{absent}, {text}, {empty}, {"-a", "-D", text}, {"-a", text, "1"}},
		"panicroom ps":            {{absent}, {text}, {empty}, {"--state", "Q", text}, {"-k", "-u", text}},
		"panicroom mod":           {{absent}, {text}, {empty}},
		"panicroom mem":           {{absent}, {text}, {empty}, {"--top", "3", text}, {"--slab", "--top", "-1", text}},
		"panicroom struct":        {{absent, "page"}, {text, "page"}, {empty, "page"}, {text, "page", "0", "none"}, {text, "page", "0", "0"}},
		"panicroom rd":            {{absent, "0"}, {text, "0"}, {empty, "0"}, {text, "0", "none"}, {text, "--bits", "12", "0"}},
		"panicroom dis":           {{absent, "x"}, {text, "x"}, {empty, "x"}, {text, "x", "0"}, {"-f", "-r", text, "x"}},
		"panicroom sym":           {{absent, "x"}, {text, "x"}, {empty, "x"}},
		"panicroom convert":       {{absent, absent}, {text, absent}, {empty, absent}, {text, "-", "--split", "2"}},
		"panicroom list":          {{absent}, {text}, {"--config", wrong}},
		"panicroom after":         {{"--config", wrong}, {"--config", absent}, {"--state", beyond}},
		"panicroom inspect-image": {{absent}, {text}, {empty}},
		"panicroom config":        {{"--config", wrong}, {"--config", absent}, {"--config", empty}, {"--config", beyond}},
		"panicroom help":          {{"nothing"}},
		"panicroom completion":    {{"sh"}, {"powershell"}},
		"panicroom version":       {{"number"}},
	}
	everyVerb(t, func(t *testing.T, cmd *cobra.Command, words []string) {
		lines, ok := cases[cmd.CommandPath()]
		if !ok {
			t.Fatal("this test has no line for the command")
		}
		for _, line := range lines {
			line = with(words, line...)
			code, out, errOut := try(t, line...)
			if code == exitDone || out != "" || !strings.Contains(errOut, "panicroom: ") || !strings.Contains(errOut, "\nhint: ") {
				t.Errorf("%q: code %d, %q, %q; want an error and a hint, and nothing else", line, code, out, errOut)
			}
		}
	})
}
