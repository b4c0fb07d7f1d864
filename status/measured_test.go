package status

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/load"
	"github.com/panicroom-kdump/panicroom/reserve"
)

// A reservation with which a crash was seen not to be saved is called too small, by a
// step of what was measured, and one of the size that is recommended is not: whether
// a panic kernel is loaded, or what it would need is asked.
func TestMeasured(t *testing.T) {
	const step, mib = 4, 1 << 20
	text, err := os.ReadFile("../reserve/testdata/measured.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Row     string        `json:"row"`
		Minimum uint64        `json:"minimum_mib"`
		Facts   reserve.Facts `json:"facts"`
	}
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) == 0 {
		t.Fatal("nothing was measured")
	}
	for _, row := range rows {
		rec := reserve.Recommend(row.Facts)
		// As load finds room, with nothing lost to alignment.
		room := load.Room{Loaded: row.Facts.Image + row.Facts.Packed, Unpacked: row.Facts.Unpacked, Working: reserve.Working(row.Facts)}
		for how, needed := range map[string]uint64{"loaded": room.Needed(), "asked": rec.Needed} {
			for reserved, want := range map[uint64]State{(row.Minimum - step) * mib: Broken, rec.Size: OK} {
				f := healthy()
				f.Needed, f.Load.Reserved = needed, reserved
				links := Check(f)
				i := slices.IndexFunc(links, func(l Link) bool { return l.Name == "reserved" })
				if i < 0 {
					t.Fatalf("%s: no link tells of the reserved memory", row.Row)
				}
				l := links[i]
				if l.State != want || Worst(links) != want || want == Broken && (!strings.Contains(l.Says, "that this machine needs") || len(l.Remedy) == 0) {
					t.Errorf("%s, %s, with %d MiB: %+v; want %s", row.Row, how, reserved/mib, l, want)
				}
			}
		}
	}
}
