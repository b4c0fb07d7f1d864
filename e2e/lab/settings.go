package lab

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Settings are the variables with which a person changes the machine of make
// demo and make compare; unset and empty mean the default.
type Settings struct {
	Suite       string // KERNEL, a suite of Debian: trixie
	MemMiB      int    // MEM, MiB or with a suffix M or G: 2048
	CPUs        int    // CPUS: 2
	Crashkernel string // CRASHKERNEL: 144M
	SV          int    // SV, 39, 48 or 57; 0 is what machine and kernel choose
	Verbose     bool   // V=1
}

// SettingsFromEnv reads the variables of the environment.
func SettingsFromEnv(getenv func(string) string) (Settings, error) {
	s := Settings{Suite: "trixie", MemMiB: 2048, CPUs: 2, Crashkernel: "144M", Verbose: getenv("V") == "1"}
	if v := getenv("KERNEL"); v != "" {
		if !suiteName.MatchString(v) {
			return s, ui.Hint(fmt.Errorf("KERNEL=%s: not the name of a suite of Debian", v), "KERNEL=trixie or KERNEL=sid; built-trixie and built-sid after make kernels")
		}
		s.Suite = v
	}
	if v := getenv("CRASHKERNEL"); v != "" {
		s.Crashkernel = v
	}
	if v := getenv("MEM"); v != "" {
		n, err := mebibytes(v)
		if err != nil || n < 512 {
			return s, ui.Hint(fmt.Errorf("MEM=%s: not a size of memory of at least 512 MiB", v), "MEM=2048 or MEM=2G")
		}
		s.MemMiB = n
	}
	if v := getenv("CPUS"); v != "" {
		n, err := strconv.Atoi(v)
		// QEMU's virt machine for riscv64 has no more than 512 harts, with its
		// default interrupt controller no more than 8 a socket that work well.
		if err != nil || n < 1 || n > 8 {
			return s, ui.Hint(fmt.Errorf("CPUS=%s: not a number of harts from 1 to 8", v), "CPUS=2")
		}
		s.CPUs = n
	}
	if v := getenv("SV"); v != "" {
		n, err := strconv.Atoi(strings.TrimPrefix(v, "sv"))
		if err != nil || !slices.Contains([]int{39, 48, 57}, n) {
			return s, ui.Hint(fmt.Errorf("SV=%s: not a paging mode", v), "SV=39, SV=48 or SV=57")
		}
		s.SV = n
	}
	return s, nil
}

// mebibytes reads a size: a number of MiB, or a number with M or G.
func mebibytes(v string) (int, error) {
	unit := 1
	switch v := strings.ToUpper(v); {
	case strings.HasSuffix(v, "G"):
		unit = 1024
	case strings.HasSuffix(v, "M"):
	default:
		v += "M"
		return mebibytes(v)
	}
	n, err := strconv.Atoi(v[:len(v)-1])
	if err == nil && (n < 0 || n > 1<<20) {
		err = errors.New("out of range")
	}
	return n * unit, err
}

// Environment is SettingsFromEnv of the process.
func Environment() (Settings, error) { return SettingsFromEnv(os.Getenv) }
