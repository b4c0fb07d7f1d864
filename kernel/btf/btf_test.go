package btf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	referee "github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

// raw writes types as a kernel's BTF.
func raw(t testing.TB, types ...referee.Type) []byte {
	t.Helper()
	b, err := referee.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sample are types of every kind.
func sample() []referee.Type {
	i32 := &referee.Int{Name: "int", Size: 4, Encoding: referee.Signed}
	char := &referee.Int{Name: "char", Size: 1}
	ulong := &referee.Int{Name: "unsigned long", Size: 8}
	node := &referee.Struct{Name: "node", Size: 64}
	op := &referee.FuncProto{Return: i32, Params: []referee.FuncParam{
		{Name: "n", Type: &referee.Pointer{Target: node}},
		{Name: "name", Type: &referee.Pointer{Target: &referee.Const{Type: char}}},
		{Type: (*referee.Void)(nil)},
	}}
	color := &referee.Enum{Name: "color", Size: 4, Signed: true, Values: []referee.EnumValue{{Name: "RED"}, {Name: "NONE", Value: ^uint64(0)}}}
	wide := &referee.Enum{Name: "wide", Size: 8, Values: []referee.EnumValue{{Name: "TOP", Value: 1 << 63}}}
	node.Members = []referee.Member{
		{Name: "next", Type: &referee.Pointer{Target: node}},
		{Name: "op", Type: &referee.Pointer{Target: op}, Offset: 64},
		{Name: "table", Type: &referee.Array{Index: i32, Nelems: 2, Type: &referee.Array{Index: i32, Nelems: 3, Type: char}}, Offset: 128},
		{Name: "low", Type: i32, Offset: 192, BitfieldSize: 3},
		{Name: "high", Type: i32, Offset: 195, BitfieldSize: 5},
		{Offset: 224, Type: &referee.Union{Size: 4, Members: []referee.Member{
			{Name: "color", Type: color},
			{Name: "number", Type: &referee.Volatile{Type: i32}},
		}}},
		{Name: "pairs", Offset: 256, Type: &referee.Array{Index: i32, Nelems: 1, Type: &referee.Struct{Size: 16, Members: []referee.Member{
			{Name: "key", Type: ulong}, {Name: "value", Type: &referee.Const{Type: &referee.Pointer{Target: char}}, Offset: 64},
		}}}},
		{Name: "row", Type: &referee.Pointer{Target: &referee.Array{Index: i32, Nelems: 4, Type: i32}}, Offset: 384},
		{Name: "owner", Type: &referee.Pointer{Target: &referee.Fwd{Name: "stranger", Kind: referee.FwdUnion}}, Offset: 448},
	}
	return []referee.Type{
		node, color, wide,
		&referee.Typedef{Name: "node_t", Type: node},
		&referee.Typedef{Name: "atomic_t", Type: &referee.Struct{Size: 4, Members: []referee.Member{{Name: "counter", Type: i32}}}},
		&referee.Func{Name: "visit", Type: op, Linkage: referee.StaticFunc},
		&referee.Var{Name: "roots", Type: &referee.Array{Index: i32, Nelems: 2, Type: &referee.Pointer{Target: node}}, Linkage: referee.StaticVar},
	}
}

func parse(t testing.TB, p []byte, base *Spec) *Spec {
	t.Helper()
	s, err := Parse(p, base)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func find(t testing.TB, s *Spec, name string, kinds ...Kind) Type {
	t.Helper()
	all, err := s.Find(name, kinds...)
	if err != nil || len(all) != 1 {
		t.Fatalf("Find(%s) = %v, %v; want one", name, all, err)
	}
	return all[0]
}

func TestWrite(t *testing.T) {
	s := parse(t, raw(t, sample()...), nil)
	for _, c := range []struct {
		name string
		kind Kind
		want string
	}{
		{"node", Struct, `struct node {
      [0]     struct node *next;
      [8]     int (*op)(struct node *n, const char *name, ...);
     [16]     char table[2][3];
   [24:0]     int low : 3;
   [24:3]     int high : 5;
              union {
     [28]         enum color color;
     [28]         volatile int number;
              };
              struct {
     [32]         unsigned long key;
     [40]         char *const value;
              } pairs[1];
     [48]     int (*row)[4];
     [56]     union stranger *owner;
};
SIZE: 64 (0x40)
`},
		{"color", Enum, "enum color {\n    RED = 0,\n    NONE = -1,\n};\nSIZE: 4 (0x4)\n"},
		{"wide", Enum64, "enum wide {\n    TOP = 0x8000000000000000,\n};\nSIZE: 8 (0x8)\n"},
		{"atomic_t", Typedef, "typedef struct {\n      [0]     int counter;\n} atomic_t;\nSIZE: 4 (0x4)\n"},
		{"visit", Func, "int visit(struct node *n, const char *name, ...);\n"},
		{"roots", Var, "struct node *roots[2];\n"},
		{"unsigned long", Int, "unsigned long;\n"},
	} {
		var b strings.Builder
		if err := find(t, s, c.name, c.kind).Write(&b); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if d := cmp.Diff(c.want, b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
	var b strings.Builder
	if err := find(t, s, "node_t", Typedef).Write(&b); err != nil || !strings.HasPrefix(b.String(), "typedef struct node node_t;\nSIZE: 64 (0x40)\nstruct node {\n") {
		t.Errorf("node_t is %q, %v", b.String(), err)
	}
}

// Types of modules go on where those of the kernel end.
func TestSplit(t *testing.T) {
	base := parse(t, raw(t, sample()...), nil)
	node := find(t, base, "node", Struct)
	// struct mine { struct node inner; }, its names behind all strings of the kernel.
	le := binary.LittleEndian
	strs := []byte("mine\x00inner\x00")
	first := uint32(len(base.strings))
	p := le.AppendUint32([]byte{0x9f, 0xeb, 1, 0}, HeaderSize)
	for _, n := range []uint32{0, 24, 24, uint32(len(strs)), first, uint32(Struct)<<24 | 1, 64, first + 5, uint32(node.ID), 0} {
		p = le.AppendUint32(p, n)
	}
	p = append(p, strs...)
	s := parse(t, p, base)
	mine := find(t, s, "mine", Struct)
	if mine.ID < ID(base.Len()) {
		t.Errorf("type %d of a module; the kernel has %d", mine.ID, base.Len())
	}
	members, err := mine.Members()
	if err != nil || len(members) != 1 || members[0].Type.Name != "node" {
		t.Errorf("members %v, %v; want one of the kernel's types", members, err)
	}
	if all, err := s.Find("node", Struct); len(all) != 0 || err != nil {
		t.Errorf("the module's own types have the kernel's: %v, %v", all, err)
	}
}

// A struct in itself, a typedef of itself, a function that takes itself many times:
// each is an error and takes no time.
func TestCircles(t *testing.T) {
	i32 := &referee.Int{Name: "int", Size: 4}
	good := raw(t, &referee.Struct{Name: "s", Size: 8, Members: []referee.Member{{Name: "inner", Type: &referee.Struct{Name: "inner_s", Size: 4}}}},
		&referee.Typedef{Name: "t", Type: i32}, &referee.FuncProto{Return: i32, Params: []referee.FuncParam{{Name: "a", Type: i32}, {Name: "b", Type: i32}}})
	s := parse(t, good, nil)
	for typ, err := range s.All() {
		if err != nil {
			t.Fatal(err)
		}
		at := HeaderSize + int(s.head.TypesOff) - HeaderSize + int(s.offsets[typ.ID-1])
		bad := bytes.Clone(good)
		put := func(off int) { s.head.Order.PutUint32(bad[at+off:], uint32(typ.ID)) }
		switch typ.Kind {
		case Struct:
			if typ.Name != "s" {
				continue
			}
			put(HeadSize + 4)
			// Nameless, so that it is written into itself.
			s.head.Order.PutUint32(bad[at:], 0)
			s.head.Order.PutUint32(bad[at+HeadSize:], 0)
		case Typedef:
			put(8)
		case FuncProto:
			put(HeadSize + 4)
			put(HeadSize + 12)
		default:
			continue
		}
		circle := parse(t, bad, nil)
		c, err := circle.Type(typ.ID)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		err = c.Write(&b)
		if _, serr := c.Strip(); typ.Kind == Typedef {
			err = errors.Join(err, serr)
		}
		if !errors.Is(err, ErrCorrupt) || b.Len() > 1<<16 {
			t.Errorf("%v is written as %d bytes, %v; want ErrCorrupt", typ.Kind, b.Len(), err)
		}
	}
}

// Somebody else's reader is asked about every struct of the running kernel.
func TestRunningKernel(t *testing.T) {
	p, err := os.ReadFile("/sys/kernel/btf/vmlinux")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no BTF of the running kernel, which nothing else is compared with; Debian's have it: %v", err)
		}
		t.Skipf("no BTF of the running kernel: %v", err)
	}
	s := parse(t, p, nil)
	spec, err := referee.LoadSpecFromReader(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	structs := 0
	for typ, err := range s.All() {
		if err != nil {
			t.Fatal(err)
		}
		if typ.Kind != Struct && typ.Kind != Union {
			continue
		}
		structs++
		theirs, err := spec.TypeByID(referee.TypeID(typ.ID))
		if err != nil {
			t.Fatal(err)
		}
		var want []referee.Member
		switch c := theirs.(type) {
		case *referee.Struct:
			want = c.Members
		case *referee.Union:
			want = c.Members
		}
		got, err := typ.Members()
		if err != nil || len(got) != len(want) || theirs.TypeName() != typ.Name {
			t.Fatalf("%s has %d members, %v; the referee has %d of %s", typ, len(got), err, len(want), theirs)
		}
		for i, m := range got {
			w := want[i]
			size, err := m.Type.Sizeof()
			wsize, werr := referee.Sizeof(w.Type)
			if m.Name != w.Name || m.Bit != uint32(w.Offset) || m.Bits != uint32(w.BitfieldSize) || err != nil || werr == nil && size != uint64(wsize) {
				t.Errorf("%s.%s: %+v of %d bytes, %v; the referee has %+v of %d", typ, m.Name, m, size, err, w, wsize)
			}
		}
		if err := typ.Write(new(strings.Builder)); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
	t.Logf("%d types, %d structs and unions", s.Len(), structs)
	if structs < 1000 {
		t.Errorf("%d structs and unions of a kernel", structs)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(raw(f, sample()...))
	f.Add(raw(f, &referee.Int{Name: "int", Size: 4}))
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := Parse(p, nil)
		if err != nil {
			if s != nil || !errors.Is(err, ErrCorrupt) {
				t.Fatalf("Parse = %v, %v; want nil, ErrCorrupt", s, err)
			}
			return
		}
		n := 0
		for typ, err := range s.All() {
			if n++; err == nil && n < 16 {
				var b strings.Builder
				err = typ.Write(&b)
				fmt.Fprint(&b, typ)
				if b.Len() > 1<<24 {
					t.Errorf("%d bytes are written of one of %d", b.Len(), len(p))
				}
			}
			if err != nil && !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v; want ErrCorrupt", err)
			}
		}
		if _, err := s.Find("node", Struct); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("Find: %v; want ErrCorrupt", err)
		}
	})
}
