package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/sys"
)

func machineFacts() (*script.Machine, error) {
	m := &script.Machine{}
	var err error
	if m.Release, err = sys.KernelRelease(); err != nil {
		return nil, err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	m.Cmdline = strings.TrimSpace(string(cmdline))
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(cpus)) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "processor":
			m.CPUs++
		case "mmu":
			m.MMU = strings.TrimSpace(value)
		}
	}
	mem, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	fmt.Sscanf(string(mem), "MemTotal: %d kB", &m.TotalKiB)
	for _, p := range []string{"/sys/kernel/kexec_crash_size", "/sys/kernel/kexec/crash_size"} {
		if size, err := os.ReadFile(p); err == nil {
			fmt.Sscan(string(size), &m.Crash)
		}
	}
	nodes, _ := filepath.Glob("/sys/devices/system/node/node[0-9]*")
	m.Nodes = len(nodes)
	return m, nil
}

// uptime is in seconds since the kernel's start.
func uptime() float64 {
	var s float64
	if text, err := os.ReadFile("/proc/uptime"); err == nil {
		fmt.Sscan(string(text), &s)
	}
	return s
}
