package vmcore

import (
	"math/rand/v2"
	"testing"
)

// nowhere takes what is written and keeps nothing.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// Pages that cannot be compressed do not make an extent's buffer grow.
func TestExtentDoesNotGrow(t *testing.T) {
	rnd := rand.NewChaCha8([32]byte{})
	p := make([]byte, 4096)
	for c := range Compression(len(compressions)) {
		kw, err := NewKdumpWriter(nowhere{}, KdumpHeader{PageSize: 4096, Compression: c}, []Range{{0, 1 << 20}}, 64, KdumpOptions{})
		if err != nil {
			t.Fatal(err)
		}
		e := kw.NewExtent(64)
		before := cap(e.data)
		for pfn := range PFN(64) {
			rnd.Read(p)
			if err := e.Add(pfn, p); err != nil {
				t.Fatal(err)
			}
		}
		if e.Size() != 64*4096 || cap(e.data) != before {
			t.Errorf("%v: %d bytes in a buffer of %d; want %d in %d", c, e.Size(), cap(e.data), 64*4096, before)
		}
	}
}
