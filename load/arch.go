package load

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/host"
)

// arch is what differs between architectures.
type arch struct {
	name        string // as in uname -m
	elfMachine  uint64 // e_machine; shifted by 16 also the kernel's KEXEC_ARCH_*
	kernelAlign uint64 // physical alignment of a kernel, and of where its neighbours may begin
	treeLimit   uint64 // bytes of device tree that early boot maps
	// cmdlineSize is COMMAND_LINE_SIZE with its NUL of a kernel of this version.
	cmdlineSize func(version) int
	// linear is what the kernel adds to a physical address to get the address in
	// its linear map; false if it cannot be known.
	linear func(*host.Machine) (uint64, bool)
	// fileSince is the first kernel that has kexec_file_load, fileTwoRegions the
	// first whose kexec_file_load leaves a low reserved region out of the dump.
	fileSince, fileTwoRegions version
	// link is the virtual address that kernels are linked to begin at.
	link uint64
	// traps are words that the kernel looks for before it can parse its command
	// line, by plain search, so that they count inside other words too.
	traps []string
}

func archOf(name string) (*arch, error) {
	switch name {
	case "riscv64":
		return riscv64(), nil
	case "":
		name = "unknown"
	}
	return nil, &RuleError{Rule: RuleArchitecture,
		Detail: fmt.Sprintf("the machine is %s; panic kernels can be loaded on riscv64", name)}
}

// version is a kernel's version, as far as rules depend on it.
type version struct{ major, minor int }

func (v version) atLeast(major, minor int) bool {
	return v.major > major || v.major == major && v.minor >= minor
}

// parseVersion reads "6.12.107+deb13-riscv64". Unreadable is 0.0, the oldest.
func parseVersion(release string) version {
	major, rest, _ := strings.Cut(release, ".")
	minor := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	if err1 != nil || err2 != nil {
		return version{}
	}
	return version{a, b}
}
