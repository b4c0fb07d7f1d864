package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func took(wall, cpu float64, mib int64) samples {
	return samples{{Wall: time.Duration(wall * 1e9), CPU: time.Duration(cpu * 1e9), RSS: mib << 20}}
}

func TestTables(t *testing.T) {
	results := []*result{
		{Core: "2G", Level: 31, Compression: "zstd", Out: outputs{Ours: 900 << 10, Theirs: 1000 << 10, OurPages: 5, TheirPages: 5},
			Theirs: took(3, 3, 20), Threads: took(4, 7, 30), Ours2: took(1, 2, 10), Ours1: took(2, 2, 8)},
		{Core: "2G", Level: 31, Compression: "zlib", Out: outputs{Ours: 11 << 10, Theirs: 10 << 10, OurPages: 5, TheirPages: 5},
			Theirs: took(3, 3, 20), Threads: took(2, 4, 30), Ours2: took(1, 2, 16), Ours1: took(6, 6, 8)},
		{Core: "16G", Level: 1, Compression: "zstd", Out: outputs{Ours: 11 << 10, Theirs: 10 << 10, OurPages: 5, TheirPages: 6, OnlyTheirs: 1},
			Theirs: took(3, 3, 20), Split: took(2.5, 4, 20), Ours2: took(2, 4, 16), Ours1: took(6, 6, 8)},
	}
	want := `### 2G, level 31

|  | zstd | zlib |
|---|--:|--:|
| two CPUs: makedumpfile, s | 3.00 (3.00) | 2.00 (2.00) threads |
| two CPUs: panicroom, s | 1.00 (1.00) | 1.00 (1.00) |
| ratio | 0.33 | **0.50** |
| CPU time: ratio | 0.67 | 0.50 |
| one CPU: makedumpfile, s | 3.00 (3.00) | 3.00 (3.00) |
| one CPU: panicroom, s | 2.00 (2.00) | 6.00 (6.00) |
| ratio | 0.67 | 2.00 |
| CPU time: ratio | 0.67 | 2.00 |
| peak RSS: makedumpfile | 20 MiB | 30 MiB |
| peak RSS: panicroom | 10 MiB | 16 MiB |
| ratio | 0.50 | **0.53** |
| output: makedumpfile | 1000 KiB | 10 KiB |
| output: panicroom | 900 KiB | 11 KiB |
| ratio | 0.900 | **1.100** |

Both save the same 5 pages.

### 16G, level 1

|  | zstd |
|---|--:|
| two CPUs: makedumpfile, s | 2.50 (2.50) split |
| two CPUs: panicroom, s | 2.00 (2.00) |
| ratio | 0.80 |
| CPU time: ratio | 1.00 |
| one CPU: makedumpfile, s | 3.00 (3.00) |
| one CPU: panicroom, s | 6.00 (6.00) |
| ratio | **2.00** |
| CPU time: ratio | 2.00 |
| peak RSS: makedumpfile | 20 MiB |
| peak RSS: panicroom | 16 MiB |
| ratio | **0.80** |
| output: makedumpfile | 10 KiB |
| output: panicroom | 11 KiB |
| ratio | other pages |

panicroom saves 5 pages, makedumpfile 6: 0 are only in the one's dump
and 1 only in the other's.

`
	if diff := cmp.Diff(want, tables(results)); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
}
