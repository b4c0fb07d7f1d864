package config

import (
	"errors"
	"fmt"
	"strings"
)

// ErrInvalid marks a configuration that cannot be used.
var ErrInvalid = errors.New("configuration is not valid")

// Problem is one thing that is wrong, and where it stands.
type Problem struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`   // 0 for the whole file
	Column int    `json:"column,omitempty"` // in bytes, from 1
	Text   string `json:"text"`
	// Suggestion is what was meant, maybe; "" if nothing is like it.
	Suggestion string `json:"suggestion,omitempty"`
}

func (p Problem) String() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d:%d", p.Line, p.Column)
	}
	s += ": " + p.Text
	if p.Suggestion != "" {
		s += "; did you mean " + p.Suggestion + "?"
	}
	return s
}

// Error is all that is wrong with a configuration. It is [ErrInvalid].
type Error struct {
	Problems []Problem
}

func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d errors in the configuration", len(e.Problems))
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// Unwrap makes the error [ErrInvalid].
func (e *Error) Unwrap() error { return ErrInvalid }

// Hints says what to do.
func (e *Error) Hints() []string {
	return []string{"panicroom config checks the file after an edit; man panicroom.toml has every key"}
}

// like finds the word that was meant, "" if none is near.
func like(word string, words []string) string {
	if len(word) > 64 {
		return ""
	}
	word = strings.ToLower(word)
	best, least := "", 1+max(len(word)/3, 1)
	for _, w := range words {
		if d := distance(word, w); d < least {
			best, least = w, d
		}
	}
	return best
}

// distance counts the letters to insert, remove, change or swap with the next to
// make one word of the other (optimal string alignment).
func distance(a, b string) int {
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			row[j+1] = min(last[j]+change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
