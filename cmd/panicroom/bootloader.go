package main

import (
	"bytes"
	"context"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/setup"
)

// bootLoader has memory reserved for setup, as the verb reserve does.
type bootLoader struct {
	c          *command
	configured func() (*config.Config, error)
}

var _ setup.Reserver = bootLoader{}

// needed is how much memory a panic kernel needs here, and how much there is.
func (c *command) needed(ctx context.Context, configured func() (*config.Config, error)) (need, have uint64, err error) {
	r := liveReserving(configured)
	conf, err := configured()
	if err != nil {
		return 0, 0, err
	}
	m, err := r.machine()
	if err != nil {
		return 0, 0, err
	}
	rec, err := r.recommend(ctx, c, m, conf)
	if err != nil {
		return 0, 0, err
	}
	return rec.Needed, m.CrashSize, nil
}

func (b bootLoader) Reserve(ctx context.Context, dry bool) ([]string, error) {
	return b.call(ctx, func(r *reserving) { r.apply, r.dryRun = true, dry })
}

func (b bootLoader) Unreserve(ctx context.Context) ([]string, error) {
	return b.call(ctx, func(r *reserving) { r.undo = true })
}

func (b bootLoader) call(ctx context.Context, what func(*reserving)) ([]string, error) {
	var said bytes.Buffer
	quiet := *b.c
	quiet.stdout, quiet.json = &said, false
	r := liveReserving(b.configured)
	what(r)
	err := r.run(ctx, &quiet)
	return strings.FieldsFunc(said.String(), func(c rune) bool { return c == '\n' }), err
}
