package main

import (
	"cmp"
	"slices"
)

// stepMiB is how exact the smallest size is.
const stepMiB = 4

// try is one size that was tried.
type try struct {
	MiB   int    `json:"mib"`
	Saved bool   `json:"saved"`
	End   string `json:"end"` // how it ended, for people
}

// smallest finds the smallest size, in steps of stepMiB, with which attempt
// succeeds, given that larger ones do when a smaller does. The two sizes on
// either side of the border have both been tried: it never rests on low and high,
// which only say where to look first.
func smallest(low, high int, attempt func(mib int) (try, error)) (mib int, tries []try, err error) {
	one := func(mib int) (bool, error) {
		t, err := attempt(mib)
		if err == nil {
			tries = append(tries, t)
		}
		return t.Saved, err
	}
	// fails and works are indexes of sizes; a border that was never tried is
	// tried at the end, and moved if it was wrong.
	fails, works := low/stepMiB, high/stepMiB
	tried := func(i int) bool { return slices.ContainsFunc(tries, func(t try) bool { return t.MiB == i*stepMiB }) }
	for {
		var at int
		switch {
		case works-fails > 1:
			at = fails + (works-fails)/2
		case !tried(works):
			at = works
		case !tried(fails) && fails > 0:
			at = fails
		default:
			slices.SortFunc(tries, func(a, b try) int { return cmp.Compare(a.MiB, b.MiB) })
			return works * stepMiB, tries, nil
		}
		ok, err := one(at * stepMiB)
		if err != nil {
			return 0, tries, err
		}
		switch {
		case ok:
			works = at
			if at == fails {
				fails = at - 1
			}
		default:
			fails = at
			if at == works {
				works = at + 1
			}
		}
	}
}
