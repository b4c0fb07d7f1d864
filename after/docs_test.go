package after

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/saved"
)

func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/after-a-crash.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The description in the document is one, with every key.
func TestDescriptionIsDocumented(t *testing.T) {
	_, text, _ := strings.Cut(page(t), "```json\n")
	text, _, ok := strings.Cut(text, "```")
	if !ok {
		t.Fatal("no description")
	}
	var d Description
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := json.Compact(&want, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironmentIsDocumented(t *testing.T) {
	text := page(t)
	rows := strings.Count(text, "| `PANICROOM_")
	for _, v := range environment(&saved.Crash{}) {
		name, _, _ := strings.Cut(v, "=")
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("%s is not documented", name)
		}
		if strings.HasPrefix(name, "PANICROOM_") {
			rows--
		}
	}
	if rows != 0 {
		t.Errorf("%d variables are documented and not there", rows)
	}
}
