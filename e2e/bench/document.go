package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// about says on what and with what was measured, runs times; without a makedumpfile
// where it had no part.
func (b *bench) about(ctx context.Context, peer *peer, runs int) (string, error) {
	var s strings.Builder
	cpu := "unknown"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`(?m)^model name\s*:\s*(.*)$`).FindSubmatch(text); m != nil {
			cpu = string(m[1])
		}
	}
	ram := "unknown"
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		if m := regexp.MustCompile(`(?m)^MemTotal:\s*([0-9]+) kB$`).FindSubmatch(text); m != nil {
			n, err := strconv.ParseUint(string(m[1]), 10, 53)
			if err != nil {
				return "", err
			}
			ram = ui.Bytes(n << 10)
		}
	}
	load := "unknown"
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = strings.Fields(string(text))[0]
	}
	commit := "unknown"
	if out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output(); err == nil {
		commit = strings.TrimSpace(string(out))
	}
	qemu := "unknown"
	if out, err := exec.CommandContext(ctx, "qemu-system-riscv64", "--version").Output(); err == nil {
		qemu, _, _ = strings.Cut(strings.TrimPrefix(string(out), "QEMU emulator version "), " ")
	}
	fmt.Fprintf(&s, "Measured on %s: %s, %d CPUs, %s; Linux load before it began %s.\n",
		time.Now().UTC().Format(time.DateOnly), cpu, runtime.NumCPU(), ram, load)
	fmt.Fprintf(&s, "panicroom %s, %s; ", commit, runtime.Version())
	if peer != nil {
		fmt.Fprintf(&s, "makedumpfile %s (%s); ", peer.Version, peer.Origin)
	}
	fmt.Fprintf(&s, "QEMU %s;\nthe machines ran Debian's riscv64 kernel %s; %d runs of each.\n\n", qemu, b.kernel.Version, runs)
	return s.String(), nil
}
