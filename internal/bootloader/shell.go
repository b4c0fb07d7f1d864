package bootloader

import (
	"bytes"
	"errors"
	"fmt"
)

// errShell: a file of shell is not written in a way that can be edited safely.
var errShell = errors.New("cannot be edited safely")

// assignment is NAME=VALUE in a file of shell: the value with its quotes is
// text[start:end], and quote is its quote or 0.
type assignment struct {
	name       string
	start, end int
	quote      byte // ', " or 0
	plain      bool // one quoted string or one bare word, nothing else
}

// assignments finds the assignments at the beginnings of lines. Strings may go
// over several lines; comments and what else the shell can do are passed over.
func assignments(text []byte) []assignment {
	var list []assignment
	for at := 0; at < len(text); {
		for at < len(text) && isSpace(text[at]) {
			at++
		}
		if bytes.HasPrefix(text[at:], []byte("export ")) {
			at += len("export ")
		}
		name := at
		for at < len(text) && nameByte(text[at], at > name) {
			at++
		}
		var a assignment
		if at > name && at < len(text) && text[at] == '=' {
			a.name = string(text[name:at])
			at++
		} else if at > name && at+1 < len(text) && text[at] == '+' && text[at+1] == '=' {
			a.name = string(text[name:at])
			at += 2
		}
		a.start = at
		at = a.skip(text, at)
		if a.name != "" {
			list = append(list, a)
		}
		// The rest of the line, another command or a comment.
		for at < len(text) && text[at] != '\n' {
			switch c := text[at]; {
			case c == '#' && (at == 0 || isSpace(text[at-1])):
				for at < len(text) && text[at] != '\n' {
					at++
				}
			case c == '\\' && at+1 < len(text):
				at += 2
			case c == '"' || c == '\'':
				at = quoted(text, at)
			default:
				at++
			}
		}
	}
	return list
}

// skip goes to the end of a word and notes how it is quoted.
func (a *assignment) skip(text []byte, at int) int {
	if a.name == "" {
		return at
	}
	parts := 0
	for at < len(text) && !isSpace(text[at]) && text[at] != ';' && text[at] != '#' {
		switch text[at] {
		case '"', '\'':
			if parts++; parts == 1 {
				a.quote = text[at]
			}
			at = quoted(text, at)
		case '\\':
			parts = 2
			at = min(at+2, len(text))
		default:
			parts++
			for at < len(text) && !isSpace(text[at]) && bytes.IndexByte([]byte(`"'\;#`), text[at]) < 0 {
				at++
			}
		}
	}
	a.end = at
	a.plain = parts <= 1
	if a.quote != 0 && a.plain { // the string must be closed
		a.plain = a.end-a.start >= 2 && text[a.end-1] == a.quote
	}
	return at
}

// quoted goes behind the string that begins at at.
func quoted(text []byte, at int) int {
	quote := text[at]
	for at++; at < len(text); at++ {
		switch {
		case text[at] == quote:
			return at + 1
		case text[at] == '\\' && quote == '"':
			at++
		}
	}
	return len(text)
}

func nameByte(c byte, digits bool) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || digits && '0' <= c && c <= '9'
}

// shellWords finds the parameter in the values of the variables named.
func shellWords(names ...string) func([]byte) []span {
	return func(text []byte) []span {
		var list []span
		for _, a := range assignments(text) {
			for _, n := range names {
				if a.name == n {
					list = append(list, parameters(text, a.start, a.end, `"'`)...)
				}
			}
		}
		return list
	}
}

// shellAdd puts the parameter at the end of the value of a variable: of the last
// assignment, which wins. Without one a line is added, whose value begins with
// the words first.
func shellAdd(name, first string) func([]byte, string) ([]byte, error) {
	return func(text []byte, value string) ([]byte, error) {
		var last *assignment
		for _, a := range assignments(text) {
			if a.name == name {
				last = &a
			}
		}
		if last == nil {
			end := lineEnd(text)
			out := bytes.Clone(text)
			if len(out) > 0 && out[len(out)-1] != '\n' {
				out = append(out, end...)
			}
			if first != "" {
				first += " "
			}
			return fmt.Appendf(out, "%s=\"%s%s%s\"%s", name, first, Parameter, value, end), nil
		}
		if !last.plain {
			return nil, fmt.Errorf("%s=%s: %w: it is more than one string", name, text[last.start:last.end], errShell)
		}
		if last.quote == 0 {
			bare := string(text[last.start:last.end])
			word := Parameter + value
			if bare != "" {
				word = bare + " " + word
			}
			return append(append(bytes.Clone(text[:last.start]), `"`+word+`"`...), text[last.end:]...), nil
		}
		return addWord(text, last.start+1, last.end-1, value), nil
	}
}

// addWord puts the parameter behind the last word between start and end.
func addWord(text []byte, start, end int, value string) []byte {
	at := end
	for at > start && isSpace(text[at-1]) {
		at--
	}
	word := Parameter + value
	if at > start {
		word = " " + word
	}
	return insert(text, at, word)
}
