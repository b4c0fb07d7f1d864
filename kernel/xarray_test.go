package kernel

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

// xarrayLayout has nodes of 16 slots.
func xarrayLayout() *Layout {
	return &Layout{Structs: map[string]Struct{
		"xarray": {Size: 16, Fields: map[string]Field{"xa_head": {Offset: 8, Size: 8}}},
		"xa_node": {Size: 152, Fields: map[string]Field{
			"shift": {Offset: 0, Size: 1}, "offset": {Offset: 1, Size: 1}, "parent": {Offset: 8, Size: 8},
			"slots": {Offset: 24, Size: 128, Count: 16},
		}},
	}}
}

const testXArray = testImage + 0x5000

// putXNode writes a node and returns its entry.
func putXNode(m *machine, at, parent VirtAddr, shift, offset byte, slots map[int]VirtAddr) VirtAddr {
	b := make([]byte, 152)
	b[0], b[1] = shift, offset
	binary.LittleEndian.PutUint64(b[8:], uint64(parent))
	for i, e := range slots {
		binary.LittleEndian.PutUint64(b[24+8*i:], uint64(e))
	}
	m.put(at, b)
	return at | internalEntry
}

func entries(k *Kernel) (all []XEntry, err error) {
	for e, eerr := range k.XArray(testXArray) {
		if eerr != nil {
			return all, eerr
		}
		all = append(all, e)
	}
	return all, nil
}

func TestXArray(t *testing.T) {
	const top, left, right = testImage + 0x6000, testImage + 0x6100, testImage + 0x6200
	for _, c := range []struct {
		what string
		put  func(m *machine) VirtAddr
		want []XEntry
		err  error
	}{
		{"empty", func(*machine) VirtAddr { return 0 }, nil, nil},
		{"one entry", func(*machine) VirtAddr { return 0x1000 }, []XEntry{{0, 0x1000}}, nil},
		{"two levels", func(m *machine) VirtAddr {
			l := putXNode(m, left, top, 0, 0, map[int]VirtAddr{0: 0x1000, 3: 7<<1 | 1})
			// A sibling and a slot that is being worked at are none.
			r := putXNode(m, right, top, 0, 9, map[int]VirtAddr{1: 0x2000, 2: 1<<2 | 2, 3: 256<<2 | 2, 15: 0x3000})
			return putXNode(m, top, 0, 4, 10, map[int]VirtAddr{0: l, 9: r})
		}, []XEntry{{0, 0x1000}, {3, 15}, {145, 0x2000}, {159, 0x3000}}, nil},
		{"circle", func(m *machine) VirtAddr {
			return putXNode(m, top, 0, 4, 0, map[int]VirtAddr{0: top | internalEntry})
		}, nil, ErrCorrupt},
		{"in another slot", func(m *machine) VirtAddr {
			l := putXNode(m, left, top, 0, 1, nil)
			return putXNode(m, top, 0, 4, 0, map[int]VirtAddr{2: l})
		}, nil, ErrCorrupt},
		{"of another parent", func(m *machine) VirtAddr {
			l := putXNode(m, left, right, 0, 2, nil)
			return putXNode(m, top, 0, 4, 0, map[int]VirtAddr{2: l})
		}, nil, ErrCorrupt},
		{"not below", func(m *machine) VirtAddr {
			l := putXNode(m, left, top, 4, 2, nil)
			return putXNode(m, top, 0, 4, 0, map[int]VirtAddr{2: l})
		}, nil, ErrCorrupt},
		{"shift of any size", func(m *machine) VirtAddr { return putXNode(m, top, 0, 64, 0, nil) }, nil, ErrCorrupt},
		{"nowhere", func(*machine) VirtAddr { return testImage + 0x12345000 | internalEntry }, nil, errAny},
	} {
		t.Run(c.what, func(t *testing.T) {
			m := newMachine("sv48")
			m.put64(testXArray+8, uint64(c.put(m)))
			got, err := entries(kernelWithLayout(t, m, xarrayLayout()))
			if !slices.Equal(got, c.want) || (err != nil) != (c.err != nil) || c.err != errAny && !errors.Is(err, c.err) {
				t.Errorf("%v, %v; want %v, %v", got, err, c.want, c.err)
			}
		})
	}
}

// errAny stands for any error.
var errAny = errors.New("any")
