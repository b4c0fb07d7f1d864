package main

import "github.com/panicroom-kdump/panicroom/e2e/lab"

// row is one machine of which the smallest reservation is looked for. A target
// of another kind is one line in rows.
type row struct {
	name   string // KIND/SUITE
	suite  string // of the kernel
	disk   lab.Disk
	low    int // MiB; with so little it is known to fail, or is tried
	high   int // MiB; so much is enough, or is tried
	target []string
}

// diskMiB is room for the dump, and for the log of the largest journal.
const diskMiB = 2048

func directory(kind, suite string) row {
	return row{
		name: kind + "/" + suite, suite: suite,
		disk: lab.Disk{SizeMiB: diskMiB, Type: kind}, low: 88, high: 168,
		target: []string{"--target", lab.CrashDir},
	}
}

// rows are all that is measured.
func rows() []row {
	return []row{
		directory("ext4", "trixie"),
		directory("xfs", "trixie"),
		directory("btrfs", "trixie"),
		directory("ext4", "sid"),
		directory("xfs", "sid"),
		directory("btrfs", "sid"),
	}
}
