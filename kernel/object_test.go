package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// objectLayout has a struct of every kind of member.
func objectLayout() *Layout {
	return &Layout{Structs: map[string]Struct{
		"thing": {Size: 64, Fields: map[string]Field{
			"small": {Offset: 0, Size: 2}, "flags": {Offset: 2, Size: 4, Bit: 3, Bits: 5},
			"signed": {Offset: 8, Size: 4}, "next": {Offset: 16, Size: 8},
			"name": {Offset: 24, Size: 8, Count: 8}, "counts": {Offset: 32, Size: 8, Count: 2},
			"inner": {Offset: 48, Size: 16, Count: 2},
		}},
		"inner": {Size: 8, Fields: map[string]Field{"value": {Offset: 4, Size: 4}}},
		"wrong": {Size: 8, Fields: map[string]Field{"value": {Offset: 4, Size: 8}}},
		"huge":  {Size: 1 << 30},
		"empty": {},
	}}
}

func TestObject(t *testing.T) {
	m := newMachine("sv48")
	const at = testImage + 0x5000
	b := make([]byte, 64)
	le := binary.LittleEndian
	le.PutUint16(b, 0xbeef)
	le.PutUint32(b[2:], 0x15<<3|7)
	le.PutUint32(b[8:], ^uint32(4))
	le.PutUint64(b[16:], 0xffffaf8000001000)
	copy(b[24:], "a\nb\x00junk")
	le.PutUint32(b[32:], 7)
	le.PutUint32(b[36:], 9)
	le.PutUint32(b[52:], 1)
	le.PutUint32(b[60:], 2)
	m.put(at, b)
	k := kernelWithLayout(t, m, objectLayout())
	r, err := k.Struct("thing", "small", "?absent")
	if err != nil {
		t.Fatal(err)
	}
	o, err := r.At(at)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := k.Struct("inner", "value")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"small", o.Uint("small"), uint64(0xbeef)},
		{"bit field", o.Uint("flags"), uint64(0x15)},
		{"negative bit field", o.Int("flags"), int64(-11)},
		{"signed", o.Int("signed"), int64(-5)},
		{"unsigned", o.Uint("signed"), uint64(0xfffffffb)},
		{"pointer", o.Pointer("next"), VirtAddr(0xffffaf8000001000)},
		{"pointer of 4 bytes", o.Pointer("signed"), VirtAddr(0)},
		{"string", o.String("name"), "a?b"},
		{"inner 0", inner.In(o, "inner", 0).Uint("value"), uint64(1)},
		{"inner 1", inner.In(o, "inner", 1).Uint("value"), uint64(2)},
		{"inner 2", inner.In(o, "inner", 2).Uint("value"), uint64(0)},
		{"in what is too short", r.In(o, "inner", 0).Uint("small"), uint64(0)},
		{"absent", o.Uint("absent"), uint64(0)},
		{"address", o.AddrOf("next"), VirtAddr(at + 16)},
	} {
		if c.got != c.want {
			t.Errorf("%s = %v; want %v", c.what, c.got, c.want)
		}
	}
	if got := o.Uints("counts"); !slices.Equal(got, []uint64{7, 9}) {
		t.Errorf("counts = %v; want 7, 9", got)
	}
	for name, want := range map[string]error{"none": ErrNoInfo, "empty": ErrNoInfo, "huge": ErrCorrupt} {
		if _, err := k.Struct(name); !errors.Is(err, want) {
			t.Errorf("Struct(%s) = %v; want %v", name, err, want)
		}
	}
	if _, err := k.Struct("wrong", "value"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("member beyond its struct: %v; want ErrCorrupt", err)
	}
	if _, err := k.Struct("thing", "absent"); !errors.Is(err, ErrNoInfo) {
		t.Errorf("member that is missing: %v; want ErrNoInfo", err)
	}
	if s, err := k.ReadString(at+24, 100); s != "a?b" || err != nil {
		t.Errorf("ReadString = %q, %v", s, err)
	}
	if s, err := k.ReadString(at+28, 4); s != "junk" || err != nil {
		t.Errorf("ReadString at its limit = %q, %v", s, err)
	}
	if _, err := r.At(0xffffaf8000001000); !errors.Is(err, vmcore.ErrHole) {
		t.Errorf("an object where there is no memory: %v", err)
	}
}

