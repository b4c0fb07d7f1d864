package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"

	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/kexecline"
	"github.com/panicroom-kdump/panicroom/internal/kimage"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/load"
)

// Exit codes of kexec, which scripts know from kexec-tools; docs/kexec.md has
// them. Asked for the status, it says 1 for yes.
const (
	kexecDone    = 0
	kexecFailed  = 1
	kexecEmpty   = 0
	kexecLoaded  = 1
	kexecUnknown = 255
)

// kexec is the command called by that name. The functions act on the machine,
// or in tests do not.
type kexec struct {
	stdout, stderr io.Writer
	root           fs.FS

	execute func(*load.Plan) error
	unload  func(load.Purpose) error
	boot    func(sync bool) error
}

func newKexec(stdout, stderr io.Writer) *kexec {
	return &kexec{stdout: stdout, stderr: stderr, root: os.DirFS("/"), execute: load.Execute, unload: load.Unload, boot: load.Boot}
}

// run is the whole command; it returns the exit code.
func (k *kexec) run(args []string) int {
	code, err := k.obey(args)
	if err != nil {
		ui.WriteError(k.stderr, "kexec", needsRoot(err, os.Geteuid() == 0))
	}
	return code
}

func (k *kexec) obey(args []string) (int, error) {
	l, err := kexecline.Parse(args)
	if err != nil {
		return kexecFailed, err
	}
	k.understood(l)
	purpose := load.ForReboot
	if l.Crash {
		purpose = load.ForCrash
	}
	switch l.Do {
	case kexecline.Help:
		_, err = fmt.Fprint(k.stdout, kexecline.HelpText())
	case kexecline.Version:
		_, err = fmt.Fprintf(k.stdout, "%s compatible, panicroom %s\n", kexecline.Compatible, buildVersion().Version)
	case kexecline.Size:
		err = k.size()
	case kexecline.Status:
		loaded, err := load.Loaded(k.root, purpose)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return kexecUnknown, ui.Hint(fmt.Errorf("the kernel has no support for kexec: %w", err), "boot a kernel with CONFIG_KEXEC=y; Debian's has it")
		case err != nil:
			return kexecUnknown, err
		case loaded:
			return kexecLoaded, nil
		}
		return kexecEmpty, nil
	case kexecline.Unload:
		err = k.unload(purpose)
	case kexecline.Exec:
		err = k.boot(!l.NoSync)
	case kexecline.Load:
		err = k.load(l, purpose)
	case kexecline.LoadExec:
		if err = k.load(l, purpose); err == nil {
			err = k.boot(!l.NoSync)
		}
	}
	if err != nil {
		return kexecFailed, err
	}
	return kexecDone, nil
}

// say is for a person, and goes where kexec-tools has its warnings.
func (k *kexec) say(format string, args ...any) {
	fmt.Fprintf(k.stderr, "kexec: "+format+"\n", args...)
}

// understood says what was made of the options.
func (k *kexec) understood(l *kexecline.Line) {
	for _, w := range l.Warnings {
		k.say("warning: %s", w)
	}
	if !l.Debug {
		return
	}
	slot := "for a reboot"
	if l.Crash {
		slot = "for a panic"
	}
	k.say("to do: %s, %s", l.Do, slot)
	for _, o := range l.Ignored {
		k.say("%s has no effect: %s", o.Name(), o.Why)
	}
}

// size prints how large the memory is that panic kernels are loaded into.
func (k *kexec) size() error {
	m, err := host.Read(k.root, nil)
	if err != nil {
		return err
	}
	var main host.Range
	for _, r := range m.CrashRegions() {
		main = r // the last; the one before is for DMA
	}
	_, err = fmt.Fprintln(k.stdout, main.Size())
	return err
}

func (k *kexec) load(l *kexecline.Line, purpose load.Purpose) error {
	opts := &load.Options{Purpose: purpose, Method: load.Method(l.Method)}
	var err error
	if opts.Seed, err = load.FreshSeed(); err != nil {
		return err
	}
	if l.DTB != "" {
		if opts.DTB, err = os.ReadFile(l.DTB); err != nil {
			return err
		}
	}
	if l.MemMin > 0 || l.MemMax < math.MaxUint64 {
		opts.Within = &host.Range{Start: l.MemMin, End: max(l.MemMax, l.MemMax+1)} // at the end of all addresses there is no next
	}
	m, err := host.Read(k.root, nil)
	if err != nil {
		return err
	}
	if err := load.CheckMachine(m, opts); err != nil {
		return err
	}
	kernel, err := load.OpenKernel(l.Kernel, false)
	if err != nil {
		return err
	}
	defer kernel.Close()
	if is := kexecType(kernel.Image); l.Type != kexecline.AnyType && l.Type != is {
		return &load.RuleError{Rule: load.RuleImage, Detail: fmt.Sprintf("%s is of the type %s (%s), and --type says %s", l.Kernel, is, kernel.Image.Form(), l.Type),
			Remedy: []string{"without --type, panicroom loads what the file is"}}
	}
	initramfs, err := k.initramfs(l, kernel.Image, opts)
	if err != nil {
		return err
	}
	opts.NoInitramfs = initramfs == nil
	line := k.cmdline(l, m, kernel.Image)
	opts.Cmdline = &line
	c := &command{stdout: io.Discard, stderr: k.stderr}
	if l.Debug {
		c.stdout = k.stderr
	}
	plan, err := c.carryOut(opts, func(opts *load.Options) (*load.Plan, error) {
		plan, err := load.Make(m, kernel, initramfs, opts)
		if err == nil {
			_, err = fmt.Fprint(c.stdout, plan)
		}
		return plan, err
	}, k.execute)
	if err != nil {
		return err
	}
	for _, w := range plan.Warnings {
		k.say("warning: %s", w)
	}
	return nil
}

// kexecType is what kexec-tools calls the form of an image.
func kexecType(image *kimage.Image) kexecline.Type {
	switch {
	case slices.ContainsFunc(image.Layers, func(l kimage.Layer) bool { return l.Kind == kimage.ZBoot }):
		return kexecline.Vmlinuz
	case image.Kind == kimage.ELF:
		return kexecline.ELF
	}
	return kexecline.Image
}

// initramfs is the one that was named, or that came with the kernel, with what
// it unpacks to in opts; nil for none.
func (k *kexec) initramfs(l *kexecline.Line, image *kimage.Image, opts *load.Options) ([]byte, error) {
	switch {
	case l.Initrd != "":
		return readInitramfs(l.Initrd, opts)
	case image.Unified != nil && len(image.Unified.Initrd) > 0:
		data := image.Unified.Initrd
		return data, load.CheckInitramfs(l.Kernel+" (its initramfs)", data, opts)
	}
	return nil, nil
}

// cmdline is the new kernel's command line as the options say, with nothing of
// panicroom's own.
func (k *kexec) cmdline(l *kexecline.Line, m *host.Machine, image *kimage.Image) string {
	if u := image.Unified; u != nil && u.Cmdline != "" && !l.Cmdline.Given() {
		k.say("the command line is the unified image's, for none was given: %s", u.Cmdline)
		return u.Cmdline
	}
	line := l.Cmdline.Line(load.Without(m.Cmdline, l.NotReused()...))
	if !l.Cmdline.Given() || l.Debug {
		k.say("the command line is %s: %s", l.Cmdline.Source(), line)
	}
	return line
}
