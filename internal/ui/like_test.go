package ui

import (
	"strings"
	"testing"
)

func TestLike(t *testing.T) {
	words := []string{"setup", "status", "reserve", "report", "reboot", "load", "unload", "dry-run", "list",
		"level", "format", "compress", "mem-limit", "known-hosts"}
	for word, want := range map[string]string{
		"statsu": "status", "STATUS": "status", "sta": "status", "dryrun": "dry-run", "laod": "load", "lst": "list",
		"levle": "level", "Format": "format", "knownhosts": "known-hosts", "mem_limit": "mem-limit", "colour": "",
		"re": "", "": "", "x": "", "collect": "", strings.Repeat("load", 20): "", strings.Repeat("level", 1000): "",
	} {
		if got := Like(word, words); got != want {
			t.Errorf("Like(%.20q) = %q, want %q", word, got, want)
		}
	}
}
