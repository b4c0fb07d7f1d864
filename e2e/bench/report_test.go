package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReportTable(t *testing.T) {
	all := []*reportResult{
		{Core: "2G", Form: "ELF", Bytes: 1900 << 20, Ours: took(0.1, 0.1, 16), Emulated: took(2, 2, 30), Crash: took(150, 140, 700)[0]},
		// The median holds, one run does not: the bounds are of every run.
		{Core: "16G", Form: "level 31", Bytes: 40 << 20, Ours: append(append(took(0.1, 0.1, 16), took(0.2, 0.2, 16)...), took(0.6, 0.6, 16)...),
			Emulated: took(2, 2, 30), Crash: took(150, 140, 700)[0]},
		{Core: "16G", Form: "ELF", Bytes: 16 << 30, Ours: append(took(0.1, 0.1, 16), took(0.1, 0.1, 101)...), Emulated: took(2, 2, 30), Crash: took(150, 140, 700)[0]},
	}
	got, _, _ := strings.Cut(reportTable(all, "9.0.2"), "\n\n")
	want := `| | size | report: s (fastest) | peak RSS | bounds | crash, emulated: s | peak RSS | ratio | report, emulated: s | ratio |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|
| 2G, ELF | 1.9 GiB | 0.100 (0.100) | 16 MiB | hold | 150.0 | 700 MiB | 1 : 1500 | 2.00 | 1 : 75 |
| 16G, level 31 | 40 MiB | 0.200 (0.100) | 16 MiB | **missed** | 150.0 | 700 MiB | 1 : 750 | 2.00 | 1 : 75 |
| 16G, ELF | 16 GiB | 0.100 (0.100) | 101 MiB | **missed** | 150.0 | 700 MiB | 1 : 1500 | 2.00 | 1 : 75 |`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if (&reportResult{}).holds() {
		t.Error("no run at all keeps the bounds")
	}
}
