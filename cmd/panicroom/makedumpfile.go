package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/internal/dumpline"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Exit codes of makedumpfile; docs/makedumpfile.md has them.
const (
	dumpDone         = 0
	dumpFailed       = 1
	dumpWrongRelease = 2
)

// kcore is the memory of the running machine.
const kcore = "/proc/kcore"

// errRelease is of a VMCOREINFO that is not the dead kernel's.
var errRelease = errors.New("of another kernel")

// makedumpfile is the command called by that name.
type makedumpfile struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	root           fs.FS // of the running machine
	// deaf makes signals end the process again, for what does not hear of the
	// end of a context.
	deaf func()

	line *dumpline.Line
}

func newMakedumpfile(stdin io.Reader, stdout, stderr io.Writer) *makedumpfile {
	return &makedumpfile{stdin: stdin, stdout: stdout, stderr: stderr, root: os.DirFS("/"), deaf: func() {}}
}

// run is the whole command; it returns the exit code.
func (m *makedumpfile) run(ctx context.Context, args []string) int {
	var err error
	if m.line, err = dumpline.Parse(args); err == nil {
		err = m.obey(ctx, args)
	}
	if err == nil {
		return dumpDone
	}
	ui.WriteError(m.stderr, "makedumpfile", needsRoot(err, os.Geteuid() == 0))
	if errors.Is(err, errRelease) {
		return dumpWrongRelease
	}
	return dumpFailed
}

// say prints a message of a kind, where makedumpfile has it.
func (m *makedumpfile) say(kind int, format string, args ...any) {
	if m.line.Messages&kind == 0 {
		return
	}
	out := m.stdout
	if m.line.Flatten {
		out = m.stderr
	}
	fmt.Fprintf(out, format, args...)
}

// warn is for a person, and never in the way of a dump.
func (m *makedumpfile) warn(format string, args ...any) {
	fmt.Fprintf(m.stderr, "makedumpfile: warning: "+format+"\n", args...)
}

func (m *makedumpfile) obey(ctx context.Context, args []string) error {
	l := m.line
	switch l.Do {
	case dumpline.Help:
		_, err := fmt.Fprint(m.stdout, dumpline.HelpText())
		return err
	case dumpline.Version:
		_, err := fmt.Fprintf(m.stdout, "makedumpfile: version %s (understood by panicroom %s)\nlzo\tenabled\nsnappy\tenabled\nzstd\tenabled\n",
			dumpline.Compatible, buildVersion().Version)
		return err
	}
	for _, w := range l.Warnings {
		m.warn("%s", w)
	}
	if l.Check {
		return nil
	}
	m.say(dumpline.Debug, "makedumpfile: version %s (understood by panicroom %s)\ncommand line: %s\n",
		dumpline.Compatible, buildVersion().Version, strings.Join(args, " "))
	for _, o := range l.Ignored {
		m.say(dumpline.Debug, "%s has no effect: %s\n", o.Name(), o.Why)
	}
	var err error
	switch l.Do {
	case dumpline.Create:
		err = m.create(ctx)
	case dumpline.Dmesg:
		m.deaf()
		err = m.dmesg()
	case dumpline.Rearrange:
		m.deaf()
		err = m.rearrange()
	case dumpline.Reassemble:
		err = m.reassemble(ctx)
	case dumpline.MemUsage:
		return m.memUsage(ctx)
	}
	if err != nil {
		m.say(dumpline.Common, "\nmakedumpfile Failed.\n")
		return err
	}
	switch {
	case l.DryRun:
		m.say(dumpline.Common, "\nNothing was written, for --dry-run.\n")
	case l.Do == dumpline.Dmesg && !l.Flatten:
		m.say(dumpline.Common, "\nThe dmesg log is saved to %s.\n", l.Out[0])
	case len(l.Out) > 1:
		m.say(dumpline.Common, "\nThe dumpfiles are saved to %s.\n", strings.Join(l.Out, ", "))
	case len(l.Out) == 1:
		m.say(dumpline.Common, "\nThe dumpfile is saved to %s.\n", l.Out[0])
	}
	m.say(dumpline.Common, "\nmakedumpfile Completed.\n")
	return nil
}

// open opens the dump, and the kernel in it if that can be done; kerr says why
// not.
func (m *makedumpfile) open() (d *vmcore.Dump, k *kernel.Kernel, kerr, err error) {
	if err := m.notOver(m.line.Core); err != nil {
		return nil, nil, nil, err
	}
	if filepath.Clean(m.line.Core) == kcore {
		d, err = openLive(m.root, m.line.Core)
	} else {
		d, err = vmcore.Open(m.line.Core)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	text := d.VMCoreInfo()
	if m.line.VMCoreInfo != "" {
		given, err := m.givenInfo(d)
		if err != nil {
			return nil, nil, nil, errors.Join(err, d.Close())
		}
		if text == nil {
			text = given
		}
	}
	if h := d.KdumpHeader(); h != nil {
		m.say(dumpline.Debug, "  dump_level       : %d\n", h.DumpLevel)
	}
	m.say(dumpline.Debug, "VMCOREINFO   :\n")
	for line := range strings.Lines(strings.TrimSuffix(string(text), "\n")) {
		m.say(dumpline.Debug, "  %s\n", strings.TrimSuffix(line, "\n"))
	}
	if k, kerr = kernel.New(d, d.Machine(), text, d.Notes(), nil); kerr != nil {
		return d, nil, kerr, nil
	}
	return d, k, nil, nil
}

// givenInfo is the VMCOREINFO of -i, if it is of the dump's release.
func (m *makedumpfile) givenInfo(d *vmcore.Dump) ([]byte, error) {
	f, err := os.Open(m.line.VMCoreInfo)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const most = 1 << 20 // VMCOREINFO has a page at the most
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, err
	}
	given, err := kernel.ParseVMCoreInfo(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.line.VMCoreInfo, err)
	}
	release := ""
	if info, err := kernel.ParseVMCoreInfo(d.VMCoreInfo()); err == nil {
		release = info.Release()
	} else if h := d.KdumpHeader(); h != nil {
		release = h.Utsname.Release
	}
	if release != "" && given.Release() != release {
		return nil, fmt.Errorf("%s is of %q, %s of %q: %w", m.line.VMCoreInfo, given.Release(), m.line.Core, release, errRelease)
	}
	return text, nil
}

