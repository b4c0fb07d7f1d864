package vmcore

import "fmt"

// Machine is the architecture of a dumped machine: the e_machine of ELF,
// include/uapi/linux/elf-em.h (Linux 7.2).
type Machine uint16

// The machines known by name.
const (
	Machine386     Machine = 3
	MachinePPC64   Machine = 21
	MachineS390    Machine = 22
	MachineARM     Machine = 40
	MachineX86_64  Machine = 62
	MachineAArch64 Machine = 183
	MachineRISCV   Machine = 243
	MachineLoong   Machine = 258
)

// String is the name that uname -m has for a 64-bit kernel of m.
func (m Machine) String() string {
	switch m {
	case Machine386:
		return "i686"
	case MachinePPC64:
		return "ppc64le"
	case MachineS390:
		return "s390x"
	case MachineARM:
		return "armv7l"
	case MachineX86_64:
		return "x86_64"
	case MachineAArch64:
		return "aarch64"
	case MachineRISCV:
		return "riscv64"
	case MachineLoong:
		return "loongarch64"
	}
	return fmt.Sprintf("machine %d", uint16(m))
}

// Note is one ELF note of a dump: crash notes of CPUs ("CORE", type 1),
// "VMCOREINFO", device dumps and whatever else the dumped kernel left.
type Note struct {
	Name string // without the terminating NUL
	Type uint32
	Desc []byte
}
