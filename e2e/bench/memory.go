package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// memory is how much memory saving one machine took: in its own crash kernel,
// which stands in the core's record, and here, in bytes.
type memory struct {
	core         *core
	ours, theirs int64
}

// memoryOf measures a machine of which this very panicroom has saved the dump.
func (b *bench) memoryOf(ctx context.Context, m machine) (*memory, error) {
	c, err := b.core(ctx, m, true)
	if err != nil {
		return nil, err
	}
	program, err := lab.Build(ctx, "cmd/panicroom", "")
	if err != nil {
		return nil, err
	}
	dir, err := b.scratch()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ours, err := measure(ctx, twoCPUs, program, "convert", "--level", "31", c.Path, filepath.Join(dir, "ours"))
	if err != nil {
		return nil, err
	}
	theirs, err := measure(ctx, twoCPUs, b.peer.Path, "-z", "-d", "31", "--message-level", "1", c.Path, filepath.Join(dir, "theirs"))
	if err != nil {
		return nil, err
	}
	b.say("%s: panicroom %.1f s, %d bytes; makedumpfile %.1f s, %d bytes", c.Name, wall(ours), ours.RSS, wall(theirs), theirs.RSS)
	return &memory{core: c, ours: ours.RSS, theirs: theirs.RSS}, nil
}
