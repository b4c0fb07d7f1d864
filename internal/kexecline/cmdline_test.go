package kexecline

import "testing"

func TestCommandLine(t *testing.T) {
	const running = "root=/dev/vda1 ro"
	for _, c := range []struct {
		what   string
		given  Cmdline
		want   string
		source string
	}{
		{"nothing", Cmdline{}, running, "the running kernel's, for none was given"},
		{"reuse", Cmdline{Reuse: true}, running, "--reuse-cmdline"},
		{"reuse and append", Cmdline{Reuse: true, Append: ptr("nr_cpus=1")}, running + " nr_cpus=1", "--reuse-cmdline and --append"},
		{"append", Cmdline{Append: ptr(" a  b ")}, " a  b ", "--append alone"},
		{"an empty append", Cmdline{Append: ptr("")}, "", "--append alone"},
		{"text", Cmdline{Text: ptr("a")}, "a", "--command-line"},
		{"an empty text", Cmdline{Text: ptr("")}, "", "--command-line"},
		{"text and append", Cmdline{Text: ptr("a"), Append: ptr("b c")}, "a b c", "--command-line and --append"},
		{"an empty text and append", Cmdline{Text: ptr(""), Append: ptr("b")}, "b", "--command-line and --append"},
	} {
		if got := c.given.Line(running); got != c.want {
			t.Errorf("%s: %q; want %q", c.what, got, c.want)
		}
		if got := c.given.Source(); got != c.source {
			t.Errorf("%s comes from %q; want %q", c.what, got, c.source)
		}
		if got := c.given.Given(); got != (c.what != "nothing") {
			t.Errorf("%s: given is %v", c.what, got)
		}
	}
}
