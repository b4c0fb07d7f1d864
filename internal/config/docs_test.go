package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// everyKey are the keys of the structs as lines of a file: "[table] key".
func everyKey() (all []string) {
	for table, keysOf := range Default().tables() {
		for key := range keys(keysOf) {
			all = append(all, "["+table+"] "+key)
		}
	}
	slices.Sort(all)
	return all
}

// inText are the keys of a text, below headers that the first pattern finds.
func inText(t *testing.T, text, header, key string) (all []string) {
	t.Helper()
	isHeader, isKey := regexp.MustCompile(header), regexp.MustCompile(key)
	table := ""
	for line := range strings.SplitSeq(text, "\n") {
		if m := isHeader.FindStringSubmatch(line); m != nil {
			table = m[1]
		} else if m := isKey.FindStringSubmatch(line); m != nil {
			all = append(all, "["+table+"] "+strings.ReplaceAll(m[1], `\`, ""))
		}
	}
	slices.Sort(all)
	return all
}

// The shipped file has every key and nothing else, each with a sentence.
func TestShippedHasEveryKey(t *testing.T) {
	const header, key = `^#{0,2}\[+([a-z]+)\]+$`, `^##?([a-z-]+) = `
	if diff := cmp.Diff(everyKey(), inText(t, Shipped, header, key)); diff != "" {
		t.Error(diff)
	}
	for line := range strings.Lines(Shipped) {
		if n := len([]rune(line)); n > 89 {
			t.Errorf("a line of %d columns: %s", n, line)
		}
	}
	for block := range strings.SplitSeq(Shipped, "\n\n") {
		lines := strings.Split(strings.TrimSpace(block), "\n")
		if strings.Contains(block, " = ") && (!strings.HasPrefix(lines[0], "# ") || !strings.Contains(block, ".\n") && !strings.Contains(block, ". ")) {
			t.Errorf("no sentence before\n%s", block)
		}
	}
}

// uncomment takes a prefix away from lines that are not prose.
func uncomment(text, prefix string) string {
	return regexp.MustCompile(`(?m)^`+prefix+`([a-z\[])`).ReplaceAllString(text, "$1")
}

// As it is shipped, and with all its keys uncommented, it is the default.
func TestShippedIsTheDefault(t *testing.T) {
	for _, text := range []string{Shipped, uncomment(Shipped, "#")} {
		c, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		c.Files = nil
		if diff := cmp.Diff(Default(), c); diff != "" {
			t.Error(diff)
		}
	}
	if uncomment(Shipped, "#") == Shipped {
		t.Error("nothing was uncommented")
	}
}

// Its examples are right, and of all kinds.
func TestShippedExamples(t *testing.T) {
	c, err := parse(uncomment(uncomment(Shipped, "##"), "#"))
	if err != nil {
		t.Fatal(err)
	}
	var got []Kind
	for _, target := range c.Targets {
		got = append(got, target.Kind())
	}
	if want := []Kind{KindDir, KindPartition, KindSSH, KindNFS}; !slices.Equal(got, want) {
		t.Errorf("targets %q; want %q", got, want)
	}
}

// The man page has every key with its default, and nothing else.
func TestManPageHasEveryKey(t *testing.T) {
	text, err := os.ReadFile("../../man/panicroom.toml.5")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(everyKey(), inText(t, string(text), `^\.SS \[+([a-z]+)\]+$`, `^\.B ([a-z\\-]+) =`)); diff != "" {
		t.Error(diff)
	}
	// A key of a target has a default if that of its kind has.
	page := strings.ReplaceAll(string(text), `\`, "")
	withDefault := Target{Dir: DefaultDir, SSH: "x"}
	withDefault.fill()
	for table, keysOf := range Default().tables() {
		if table == listName {
			withDefault.SSH = ""
			keysOf = &withDefault
		}
		for key, v := range keys(keysOf) {
			line := ".B " + key + " ="
			if table != listName || !v.IsZero() {
				line += " " + literal(v)
			}
			if !strings.Contains(page, line+"\n") {
				t.Errorf("man/panicroom.toml.5 has no line %q", line)
			}
		}
	}
}
