package fdt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t testing.TB, name string) *Tree {
	t.Helper()
	tree, err := Parse(read(t, name))
	if err != nil {
		t.Fatalf("Parse(%s): %v", name, err)
	}
	return tree
}

func marshal(t testing.TB, tree *Tree) []byte {
	t.Helper()
	b, err := tree.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dump writes a tree as text, all of it: two trees are the same if their dumps
// are.
func dump(t *Tree) string {
	var b strings.Builder
	for _, r := range t.Reserve {
		b.WriteString("reserve " + hex(r.Address) + " " + hex(r.Size) + "\n")
	}
	t.Root.Walk(func(n *Node) bool {
		b.WriteString(n.Path() + "\n")
		for _, p := range n.Properties() {
			b.WriteString("  " + p.Name + " = " + string(p.Value) + "\n")
		}
		return true
	})
	return b.String()
}

func hex(v uint64) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 16)
	for i := range out {
		out[15-i] = digits[v>>(4*i)&15]
	}
	return string(out)
}

// edges.dtb was made by dtc 1.6.1 from edges.dts; the packed form has one
// shape, so ours must be the same bytes.
func TestMarshalEqualsDTC(t *testing.T) {
	want := read(t, "edges.dtb")
	if got := marshal(t, parse(t, "edges.dtb")); !bytes.Equal(got, want) {
		t.Errorf("Marshal(Parse(edges.dtb)) has %d bytes that differ from dtc's %d", len(got), len(want))
	}
}

func TestRoundTripKeepsAll(t *testing.T) {
	for _, name := range []string{"edges.dtb", "qemu-virt.dtb"} {
		first := parse(t, name)
		second, err := Parse(marshal(t, first))
		if err != nil {
			t.Fatalf("%s: our own blob: %v", name, err)
		}
		if diff := cmp.Diff(dump(first), dump(second)); diff != "" {
			t.Errorf("%s changed in a round trip:\n%s", name, diff)
		}
		if first.BootCPU != second.BootCPU {
			t.Errorf("%s: boot CPU %d became %d", name, first.BootCPU, second.BootCPU)
		}
	}
}

func TestReadEdges(t *testing.T) {
	tree := parse(t, "edges.dtb")
	if diff := cmp.Diff([]Range{{0x80000000, 0x80000}, {0x2ffe00000, 0x200000}}, tree.Reserve); diff != "" {
		t.Errorf("reservations:\n%s", diff)
	}
	if v, ok := tree.Root.Get("odd"); !ok || !bytes.Equal(v, []byte{1, 2, 3}) {
		t.Errorf("odd = %x, %v", v, ok)
	}
	if v, ok := tree.Root.Get("empty"); !ok || len(v) != 0 {
		t.Errorf("empty = %x, %v", v, ok)
	}
	if tree.Root.Has("absent") {
		t.Error("has absent")
	}
	if diff := cmp.Diff([]string{"panicroom,edges", "linux,dummy-virt"}, tree.Root.Strings("compatible")); diff != "" {
		t.Errorf("compatible:\n%s", diff)
	}
	chosen := tree.Find("/chosen")
	if s, ok := chosen.String("bootargs"); !ok || s != "console=ttyS0 crashkernel=128M" {
		t.Errorf("bootargs = %q, %v", s, ok)
	}
	for name, want := range map[string]uint64{"linux,initrd-start": 0x88000000, "linux,initrd-end": 0x88100000} {
		if v, ok := chosen.Uint(name); !ok || v != want {
			t.Errorf("%s = %#x, %v; want %#x", name, v, ok, want)
		}
	}
}

func TestFind(t *testing.T) {
	tree := parse(t, "edges.dtb")
	for path, want := range map[string]string{
		"/":                      "/",
		"/memory":                "/memory@80000000",
		"/soc/uart":              "/soc/uart@10000000",
		"/soc/uart@10001000":     "/soc/uart@10001000",
		"/soc/i2c/eeprom@50":     "/soc/i2c@10002000/eeprom@50",
		"/soc/uart@0":            "",
		"/nothing":               "",
		"chosen":                 "",
		"/reserved-memory/mmode": "",
	} {
		got := ""
		if n := tree.Find(path); n != nil {
			got = n.Path()
		}
		if got != want {
			t.Errorf("Find(%q) = %q; want %q", path, got, want)
		}
	}
}

