package kernel

import "fmt"

// Taint is a reason for which a kernel's word counts less: a bit of
// tainted_mask or of a module's taints.
type Taint struct {
	Letter  byte
	Meaning string
}

// taints are by bit, TAINT_* of include/linux/panic.h and taint_flags of
// kernel/panic.c (Linux 7.2); what the bits mean has never changed, new ones are
// added. Meanings are those of Documentation/admin-guide/tainted-kernels.rst.
var taints = [...]Taint{
	{'P', "a proprietary module was loaded"},
	{'F', "a module was loaded by force"},
	{'S', "the machine is outside its specification"},
	{'R', "a module was unloaded by force"},
	{'M', "the processor reported a hardware error"},
	{'B', "a page was in a bad state"},
	{'U', "a program asked for the taint"},
	{'D', "the kernel has died before (oops or BUG)"},
	{'A', "ACPI tables were replaced"},
	{'W', "the kernel has warned before (WARN)"},
	{'C', "a staging driver was loaded"},
	{'I', "a fault of the firmware was worked around"},
	{'O', "a module from outside the kernel's tree was loaded"},
	{'E', "an unsigned module was loaded"},
	{'L', "a soft lockup happened before"},
	{'K', "the kernel was patched while it ran"},
	{'X', "something that the distribution defines"},
	{'T', "structs are laid out at random"},
	{'N', "a test of the kernel ran"},
	{'J', "a debug interface of a device's firmware was used"},
}

// Taints are the reasons of a mask, in the order of their bits. Bits that are
// not known here are told by their number.
func Taints(mask uint64) []Taint {
	var all []Taint
	for bit := range 64 {
		switch {
		case mask>>bit&1 == 0:
		case bit < len(taints):
			all = append(all, taints[bit])
		default:
			all = append(all, Taint{'?', fmt.Sprintf("bit %d, not known here", bit)})
		}
	}
	return all
}

// Tainted is tainted_mask, kernel/panic.c (Linux 4.10 to 7.2).
func (k *Kernel) Tainted() (uint64, error) {
	addr, err := k.Variable("tainted_mask")
	if err != nil {
		return 0, err
	}
	mask, err := k.ReadUint64(addr)
	if err != nil {
		return 0, fmt.Errorf("tainted_mask: %w", err)
	}
	return mask, nil
}
