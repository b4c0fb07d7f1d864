package fs

// Flags of a mount and of the filesystem below it: MNT_* of include/linux/mount.h
// and SB_* of include/linux/fs.h, the same from Linux 6.1 to 7.2.
const (
	mountReadOnly = 1 << 6
	superReadOnly = 1 << 0
	// mountCursor marks what is no mount (MNT_CURSOR, Linux 5.8 to 6.7).
	mountCursor = 1 << 28
)

var superWords = []flagWord{
	{1 << 4, "sync"}, {1 << 7, "dirsync"}, {1 << 6, "mand"}, {1 << 25, "lazytime"},
}

var mountWords = []flagWord{
	{1 << 0, "nosuid"}, {1 << 1, "nodev"}, {1 << 2, "noexec"}, {1 << 3, "noatime"},
	{1 << 4, "nodiratime"}, {1 << 5, "relatime"}, {1 << 7, "nosymfollow"},
}

type flagWord struct {
	bit  uint64
	word string
}

// words are the flags as /proc/mounts has them.
func words(mount, super uint64) []string {
	all := []string{"rw"}
	if mount&mountReadOnly != 0 || super&superReadOnly != 0 {
		all[0] = "ro"
	}
	add := func(flags uint64, table []flagWord) {
		for _, f := range table {
			if flags&f.bit != 0 {
				all = append(all, f.word)
			}
		}
	}
	add(super, superWords)
	add(mount, mountWords)
	return all
}
