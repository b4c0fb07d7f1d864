package kernel_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// treeStructs are those of Linux 6.1 to 7.2 on machines of 64 bits.
const treeStructs = `
xarray: lock:4 flags:4 xa_head
xa_node: shift:1 offset:1 count:1 nr_values:1 parent array list:8*2 slots:8*64
idr: idr_rt:xarray idr_base:4
maple_tree: ma_flags:4 ma_root
maple_range_64: parent pivot:8*15 slot:8*16
maple_arange_64: parent pivot:8*9 slot:8*10 gap:8*10 meta:1*2
`

type trees struct{ *kerneltest.Data }

func newTrees() trees {
	d := trees{kerneltest.NewData()}
	d.Structs(treeStructs)
	return d
}

func (d trees) kernel(t testing.TB) *kernel.Kernel {
	t.Helper()
	return d.Open(t, d)
}

func collect[T any](all iter.Seq2[T, error]) (list []T, err error) {
	for v, err := range all {
		if err != nil {
			return list, err
		}
		list = append(list, v)
	}
	return list, nil
}

// xaNode makes a node with some slots filled; it returns the entry that leads
// there.
func (d trees) xaNode(parent uint64, offset, shift uint64, slots map[uint64]uint64) uint64 {
	at := d.New("xa_node")
	d.Set(at, "xa_node.shift", shift)
	d.Set(at, "xa_node.offset", offset)
	if parent != 0 {
		d.Set(at, "xa_node.parent", parent-2)
		d.Words(parent-2+d.Offset("xa_node.slots")+8*offset, at+2)
	}
	for i, v := range slots {
		d.Words(at+d.Offset("xa_node.slots")+8*i, v)
	}
	return at + 2
}

// array makes an xarray of two levels, and an idr that it is the array of.
func (d trees) array() (idr, root, leaf uint64) {
	const retry, zero, sibling = 256<<2 | 2, 257<<2 | 2, 3<<2 | 2
	root = d.xaNode(0, 0, 6, map[uint64]uint64{3: 0xffffaf8000003000, 5: sibling})
	d.xaNode(root, 0, 0, map[uint64]uint64{1: 0xffffaf8000001000, 2: 5<<1 | 1, 3: retry, 4: zero})
	leaf = d.xaNode(root, 63, 0, map[uint64]uint64{63: 0xffffaf8000002000})
	idr = d.New("idr")
	d.Set(idr, "xarray.xa_head", root)
	d.Set(idr, "idr.idr_base", 100)
	return idr, root, leaf
}

func TestXArray(t *testing.T) {
	d := newTrees()
	idr, root, leaf := d.array()
	k := d.kernel(t)
	want := []kernel.XEntry{{1, 0xffffaf8000001000}, {2, 5<<1 | 1}, {3 << 6, 0xffffaf8000003000}, {63<<6 + 63, 0xffffaf8000002000}}
	got, err := collect(k.XArray(kernel.VirtAddr(idr)))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("xarray: %v (-want +got):\n%s", err, diff)
	}
	for i := range want {
		want[i].Index += 100
	}
	got, err = collect(k.IDR(kernel.VirtAddr(idr)))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("idr: %v (-want +got):\n%s", err, diff)
	}
	for range k.XArray(kernel.VirtAddr(idr)) {
		break // whoever has enough is not asked again
	}

	single := d.New("xarray")
	if got, err := collect(k.XArray(kernel.VirtAddr(single))); len(got) != 0 || err != nil {
		t.Errorf("empty array: %v, %v", got, err)
	}
	d.Set(single, "xarray.xa_head", 0xffffaf8000001000)
	if got, err := collect(k.XArray(kernel.VirtAddr(single))); err != nil || !slices.Equal(got, []kernel.XEntry{{0, 0xffffaf8000001000}}) {
		t.Errorf("array of one entry: %v, %v", got, err)
	}

	for name, damage := range map[string]func(){
		"slot of another":   func() { d.Set(leaf-2, "xa_node.offset", 62) },
		"node of another":   func() { d.Set(leaf-2, "xa_node.parent", leaf-2) },
		"as high as above":  func() { d.Set(leaf-2, "xa_node.shift", 6) },
		"root that is none": func() { d.Set(root-2, "xa_node.parent", leaf-2) },
	} {
		idr, root, leaf = d.array()
		damage()
		if got, err := collect(k.XArray(kernel.VirtAddr(idr))); !errors.Is(err, kernel.ErrCorrupt) || len(got) > 3 {
			t.Errorf("%s: %v, %v; want ErrCorrupt", name, got, err)
		}
	}
	d.Set(single, "xarray.xa_head", 0xffffaf8000000002)
	if _, err := collect(k.XArray(kernel.VirtAddr(single))); !errors.Is(err, vmcore.ErrHole) {
		t.Errorf("root that is lost: %v; want ErrHole", err)
	}
	if _, err := collect(k.IDR(0x5000)); !errors.Is(err, kernel.ErrNotMapped) {
		t.Errorf("idr at a wrong address: %v; want ErrNotMapped", err)
	}
}

