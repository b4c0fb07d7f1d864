// Package getopttest checks that a program's table of options, its help and the
// documents that list the options say the same.
package getopttest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/internal/getopt"
)

// Documents compares the lists of options in a Markdown document and a man page
// with the table, or with update writes them anew. They stand between comments:
// "<!-- options -->" and "<!-- end of options -->", `.\" options` and `.\" end
// of options`.
func Documents(t *testing.T, p *getopt.Program, update bool, markdownFile, manPage string) {
	for _, d := range []struct{ path, begin, end, want string }{
		{markdownFile, "<!-- options -->\n", "<!-- end of options -->", markdown(p)},
		{manPage, ".\\\" options\n", ".\\\" end of options", roff(p)},
	} {
		b, err := os.ReadFile(d.path)
		if err != nil {
			t.Fatal(err)
		}
		before, rest, ok := strings.Cut(string(b), d.begin)
		got, after, ok2 := strings.Cut(rest, d.end)
		if !ok || !ok2 {
			t.Fatalf("%s has no place for the options: %q, %q", d.path, d.begin, d.end)
		}
		if update {
			if err := os.WriteFile(d.path, []byte(before+d.begin+d.want+d.end+after), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(d.want, got); diff != "" {
			t.Errorf("%s (-want +got; go test -update in this directory writes it anew):\n%s", d.path, diff)
		}
		for _, o := range p.Options {
			if !strings.Contains(strings.ReplaceAll(got, `\-`, "-"), o.Name()) {
				t.Errorf("%s does not name %s", d.path, o.Name())
			}
		}
	}
}

func markdown(p *getopt.Program) string {
	var b strings.Builder
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;")
	for _, g := range p.Groups {
		fmt.Fprintf(&b, "\n### %s\n\n| option | |\n|---|---|\n", g)
		for _, o := range p.Options {
			if o.Group != g {
				continue
			}
			short, of := "", ""
			if o.Short != 0 && o.Long != "" {
				short = fmt.Sprintf("`-%c`, ", o.Short)
			}
			if o.Elsewhere != "" {
				of = " (of " + o.Elsewhere + ")"
			}
			fmt.Fprintf(&b, "| %s`%s`%s | %s |\n", short, o.Spelled(), of, cell.Replace(o.Text()))
		}
	}
	return b.String() + "\n"
}

func roff(p *getopt.Program) string {
	var b strings.Builder
	escape := strings.NewReplacer(`\`, `\e`, "-", `\-`)
	for _, g := range p.Groups {
		fmt.Fprintf(&b, ".SS \"%s\"\n", g)
		for _, o := range p.Options {
			if o.Group != g {
				continue
			}
			short, value := "", ""
			if o.Short != 0 && o.Long != "" {
				short = fmt.Sprintf(`\fB\-%c\fR, `, o.Short)
			}
			if o.Value != "" {
				value = `=\fI` + o.Value + `\fR`
				if o.Long == "" {
					value = ` \fI` + o.Value + `\fR`
				}
			}
			text := o.Text()
			if o.Elsewhere != "" {
				text += " (an option of " + o.Elsewhere + ")"
			}
			fmt.Fprintf(&b, ".TP\n%s\\fB%s\\fR%s\n%s\n", short, escape.Replace(o.Name()), value, escape.Replace(text))
		}
	}
	return b.String()
}

// Help checks that the help shows every option and fits a terminal.
func Help(t *testing.T, p *getopt.Program, help string) {
	for line := range strings.Lines(help) {
		if line = strings.TrimSuffix(line, "\n"); len(line) > 80 || strings.HasSuffix(line, " ") {
			t.Errorf("a line of %d columns: %q", len(line), line)
		}
	}
	flow := strings.Join(strings.Fields(help), " ")
	for _, o := range p.Options {
		if !strings.Contains(flow, " "+o.Spelled()) {
			t.Errorf("no %s", o.Spelled())
		}
		if o.Short != 0 && o.Long != "" && !strings.Contains(help, "  -"+string(o.Short)+", "+o.Name()) {
			t.Errorf("no -%c beside %s", o.Short, o.Name())
		}
		if o.Support != getopt.Refused && !strings.Contains(flow, o.Text()) {
			t.Errorf("%s is not explained", o.Name())
		}
	}
}

// Table checks that every option is what its line says. parse understands a
// command line that has the option in it, with a value if it takes one, and
// gives the options that were ignored.
func Table(t *testing.T, p *getopt.Program, parse func(o getopt.Option) ([]getopt.Option, error)) {
	names := map[string]bool{}
	for _, o := range p.Options {
		for _, name := range []string{"--" + o.Long, "-" + string(o.Short)} {
			if names[name] && name != "-\x00" && name != "--" {
				t.Errorf("%s stands twice", name)
			}
			names[name] = true
		}
		if !slices.Contains(p.Groups, o.Group) {
			t.Errorf("%s is in no group", o.Name())
		}
		ignored, err := parse(o)
		switch o.Support {
		case getopt.Obeyed:
			if o.Help == "" || o.Why != "" || o.Group == getopt.NoEffect || o.Group == getopt.Without {
				t.Errorf("%s is obeyed: %+v", o.Name(), o)
			}
			if err != nil {
				t.Errorf("%s: %v", o.Name(), err)
			}
		case getopt.Ignored:
			if o.Why == "" || o.Help != "" || o.Group != getopt.NoEffect {
				t.Errorf("%s is ignored: %+v", o.Name(), o)
			}
			if err != nil || len(ignored) != 1 || ignored[0].Name() != o.Name() {
				t.Errorf("%s: ignored are %+v, %v", o.Name(), ignored, err)
			}
		case getopt.Refused:
			if o.Why == "" || o.Instead == "" || o.Help != "" || o.Group != getopt.Without {
				t.Errorf("%s is refused: %+v", o.Name(), o)
			}
			if !errors.Is(err, getopt.ErrUnsupported) || !strings.Contains(err.Error(), o.Name()) || !strings.Contains(err.Error(), o.Why) {
				t.Errorf("%s: %v", o.Name(), err)
			}
		}
	}
}

// Error checks that a command line was refused with an error of a kind, or of
// any if kind is nil, which says something in itself or its hints.
func Error(t testing.TB, args []string, refused bool, err, kind error, says string) {
	t.Helper()
	var e *getopt.Error
	if !errors.As(err, &e) || kind != nil && !errors.Is(err, kind) || !refused {
		t.Errorf("%q: refused %v, %v; want an error of the kind %q", args, refused, err, kind)
		return
	}
	if text := strings.Join(append([]string{err.Error()}, e.Hints()...), "\n"); !strings.Contains(text, says) {
		t.Errorf("%q says\n%s\nwant %q in it", args, text, says)
	}
	if len(e.Hints()) == 0 {
		t.Errorf("%q: %v: no hint", args, err)
	}
}
