package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
)

// StockInitrd is where the guest has the initramfs for the crash kernel of the
// stock tools.
const StockInitrd = "/boot/crash-initrd.img"

// stockPrefix stands before what the guest in that crash kernel says: it has
// only the console.
const stockPrefix = "stock: "

// Stock are kexec-tools and makedumpfile of Debian, and what they do in the
// crash kernel: in it runs our guest with these steps and the scenario's disk.
type Stock struct {
	Root     string   // of the unpacked packages
	Programs []string // more for the crash kernel's /usr/bin, as in Scenario
	Steps    []script.Step
}

// FetchStock fetches the tools from sid, the only suite that has both for
// riscv64.
func FetchStock(ctx context.Context, k *Kernel, say Say) (*Stock, error) {
	root, err := FetchSysroot(ctx, SysrootOptions{Suite: "sid", Arch: k.GoArch(), Packages: []string{"kexec-tools", "makedumpfile"}, Say: say})
	if err != nil {
		return nil, err
	}
	return &Stock{Root: root}, nil
}

// files are the tools and the libraries that they load: path in the guest →
// path here.
func (s *Stock) files() (map[string]string, error) {
	files := map[string]string{}
	for _, pattern := range []string{"usr/sbin/kexec", "usr/sbin/vmcore-dmesg", "usr/bin/makedumpfile",
		"usr/lib/ld-linux-*", "usr/lib/*-linux-gnu/*.so*"} {
		paths, err := filepath.Glob(filepath.Join(s.Root, pattern))
		if err != nil {
			return nil, err
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("%s: no %s", s.Root, pattern)
		}
		for _, p := range paths {
			if !strings.Contains(p, "libperl") {
				files[strings.TrimPrefix(p, s.Root)] = p
			}
		}
	}
	return files, nil
}

// StockResults are the results of the steps in the stock tools' crash kernel,
// and what its guest failed of.
func (o *Outcome) StockResults() (results []Result, broken string) {
	var inner Outcome
	var began float64
	for _, l := range o.Lines {
		_, text, ok := strings.Cut(l.Text, stockPrefix)
		var ev script.Event
		if ok && json.Unmarshal([]byte(text), &ev) == nil {
			inner.take(ev, &began)
		}
	}
	return inner.Results, inner.Broken
}
