package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/reserve"
)

func TestTable(t *testing.T) {
	text := table([]*found{{Row: "ext4/trixie/packed", Kernel: "6.12", Minimum: 120, Tries: []try{{116, false, "Out of memory: Killed"}, {120, true, "saved"}}, Facts: reserve.Facts{}}})
	if !strings.Contains(text, "| ext4 | 6.12 | packed | 120 MiB | Out of memory |") {
		t.Errorf("%s", text)
	}
}

// The table of the document is of the model as it is, and of what was measured.
func TestDocumentIsTrue(t *testing.T) {
	t.Chdir("../..")
	var all []*found
	text, err := os.ReadFile(dataFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("docs/reserve.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := table(all); !strings.Contains(string(doc), want) {
		t.Errorf("docs/reserve.md does not have this; go run ./e2e/measure -rows none -write puts it there:\n%s", want)
	}
}
