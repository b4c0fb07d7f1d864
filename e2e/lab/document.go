package lab

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// WriteDocument replaces what stands in a document between two lines that name the
// command which measured it: `make bench` has "make bench measured".
func WriteDocument(path, what, text string) error {
	begin, end := "<!-- what "+what+": begin -->\n", "<!-- what "+what+": end -->\n"
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(old, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return fmt.Errorf("%s has not both of the lines %q and %q", path, begin, end)
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(begin + "\n" + strings.TrimSpace(text) + "\n\n" + end)
	b.Write(after)
	return os.WriteFile(path, b.Bytes(), 0o644)
}
