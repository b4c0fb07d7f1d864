package kexecline

import (
	"errors"
	"fmt"
)

var (
	// ErrUsage is wrapped by errors of a command line that makes no sense, in
	// kexec-tools neither.
	ErrUsage = errors.New("wrong usage")
	// ErrUnsupported is wrapped when kexec-tools would do something that cannot
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

func wrong(detail string, remedy ...string) error {
	return &Error{Err: ErrUsage, Detail: detail, Remedy: append(remedy, "kexec --help shows all options")}
}

func unsupported(detail string, remedy ...string) error {
	return &Error{Err: ErrUnsupported, Detail: detail, Remedy: remedy}
}
