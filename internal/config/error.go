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