func (m *makedumpfile) create(ctx context.Context) error {
	d, k, kerr, err := m.open()
	if err != nil {
		return err
	}
	defer d.Close()
	if kerr != nil && m.line.Levels[0] > capture.LevelZero {
		m.warn("pages cannot be told apart, all are saved: %v", kerr)
	}
	if at := m.line.Vtop; at != nil {
		m.vtop(k, kerr, kernel.VirtAddr(*at))
	}
	opts := capture.Options{Threads: m.line.Threads, WriteOnce: m.line.Flatten, Compression: vmcore.CompressionNone}
	switch {
	case m.line.ELF:
		opts.Format = capture.FormatELF
	case m.line.Compression != "":
		if opts.Compression, err = vmcore.ParseCompression(m.line.Compression); err != nil {
			return err
		}
	}
	res, err := m.save(ctx, d, k, opts)
	if res != nil {
		m.report(d, res)
	}
	return err
}

// save writes a dump of d at the first level at which it fits.
func (m *makedumpfile) save(ctx context.Context, d *vmcore.Dump, k *kernel.Kernel, opts capture.Options) (*capture.Result, error) {
	out, err := m.newOutput(false)
	if err != nil {
		return nil, err
	}
	files := out.files(m.line.Limit)
	opts.Parts = files[1:]
	bar := m.progress("Copying data")
	opts.Progress = func(p capture.Progress) { bar.update(p.Done, p.Total) }
	res, err := capture.Fit(m.line.Levels, func(level int) (*capture.Result, error) {
		opts.Level = level
		return capture.Run(ctx, d, k, files[0], opts)
	}, func(next int, why error) error {
		m.say(dumpline.Common, "\nThe dump does not fit (%v); the next level is %d.\n", why, next)
		return out.empty()
	})
	if res == nil {
		return nil, errors.Join(err, out.abandon())
	}
	bar.done(res.Complete)
	if res.Used != res.Level && m.line.Do == dumpline.Create {
		m.warn("the dump is of level %d, fuller than %d: %s", res.Used, res.Level, res.Why)
	}
	for _, c := range res.Checks {
		m.say(dumpline.Debug, "%s: %v, %s\n", c.Name, c.OK, c.Detail)
	}
	if err = errors.Join(err, out.close()); err != nil && !m.line.DryRun {
		err = fmt.Errorf("%s, incomplete: %w", out.names(), err)
	}
	return res, err
}

// vtop prints what --vtop asks for.
func (m *makedumpfile) vtop(k *kernel.Kernel, kerr error, at kernel.VirtAddr) {
	if k == nil {
		m.warn("--vtop %#x: %v", uint64(at), kerr)
		return
	}
	pa, err := k.Translate(at)
	if err != nil {
		m.warn("--vtop: %v", err)
		return
	}
	m.say(dumpline.Common, "\nTranslating virtual address %x to physical address.\nVIRTUAL           PHYSICAL\n%16x  %x\n\n",
		uint64(at), uint64(at), uint64(pa))
}

func (m *makedumpfile) dmesg() error {
	d, k, kerr, err := m.open()
	if err != nil {
		return err
	}
	defer d.Close()
	if kerr != nil {
		return fmt.Errorf("%s: %w", m.line.Core, kerr)
	}
	first := uint64(0)
	if m.line.Partial {
		if first, err = k.LogCleared(); err != nil {
			return err
		}
	}
	out, err := m.newOutput(true)
	if err != nil {
		return err
	}
	_, err = capture.SaveLogAs(out.stream(m.line.Limit), k, first, kernel.LogRecord.Line)
	return errors.Join(err, out.close())
}

func (m *makedumpfile) rearrange() error {
	out, err := m.newOutput(false)
	if err != nil {
		return err
	}
	size, err := vmcore.Rearrange(out.files(m.line.Limit)[0], m.stdin)
	if err != nil && size == 0 {
		return errors.Join(err, out.abandon())
	}
	return errors.Join(err, out.close())
}

func (m *makedumpfile) reassemble(ctx context.Context) error {
	if err := m.notOver(m.line.Parts...); err != nil {
		return err
	}
	d, err := vmcore.Open(m.line.Parts[0], m.line.Parts[1:]...)
	if err != nil {
		return err
	}
	defer d.Close()
	h := d.KdumpHeader()
	if h == nil || !h.Split.Part {
		return fmt.Errorf("%s: %w: not a part of a split dump", m.line.Parts[0], vmcore.ErrUnsupported)
	}
	// Without the kernel nothing is left out but what is not there.
	res, err := m.save(ctx, d, nil, capture.Options{Compression: h.Compression, Threads: m.line.Threads})
	if res != nil {
		m.say(dumpline.Debug, "%d pages, %d of them zero\n", res.Pages.Saved, res.Pages.Zero)
	}
	return err
}
