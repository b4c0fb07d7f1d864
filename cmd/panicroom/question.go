package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/inspect"
	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// subject is the kernel that a verb asks: that of a dump, which is the first
// argument, or the running one.
type subject struct{ live bool }

func (s *subject) flag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.live, "live", false, "ask the running kernel; there is no CRASH then")
}

// args is the check of arguments: CRASH, and from least to most others; most -1 is
// any number.
func (s *subject) args(least, most int) cobra.PositionalArgs {
	return args(func(_ *cobra.Command, given []string) error {
		n := len(given)
		if !s.live {
			n--
		}
		if n < least || most >= 0 && n > most {
			return errors.New("other arguments are wanted")
		}
		return nil
	})
}

// cut takes CRASH off the arguments.
func (s *subject) cut(args []string) (crash string, rest []string) {
	if s.live {
		return "", args
	}
	return args[0], args[1:]
}

// open opens the kernel. Closing the dump closes both.
func (s *subject) open(crash string) (*vmcore.Dump, *kernel.Kernel, error) {
	if !s.live {
		return openKernel(crash)
	}
	return openRunning(os.DirFS("/"), "/proc/kcore")
}

// openRunning opens the running kernel, whose machine root has the files of.
func openRunning(root fs.FS, core string) (*vmcore.Dump, *kernel.Kernel, error) {
	d, err := openLive(root, core)
	if errors.Is(err, fs.ErrNotExist) {
		err = ui.Hint(err, "the kernel must have CONFIG_PROC_KCORE to be asked while it runs")
	}
	if err != nil {
		return nil, nil, err
	}
	k, err := kernel.Open(d, nil)
	if err != nil {
		d.Close()
		err = fmt.Errorf("/proc/kcore: %w", err)
		if errors.Is(err, kernel.ErrUnsupported) {
			err = ui.Hint(err, "kernels of riscv64 are understood, also in dumps on other machines: panicroom COMMAND CRASH")
		}
		return nil, nil, err
	}
	return d, k, nil
}

// ask asks a question and prints the answer. What there is of it comes before the
// error that says what is missing.
func (c *command) ask(ctx context.Context, s *subject, crash string, q inspect.Question) error {
	d, k, err := s.open(crash)
	if err != nil {
		return err
	}
	defer d.Close()
	answer, err := inspect.New(k, s.live).Ask(q)
	if answer == nil {
		return err
	}
	if c.json {
		enc := json.NewEncoder(until(ctx, c.stdout))
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if werr := enc.Encode(answer); werr != nil {
			return werr
		}
		if err != nil {
			// There is one object for programs; why it is not whole is for people.
			ui.WriteError(c.stderr, "panicroom", err)
			return answered{err}
		}
		return nil
	}
	w := bufio.NewWriter(until(ctx, c.stdout))
	if werr := errors.Join(answer.Write(w, c.width()), w.Flush()); werr != nil {
		return werr
	}
	return err
}

// until is w until ctx is done: ^C ends a long answer.
func until(ctx context.Context, w io.Writer) io.Writer { return &untilDone{ctx, w} }

type untilDone struct {
	ctx context.Context
	w   io.Writer
}

func (u *untilDone) Write(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.w.Write(p)
}

// openLive opens the running machine's memory, without what is reserved for a panic
// kernel.
func openLive(root fs.FS, core string) (*vmcore.Dump, error) {
	b, err := fs.ReadFile(root, "proc/iomem")
	if err != nil {
		return nil, err
	}
	iomem, err := host.ParseIomem(b)
	if err != nil {
		return nil, fmt.Errorf("/proc/iomem: %w", err)
	}
	var reserved []vmcore.Range
	for _, r := range (&host.Machine{Iomem: iomem}).CrashRegions() {
		reserved = append(reserved, vmcore.Range{Start: vmcore.PhysAddr(r.Start), End: vmcore.PhysAddr(r.End)})
	}
	return vmcore.OpenLive(core, reserved)
}
