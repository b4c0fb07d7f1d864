package capture

// Class is what a page of the dead machine holds, as far as it matters for
// leaving it out.
type Class uint8

// The classes of pages. The rules that tell them apart are makedumpfile's, see
// docs/formats.md; here is only what they are called.
const (
	ClassKeep         Class = iota // the kernel's own, or unknown: always saved
	ClassZero                      // nothing but zeros
	ClassCache                     // page cache and the like, without private data
	ClassCachePrivate              // page cache with private data of its filesystem
	ClassUser                      // anonymous memory of processes, hugetlb pages
	ClassFree                      // free
	ClassPoison                    // memory failed there: never touched
	ClassOffline                   // given back to the hypervisor: never touched
	ClassUnaccepted                // not yet accepted from the hypervisor: never touched
	ClassAbsent                    // no memory
	ClassUnreadable                // could not be read when it was tried

	NumClasses = iota // how many there are
)

// String is a short name, as manifests have it.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "unknown"
}

var classNames = [NumClasses]string{
	"kernel", "zero", "cache", "cache_private", "user", "free", "poison", "offline", "unaccepted",
	"absent", "unreadable",
}

// Bits of a dump level; a set bit leaves the pages out. They are those of
// makedumpfile -d.
const (
	LevelZero         = 1
	LevelCache        = 2
	LevelCachePrivate = 4
	LevelUser         = 8
	LevelFree         = 16
	LevelAll          = 31 // what triage of a kernel needs is kept
)

// classBits has the bits of a level that leave a class out, any of them is
// enough. LevelCachePrivate means all of the page cache.
var classBits = [NumClasses]int{
	ClassZero:         LevelZero,
	ClassCache:        LevelCache | LevelCachePrivate,
	ClassCachePrivate: LevelCachePrivate,
	ClassUser:         LevelUser,
	ClassFree:         LevelFree,
}

// Dropped tells whether pages of the class are left out at a dump level. What
// must not be touched is left out at every level.
func (c Class) Dropped(level int) bool {
	switch c {
	case ClassPoison, ClassOffline, ClassUnaccepted, ClassAbsent, ClassUnreadable:
		return true
	}
	return int(c) < NumClasses && classBits[c]&level != 0
}
