package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// roomResult is both programs in the crash kernel, on the same /proc/vmcore.
type roomResult struct {
	level                int
	compression          string
	ours, theirs         samples
	ourBytes, theirBytes int64
	same                 bool
}

// room crashes a machine of 1 GiB and lets both programs save it, in turn, in a
// crash kernel with one CPU; a larger one takes hours under emulation. Debian's makedumpfile for riscv64 runs there,
// whatever the peer is.
func (b *bench) room(ctx context.Context) ([]*roomResult, error) {
	stock, err := lab.FetchStock(ctx, b.kernel, b.say)
	if err != nil {
		return nil, err
	}
	program, err := lab.PanicRoom(ctx, b.kernel)
	if err != nil {
		return nil, err
	}
	out, err := lab.OutDir()
	if err != nil {
		return nil, err
	}
	var all []*roomResult
	stock.Programs = []string{program}
	name := func(who string, r *roomResult, round int) string {
		return fmt.Sprintf("%s-%d-%s-%d", who, r.level, r.compression, round)
	}
	add := func(step string, args ...string) {
		s := lab.Run(args...)
		s.Name = step
		stock.Steps = append(stock.Steps, s)
	}
	for _, level := range []int{1, 31} {
		for _, f := range flags {
			if f.compression == "snappy" {
				continue // Debian builds it without
			}
			r := &roomResult{level: level, compression: f.compression}
			all = append(all, r)
			for round := range b.roomRuns {
				theirs, ours := name("theirs", r, round), name("ours", r, round)
				add(theirs, "makedumpfile", f.flag, "-d", strconv.Itoa(level), "--message-level", "1", "/proc/vmcore", filepath.Join(lab.CrashDir, theirs))
				add(ours, "panicroom", "convert", "--level", strconv.Itoa(level), "--compress", f.compression, "/proc/vmcore", filepath.Join(lab.CrashDir, ours))
			}
		}
	}
	b.say("both in a crash kernel: %d runs", len(stock.Steps))
	load := lab.Burden()
	load.Burden.Mixed = true
	s := &lab.Scenario{
		Name: "bench-room", Dir: filepath.Join(out, "bench", "room"), Kernel: b.kernel,
		CPUs: 2, MemMiB: 1024, Crashkernel: "256M", Disk: &lab.Disk{SizeMiB: 32 << 10}, Stock: stock,
		Steps: []script.Step{
			load,
			lab.Run("kexec", "-p", b.kernel.Image, "--initrd="+lab.StockInitrd, "--reuse-cmdline",
				"--append=nr_cpus=1 cma=0 reset_devices sysctl.vm.overcommit_memory=1"),
			lab.Run("panicroom", "crash", "--yes"),
		},
		Programs: []string{program},
		// The stock kexec leaves memory out of the header, see make compare.
		Files: map[string]string{"/usr/local/sbin/kexec": program},
		Limit: 3 * time.Hour,
	}
	o, err := s.Run(ctx)
	if err != nil {
		return nil, err
	}
	inner, broken := o.StockResults()
	if broken != "" || len(inner) < len(stock.Steps) {
		return nil, fmt.Errorf("the crash kernel played %d of %d steps (%s)\n%s", len(inner), len(stock.Steps), broken, o.Story())
	}
	files, err := o.Files(ctx)
	if err != nil {
		return nil, err
	}
	results := map[string]lab.Result{}
	for _, r := range inner {
		if r.Exit != 0 {
			return nil, fmt.Errorf("in the crash kernel, %s: exit %d %s\n%s", r.Name, r.Exit, r.Text, lastLine(r.Stderr))
		}
		results[r.Name] = r
	}
	for _, r := range all {
		for round := range b.roomRuns {
			r.theirs = append(r.theirs, sample{Wall: results[name("theirs", r, round)].Took})
			r.ours = append(r.ours, sample{Wall: results[name("ours", r, round)].Took})
		}
		o, err := compareOutputs(filepath.Join(files, name("ours", r, 0)), filepath.Join(files, name("theirs", r, 0)))
		if err != nil {
			return nil, err
		}
		if r.level <= 1 && !o.same() {
			return nil, fmt.Errorf("in the crash kernel, level %d: %d pages only in panicroom's dump, %d only in makedumpfile's", r.level, o.OnlyOurs, o.OnlyTheirs)
		}
		r.ourBytes, r.theirBytes, r.same = o.Ours, o.Theirs, o.same()
	}
	return all, errors.Join(o.Clean(), os.RemoveAll(files))
}
