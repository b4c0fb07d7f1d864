package capture

import "testing"

func TestDropped(t *testing.T) {
	for _, c := range []struct {
		class Class
		bits  int // of the level, each of which alone leaves it out
	}{
		{ClassKeep, 0},
		{ClassZero, LevelZero},
		{ClassCache, LevelCache | LevelCachePrivate},
		{ClassCachePrivate, LevelCachePrivate},
		{ClassUser, LevelUser},
		{ClassFree, LevelFree},
	} {
		for bit := 1; bit <= LevelAll; bit <<= 1 {
			if got, want := c.class.Dropped(bit), c.bits&bit != 0; got != want {
				t.Errorf("%v.Dropped(%d) = %v; want %v", c.class, bit, got, want)
			}
		}
	}
	for _, c := range []Class{ClassPoison, ClassOffline, ClassUnaccepted, ClassAbsent, ClassUnreadable} {
		if !c.Dropped(0) {
			t.Errorf("%v is kept at level 0; it must not be touched", c)
		}
	}
	for c := range Class(NumClasses) {
		if c.String() == "" || c.String() == "unknown" {
			t.Errorf("class %d has no name", c)
		}
	}
}
