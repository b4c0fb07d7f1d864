package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// handOver makes a distribution's root filesystem the root and becomes its first
// process, as the initramfs of the distribution would. It returns only with an
// error.
func (g *guest) handOver(ue *uevents) error {
	r := g.script.Root
	for _, m := range g.script.Modules {
		if err := loadModule(m); err != nil {
			return err
		}
	}
	dev, err := ue.wait(fmt.Sprintf("partition %d of disk %s", r.Partition, r.Serial), func() string {
		disk := diskOf(r.Serial)
		if disk == "" {
			return ""
		}
		part := disk + strconv.Itoa(r.Partition)
		if _, err := os.Stat(part); err != nil {
			return ""
		}
		return part
	})
	if err != nil {
		return err
	}
	const at = "/root"
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := sys.Mount(dev, at, r.Type, sys.MountReadOnly, ""); err != nil {
		return fmt.Errorf("%s: %w", dev, err)
	}
	// What is on the initramfs takes memory for as long as it is there.
	for _, m := range append(g.script.Modules, script.Path, "/init") {
		os.Remove(m)
	}
	// It mounts /proc, /sys, /dev and /run itself; ours disappear below it.
	if err := sys.SwitchRoot(at); err != nil {
		return err
	}
	var env []string
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); name != "PATH" && name != "HOME" {
			env = append(env, e)
		}
	}
	return fmt.Errorf("%s: %w", r.Init, syscall.Exec(r.Init, []string{filepath.Base(r.Init)}, env))
}
