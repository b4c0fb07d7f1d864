package main

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/panicroom-kdump/panicroom/reserve"
)

// A row that was measured is begun where its border was, another one below what the
// model says.
func TestStart(t *testing.T) {
	if low, high := (&found{Minimum: 120}).start(); low != 116 || high != 120 {
		t.Errorf("measured: %d, %d", low, high)
	}
	f := &found{}
	needed := int(reserve.Recommend(f.Facts).Needed >> 20)
	if low, high := f.start(); low >= high || high > needed || high <= needed-stepMiB || low%stepMiB != 0 || high%stepMiB != 0 {
		t.Errorf("not measured: %d, %d of %d", low, high, needed)
	}
}

// What is in the repository is known of rows that were not measured here.
func TestRecorded(t *testing.T) {
	t.Chdir("../..")
	b := &measurement{out: t.TempDir(), say: func(string, ...any) {}}
	all, err := b.kept()
	if err != nil || len(all) < 4 {
		t.Errorf("%d rows, %v", len(all), err)
	}
	if _, err := b.read("ext4/nowhere/packed"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a row that nobody measured: %v", err)
	}
	if err := b.keep(&found{Row: all[0].Row, Minimum: 8}); err != nil {
		t.Fatal(err)
	}
	if f, err := b.read(all[0].Row); err != nil || f.Minimum != 8 {
		t.Errorf("measured here: %+v, %v", f, err)
	}
}

// Every row has a name of its own, which says what it is.
func TestRows(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rows() {
		if seen[r.name] || r.kind == "" || r.suite == "" {
			t.Errorf("%+v", r)
		}
		seen[r.name] = true
	}
}
