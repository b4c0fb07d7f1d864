package main

import (
	"bytes"
	"compress/flate"
	"io"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
)

// Pages are the same in each run, each another one, and page by page they get
// smaller about as kernel memory and files do.
func TestMixed(t *testing.T) {
	const pages = 3 * poolPages
	read := func() []byte {
		b := make([]byte, pages*pageSize)
		r := contentOf(&script.Burden{Mixed: true})
		for at := 0; at < len(b); at += 1000 { // no page at once
			if _, err := io.ReadFull(r, b[at:min(at+1000, len(b))]); err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	b := read()
	if !bytes.Equal(b, read()) {
		t.Error("the second run has other pages")
	}
	seen := map[string]bool{}
	small := 0
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	for i := range pages {
		p := b[i*pageSize : (i+1)*pageSize]
		seen[string(p)] = true
		out.Reset()
		w.Reset(&out)
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		small += min(out.Len(), pageSize)
	}
	if len(seen) != pages {
		t.Errorf("%d different pages of %d", len(seen), pages)
	}
	ratio := float64(small) / float64(len(b))
	t.Logf("compressed to %.0f %%", 100*ratio)
	if ratio < 0.35 || ratio > 0.65 {
		t.Errorf("compressed to %.2f of its size; want about a half", ratio)
	}
}
