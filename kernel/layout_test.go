package kernel

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

// makeBTF writes types as a kernel's BTF.
func makeBTF(t testing.TB, types ...btf.Type) []byte {
	t.Helper()
	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// pageTypes is a struct page in the manner of kernels, with a struct of the
// same name that some driver has.
func pageTypes() []btf.Type {
	u32 := &btf.Int{Name: "unsigned int", Size: 4}
	ulong := &btf.Typedef{Name: "ulong", Type: &btf.Const{Type: &btf.Int{Name: "unsigned long", Size: 8}}}
	head := &btf.Struct{Name: "list_head", Size: 16}
	head.Members = []btf.Member{
		{Name: "next", Type: &btf.Pointer{Target: head}},
		{Name: "prev", Type: &btf.Pointer{Target: head}, Offset: 64},
	}
	inner := &btf.Struct{Size: 40, Members: []btf.Member{
		{Type: &btf.Union{Size: 16, Members: []btf.Member{
			{Name: "lru", Type: head},
			{Name: "elsewhere", Type: u32},
		}}},
		{Name: "mapping", Type: &btf.Pointer{Target: u32}, Offset: 128},
		{Name: "private", Type: ulong, Offset: 256},
	}}
	page := &btf.Struct{Name: "page", Size: 64, Members: []btf.Member{
		{Name: "flags", Type: ulong},
		{Type: &btf.Union{Size: 40, Members: []btf.Member{
			{Type: inner},
			{Type: &btf.Struct{Size: 8, Members: []btf.Member{{Name: "compound_head", Type: ulong}}}},
		}}, Offset: 64},
		{Type: &btf.Union{Size: 4, Members: []btf.Member{
			{Name: "page_type", Type: u32},
			{Name: "_mapcount", Type: &btf.Struct{Size: 4}},
		}}, Offset: 384},
	}}
	driver := &btf.Struct{Name: "page", Size: 8, Members: []btf.Member{{Name: "private", Type: ulong}}}
	free := &btf.Struct{Name: "free_area", Size: 104, Members: []btf.Member{
		{Name: "free_list", Type: &btf.Array{Index: u32, Type: head, Nelems: 6}},
		{Name: "nr_free", Type: ulong, Offset: 96 * 8},
	}}
	info := &btf.Struct{Name: "printk_info", Size: 24, Members: []btf.Member{
		{Name: "seq", Type: ulong},
		{Name: "flags", Type: &btf.Int{Name: "u8", Size: 1}, Offset: 152, BitfieldSize: 5},
		{Name: "level", Type: &btf.Int{Name: "u8", Size: 1}, Offset: 157, BitfieldSize: 3},
	}}
	flags := &btf.Enum{Name: "pageflags", Size: 4, Values: []btf.EnumValue{{Name: "PG_locked"}, {Name: "PG_lru", Value: 5}}}
	kind := &btf.Enum{Name: "pagetype", Size: 4, Signed: true, Values: []btf.EnumValue{{Name: "PGTY_buddy", Value: 0xf0}, {Name: "NEGATIVE", Value: ^uint64(0)}}}
	wide := &btf.Enum{Name: "module_state", Size: 8, Values: []btf.EnumValue{{Name: "WIDE", Value: 1 << 40}}}
	other := &btf.Enum{Name: "not_wanted", Size: 4, Values: []btf.EnumValue{{Name: "X"}}}
	nodes := &btf.Typedef{Name: "nodemask_t", Type: &btf.Struct{Size: 8, Members: []btf.Member{
		{Name: "bits", Type: &btf.Array{Index: u32, Type: ulong, Nelems: 1}},
	}}}
	return []btf.Type{driver, page, free, info, flags, kind, wide, other, nodes}
}

func pageLayoutWanted() *Layout {
	return &Layout{
		Structs: map[string]Struct{
			"list_head": {Size: 16, Fields: map[string]Field{"next": {0, 8, 0, 0, 0}, "prev": {8, 8, 0, 0, 0}}},
			"page": {Size: 64, Fields: map[string]Field{
				"flags": {0, 8, 0, 0, 0}, "lru": {8, 16, 0, 0, 0}, "mapping": {24, 8, 0, 0, 0}, "private": {40, 8, 0, 0, 0},
				"compound_head": {8, 8, 0, 0, 0}, "page_type": {48, 4, 0, 0, 0}, "_mapcount": {48, 4, 0, 0, 0},
			}},
			"free_area":   {Size: 104, Fields: map[string]Field{"free_list": {0, 96, 6, 0, 0}, "nr_free": {96, 8, 0, 0, 0}}},
			"printk_info": {Size: 24, Fields: map[string]Field{"seq": {0, 8, 0, 0, 0}, "flags": {19, 1, 0, 0, 5}, "level": {19, 1, 0, 5, 3}}},
			"nodemask_t":  {Size: 8, Fields: map[string]Field{"bits": {0, 8, 1, 0, 0}}},
		},
		Enums: map[string]map[string]int64{
			"pageflags":    {"PG_locked": 0, "PG_lru": 5},
			"pagetype":     {"PGTY_buddy": 0xf0, "NEGATIVE": -1},
			"module_state": {"WIDE": 1 << 40},
		},
	}
}

func TestLayoutFromBTF(t *testing.T) {
	l, err := LayoutFromBTF(bytes.NewReader(makeBTF(t, pageTypes()...)))
	if err != nil {
		t.Fatal(err)
	}
	want := pageLayoutWanted()
	// An empty inner struct has no size of its own in this test.
	if f, ok := l.Structs["page"].Fields["_mapcount"]; !ok || f.Offset != 48 {
		t.Errorf("page._mapcount = %+v, %v; want offset 48", f, ok)
	}
	if diff := cmp.Diff(want, l); diff != "" {
		t.Errorf("layout (-want +got):\n%s", diff)
	}

	p, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseLayout(p)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l, back); diff != "" {
		t.Errorf("after JSON (-want +got):\n%s", diff)
	}
}

