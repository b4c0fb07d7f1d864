package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
)

func TestFit(t *testing.T) {
	other := errors.New("another error")
	for _, c := range []struct {
		levels []int
		fails  map[int]error
		tried  []int
		err    error
	}{
		{[]int{0}, nil, []int{0}, nil},
		{[]int{1, 31}, nil, []int{1}, nil},
		{[]int{1, 17, 31}, map[int]error{1: syscall.ENOSPC, 17: fmt.Errorf("pages: %w", ErrLimit)}, []int{1, 17, 31}, nil},
		{[]int{1, 31}, map[int]error{1: syscall.EDQUOT, 31: syscall.EFBIG}, []int{1, 31}, syscall.EFBIG},
		{[]int{1, 31}, map[int]error{1: other}, []int{1}, other},
		{[]int{31}, map[int]error{31: syscall.ENOSPC}, []int{31}, syscall.ENOSPC},
	} {
		var tried []int
		res, err := Fit(c.levels, func(level int) (*Result, error) {
			tried = append(tried, level)
			return &Result{Level: level}, c.fails[level]
		}, func(next int, why error) error {
			if last := tried[len(tried)-1]; !errors.Is(why, c.fails[last]) || next == last {
				t.Errorf("levels %v: after %d comes %d because of %v", c.levels, last, next, why)
			}
			return nil
		})
		if !slices.Equal(tried, c.tried) || !errors.Is(err, c.err) || res.Level != c.tried[len(c.tried)-1] {
			t.Errorf("levels %v: tried %v, %+v, %v; want %v, %v", c.levels, tried, res, err, c.tried, c.err)
		}
	}
	// A file that cannot be emptied must not get a second dump over the first.
	if res, err := Fit([]int{1, 31}, func(int) (*Result, error) { return &Result{}, syscall.ENOSPC },
		func(int, error) error { return io.ErrClosedPipe }); res != nil || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("not emptied: %+v, %v", res, err)
	}
}

// A dump that meets the limit ends there, valid and incomplete; at the next
// level it fits.
func TestLimit(t *testing.T) {
	m, _ := populated()
	d := m.Open(t)
	k, err := kernel.Open(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[int]int64{}
	for _, level := range []int{0, LevelAll} {
		f := disk{room: -1}
		res, err := Run(context.Background(), d, k, &f, Options{Level: level})
		if err != nil {
			t.Fatal(err)
		}
		sizes[level] = res.Bytes
	}
	if sizes[LevelAll] >= sizes[0]-2*page {
		t.Fatalf("sizes by level: %v", sizes)
	}
	limit := uint64(sizes[0] - 2*page) // behind the descriptors
	var f disk
	save := func(level int) (*Result, error) {
		f = disk{room: -1}
		return Run(context.Background(), d, k, Limit(&f, limit), Options{Level: level})
	}
	res, err := save(0)
	if !errors.Is(err, ErrLimit) || res == nil || res.Complete || res.Pages.Saved == 0 {
		t.Fatalf("beyond the limit: %+v, %v", res, err)
	}
	if n := uint64(len(f.data)); n > limit {
		t.Errorf("%d bytes; the limit is %d", n, limit)
	}
	if !reopen(t, &f).Incomplete() {
		t.Error("a dump that was cut short does not say so")
	}
	res, err = Fit([]int{0, LevelAll}, save, func(int, error) error { return nil })
	if err != nil || !res.Complete || res.Level != LevelAll {
		t.Errorf("the next level: %+v, %v", res, err)
	}
}
