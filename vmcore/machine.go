package vmcore

import "fmt"

// Machine is the architecture of a dump: the e_machine number of ELF,
// include/uapi/linux/elf-em.h (Linux 7.2).
type Machine uint16

// Machines whose names are known. Dumps of others open as well.
const (
	MachineNone    Machine = 0
	Machine386     Machine = 3
	MachinePPC64   Machine = 21
	MachineS390    Machine = 22
	MachineARM     Machine = 40
	MachineX86_64  Machine = 62
	MachineAArch64 Machine = 183
	MachineRISCV   Machine = 243
	MachineLoong   Machine = 258
)

// machineNames are the names that uname(2) gives, which is how a
// kdump-compressed file tells its architecture. The first name of a machine is
// the one printed.
var machineNames = [...]struct {
	machine Machine
	name    string
}{
	{MachineRISCV, "riscv64"},
	{MachineAArch64, "aarch64"},
	{MachineX86_64, "x86_64"},
	{Machine386, "i686"},
	{Machine386, "i586"},
	{Machine386, "i386"},
	{MachinePPC64, "ppc64le"},
	{MachinePPC64, "ppc64"},
	{MachineS390, "s390x"},
	{MachineARM, "armv7l"},
	{MachineLoong, "loongarch64"},
}

// String is the name that uname(2) prints on the machine, like "riscv64".
func (m Machine) String() string {
	for _, n := range machineNames {
		if n.machine == m {
			return n.name
		}
	}
	return fmt.Sprintf("machine %d", uint16(m))
}

// MachineByName finds the machine by the name that uname(2) prints, like
// "riscv64"; MachineNone if the name is unknown.
func MachineByName(name string) Machine {
	for _, n := range machineNames {
		if n.name == name {
			return n.machine
		}
	}
	return MachineNone
}
