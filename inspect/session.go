// Package inspect asks a kernel what people ask when they look into a crash: which
// tasks there were, who called whom, what an address is, what a struct says. A
// question is a struct that a verb of the command or a line of the interactive
// [Shell] fills in; the answers of both are the same.
//
// The kernel is a dead one in a dump, or the one that runs. That goes on changing
// while it is read, so that a list may tear; such a question is asked again.
package inspect

import (
	"errors"
	"fmt"
	"io"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/btf"
	"github.com/panicroom-kdump/panicroom/kernel/value"
)

// Session is a kernel that is asked one thing after the other. What does not change
// is read once. It is for one goroutine.
type Session struct {
	k    *kernel.Kernel
	live bool

	types    *value.Types
	typesErr error
	names    *value.Names
	symbols  []string // of the kernel proper, sorted; for completion
}

// New begins a session; live says that the kernel runs.
func New(k *kernel.Kernel, live bool) *Session { return &Session{k: k, live: live} }

// Question is something to be asked.
type Question interface {
	// Ask answers. What could be read comes with an error that says what is
	// missing; the answer is nil if nothing could be.
	Ask(s *Session) (Answer, error)
}

// Answer is plain data: its JSON is for programs.
type Answer interface {
	// Write writes it for people, in lines of at most width columns where what is
	// in them can be cut.
	Write(w io.Writer, width int) error
}

// ErrTorn: a running kernel changed what was being read.
var ErrTorn = errors.New("the running kernel changed while it was read")

// attempts is how often a question is asked of a running kernel whose lists tear.
const attempts = 4

// Ask asks a question; of a running kernel again, if what it said makes no sense.
func (s *Session) Ask(q Question) (Answer, error) {
	if !s.live {
		return q.Ask(s)
	}
	for n := 1; ; n++ {
		a, err := q.Ask(s)
		if !torn(q, err) {
			return a, err
		}
		if n == attempts {
			return a, fmt.Errorf("%w, %d times: %w", ErrTorn, n, err)
		}
	}
}

// torn tells whether an error can come from memory that changed under the reader.
func torn(q Question, err error) bool {
	switch q.(type) {
	case Read, Struct, Print, WhatIs, Code, Translate, Symbols:
		// Whoever names an address may have a wrong one.
		return errors.Is(err, kernel.ErrCorrupt)
	}
	return errors.Is(err, kernel.ErrCorrupt) || errors.Is(err, kernel.ErrNotMapped)
}

// Types are the kernel's types.
func (s *Session) Types() (*value.Types, error) {
	if s.types == nil && s.typesErr == nil {
		s.types, s.typesErr = value.New(s.k)
		if errors.Is(s.typesErr, kernel.ErrNotFound) {
			s.typesErr = &hinted{s.typesErr, "it was built without CONFIG_DEBUG_INFO_BTF; rd and sym work without types"}
		}
	}
	return s.types, s.typesErr
}

// Names knows which symbols addresses are in.
func (s *Session) Names() *value.Names {
	if s.names == nil || s.live { // modules come and go
		s.names = value.NewNames(s.k)
	}
	return s.names
}

// address understands an address and says what to do if it is none.
func (s *Session) address(text string) (kernel.VirtAddr, error) {
	at, err := value.Address(s.k, text)
	if errors.Is(err, kernel.ErrNotFound) {
		err = &hinted{err, fmt.Sprintf("sym '*%s*' lists the symbols that have it in their names", text)}
	}
	return at, err
}

// hinted is an error with advice.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error   { return h.error }
func (h *hinted) Hints() []string { return []string{h.hint} }

// corrupt makes damage of types damage of the kernel.
func corrupt(err error) error {
	if errors.Is(err, btf.ErrCorrupt) {
		return fmt.Errorf("%w: %w", kernel.ErrCorrupt, err)
	}
	return err
}
