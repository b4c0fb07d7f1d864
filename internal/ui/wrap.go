package ui

import (
	"strings"
	"unicode/utf8"
)

// Wrap breaks a text at spaces into lines of at most width columns; a longer word has
// a line of its own. There is always one line.
func Wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}