func TestLayoutLookups(t *testing.T) {
	l := pageLayoutWanted()
	if f, ok := l.Field("free_area.free_list"); !ok || f.ElemSize() != 16 {
		t.Errorf("Field(free_area.free_list) = %+v, %v; want elements of 16 bytes", f, ok)
	}
	if n, ok := l.Size("page"); !ok || n != 64 {
		t.Errorf("Size(page) = %d, %v; want 64", n, ok)
	}
	if v, ok := l.EnumValue("pageflags", "PG_lru"); !ok || v != 5 {
		t.Errorf("EnumValue(PG_lru) = %d, %v; want 5", v, ok)
	}
	for _, name := range []string{"page.none", "none.flags", "page", ""} {
		if f, ok := l.Field(name); ok {
			t.Errorf("Field(%q) = %+v; want none", name, f)
		}
	}
	var none *Layout
	if _, ok := none.Field("page.flags"); ok || none.Enum("pageflags") != nil {
		t.Error("a nil layout knows fields")
	}
	if _, ok := none.Size("page"); ok {
		t.Error("a nil layout knows sizes")
	}
}

func TestLayoutAgrees(t *testing.T) {
	l := pageLayoutWanted()
	lookup := func(m map[string]uint64) func(string) (uint64, bool) {
		return func(name string) (uint64, bool) { v, ok := m[name]; return v, ok }
	}
	size := lookup(map[string]uint64{"page": 64})
	if err := l.Agrees(lookup(map[string]uint64{"page.lru": 8, "zone.vm_stat": 1}), size); err != nil {
		t.Errorf("Agrees = %v; want nil", err)
	}
	if err := l.Agrees(lookup(map[string]uint64{"page.lru": 16}), size); !errors.Is(err, ErrLayout) {
		t.Errorf("Agrees with another offset = %v; want ErrLayout", err)
	}
	if err := l.Agrees(lookup(nil), lookup(map[string]uint64{"page": 56})); !errors.Is(err, ErrLayout) {
		t.Errorf("Agrees with another size = %v; want ErrLayout", err)
	}
}

func TestLayoutFromBTFDamaged(t *testing.T) {
	good := makeBTF(t, pageTypes()...)
	loop := makeBTF(t, &btf.Typedef{Name: "nodemask_t", Type: &btf.Int{Name: "int", Size: 4}})
	// The typedef is one of two types; point it to itself, whichever it is.
	for id := byte(1); id <= 2; id++ {
		off := 24
		if id == 2 {
			off += 12
			if loop[24+7]&0x1f == 1 { // an integer
				off += 4
			}
		}
		if loop[off+7]&0x1f == 8 { // a typedef
			loop[off+8] = id
		}
	}
	tests := map[string][]byte{
		"empty":     nil,
		"header":    good[:20],
		"magic":     append([]byte{1, 2}, good[2:]...),
		"version":   append([]byte{good[0], good[1], 9}, good[3:]...),
		"truncated": good[:len(good)-3],
		"types cut": good[:60],
		"loop":      loop,
	}
	for name, raw := range tests {
		if l, err := LayoutFromBTF(bytes.NewReader(raw)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: LayoutFromBTF = %+v, %v; want ErrCorrupt", name, l, err)
		}
	}
	broken := errors.New("broken")
	if _, err := LayoutFromBTF(failingReader{broken}); !errors.Is(err, broken) {
		t.Errorf("LayoutFromBTF of a broken reader = %v; want its error", err)
	}
}

type failingReader struct{ err error }

func (f failingReader) ReadAt([]byte, int64) (int, error) { return 0, f.err }

const runningBTF = "/sys/kernel/btf/vmlinux"

