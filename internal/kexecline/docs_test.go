package kexecline

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the options into the documents anew")

// The lists of options in the documents are made from the table.
func TestDocuments(t *testing.T) {
	for _, d := range []struct{ path, begin, end, want string }{
		{"../../docs/kexec.md", "<!-- options -->\n", "<!-- end of options -->", markdown()},
		{"../../man/kexec-panicroom.8", ".\\\" options\n", ".\\\" end of options", roff()},
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
		if *update {
			if err := os.WriteFile(d.path, []byte(before+d.begin+d.want+d.end+after), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(d.want, got); diff != "" {
			t.Errorf("%s (-want +got; go test ./internal/kexecline -update writes it anew):\n%s", d.path, diff)
		}
		for _, o := range Options() {
			if !strings.Contains(strings.ReplaceAll(got, `\-`, "-"), "--"+o.Long) {
				t.Errorf("%s does not name --%s", d.path, o.Long)
			}
		}
	}
}

// text is what a document says of an option.
func (o *Option) text() string {
	switch {
	case o.Support == Obeyed:
		return o.Help
	case o.Support == Ignored:
		return o.Why
	}
	return o.Why + ". Instead: " + o.Instead
}

func markdown() string {
	var b strings.Builder
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;")
	for _, g := range Groups() {
		fmt.Fprintf(&b, "\n### %s\n\n| option | |\n|---|---|\n", g)
		for _, o := range Options() {
			if o.Group != g {
				continue
			}
			short, of := "", ""
			if o.Short != 0 {
				short = fmt.Sprintf("`-%c`, ", o.Short)
			}
			if o.Elsewhere != "" {
				of = " (of " + o.Elsewhere + ")"
			}
			fmt.Fprintf(&b, "| %s`%s`%s | %s |\n", short, o.spelled(), of, cell.Replace(o.text()))
		}
	}
	return b.String() + "\n"
}

func roff() string {
	var b strings.Builder
	escape := strings.NewReplacer(`\`, `\e`, "-", `\-`)
	for _, g := range Groups() {
		fmt.Fprintf(&b, ".SS \"%s\"\n", g)
		for _, o := range Options() {
			if o.Group != g {
				continue
			}
			short, value := "", ""
			if o.Short != 0 {
				short = fmt.Sprintf(`\fB\-%c\fR, `, o.Short)
			}
			if o.Value != "" {
				value = `=\fI` + o.Value + `\fR`
			}
			text := o.text()
			if o.Elsewhere != "" {
				text += " (an option of " + o.Elsewhere + ")"
			}
			fmt.Fprintf(&b, ".TP\n%s\\fB%s\\fR%s\n%s\n", short, escape.Replace("--"+o.Long), value, escape.Replace(text))
		}
	}
	return b.String()
}