// Types of nodes of maple trees.
const (
	leaf64   = 1
	range64  = 2
	arange64 = 3
)

// mapleNode makes a node; it returns the pointer that leads there.
func (d trees) mapleNode(kind uint64, pivots, slots []uint64) uint64 {
	at := d.Aligned(256, 256)
	name := "maple_range_64"
	if kind == arange64 {
		name = "maple_arange_64"
	}
	d.Words(at+d.Offset(name+".pivot"), pivots...)
	d.Words(at+d.Offset(name+".slot"), slots...)
	return at | kind<<3 | 6
}

const object = 0xffffaf8000001000

func (d trees) maple() (tree uint64, nodes []uint64) {
	zero := uint64(257<<2 | 2)
	// A full leaf, whose last slot is not that of its own account.
	full := make([]uint64, 16)
	pivots := make([]uint64, 15)
	for i := range full {
		full[i] = object + uint64(i)
	}
	for i := range pivots {
		pivots[i] = uint64(0x1000 + 10*i)
	}
	first := d.mapleNode(leaf64, pivots, full)
	second := d.mapleNode(leaf64, []uint64{0x2000, 0x2100, 0x2200}, []uint64{0, object, zero, 7, 5: 0xbad})
	middle := d.mapleNode(range64, []uint64{0x1fff, 0x2fff}, []uint64{first, second})
	last := d.mapleNode(leaf64, []uint64{0xffff, ^uint64(0)}, []uint64{0, object + 99, 0xbad})
	root := d.mapleNode(arange64, []uint64{0x2fff}, []uint64{middle, last})
	tree = d.New("maple_tree")
	d.Set(tree, "maple_tree.ma_root", root)
	return tree, []uint64{first, second, middle, last, root}
}

func TestMapleTree(t *testing.T) {
	d := newTrees()
	tree, _ := d.maple()
	k := d.kernel(t)
	var want []kernel.MapleEntry
	for i := range 16 {
		e := kernel.MapleEntry{First: uint64(0x1000 + 10*i - 9), Last: uint64(0x1000 + 10*i), Entry: object + kernel.VirtAddr(i)}
		if i == 0 {
			e.First = 0
		}
		if i == 15 {
			e.Last = 0x1fff
		}
		want = append(want, e)
	}
	want = append(want, kernel.MapleEntry{First: 0x2001, Last: 0x2100, Entry: object},
		kernel.MapleEntry{First: 0x2201, Last: 0x2fff, Entry: 7},
		kernel.MapleEntry{First: 0x10000, Last: ^uint64(0), Entry: object + 99})
	got, err := collect(k.MapleTree(kernel.VirtAddr(tree)))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("maple tree: %v (-want +got):\n%s", err, diff)
	}
	for range k.MapleTree(kernel.VirtAddr(tree)) {
		break
	}

	single := d.New("maple_tree")
	if got, err := collect(k.MapleTree(kernel.VirtAddr(single))); len(got) != 0 || err != nil {
		t.Errorf("empty tree: %v, %v", got, err)
	}
	d.Set(single, "maple_tree.ma_root", object)
	if got, err := collect(k.MapleTree(kernel.VirtAddr(single))); err != nil || !slices.Equal(got, []kernel.MapleEntry{{0, 0, object}}) {
		t.Errorf("tree of one entry: %v, %v", got, err)
	}

	slot := func(node uint64) uint64 { return node&^255 + d.Offset("maple_range_64.slot") }
	pivot := func(node uint64) uint64 { return node&^255 + d.Offset("maple_range_64.pivot") }
	for name, c := range map[string]struct {
		damage func(n []uint64)
		want   error
	}{
		"a node in itself":       {func(n []uint64) { d.Words(slot(n[2]), n[2]) }, kernel.ErrCorrupt},
		"the same node twice":    {func(n []uint64) { d.Words(slot(n[2])+8, n[0]) }, kernel.ErrCorrupt},
		"a type that none has":   {func(n []uint64) { d.Words(slot(n[2]), n[0]|8<<3) }, kernel.ErrCorrupt},
		"a range that goes back": {func(n []uint64) { d.Words(pivot(n[0])+16, 1) }, kernel.ErrCorrupt},
		"a range beyond":         {func(n []uint64) { d.Words(pivot(n[1])+16, 0x3000) }, kernel.ErrCorrupt},
		"a node of nothing":      {func(n []uint64) { d.Words(slot(n[2]), 0) }, kernel.ErrCorrupt},
		"a node that is lost":    {func(n []uint64) { d.Words(slot(n[2]), 0x5000|leaf64<<3) }, kernel.ErrNotMapped},
	} {
		tree, nodes := d.maple()
		c.damage(nodes)
		if got, err := collect(k.MapleTree(kernel.VirtAddr(tree))); !errors.Is(err, c.want) || len(got) > len(want) {
			t.Errorf("%s: %d entries, %v; want %v", name, len(got), err, c.want)
		}
	}
}

