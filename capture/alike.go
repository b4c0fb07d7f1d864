package capture

// alike remembers, by number, the class of extents whose pages are all of one:
// most are, of free memory and of large pages. They need no second look at their
// struct pages. 0 is an extent that needs one, others are 1 more than a Class.
type alike []uint8

// maxAlike bounds it: extents of 4 TiB. What lies beyond is looked at twice.
const maxAlike = 4 << 20

func newAlike(extents int) alike { return make(alike, min(extents, maxAlike)) }

// note takes down the classes of extent number n.
func (a alike) note(n int, classes []Class) {
	if n >= len(a) || len(classes) == 0 {
		return
	}
	for _, c := range classes {
		if c != classes[0] {
			return
		}
	}
	a[n] = uint8(classes[0]) + 1
}

// class is that of all pages of extent number n, if it was seen to be one.
func (a alike) class(n int) (Class, bool) {
	if n >= len(a) || a[n] == 0 {
		return 0, false
	}
	return Class(a[n] - 1), true
}
