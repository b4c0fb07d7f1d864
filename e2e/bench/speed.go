package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// twoCPUs is the machine of the goals: crash kernels have few.
const twoCPUs = 2

// hopeless is how many times slower makedumpfile's threads must be than none,
// not to be measured again.
const hopeless = 3

// flags are makedumpfile's for each compression, in the order of the table.
var flags = []struct{ compression, flag string }{
	{"zstd", "-z"}, {"lzo", "-l"}, {"snappy", "-p"}, {"zlib", "-c"},
}

// result is both programs on one core, at one level, with one compression.
type result struct {
	Core, Compression string
	Level             int
	Out               outputs
	Theirs            samples // makedumpfile, one process of one thread
	Threads, Split    samples // the same on two CPUs: --num-threads, --split
	Ours1, Ours2      samples
}

// fastest is makedumpfile on two CPUs as it is fastest, and how: by "threads",
// by "split" files, or neither.
func (r *result) fastest() (best samples, how string) {
	best = r.Theirs
	for _, x := range []struct {
		samples
		how string
	}{{r.Threads, "threads"}, {r.Split, "split"}} {
		if len(x.samples) > 0 && x.median(wall) < best.median(wall) {
			best, how = x.samples, x.how
		}
	}
	return best, how
}

// scratch is a directory for outputs: in memory where there is room, so that
// no disk is measured and no program waits for it.
func (b *bench) scratch() (dir string, err error) {
	for _, parent := range []string{"/dev/shm", ""} {
		if dir, err = os.MkdirTemp(parent, "panicroom-bench-"); err == nil {
			return dir, nil
		}
	}
	return "", err
}

// compare runs both programs in turn, runs times each.
func (b *bench) compare(ctx context.Context, c *core, level int, compression, flag string) (*result, error) {
	ours, err := lab.Build(ctx, "cmd/panicroom", "")
	if err != nil {
		return nil, err
	}
	dir, err := b.scratch()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := &result{Core: c.Name, Level: level, Compression: compression}
	ourDump, theirDump := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
	panicroom := func(cpus int) []string {
		return []string{ours, "convert", "--level", strconv.Itoa(level), "--compress", compression,
			"--threads", strconv.Itoa(cpus), c.Path, ourDump}
	}
	makedumpfile := func(more ...string) []string {
		return append([]string{b.peer.Path, flag, "-d", strconv.Itoa(level), "--message-level", "1"}, more...)
	}
	parts := []string{filepath.Join(dir, "part1"), filepath.Join(dir, "part2")}
	runs := []struct {
		cpus int
		argv []string
		out  []string
		into *samples // nil: no more
	}{
		{1, makedumpfile(c.Path, theirDump), []string{theirDump}, &r.Theirs},
		{twoCPUs, panicroom(twoCPUs), []string{ourDump}, &r.Ours2},
		{twoCPUs, makedumpfile("--num-threads", strconv.Itoa(twoCPUs), c.Path, theirDump), []string{theirDump}, &r.Threads},
		{twoCPUs, makedumpfile(append([]string{"--split", c.Path}, parts...)...), parts, &r.Split},
		{1, panicroom(1), []string{ourDump}, &r.Ours1},
	}
	for round := range b.runs {
		for i, x := range runs {
			if x.into == nil {
				continue
			}
			for _, f := range x.out {
				os.Remove(f) // neither program overwrites one
			}
			s, err := measure(ctx, x.cpus, x.argv...)
			if err != nil {
				return nil, err
			}
			*x.into = append(*x.into, s)
			if round == 0 && i == 1 {
				out, err := compareOutputs(ourDump, theirDump)
				if err != nil {
					return nil, err
				}
				r.Out = *out
			}
			if x.into == &r.Split { // they take the room of the others' outputs
				for _, f := range parts {
					os.Remove(f)
				}
			}
		}
		// Threads that are no help at all need no second proof.
		if round == 0 && r.Threads[0].Wall > hopeless*r.Theirs[0].Wall {
			runs[2].into = nil
		}
	}
	theirs, how := r.fastest()
	b.say("%s, level %d, %s: panicroom %.2f s, makedumpfile %.2f s %s; one CPU %.2f and %.2f s",
		c.Name, level, compression, r.Ours2.median(wall), theirs.median(wall), how, r.Ours1.median(wall), r.Theirs.median(wall))
	// At level 1 no page is looked at for what it is, so none may differ.
	if level <= 1 && !r.Out.same() {
		return r, fmt.Errorf("%s, level %d: %d pages only in panicroom's dump, %d only in makedumpfile's", c.Name, level, r.Out.OnlyOurs, r.Out.OnlyTheirs)
	}
	return r, nil
}
