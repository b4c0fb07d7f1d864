package ui

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// hinted is an error with advice for the person who sees it.
type hinted struct {
	error
	hints []string
}

func (h *hinted) Unwrap() error   { return h.error }
func (h *hinted) Hints() []string { return h.hints }

// Hint wraps err with lines of advice: each names an exact command, file or
// kernel option. Packages below this one attach advice by giving their error
// types a method Hints() []string instead. A nil err stays nil.
func Hint(err error, hints ...string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, hints}
}

// Hints collects the advice of err and of everything it wraps, outermost
// first, without repetition.
func Hints(err error) []string {
	var all []string
	seen := map[string]bool{}
	var walk func(error)
	walk = func(err error) {
		if err == nil {
			return
		}
		if h, ok := err.(interface{ Hints() []string }); ok {
			for _, s := range h.Hints() {
				if !seen[s] {
					seen[s] = true
					all = append(all, s)
				}
			}
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			walk(u.Unwrap())
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				walk(e)
			}
		}
	}
	walk(err)
	return all
}

// errorJSON is what a failed command prints with --json, one object on one
// line of standard output.
type errorJSON struct {
	Error struct {
		Message  string   `json:"message"`
		Hints    []string `json:"hints,omitempty"`
		ExitCode int      `json:"exit_code"`
	} `json:"error"`
}

// WriteError prints err as one line beginning with the program's name, and its
// hints as lines of their own.
func WriteError(w io.Writer, program string, err error) {
	fmt.Fprintf(w, "%s: %v\n", program, err)
	for _, h := range Hints(err) {
		fmt.Fprintf(w, "hint: %s\n", h)
	}
}

// WriteErrorJSON prints err for programs: {"error":{"message","hints","exit_code"}}.
func WriteErrorJSON(w io.Writer, err error, exitCode int) error {
	var e errorJSON
	e.Error.Message = err.Error()
	e.Error.Hints = Hints(err)
	e.Error.ExitCode = exitCode
	return json.NewEncoder(w).Encode(e)
}

// ErrUsage marks errors of the command line itself: wrong flags or arguments.
var ErrUsage = errors.New("wrong usage")
