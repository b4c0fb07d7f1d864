package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// row is one machine of which the smallest reservation is looked for. A target of a
// kind that is there is a line in rows; another kind is a place, too.
type row struct {
	name  string // KIND/SUITE/packed, or unpacked
	kind  string // of the target: a filesystem, raw, ssh or nfs
	suite string // of the kernel
	// packed says that the machine has its kernel's configuration, as Debian's do: then
	// modules go into the initramfs as they are, and the kernel
	// unpacks each when it is loaded. Otherwise they are unpacked there.
	packed bool
	files  map[string]string // of the machine, beside the usual
}

func packed(kind, suite string) row {
	return row{name: kind + "/" + suite + "/packed", kind: kind, suite: suite, packed: true}
}

func unpacked(kind, suite string) row {
	return row{name: kind + "/" + suite + "/unpacked", kind: kind, suite: suite}
}

// rows are all that is measured.
func rows() []row {
	return []row{
		packed("ext4", "trixie"),
		packed("xfs", "trixie"),
		packed("btrfs", "trixie"),
		packed("raw", "trixie"),
		packed("ssh", "trixie"),
		packed("nfs", "trixie"),
		packed("ext4", "sid"),
		packed("xfs", "sid"),
		packed("btrfs", "sid"),
		packed("raw", "sid"),
		packed("ssh", "sid"),
		packed("nfs", "sid"),
		unpacked("ext4", "trixie"),
		unpacked("xfs", "trixie"),
		unpacked("btrfs", "trixie"),
		unpacked("ext4", "sid"),
	}
}

// config is the file of the kernel's configuration, for a machine that has it: 7.2's
// packages have it beside the modules, 6.12's in /boot.
func (r row) config(k *lab.Kernel) (map[string]string, error) {
	if !r.packed {
		return nil, nil
	}
	for _, name := range []string{k.Modules + "/config", "/boot/config-" + k.Release} {
		at := filepath.Join(k.Root, name)
		if _, err := os.Stat(at); err == nil {
			return map[string]string{name: at}, nil
		}
	}
	return nil, fmt.Errorf("there is no configuration of %s in %s", k.Release, k.Root)
}
