package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTable(t *testing.T) {
	c := &comparison{Question: askZones, What: "zones", Things: 2}
	c.same("free", uint64(7), uint64(7))
	c.allow(whyShared, "low", uint64(3), uint64(4))
	c.allow(whyShared, "low", uint64(3), uint64(5))
	c.same("name", "DMA", "DMA32")
	r := &result{dump: &dump{machine: machine{Name: "one", SV: 57, CPUs: 2}}, Release: "6.12", Crash: "9.0.2", Took: 90 * time.Second, Ours: 500 * time.Millisecond,
		comparisons: []*comparison{c, {Question: askModules, Unanswered: "mod: no"}}}
	want := `### one: 6.12, sv57, 2 CPUs

crash 9.0.2 took 90 s under an emulator, panicroom 0.50 s.

| question | compared | facts that are equal | differ, explained | differ |
|---|---|--:|--:|--:|
| kmem -z | zones: 2 | 1 | 2 | 1 |
| mod | crash has no answer | - | - | - |

- kmem -z, 2 times: ` + string(whyShared) + `. First: low: panicroom has 3, crash 4.
- mod: crash says "mod: no".
- kmem -z: **nothing explains** name: panicroom has "DMA", crash "DMA32"

`
	if diff := cmp.Diff(want, r.table()); diff != "" {
		t.Error(diff)
	}
	if r.wrong() != 1 {
		t.Errorf("%d differences; want 1", r.wrong())
	}
}
