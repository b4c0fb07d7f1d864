package bootloader

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// keyword is the first word of a line, in lower case, and where the rest begins;
// comments and empty lines have none.
func keyword(text []byte, l line) (word string, rest int) {
	at := l.start
	for at < l.end && blank(text[at]) {
		at++
	}
	if at == l.end || text[at] == '#' {
		return "", l.end
	}
	start := at
	for at < l.end && !blank(text[at]) {
		at++
	}
	return strings.ToLower(string(text[start:at])), at
}

// entryWords finds the parameter in the lines "options" of a boot loader entry
// (uapi-group.org/specifications/specs/boot_loader_specification).
func entryWords(text []byte) []span {
	var list []span
	for _, l := range lines(text) {
		if word, rest := keyword(text, l); word == "options" {
			list = append(list, parameters(text, rest, l.end, "")...)
		}
	}
	return list
}

// entryAdd puts the parameter at the end of the last line "options", for several
// are one command line; without one, a line of its own.
func entryAdd(text []byte, value string) ([]byte, error) {
	var at *line
	for _, l := range lines(text) {
		if word, _ := keyword(text, l); word == "options" {
			at = &l
		}
	}
	if at != nil {
		return addWord(text, at.start, at.end, value), nil
	}
	end := lineEnd(text)
	out := bytes.Clone(text)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, end...)
	}
	return fmt.Appendf(out, "options %s%s%s", Parameter, value, end), nil
}

// startsKernel tells whether an entry starts a kernel with the options in it; one
// that starts an EFI program does not.
func startsKernel(text []byte) bool {
	return slices.ContainsFunc(lines(text), func(l line) bool {
		word, _ := keyword(text, l)
		return word == "linux"
	})
}

// cmdlineWords finds the parameter in /etc/kernel/cmdline: words, and comments
// (kernel-install(8)).
func cmdlineWords(text []byte) []span {
	var list []span
	for _, l := range lines(text) {
		if word, _ := keyword(text, l); word != "" {
			list = append(list, parameters(text, l.start, l.end, "")...)
		}
	}
	return list
}

// cmdlineAdd puts the parameter behind the last word.
func cmdlineAdd(text []byte, value string) ([]byte, error) {
	var at *line
	for _, l := range lines(text) {
		if word, _ := keyword(text, l); word != "" {
			at = &l
		}
	}
	if at == nil {
		return fmt.Appendf(bytes.Clone(text), "%s%s%s", Parameter, value, lineEnd(text)), nil
	}
	return addWord(text, at.start, at.end, value), nil
}
