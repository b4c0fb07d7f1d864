package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/e2e/referee"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// The bounds of a report, on the machine that runs the bench.
const (
	boundWall = 0.5       // seconds
	boundRSS  = 100 << 20 // bytes
)

// reported are the cores of which the bounds are.
var reported = []string{"2G", "16G"}

// reportResult is what one dump takes to be understood.
type reportResult struct {
	Core, Form string  // "ELF", "level 31"
	Bytes      int64   // of the dump
	Ours       samples // the report
	Emulated   samples // the same under the emulator that runs crash
	Crash      sample  // crash's answers, once: it takes minutes
}

// holds tells whether every run kept the bounds.
func (r *reportResult) holds() bool {
	for _, s := range r.Ours {
		if wall(s) > boundWall || s.RSS > boundRSS {
			return false
		}
	}
	return len(r.Ours) > 0
}

// crashAsked is what crash answers: the first that people ask.
var crashAsked = []string{"bt -a", "ps", "log"}

// report measures the report on cores and on the dumps that panicroom makes of them.
func (b *bench) report(ctx context.Context) ([]*reportResult, string, error) {
	crash, err := referee.FetchCrash(ctx, b.say)
	if err != nil {
		return nil, "", err
	}
	vmlinux, err := b.kernel.Vmlinux(ctx, b.say)
	if err != nil {
		return nil, "", err
	}
	var all []*reportResult
	for _, m := range machines {
		if !slices.Contains(reported, m.Name) || !slices.Contains(b.cores, m.Name) {
			continue
		}
		c, err := b.core(ctx, m, false)
		if err != nil {
			return nil, "", err
		}
		results, err := b.reportOf(ctx, c, crash, vmlinux)
		if err != nil {
			return nil, "", fmt.Errorf("core %s: %w", m.Name, err)
		}
		all = append(all, results...)
	}
	return all, crash.Version, nil
}

// reportOf measures one core and the dump of it.
func (b *bench) reportOf(ctx context.Context, c *core, crash *referee.Crash, vmlinux string) ([]*reportResult, error) {
	ours, err := lab.Build(ctx, "cmd/panicroom", "")
	if err != nil {
		return nil, err
	}
	theirs, err := lab.PanicRoom(ctx, b.kernel)
	if err != nil {
		return nil, err
	}
	dir, err := b.scratch()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	small := filepath.Join(dir, "dump")
	if _, err := measure(ctx, twoCPUs, ours, "convert", "--level", "31", c.Path, small); err != nil {
		return nil, err
	}
	var all []*reportResult
	for _, x := range []struct{ form, path string }{{"ELF", c.Path}, {"level 31", small}} {
		st, err := os.Stat(x.path)
		if err != nil {
			return nil, err
		}
		r := &reportResult{Core: c.Name, Form: x.form, Bytes: st.Size()}
		for range b.reportRuns {
			s, err := measure(ctx, twoCPUs, ours, "report", x.path)
			if err != nil {
				return nil, err
			}
			r.Ours = append(r.Ours, s)
			if s, err = measure(ctx, twoCPUs, crash.Emulator(), theirs, "report", x.path); err != nil {
				return nil, err
			}
			r.Emulated = append(r.Emulated, s)
		}
		b.say("%s, %s: report %.3f s, %s; emulated %.2f s; crash takes minutes", c.Name, x.form,
			r.Ours.median(wall), ui.Bytes(uint64(r.Ours.median(rss))), r.Emulated.median(wall))
		if r.Crash, err = askCrash(ctx, dir, crash, vmlinux, x.path); err != nil {
			return nil, err
		}
		b.say("%s, %s: crash %.1f s", c.Name, x.form, wall(r.Crash))
		all = append(all, r)
	}
	return all, nil
}

// askCrash measures crash, and checks that it answered.
func askCrash(ctx context.Context, dir string, crash *referee.Crash, vmlinux, dump string) (sample, error) {
	var script strings.Builder
	var answers []string
	for i, question := range crashAsked {
		path := filepath.Join(dir, fmt.Sprintf("answer-%d", i))
		os.Remove(path)
		answers = append(answers, path)
		fmt.Fprintf(&script, "%s > %s\n", question, path)
	}
	script.WriteString("exit\n")
	input := filepath.Join(dir, "crash.in")
	if err := os.WriteFile(input, []byte(script.String()), 0o600); err != nil {
		return sample{}, err
	}
	s, err := measure(ctx, twoCPUs, crash.Command(ctx, input, vmlinux, dump)...)
	if err != nil {
		return s, err
	}
	for i, path := range answers {
		if st, err := os.Stat(path); err != nil || st.Size() == 0 {
			return s, fmt.Errorf("crash did not answer %q", crashAsked[i])
		}
	}
	return s, nil
}

// reportTable is what all of it took.
func reportTable(all []*reportResult, version string) string {
	var b strings.Builder
	b.WriteString("| | size | report: s (fastest) | peak RSS | bounds | crash, emulated: s | peak RSS | ratio | report, emulated: s | ratio |\n")
	b.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, r := range all {
		bounds := "hold"
		if !r.holds() {
			bounds = "**missed**"
		}
		fmt.Fprintf(&b, "| %s, %s | %s | %.3f (%.3f) | %s | %s | %.1f | %s | 1 : %.0f | %.2f | 1 : %.0f |\n", r.Core, r.Form, ui.Bytes(uint64(r.Bytes)),
			r.Ours.median(wall), r.Ours.min(wall), ui.Bytes(uint64(r.Ours.max(rss))), bounds,
			wall(r.Crash), ui.Bytes(uint64(r.Crash.RSS)), wall(r.Crash)/r.Ours.median(wall),
			r.Emulated.median(wall), wall(r.Crash)/r.Emulated.median(wall))
	}
	fmt.Fprintf(&b, "\nThe bounds, %.1f s and %s, are of every run, on this machine. crash is %s of Debian for riscv64,\nand runs under qemu-user: the first ratio is of an emulated program to one that is not, and\nunfair; the second is of both under the same emulator. crash was run once.\n",
		boundWall, ui.Bytes(boundRSS), version)
	return b.String()
}
