package vmcore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadNotes(t *testing.T) {
	le := binary.LittleEndian
	want := []Note{
		{Name: "CORE", Type: NotePRStatus, Desc: []byte{1, 2, 3}},
		{Name: "VMCOREINFO", Desc: []byte("PAGESIZE=65536\n")},
		{Name: "LINUX", Type: NoteVMCoreDD, Desc: []byte{}},
	}
	var b []byte
	for _, n := range want {
		b = AppendNote(b, le, n)
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want []Note
		err  error
	}{
		{"whole", b, want, nil},
		{"empty note at the end", append(bytes.Clone(b), make([]byte, 200)...), want, nil},
		{"cut in a descriptor", b[:20], want[:0], ErrCorrupt},
		{"cut in a header", b[:30], want[:1], nil},
		{"cut in a name", b[:38], want[:1], ErrCorrupt},
		{"nothing", nil, want[:0], nil},
	} {
		budget := maxNoteBytes
		got, err := readNotes(bytes.NewReader(tt.b), 0, uint64(len(tt.b)), le, nil, &budget)
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: %v; want %v", tt.name, err, tt.err)
		}
		if len(got)+len(tt.want) > 0 {
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.name, diff)
			}
		}
	}

	// A device dump that is too large does not cost the others.
	budget := 70
	got, err := readNotes(bytes.NewReader(b), 0, uint64(len(b)), le, nil, &budget)
	if err != nil || len(got) != 2 || got[0].Name != "CORE" || got[1].Name != "VMCOREINFO" {
		t.Errorf("within 70 bytes: %v, %v", got, err)
	}

	text, off := findVMCoreInfo(want)
	if n, ok := vmcoreInfoUint(text, "PAGESIZE"); !ok || n != 65536 {
		t.Errorf("PAGESIZE = %d, %v", n, ok)
	}
	if !bytes.HasPrefix(b[off:], text) {
		t.Errorf("VMCOREINFO is not at %d", off)
	}
}

func FuzzNotes(f *testing.F) {
	le := binary.LittleEndian
	b := AppendNote(nil, le, Note{Name: "CORE", Type: NotePRStatus, Desc: make([]byte, 376)})
	b = AppendNote(b, le, Note{Name: "VMCOREINFO", Desc: []byte("OSRELEASE=6\nPAGESIZE=4096\n")})
	f.Add(b)
	f.Add(b[:len(b)-9])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		budget := maxNoteBytes
		notes, err := readNotes(bytes.NewReader(b), 0, uint64(len(b)), le, nil, &budget)
		size := 0
		var again []byte
		for _, n := range notes {
			size += len(n.Name) + len(n.Desc)
			again = AppendNote(again, le, n)
		}
		if size > len(b) {
			t.Fatalf("%d bytes of notes out of %d", size, len(b))
		}
		if err != nil {
			return
		}
		budget = maxNoteBytes
		twice, err := readNotes(bytes.NewReader(again), 0, uint64(len(again)), le, nil, &budget)
		if err != nil || !cmp.Equal(notes, twice) {
			t.Fatalf("%v written and read again: %v, %v", notes, twice, err)
		}
	})
}

// A note about memory that cannot be is an error, and what stood before it counts.
func TestMemoryNote(t *testing.T) {
	be := binary.BigEndian
	words := func(w ...uint64) (b []byte) {
		for _, v := range w {
			b = be.AppendUint64(b, v)
		}
		return b
	}
	good := words(0x80000000, 0xff60000000000000, 0x200000, 7)
	want := []Segment{{Phys: Range{0x80000000, 0x80200000}, Virt: 0xff60000000000000, Flags: 7}}
	for _, c := range []struct {
		name string
		desc []byte
		want []Segment
		err  error
	}{
		{"one range", good, want, nil},
		{"none", nil, nil, nil},
		{"cut", good[:31], nil, ErrCorrupt},
		{"no bytes", append(bytes.Clone(good), words(0x90000000, 0, 0, 7)...), want, ErrCorrupt},
		{"beyond all addresses", append(bytes.Clone(good), words(1<<63, 0, 1<<63+4096, 7)...), want, ErrCorrupt},
	} {
		got, err := parseMemoryNote(Note{Name: noteOwner, Type: noteMemory, Desc: c.desc}, be)
		if diff := cmp.Diff(c.want, got); diff != "" || !errors.Is(err, c.err) {
			t.Errorf("%s: %v (-want +got):\n%s", c.name, err, diff)
		}
	}
}
