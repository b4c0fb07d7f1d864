package capture

import (
	"fmt"
	"strconv"
	"time"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Result is what became of a dump. It goes into the manifest.
type Result struct {
	Format string `json:"format"` // "kdump", "elf" or "raw"
	// Compression of the pages of a kdump-compressed dump.
	Compression string `json:"compression,omitempty"`
	// Level is the dump level that was asked for, Used the one that was worked
	// with: lower, so fuller, when pages could not be told apart or a check failed.
	Level int    `json:"level"`
	Used  int    `json:"level_used"`
	Why   string `json:"level_used_because,omitempty"`

	// Complete is false when the dump ends early; Reason says why.
	Complete bool   `json:"complete"`
	Reason   string `json:"reason,omitempty"`

	Bytes int64  `json:"bytes"` // of the file
	Pages Counts `json:"pages"`
	// Classes counts all pages by what their struct pages say, whether they are
	// saved or not; empty if that was not looked at.
	Classes map[string]uint64 `json:"classes,omitempty"`
	// Structs counts the pages that were kept because nothing can be told of
	// them; all zero when page structs were not looked at.
	Structs SelectStats `json:"page_structs"`

	// Unreadable lists memory that should be in the dump and could not be read,
	// at most maxUnreadable ranges; Pages.Unreadable has the whole number.
	Unreadable []Unreadable `json:"unreadable,omitempty"`

	Checks  []Check `json:"checks,omitempty"`
	Threads int     `json:"threads"`
	// Survey and Save are how long it took to look at the page structs, and to
	// save the pages.
	Survey Seconds `json:"survey_seconds"`
	Save   Seconds `json:"save_seconds"`
}

// Counts are numbers of pages by class. Every page of the machine's memory is
// counted once, by what was done with it in the end.
type Counts struct {
	Total        uint64 `json:"total"` // pages of memory that the dump's headers know
	Saved        uint64 `json:"saved"` // in the dump, zero pages that share one copy included
	Zero         uint64 `json:"zero"`  // of the saved ones: nothing but zeros
	Cache        uint64 `json:"cache"`
	CachePrivate uint64 `json:"cache_private"`
	User         uint64 `json:"user"`
	Free         uint64 `json:"free"`
	Untouchable  uint64 `json:"untouchable"`     // poisoned, offline, unaccepted
	Other        uint64 `json:"other,omitempty"` // left out by LevelOther
	Unreadable   uint64 `json:"unreadable"`
	NoRoom       uint64 `json:"no_room,omitempty"` // left out because the target was too full
	// Absent pages are in what is saved without being there: left out of a
	// dump that is saved again.
	Absent uint64 `json:"absent,omitempty"`
}

// Unreadable is a range of memory that could not be read.
type Unreadable struct {
	Start vmcore.PhysAddr `json:"start"`
	End   vmcore.PhysAddr `json:"end"`
}

// maxUnreadable bounds the list of unreadable ranges in memory and manifest.
const maxUnreadable = 1000

// Check is one thing that must be true of any dump, looked at.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // the numbers
}

// Seconds is a duration that is a number of seconds in JSON.
type Seconds time.Duration

// MarshalJSON writes seconds with milliseconds.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(s).Seconds(), 'f', 3, 64), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return fmt.Errorf("seconds: %w", err)
	}
	*s = Seconds(f * float64(time.Second))
	return nil
}

// addUnreadable notes that a page could not be read; pages come in any order
// within an extent but extents come in order.
func (r *Result) addUnreadable(start, end vmcore.PhysAddr) {
	if n := len(r.Unreadable); n > 0 && r.Unreadable[n-1].End == start {
		r.Unreadable[n-1].End = end
		return
	}
	if len(r.Unreadable) < maxUnreadable {
		r.Unreadable = append(r.Unreadable, Unreadable{start, end})
	}
}

// count adds a page that was left out because of its class.
func (c *Counts) count(class Class, n uint64) {
	switch class {
	case ClassCache:
		c.Cache += n
	case ClassCachePrivate:
		c.CachePrivate += n
	case ClassUser:
		c.User += n
	case ClassFree:
		c.Free += n
	case ClassPoison, ClassOffline, ClassUnaccepted:
		c.Untouchable += n
	case ClassOther:
		c.Other += n
	case ClassUnreadable:
		c.Unreadable += n
	case ClassNoRoom:
		c.NoRoom += n
	case ClassAbsent:
		c.Absent += n
	}
}
