package main

import (
	"path/filepath"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// row is one machine of which the smallest reservation is looked for. A target
// of another kind is a line in rows.
type row struct {
	name   string // KIND/SUITE/packed, or unpacked
	suite  string // of the kernel
	disk   lab.Disk
	low    int      // MiB; with so little it is known to fail, or is tried
	high   int      // MiB; so much is enough, or is tried
	target []string // flags of load and reserve
	// packed says that the machine has its kernel's configuration in /boot, as
	// Debian's do: then modules go into the initramfs as they are, and the kernel
	// unpacks each when it is loaded. Otherwise they are unpacked there.
	packed bool
}

// diskMiB is room for the dump, and for the log of the largest journal.
const diskMiB = 2048

func directory(kind, suite string, packed bool) row {
	r := row{
		name: kind + "/" + suite + "/packed", suite: suite, packed: packed,
		disk: lab.Disk{SizeMiB: diskMiB, Type: kind}, low: 92, high: 156,
		target: []string{"--target", lab.CrashDir},
	}
	if !packed {
		r.name = kind + "/" + suite + "/unpacked"
	}
	return r
}

// rows are all that is measured.
func rows() []row {
	return []row{
		directory("ext4", "trixie", true),
		directory("xfs", "trixie", true),
		directory("btrfs", "trixie", true),
		directory("ext4", "sid", true),
		directory("xfs", "sid", true),
		directory("btrfs", "sid", true),
		directory("ext4", "trixie", false),
		directory("xfs", "trixie", false),
		directory("btrfs", "trixie", false),
		directory("ext4", "sid", false),
	}
}

// files are what the machine of a row has beside the usual.
func (r row) files(k *lab.Kernel) map[string]string {
	if !r.packed {
		return nil
	}
	name := "/boot/config-" + k.Release
	return map[string]string{name: filepath.Join(k.Root, name)}
}