// TestLayoutOfRunningKernel asks somebody else's BTF reader about everything
// in the layout.
func TestLayoutOfRunningKernel(t *testing.T) {
	f, err := os.Open(runningBTF)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no BTF of the running kernel, which nothing else is compared with; Debian's have it: %v", err)
		}
		t.Skipf("no BTF of the running kernel: %v", err)
	}
	defer f.Close()
	l, err := LayoutFromBTF(f)
	if err != nil {
		t.Fatal(err)
	}
	compareWithReferee(t, l, f)
	for _, name := range []string{"page.flags", "task_struct.comm", "module.name", "zone.free_area"} {
		if _, ok := l.Field(name); !ok {
			t.Errorf("Field(%q) is missing", name)
		}
	}
}

// compareWithReferee checks each struct of l against cilium/ebpf.
func compareWithReferee(t *testing.T, l *Layout, r io.ReaderAt) {
	t.Helper()
	spec, err := btf.LoadSpecFromReader(r)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range l.Structs {
		types, err := spec.AnyTypesByName(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		match := false
		for _, typ := range types {
			size, members := refereeMembers(btf.UnderlyingType(typ), 0)
			same := size == s.Size
			for m, f := range s.Fields {
				w, ok := members[m]
				same = same && ok && w == [2]uint64{f.Offset*8 + uint64(f.Bit), f.Size}
			}
			match = match || same
		}
		if !match {
			t.Errorf("%s: %+v; the referee has no such struct", name, s)
		}
	}
	for name, e := range l.Enums {
		var typ *btf.Enum
		if err := spec.TypeByName(name, &typ); err != nil {
			t.Errorf("enum %s: %v", name, err)
			continue
		}
		for _, v := range typ.Values {
			if got, ok := e[v.Name]; !ok || uint64(got) != v.Value && uint64(uint32(got)) != v.Value {
				t.Errorf("enum %s: %s = %d, %v; want %d", name, v.Name, got, ok, v.Value)
			}
		}
	}
}

func refereeMembers(typ btf.Type, base uint64) (size uint64, members map[string][2]uint64) {
	members = make(map[string][2]uint64)
	var list []btf.Member
	switch c := typ.(type) {
	case *btf.Struct:
		list, size = c.Members, uint64(c.Size)
	case *btf.Union:
		list, size = c.Members, uint64(c.Size)
	}
	for _, m := range list {
		at := base + uint64(m.Offset)
		if m.Name == "" {
			_, inner := refereeMembers(btf.UnderlyingType(m.Type), at)
			for n, v := range inner {
				if _, dup := members[n]; !dup {
					members[n] = v
				}
			}
			continue
		}
		n, err := btf.Sizeof(m.Type)
		if _, dup := members[m.Name]; err == nil && !dup {
			members[m.Name] = [2]uint64{at, uint64(n)}
		}
	}
	return size, members
}

// TestLayoutFromBTFMemory: what is in use must not grow with the BTF.
func TestLayoutFromBTFMemory(t *testing.T) {
	types := pageTypes()
	for i := range 20_000 {
		types = append(types, &btf.Struct{Name: "s" + strings.Repeat("x", 40) + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)), Size: 4,
			Members: []btf.Member{{Name: "m", Type: &btf.Int{Name: "int", Size: 4}}}})
	}
	raw := makeBTF(t, types...)
	r := bytes.NewReader(raw)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := LayoutFromBTF(r); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	// All that was ever allocated bounds what was in use at once.
	if got := after.TotalAlloc - before.TotalAlloc; got > 512<<10 {
		t.Errorf("LayoutFromBTF of %d bytes allocated %d bytes; want at most 512 KiB", len(raw), got)
	}
}

func FuzzLayoutFromBTF(f *testing.F) {
	f.Add(makeBTF(f, pageTypes()...))
	f.Add(makeBTF(f, &btf.Int{Name: "int", Size: 4}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := LayoutFromBTF(bytes.NewReader(raw))
		if err != nil {
			if l != nil || !errors.Is(err, ErrCorrupt) {
				t.Errorf("LayoutFromBTF = %v, %v; want nil, ErrCorrupt", l, err)
			}
			return
		}
		for name, s := range l.Structs {
			for m, fd := range s.Fields {
				if fd.Offset > s.Size || fd.Bits == 0 && fd.Offset+fd.Size > s.Size {
					t.Errorf("%s.%s = %+v outside of %d bytes", name, m, fd, s.Size)
				}
			}
		}
	})
}

func FuzzParseLayout(f *testing.F) {
	f.Add([]byte(`{"structs":{"page":{"size":64,"fields":{"flags":{"offset":0,"size":8}}}},"enums":{"pageflags":{"PG_lru":5}}}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		l, err := ParseLayout(p)
		if (l == nil) != (err != nil) {
			t.Fatalf("ParseLayout = %v, %v", l, err)
		}
		l.Field("page.flags")
		l.EnumValue("pageflags", "PG_lru")
	})
}

func BenchmarkLayoutFromBTF(b *testing.B) {
	f, err := os.Open(runningBTF)
	if err != nil {
		b.Skipf("no BTF of the running kernel: %v", err)
	}
	defer f.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := LayoutFromBTF(f); err != nil {
			b.Fatal(err)
		}
	}
}