// Kernels before 6.1 have no maple trees.
func TestTreesWithoutLayout(t *testing.T) {
	d := newTrees()
	tree, _ := d.maple()
	d.Forget("maple_tree", "xa_node.slots", "idr")
	k := d.kernel(t)
	for what, got := range map[string]error{
		"maple tree": second(collect(k.MapleTree(kernel.VirtAddr(tree)))),
		"xarray":     second(collect(k.XArray(kernel.VirtAddr(tree)))),
		"idr":        second(collect(k.IDR(kernel.VirtAddr(tree)))),
	} {
		if !errors.Is(got, kernel.ErrNoInfo) {
			t.Errorf("%s: %v; want ErrNoInfo", what, got)
		}
	}
	d = newTrees()
	d.Structs("xa_node: shift:1 offset:1 parent slots:8*63\nmaple_range_64: pivot:8*15 slot:8*15")
	k = d.kernel(t)
	for what, got := range map[string]error{
		"maple tree": second(collect(k.MapleTree(kernel.VirtAddr(tree)))),
		"xarray":     second(collect(k.XArray(kernel.VirtAddr(tree)))),
	} {
		if !errors.Is(got, kernel.ErrCorrupt) {
			t.Errorf("%s of impossible nodes: %v; want ErrCorrupt", what, got)
		}
	}
}

func second[T any](_ []T, err error) error { return err }

// FuzzTrees writes words into trees: whatever stands there, there is an end, and
// what comes out is in order.
func FuzzTrees(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 9, 0, 1, 1, 0, 5, 2, 3, 100, 6, 3, 200, 7, 200})
	f.Fuzz(func(t *testing.T, p []byte) {
		d := newTrees()
		tree, nodes := d.maple()
		idr, root, leaf := d.array()
		places := append([]uint64{tree, idr, root &^ 3, leaf &^ 3}, nodes...)
		for ; len(p) >= 4; p = p[4:] {
			place := places[int(p[0])%len(places)]&^255 + 8*uint64(p[1])
			value := uint64(binary.LittleEndian.Uint16(p[2:]))
			if p[2]&1 != 0 {
				value = places[int(p[3])%len(places)] + uint64(p[2]&0x7e)
			}
			d.Words(place, value)
		}
		k := d.kernel(t)
		// At most so many nodes have been made, none is met often.
		const limit = 1 << 16
		n, next := 0, uint64(0)
		for e, err := range k.MapleTree(kernel.VirtAddr(tree)) {
			if n++; err != nil || n > limit {
				break
			}
			if e.First > e.Last || e.First < next {
				t.Fatalf("from %#x to %#x after %#x", e.First, e.Last, next)
			}
			next = e.Last + 1
		}
		m, index := 0, uint64(0)
		for e, err := range k.IDR(kernel.VirtAddr(idr)) {
			if m++; err != nil || m > limit {
				break
			}
			if e.Index < index {
				t.Fatalf("%#x after %#x", e.Index, index)
			}
			index = e.Index
		}
		if n > limit || m > limit {
			t.Fatal(fmt.Sprint(n, " and ", m, " entries of some nodes"))
		}
	})
}
