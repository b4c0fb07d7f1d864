package getopt

import (
	"errors"
	"fmt"
)

var (
	// ErrUsage is wrapped by errors of a command line that makes no sense, to
	// the program that it is for neither.
	ErrUsage = errors.New("wrong usage")
	// ErrUnsupported is wrapped when that program would do something that cannot
	// be had here.
	ErrUnsupported = errors.New("not supported")
)

// Error says what is wrong with a command line, and what to do.
type Error struct {
	Err    error // ErrUsage or ErrUnsupported
	Detail string
	Remedy []string
}

func (e *Error) Error() string { return fmt.Sprintf("%v: %s", e.Err, e.Detail) }

func (e *Error) Unwrap() error { return e.Err }

// Hints says what to do.
func (e *Error) Hints() []string { return e.Remedy }

// Wrong is an error of the kind ErrUsage.
func (p *Program) Wrong(detail string, remedy ...string) error {
	return &Error{Err: ErrUsage, Detail: detail, Remedy: append(remedy, p.Name+" --help shows all options")}
}

// Unsupported is an error of the kind ErrUnsupported.
func Unsupported(detail string, remedy ...string) error {
	return &Error{Err: ErrUnsupported, Detail: detail, Remedy: remedy}
}

// Refusal is the error of an option that is refused.
func (g *Given) Refusal() error {
	detail := fmt.Sprintf("%s: %s", g.Typed, g.Why)
	if g.Typed != g.Name() && len(g.Typed) > 2 {
		detail = fmt.Sprintf("%s (%s): %s", g.Typed, g.Name(), g.Why)
	}
	if g.Elsewhere != "" {
		detail += fmt.Sprintf(" (an option of %s)", g.Elsewhere)
	}
	return Unsupported(detail, g.Instead)
}
