package capture

import (
	"fmt"
	"strconv"
)

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
	ClassNoRoom                    // left out because the target is too full
	ClassOther                     // the kernel's own, and not needed for triage; told apart for LevelReport only

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
	"absent", "unreadable", "no_room", "other",
}

// Bits of a dump level; a set bit leaves the pages out. They are those of
// makedumpfile -d.
const (
	LevelZero         = 1
	LevelCache        = 2
	LevelCachePrivate = 4
	LevelUser         = 8
	LevelFree         = 16
	LevelAll          = 31 // everything that is the kernel's is kept

	// LevelOther is a bit of our own: what is the kernel's and not needed to say
	// what happened. In headers of dumps it does not appear.
	LevelOther = 32
	// LevelReport keeps what a report needs, see triagePages.
	LevelReport = LevelAll | LevelOther
)

// levelNames are the levels that have a name.
var levelNames = []struct {
	name  string
	level int
}{{"full", 0}, {"kernel", LevelAll}, {"report", LevelReport}}

// ParseLevel reads a dump level: a number from 0 to 31, or full (0), kernel (31)
// or report, which has no number.
func ParseLevel(text string) (int, error) {
	for _, l := range levelNames {
		if text == l.name {
			return l.level, nil
		}
	}
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n <= LevelAll {
		return n, nil
	}
	return 0, fmt.Errorf("dump level %q is neither full, kernel, report, nor a number from 0 to %d", text, LevelAll)
}

// LevelName is what ParseLevel reads: the number, or "report".
func LevelName(level int) string {
	if level == LevelReport {
		return "report"
	}
	return strconv.Itoa(level)
}

// ValidLevel tells whether a dump can be made at a level.
func ValidLevel(level int) bool { return level >= 0 && level <= LevelAll || level == LevelReport }

// classBits has the bits of a level that leave a class out, any of them is
// enough. LevelCachePrivate means all of the page cache.
var classBits = [NumClasses]int{
	ClassZero:         LevelZero,
	ClassCache:        LevelCache | LevelCachePrivate,
	ClassCachePrivate: LevelCachePrivate,
	ClassUser:         LevelUser,
	ClassFree:         LevelFree,
	ClassOther:        LevelOther,
}

// Dropped tells whether pages of the class are left out at a dump level. What
// must not be touched is left out at every level.
func (c Class) Dropped(level int) bool {
	switch c {
	case ClassPoison, ClassOffline, ClassUnaccepted, ClassAbsent, ClassUnreadable, ClassNoRoom:
		return true
	}
	return int(c) < NumClasses && classBits[c]&level != 0
}
