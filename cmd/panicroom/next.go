package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/load"
)

// next loads a kernel to reboot into.
func (l *loading) next(c *command) error {
	opts, err := l.options()
	if err != nil {
		return err
	}
	opts.Purpose = load.ForReboot
	m, err := l.machine()
	if err != nil {
		return err
	}
	if err := load.CheckMachine(m, opts); err != nil {
		return err
	}
	kernel, err := l.image(c, m)
	if err != nil {
		return err
	}
	defer kernel.Close()
	initramfs, err := l.nextInitramfs(c, m, kernel, opts)
	if err != nil {
		return err
	}
	plan, err := l.load(c, m, kernel, initramfs, opts)
	if err != nil {
		return err
	}
	return l.say(c, plan, nil)
}

// nextInitramfs reads the initramfs of the kernel to reboot into. A unified
// image brings its own, and its command line, unless the flags say otherwise.
func (l *loading) nextInitramfs(c *command, m *host.Machine, kernel *load.Kernel, opts *load.Options) ([]byte, error) {
	image := kernel.Image
	if u := image.Unified; u != nil {
		if opts.Cmdline == nil && u.Cmdline != "" {
			opts.Cmdline = &u.Cmdline
		}
		if l.initramfs == "" && len(u.Initrd) > 0 {
			return u.Initrd, load.CheckInitramfs(l.kernel+" (its initramfs)", u.Initrd, opts)
		}
	}
	if l.initramfs == "" {
		var err error
		if l.initramfs, err = findInitramfs(cmp.Or(image.Release, m.Release)); err != nil {
			return nil, err
		}
	}
	c.step("reading %s", l.initramfs)
	return readInitramfs(l.initramfs, opts)
}

// findInitramfs finds the initramfs of a release where distributions put it.
func findInitramfs(release string) (string, error) {
	candidates := []string{
		"/boot/initrd.img-" + release,             // Debian
		"/boot/initramfs-" + release + ".img",     // Fedora
		"/boot/initrd-" + release,                 // openSUSE
		"/usr/lib/modules/" + release + "/initrd", // openSUSE
	}
	return findFile(candidates, fmt.Sprintf("no initramfs of kernel %s", release), "name it with --initramfs FILE")
}

// findFile is the first of the candidates that is a file.
func findFile(candidates []string, none, hint string) (string, error) {
	for _, name := range candidates {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			return name, nil
		}
	}
	return "", ui.Hint(fmt.Errorf("%s: %w", none, fs.ErrNotExist), "looked for "+strings.Join(candidates, ", "), hint)
}

// maxInitramfs is more than any is, so that a wrong name does not fill the
// memory of the machine.
const maxInitramfs = 1 << 30

// readInitramfs reads an initramfs, checks it, and notes in opts what it unpacks
// to.
func readInitramfs(name string, opts *load.Options) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxInitramfs+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxInitramfs:
		return nil, fmt.Errorf("initramfs %s is larger than %s: %w", name, ui.Bytes(maxInitramfs), errors.ErrUnsupported)
	}
	return b, load.CheckInitramfs(name, b, opts)
}
