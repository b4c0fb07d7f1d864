package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

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
	if l.initramfs == "" {
		release := kernel.Image.Release
		if release == "" {
			release = m.Release
		}
		if l.initramfs, err = findInitramfs(release); err != nil {
			return err
		}
	}
	c.step("reading %s", l.initramfs)
	initramfs, err := readInitramfs(l.initramfs)
	if err != nil {
		return err
	}
	plan, err := l.load(c, m, kernel, initramfs, opts)
	if err != nil {
		return err
	}
	return l.say(c, plan, nil)
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

func readInitramfs(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxInitramfs+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) == 0:
		return nil, fmt.Errorf("initramfs %s is empty", name)
	case len(b) > maxInitramfs:
		return nil, fmt.Errorf("initramfs %s is larger than %s: %w", name, ui.Bytes(maxInitramfs), errors.ErrUnsupported)
	}
	return b, nil
}
