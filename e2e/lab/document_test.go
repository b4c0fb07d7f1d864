package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteDocument(t *testing.T) {
	const begin, end = "<!-- what we did: begin -->\n", "<!-- what we did: end -->\n"
	path := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(path, []byte("before\n"+begin+"old\n"+end+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"new\n\n", "newer"} {
		if err := WriteDocument(path, "we did", text); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if want := "before\n" + begin + "\n" + strings.TrimSpace(text) + "\n\n" + end + "after\n"; string(got) != want {
			t.Errorf("got %q; want %q", got, want)
		}
	}
	if err := WriteDocument(path, "they did", "x"); err == nil {
		t.Error("a document without marks is overwritten")
	}
}