// links writes words at an address.
func (m *machine) links(at VirtAddr, words ...VirtAddr) {
	for i, w := range words {
		m.put64(at+VirtAddr(8*i), uint64(w))
	}
}

func TestLists(t *testing.T) {
	const head, a, b, c = testImage + 0x5000, testImage + 0x5100, testImage + 0x5200, testImage + 0x5300
	m := newMachine("sv48")
	k := m.kernel(t)
	collect := func(l func(yield func(VirtAddr, error) bool)) (all []VirtAddr, failed error) {
		for at, err := range l {
			if err != nil {
				return all, err
			}
			all = append(all, at)
		}
		return all, nil
	}
	check := func(what string, l func(yield func(VirtAddr, error) bool), want []VirtAddr, failure error) {
		t.Helper()
		got, err := collect(l)
		if !slices.Equal(got, want) || !errors.Is(err, failure) {
			t.Errorf("%s: %v, %v; want %v, %v", what, got, err, want, failure)
		}
	}
	m.links(head, a, c)
	m.links(a, b, head)
	m.links(b, c, a)
	m.links(c, head, b)
	check("list", k.List(head, 8), []VirtAddr{a - 8, b - 8, c - 8}, nil)
	m.links(b, a, a) // a circle without the head
	check("circle", k.List(head, 0), []VirtAddr{a, b}, ErrCorrupt)
	m.links(b, 0xffffaf8000001000, a)
	check("list into nowhere", k.List(head, 0), []VirtAddr{a, b}, vmcore.ErrHole)
	m.links(head, head, head)
	check("empty list", k.List(head, 0), nil, nil)

	m.links(head, a)
	m.links(a, b)
	m.links(b, 1)
	check("nulls list", k.HList(head, 8), []VirtAddr{a - 8, b - 8}, nil)
	m.links(b, a)
	if got, err := collect(k.HList(head, 0)); !errors.Is(err, ErrCorrupt) || len(got) > 8 {
		t.Errorf("circle of an hlist: %v, %v; want ErrCorrupt soon", got, err)
	}

	m.links(head, b)
	m.links(b, 1, c, a) // black, right, left
	m.links(a, b, 0, 0)
	m.links(c, b, 0, 0)
	check("tree", k.RBTree(head, 0), []VirtAddr{a, b, c}, nil)
	m.links(c, b, 0, b)
	check("tree that contains itself", k.RBTree(head, 0), []VirtAddr{a, b}, ErrCorrupt)
	m.links(head, 0)
	check("empty tree", k.RBTree(head, 0), nil, nil)
}

func TestVirtAddrText(t *testing.T) {
	const a = VirtAddr(0xffffffff80000000)
	b, err := a.MarshalText()
	var back VirtAddr
	if err != nil || string(b) != "0xffffffff80000000" || back.UnmarshalText(b) != nil || back != a {
		t.Errorf("MarshalText = %q, %v, and back %v", b, err, back)
	}
	if err := back.UnmarshalText([]byte(strings.Repeat("9", 30))); err == nil {
		t.Error("an address of 30 digits is taken")
	}
}

// An address is the same number by every verb.
func TestVirtAddrFormat(t *testing.T) {
	const a = VirtAddr(0xffffffff80001234)
	if got, want := fmt.Sprintf("%v %s %#x %016x %20v", a, a, a, VirtAddr(0x12), VirtAddr(0x12)),
		"0xffffffff80001234 0xffffffff80001234 0xffffffff80001234 0000000000000012                 0x12"; got != want {
		t.Errorf("%q; want %q", got, want)
	}
}
