package kexecline

import (
	"strings"
	"testing"
)

// The help shows every option, and fits a terminal.
func TestHelp(t *testing.T) {
	help := HelpText()
	for line := range strings.Lines(help) {
		if line = strings.TrimSuffix(line, "\n"); len(line) > 80 || strings.HasSuffix(line, " ") {
			t.Errorf("a line of %d columns: %q", len(line), line)
		}
	}
	for _, o := range Options() {
		if !strings.Contains(help, " "+o.spelled()) {
			t.Errorf("no %s", o.spelled())
		}
		if o.Short != 0 && !strings.Contains(help, "  -"+string(o.Short)+", --"+o.Long) {
			t.Errorf("no -%c beside --%s", o.Short, o.Long)
		}
		words := o.Help
		if o.Support == Ignored {
			words = o.Why
		}
		if !strings.Contains(strings.Join(strings.Fields(help), " "), words) {
			t.Errorf("--%s is not explained", o.Long)
		}
	}
}
