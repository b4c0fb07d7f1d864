package crashenv

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/target"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// memoryImage is a dead kernel in a dump or /proc/vmcore.
type memoryImage struct {
	opts *SaveOptions
	dump *vmcore.Dump
	// kernel is nil when nobody can make sense of it, because of broken. Then
	// there is no log, and of memory all is saved.
	kernel *kernel.Kernel
	broken error
	crash  Crash
}

// noVMCoreError is the error of a kernel that no other kernel died for.
type noVMCoreError struct{ err error }

func (e *noVMCoreError) Error() string { return e.err.Error() }
func (e *noVMCoreError) Unwrap() error { return e.err }
func (e *noVMCoreError) Hints() []string {
	return []string{"this kernel was not started by a panic: it knows no dead kernel (no elfcorehdr in its device tree or command line)",
		"name the dump: panicroom save DUMP"}
}

// openDead opens the dead kernel's memory.
func openDead(opts *SaveOptions) (deadKernel, error) {
	d, err := vmcore.Open(opts.Input)
	if opts.Input == VMCore && errors.Is(err, fs.ErrNotExist) {
		return nil, &noVMCoreError{err}
	} else if err != nil {
		return nil, err
	}
	m := &memoryImage{opts: opts, dump: d}
	m.crash.Machine = d.Machine().String()
	if m.kernel, m.broken = kernel.Open(d, &kernel.Options{Layout: opts.Layout}); m.broken != nil {
		m.kernel = nil
		return m, nil
	}
	info := m.kernel.Info()
	m.crash.Release, _ = info.String("OSRELEASE")
	m.crash.Time, _ = info.CrashTime()
	return m, nil
}

func (m *memoryImage) Close() error { return m.dump.Close() }

func (m *memoryImage) Crash() Crash { return m.crash }

func (m *memoryImage) SaveLog(w io.Writer) (int64, error) {
	if m.kernel == nil {
		return 0, m.broken
	}
	finder := &panicFinder{w: w}
	n, err := capture.SaveLog(finder, m.kernel)
	m.crash.Panic = finder.found
	return n, err
}

func (m *memoryImage) SaveDump(ctx context.Context, f target.File, progress progressFunc) (*capture.Result, error) {
	opts := m.captureOptions(progress)
	opts.Format = m.opts.Form.Format
	var err error
	if opts.Compression, err = m.opts.Form.compression(); err != nil {
		return nil, err
	}
	return capture.Run(ctx, m.dump, m.kernel, f, opts)
}

func (m *memoryImage) SaveRaw(ctx context.Context, f target.File, progress progressFunc) (*capture.Result, error) {
	return capture.RawCopy(ctx, m.dump, f, m.captureOptions(progress))
}

func (m *memoryImage) captureOptions(progress progressFunc) capture.Options {
	return capture.Options{
		Level: m.opts.Level, Threads: m.opts.Threads, MemLimit: m.opts.MemLimit, Room: m.opts.room,
		Progress: func(p capture.Progress) { progress(p.Done, p.Total, p.String()) },
	}
}

func (m *memoryImage) MakeReport(ctx context.Context, dump *os.File, warnings []string, text, json io.Writer) (memory uint64, err error) {
	return runReporter(ctx, dump, &reportRequest{Input: m.opts.Input, Layout: m.opts.Layout, LogLines: m.opts.LogLines,
		Warnings: warnings, MemLimit: reportMemory(m.opts.MemLimit), Die: m.opts.die}, text, json)
}

// panicFinder passes the log on and remembers the line that says why the
// kernel died.
type panicFinder struct {
	w     io.Writer
	line  strings.Builder
	found string
}

// maxPanic bounds the line.
const maxPanic = 512

func (f *panicFinder) Write(p []byte) (int, error) {
	for _, c := range p {
		if c != '\n' {
			if f.line.Len() < maxPanic {
				f.line.WriteByte(c)
			}
			continue
		}
		// The first panic is the cause; later ones are its consequences.
		if line := f.line.String(); f.found == "" && strings.Contains(line, "Kernel panic - not syncing") {
			f.found = line[strings.Index(line, "Kernel panic"):]
		}
		f.line.Reset()
	}
	return f.w.Write(p)
}
