// Command demo shows the main job: a real Debian riscv64 kernel panics in
// QEMU, the panic kernel starts, and the dead kernel's memory arrives on this
// machine. make demo runs it; KERNEL, MEM, CPUS, CRASHKERNEL and SV change its
// machine, V=1 shows the consoles.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		ui.WriteError(os.Stderr, "demo", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	set, err := lab.Environment()
	if err != nil {
		return err
	}
	width, terminal := sys.TerminalWidth(os.Stdout)
	if set.Verbose {
		terminal = false // consoles roll, nothing can be redrawn
	}
	tell := newTeller(os.Stdout, terminal, width, set.Verbose)
	defer tell.close()

	tell.status("fetching the kernel of Debian %s", set.Suite)
	k, err := lab.FetchKernel(ctx, lab.KernelOptions{Suite: set.Suite, Refresh: os.Getenv("REFRESH") == "1", Say: tell.line})
	if err != nil {
		return err
	}
	tell.line("kernel of Debian %s: %s", set.Suite, k.Release)
	tell.status("building panicroom for riscv64")
	program, err := lab.PanicRoom(ctx, k)
	if err != nil {
		return err
	}
	st, err := os.Stat(program)
	if err != nil {
		return err
	}
	tell.line("panicroom for %s: one static binary, %s", k.GoArch(), ui.Bytes(uint64(st.Size())))

	out, err := lab.OutDir()
	if err != nil {
		return err
	}
	dir := filepath.Join(out, "demo")
	s := &lab.Scenario{
		Name: "demo", Dir: dir, Kernel: k, CPUs: set.CPUs, MemMiB: set.MemMiB, SV: set.SV, Crashkernel: set.Crashkernel,
		// As much as the whole memory, though a dump takes a few percent: the
		// image is sparse.
		Disk:     &lab.Disk{SizeMiB: max(1024, set.MemMiB)},
		Programs: []string{program},
		Steps: []script.Step{
			lab.Burden(),
			lab.Run("panicroom", "load", "--target", lab.CrashDir),
			lab.Run("panicroom", "crash", "--yes"),
		},
		OnEvent: tell.event, OnLine: tell.console,
		Limit: 20 * time.Minute,
	}
	tell.line("machine: QEMU virt, %s, %s, crashkernel=%s, an ext4 disk", harts(set.CPUs), ui.Bytes(uint64(set.MemMiB)<<20), set.Crashkernel)
	tell.status("firmware and kernel")
	o, err := s.Run(ctx)
	if err != nil {
		if o != nil {
			return ui.Hint(err, "the whole console: "+filepath.Join(o.Dir, "console.log"), "make demo V=1 shows it live")
		}
		return err
	}
	return show(ctx, tell, o)
}

// show prints what the crash left.
func show(ctx context.Context, tell *teller, o *lab.Outcome) error {
	fail := func(err error) error {
		return ui.Hint(err, "the whole console: "+filepath.Join(o.Dir, "console.log"), "make demo V=1 shows it live")
	}
	for _, r := range o.Results {
		if r.Ended && r.Exit != 0 {
			return fail(fmt.Errorf("%s: exit %d %s", r.Name, r.Exit, r.Text))
		}
	}
	switch {
	case !o.Panicked():
		return fail(errors.New("the kernel did not panic"))
	case o.CrashKernel() < 0:
		return fail(errors.New("the panic kernel did not start"))
	}
	tell.status("reading the disk")
	crashes, err := o.Crashes(ctx)
	if err != nil {
		return fail(err)
	}
	if len(crashes) != 1 {
		return fail(fmt.Errorf("%d saved crashes on the disk; want 1", len(crashes)))
	}
	// Out of the wrapping, to where it is easily found.
	crash := filepath.Join(o.Dir, filepath.Base(crashes[0]))
	if err := os.Rename(crashes[0], crash); err != nil {
		return fail(err)
	}
	tell.line("the disk holds one saved crash")
	report, err := os.ReadFile(filepath.Join(crash, "report.txt"))
	if err != nil {
		return fail(fmt.Errorf("no report: %w", err))
	}
	tell.close()
	fmt.Printf("\n%s\n", strings.TrimRight(string(report), "\n"))
	fmt.Printf("\nthe saved crash, on this machine:\n  %s\n", crash)
	err = filepath.WalkDir(crash, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		if err == nil {
			fmt.Printf("    %-14s %10s\n", d.Name(), ui.Bytes(uint64(st.Size())))
		}
		return err
	})
	if err != nil {
		return err
	}
	if strings.HasSuffix(crash, "-incomplete") {
		return fail(errors.New("the dump is incomplete"))
	}
	return o.Clean()
}
