package main

import (
	"errors"
	"fmt"
	"testing"
)

// Wherever the border is, inside of where it is looked for or not, it is found,
// and both its sides were tried.
func TestSmallest(t *testing.T) {
	for border := stepMiB; border <= 200; border += stepMiB {
		got, tries, err := smallest(76, 140, func(mib int) (try, error) {
			if mib%stepMiB != 0 || mib <= 0 {
				t.Fatalf("%d MiB is tried", mib)
			}
			return try{MiB: mib, Saved: mib >= border, End: fmt.Sprint(mib)}, nil
		})
		if err != nil || got != border {
			t.Errorf("border %d: found %d, %v", border, got, err)
		}
		seen := map[int]int{}
		for _, x := range tries {
			seen[x.MiB]++
		}
		if seen[border] != 1 || border > stepMiB && seen[border-stepMiB] != 1 {
			t.Errorf("border %d: tried %v", border, tries)
		}
		if border > 76 && border <= 140 && len(tries) > 6 {
			t.Errorf("border %d: %d tries", border, len(tries))
		}
	}
}

func TestSmallestStopsAtErrors(t *testing.T) {
	broken := errors.New("no machine")
	if _, _, err := smallest(76, 140, func(int) (try, error) { return try{}, broken }); !errors.Is(err, broken) {
		t.Errorf("%v; want %v", err, broken)
	}
}
