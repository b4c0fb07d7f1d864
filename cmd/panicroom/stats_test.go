package main

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
)

// How many pages there are of each class is told to people and to programs,
// and both hear the same.
func TestConvertStats(t *testing.T) {
	m := kerneltest.NewVast(2)
	cache := kerneltest.Page{Flags: kerneltest.LRU, Mapping: kerneltest.FileMapping, Type: kerneltest.NoType}
	for pfn := kerneltest.BasePFN + 20000; pfn < kerneltest.BasePFN+20007; pfn++ {
		m.Set(pfn, cache)
	}
	in := m.Finish().WriteFile(t)
	code, _, errOut := try(t, "convert", "--stats", "--level", "kernel", in, filepath.Join(t.TempDir(), "a"))
	if code != exitDone {
		t.Fatalf("exit code %d: %s", code, errOut)
	}
	for _, want := range []string{"32768 pages of class free\n", " 7 pages of class cache\n", "32761 pages of class kernel\n", "65536 pages in the machine's memory\n", "32761 pages saved, in "} {
		if !strings.Contains(errOut, want) {
			t.Errorf("--stats says %q; want %q in it", errOut, want)
		}
	}
	code, out, _ := try(t, "--json", "convert", "--level", "kernel", in, filepath.Join(t.TempDir(), "b"))
	var said struct {
		Classes map[string]uint64 `json:"classes"`
		Pages   struct {
			Total, Saved, Free, Cache uint64
		} `json:"pages"`
	}
	if err := json.Unmarshal([]byte(out), &said); err != nil || code != exitDone {
		t.Fatalf("exit code %d, %q: %v", code, out, err)
	}
	if want := map[string]uint64{"free": 32768, "cache": 7, "kernel": 32761}; !maps.Equal(said.Classes, want) {
		t.Errorf("classes %v; want %v", said.Classes, want)
	}
	if p := said.Pages; p.Total != 65536 || p.Saved != 32761 || p.Free != 32768 || p.Cache != 7 {
		t.Errorf("pages %+v", p)
	}
}