func TestRegs(t *testing.T) {
	tree := parse(t, "edges.dtb")
	for path, want := range map[string][]Range{
		"/memory":                       {{0x80000000, 0x40000000}, {0x280000000, 0x80000000}},
		"/reserved-memory/mmode_resv0":  {{0x80000000, 0x40000}},
		"/reserved-memory/linux,cma":    nil,
		"/soc/uart@10001000":            {{0x10001000, 0x100}},
		"/soc/i2c@10002000/eeprom@50":   {{0x50, 0}},
		"/reserved-memory/fw@90000000/": {{0x90000000, 0x1000}},
	} {
		got, err := tree.Find(path).Regs()
		if err != nil {
			t.Errorf("Regs(%s): %v", path, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Regs(%s):\n%s", path, diff)
		}
	}
	if _, err := tree.Find("/soc/pci/dev").Regs(); !errors.Is(err, ErrCells) {
		t.Errorf("Regs of 3 cells: %v; want ErrCells", err)
	}
}

func TestRangesInCells(t *testing.T) {
	tree := parse(t, "edges.dtb")
	soc := tree.Find("/soc")
	if _, err := soc.EncodeRanges(Range{1 << 32, 1}); !errors.Is(err, ErrCells) {
		t.Errorf("33 bits in one cell: %v; want ErrCells", err)
	}
	if _, err := soc.DecodeRanges(make([]byte, 12)); !errors.Is(err, ErrCells) {
		t.Errorf("a range and a half: %v; want ErrCells", err)
	}
	list := []Range{{0x2f0000000, 0x10000000}, {0xf0000000, 0x8000000}}
	b, err := tree.Root.EncodeRanges(list...)
	if err != nil || len(b) != 32 {
		t.Fatalf("EncodeRanges = %x, %v", b, err)
	}
	back, err := tree.Root.DecodeRanges(b)
	if diff := cmp.Diff(list, back); diff != "" || err != nil {
		t.Errorf("DecodeRanges(EncodeRanges): %v\n%s", err, diff)
	}
	// A bus that does not say has the cells of the bus above it.
	inner := soc.AddChild("inner")
	if a, s := inner.Cells(); a != 1 || s != 1 {
		t.Errorf("inherited cells = %d, %d; want 1, 1", a, s)
	}
	if a, s := New().Root.Cells(); a != 1 || s != 1 {
		t.Errorf("cells of an empty root = %d, %d; want 1, 1", a, s)
	}
}

// TestEdit makes the edits of a panic kernel's tree.
func TestEdit(t *testing.T) {
	tree := parse(t, "edges.dtb")
	chosen := tree.Ensure("/chosen")
	chosen.SetString("bootargs", "panic=1")
	chosen.SetU64("linux,initrd-start", 0x90000000)
	chosen.SetU32("one", 1)
	if !chosen.Remove("kaslr-seed") || chosen.Remove("kaslr-seed") {
		t.Error("Remove(kaslr-seed) twice")
	}
	b, err := tree.Root.EncodeRanges(Range{0xe0000000, 0x10000000})
	if err != nil {
		t.Fatal(err)
	}
	chosen.Set("linux,usable-memory-range", b)
	rsv := tree.Find("/reserved-memory")
	for _, n := range rsv.Children() {
		if n.Has("size") && !n.Has("reg") && !rsv.RemoveChild(n) {
			t.Errorf("RemoveChild(%s)", n.Path())
		}
	}
	tree.Reserve = []Range{{0xefff0000, 0x1000}}
	tree.Ensure("/a/b/c").Set("deep", nil)

	got, err := Parse(marshal(t, tree))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range got.Find("/chosen").Properties() {
		names = append(names, p.Name)
	}
	want := []string{"bootargs", "linux,initrd-start", "linux,initrd-end", "one", "linux,usable-memory-range"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("properties of /chosen:\n%s", diff)
	}
	if s, _ := got.Find("/chosen").Get("bootargs"); string(s) != "panic=1\x00" {
		t.Errorf("bootargs = %q: the length must be exact", s)
	}
	if got.Find("/reserved-memory/linux,cma") != nil || got.Find("/reserved-memory/fw") == nil {
		t.Error("wrong reserved-memory node removed")
	}
	if !got.Find("/a/b/c").Has("deep") {
		t.Error("/a/b/c has no property")
	}
	if diff := cmp.Diff([]Range{{0xefff0000, 0x1000}}, got.Reserve); diff != "" {
		t.Errorf("reservations:\n%s", diff)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	tree := parse(t, "edges.dtb")
	before := dump(tree)
	clone := tree.Clone()
	if diff := cmp.Diff(before, dump(clone)); diff != "" {
		t.Fatalf("clone differs:\n%s", diff)
	}
	clone.Find("/chosen").SetString("bootargs", "x")
	clone.Root.RemoveChild(clone.Find("/soc"))
	clone.Reserve[0].Size = 1
	v, _ := clone.Root.Get("odd")
	v[0] = 9
	if diff := cmp.Diff(before, dump(tree)); diff != "" {
		t.Errorf("the original changed with its clone:\n%s", diff)
	}
}

// TestParseNops: the kernel wipes rng-seed out of its own tree with NOPs, and
// that tree is what /sys/firmware/fdt shows.
func TestParseNops(t *testing.T) {
	blob := read(t, "edges.dtb")
	at := bytes.Index(blob, []byte{0, 0, 0, 3, 0, 0, 0, 3}) // property odd: 3 bytes
	if at < 0 {
		t.Fatal("odd not found")
	}
	for i := range 4 {
		binary.BigEndian.PutUint32(blob[at+4*i:], tokenNop)
	}
	tree, err := Parse(blob)
	if err != nil {
		t.Fatal(err)
	}
	if tree.Root.Has("odd") || !tree.Root.Has("empty") {
		t.Error("NOPs were not skipped")
	}
}

func TestParseRefuses(t *testing.T) {
	word := func(i int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint32(b[4*i:], v); return b }
	}
	good := read(t, "edges.dtb")
	structure := int(binary.BigEndian.Uint32(good[8:]))
	for name, change := range map[string]func([]byte) []byte{
		"nothing":               func(b []byte) []byte { return nil },
		"short":                 func(b []byte) []byte { return b[:39] },
		"cut":                   func(b []byte) []byte { return b[:len(b)-1] },
		"magic":                 word(0, 0xfeedd00d),
		"total too small":       word(1, 39),
		"total beyond":          word(1, uint32(len(good))+1),
		"total huge":            word(1, 0xffffffff),
		"structure beyond":      word(2, uint32(len(good))),
		"structure odd":         word(2, uint32(structure)+1),
		"structure in header":   word(2, 0),
		"strings beyond":        word(3, uint32(len(good))),
		"reservations beyond":   word(4, uint32(len(good))+8),
		"reservations odd":      word(4, 44),
		"reservations endless":  word(4, (uint32(len(good))-8)&^7),
		"old version":           word(5, 3),
		"new version":           word(6, 18),
		"strings size":          word(8, 0xffffffff),
		"no strings":            word(8, 0),
		"structure size":        word(9, 0xfffffffc),
		"structure without end": word(9, uint32(binary.BigEndian.Uint32(good[36:])-4)),
		"empty structure":       word(9, 0),
		"unknown token":         word(structure/4, 5),
		"end at once":           word(structure/4, tokenEnd),
		"property at once":      word(structure/4, tokenProp),
		"end node at once":      word(structure/4, tokenEndNode),
	} {
		tree, err := Parse(change(bytes.Clone(good)))
		if !errors.Is(err, ErrMalformed) || tree != nil {
			t.Errorf("%s: Parse = %v, %v; want ErrMalformed", name, tree, err)
		}
	}
}

// structure builds a blob around a structure block, names at 0 is "x".
func blobOf(tokens ...uint32) []byte {
	var body []byte
	for _, v := range tokens {
		body = binary.BigEndian.AppendUint32(body, v)
	}
	out := make([]byte, 56)
	out = append(out, body...)
	out = append(out, 'x', 0)
	for i, v := range []int{magic, len(out), 56, 56 + len(body), 40, 17, 16, 0, 2, len(body)} {
		binary.BigEndian.PutUint32(out[4*i:], uint32(v))
	}
	return out
}

func TestParseShapes(t *testing.T) {
	const nameA, nameSlash = uint32('a') << 24, uint32('/') << 24
	deep := func(n int) []uint32 {
		out := []uint32{tokenBeginNode, 0}
		for range n {
			out = append(out, tokenBeginNode, nameA)
		}
		for range n + 1 {
			out = append(out, tokenEndNode)
		}
		return append(out, tokenEnd)
	}
	for _, c := range []struct {
		name   string
		ok     bool
		tokens []uint32
	}{
		{"root only", true, []uint32{1, 0, 2, 9}},
		{"root called /", true, []uint32{1, nameSlash, 2, 9}},
		{"root called a", false, []uint32{1, nameA, 2, 9}},
		{"child without name", false, []uint32{1, 0, 1, 0, 2, 2, 9}},
		{"child called /", false, []uint32{1, 0, 1, nameSlash, 2, 2, 9}},
		{"two roots", false, []uint32{1, 0, 2, 1, 0, 2, 9}},
		{"open root", false, []uint32{1, 0, 9}},
		{"property", true, []uint32{1, 0, 3, 0, 0, 2, 9}},
		{"property after child", false, []uint32{1, 0, 1, nameA, 2, 3, 0, 0, 2, 9}},
		{"property after root", false, []uint32{1, 0, 2, 3, 0, 0, 9}},
		{"property with empty name", false, []uint32{1, 0, 3, 0, 1, 2, 9}},
		{"property without name", false, []uint32{1, 0, 3, 0, 2, 2, 9}},
		{"property too long", false, []uint32{1, 0, 3, 9, 0, 2, 9}},
		{"property huge", false, []uint32{1, 0, 3, 0xffffffff, 0, 2, 9}},
		{"deepest", true, deep(maxDepth - 1)},
		{"too deep", false, deep(maxDepth)},
	} {
		_, err := Parse(blobOf(c.tokens...))
		if (err == nil) != c.ok {
			t.Errorf("%s: Parse: %v; want success: %v", c.name, err, c.ok)
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	for name, change := range map[string]func(*Tree){
		"empty node name":       func(t *Tree) { t.Root.AddChild("") },
		"slash":                 func(t *Tree) { t.Root.AddChild("a/b") },
		"NUL in node":           func(t *Tree) { t.Root.AddChild("a\x00") },
		"long node name":        func(t *Tree) { t.Root.AddChild(strings.Repeat("a", maxName+1)) },
		"empty property name":   func(t *Tree) { t.Root.Set("", nil) },
		"NUL in property":       func(t *Tree) { t.Root.Set("a\x00", nil) },
		"reservation of size 0": func(t *Tree) { t.Reserve = []Range{{1, 0}} },
		"too large":             func(t *Tree) { t.Root.Set("a", make([]byte, MaxSize)) },
		"too many names": func(t *Tree) {
			for i := range 1 << 12 {
				t.Root.Set(hex(uint64(i)), nil)
			}
		},
		"too deep": func(t *Tree) {
			t.Ensure(strings.Repeat("/a", maxDepth))
		},
	} {
		tree := New()
		change(tree)
		if b, err := tree.Marshal(); err == nil {
			t.Errorf("%s: Marshal = %d bytes", name, len(b))
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(read(f, "edges.dtb"))
	f.Add(read(f, "qemu-virt.dtb"))
	f.Add(blobOf(1, 0, 3, 0, 0, 4, 2, 9))
	f.Fuzz(func(t *testing.T, blob []byte) {
		tree, err := Parse(blob)
		if (err == nil) != (tree != nil) {
			t.Fatalf("Parse = %v, %v", tree, err)
		}
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error does not wrap ErrMalformed: %v", err)
			}
			return
		}
		tree.Root.Walk(func(n *Node) bool { _, _ = n.Regs(); return true })
		first, err := tree.Marshal()
		if err != nil {
			// Overlapping names are resolved, so a hostile blob may grow
			// past the limit; nothing else may fail.
			if !errors.Is(err, ErrTooLarge) {
				t.Fatalf("Marshal of a parsed tree: %v", err)
			}
			return
		}
		again, err := Parse(first)
		if err != nil {
			t.Fatalf("Parse of our own blob: %v", err)
		}
		if a, b := dump(tree), dump(again); a != b {
			t.Fatalf("round trip: %q became %q", a, b)
		}
		second, err := again.Marshal()
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("Marshal is not stable: %v", err)
		}
	})
}

func BenchmarkParseMarshal(b *testing.B) {
	blob := read(b, "qemu-virt.dtb")
	b.ReportAllocs()
	for b.Loop() {
		tree, err := Parse(blob)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tree.Marshal(); err != nil {
			b.Fatal(err)
		}
	}
}
