package value

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	referee "github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/btf"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// types are a struct with all that a struct can have.
func types(t testing.TB) *btf.Spec {
	t.Helper()
	i32 := &referee.Int{Name: "int", Size: 4, Encoding: referee.Signed}
	u32 := &referee.Int{Name: "unsigned int", Size: 4}
	u64 := &referee.Int{Name: "unsigned long", Size: 8}
	char := &referee.Int{Name: "char", Size: 1}
	boolean := &referee.Int{Name: "bool", Size: 1, Encoding: referee.Bool}
	state := &referee.Enum{Name: "state", Size: 4, Signed: true, Values: []referee.EnumValue{{Name: "RUNNING"}, {Name: "DEAD", Value: ^uint64(0)}}}
	point := &referee.Struct{Name: "point", Size: 8, Members: []referee.Member{{Name: "x", Type: i32}, {Name: "y", Type: i32, Offset: 32}}}
	task := &referee.Struct{Name: "task", Size: 128}
	task.Members = []referee.Member{
		{Name: "pid", Type: i32},
		{Name: "flags", Type: u32, Offset: 32},
		{Name: "state", Type: &referee.Typedef{Name: "state_t", Type: state}, Offset: 64},
		{Name: "low", Type: u32, Offset: 96, BitfieldSize: 3},
		{Name: "high", Type: i32, Offset: 99, BitfieldSize: 5},
		{Name: "idle", Type: boolean, Offset: 104},
		{Name: "comm", Type: &referee.Array{Index: u32, Nelems: 16, Type: char}, Offset: 128},
		{Name: "next", Type: &referee.Pointer{Target: task}, Offset: 256},
		{Name: "at", Type: point, Offset: 320},
		{Offset: 384, Type: &referee.Union{Size: 8, Members: []referee.Member{{Name: "number", Type: u64}, {Name: "word", Type: u32}}}},
		{Name: "bits", Type: &referee.Array{Index: u32, Nelems: 8, Type: u32}, Offset: 448},
		{Name: "path", Type: &referee.Array{Index: u32, Nelems: 3, Type: point}, Offset: 704},
		{Name: "name", Type: &referee.Pointer{Target: &referee.Const{Type: char}}, Offset: 960},
		{Name: "tail", Type: &referee.Array{Index: u32, Type: u32}, Offset: 1024},
	}
	b, err := referee.NewBuilder([]referee.Type{task}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := btf.Parse(raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func typ(t testing.TB, s *btf.Spec, name string) btf.Type {
	t.Helper()
	all, err := s.Find(name, btf.Struct)
	if err != nil || len(all) != 1 {
		t.Fatalf("Find(%s) = %v, %v", name, all, err)
	}
	return all[0]
}

// machine has two tasks, the second over the end of a page whose next one is bad.
func machine(t testing.TB) (k *kernel.Kernel, first, second kernel.VirtAddr) {
	t.Helper()
	m := kerneltest.New(1).Finish()
	page := vmcore.PhysAddr(m.FirstPage() * 4096)
	at := page + 64
	other := page + 2*4096 - 64
	b := make([]byte, 128)
	le := binary.LittleEndian
	le.PutUint32(b, 0xfffffff6)
	le.PutUint32(b[4:], 0x80000001)
	le.PutUint32(b[8:], 0xffffffff)
	b[12], b[13] = 0b10110101, 1
	copy(b[16:], "k\"worker\x00")
	le.PutUint64(b[32:], kerneltest.Linear(other))
	le.PutUint32(b[40:], 3)
	le.PutUint32(b[44:], 0xfffffffc)
	le.PutUint64(b[48:], 1<<63|7)
	for i := range 8 {
		le.PutUint32(b[56+4*i:], uint32(1000000000*(i/4)))
	}
	le.PutUint32(b[88:], 1)
	le.PutUint64(b[120:], kerneltest.Linear(at)+16)
	m.Put(at, b)
	le.PutUint64(b[32:], 0)
	copy(b[16:], "second\x00\x00\x00")
	m.Put(other, b)
	m.Bad = []vmcore.Range{{Start: page + 2*4096, End: page + 3*4096}}
	d := m.Open(t)
	t.Cleanup(func() { d.Close() })
	k, err := kernel.Open(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k, kernel.VirtAddr(kerneltest.Linear(at)), kernel.VirtAddr(kerneltest.Linear(other))
}

func TestRead(t *testing.T) {
	k, first, second := machine(t)
	task := typ(t, types(t), "task")
	v, err := NewReader(k, nil).Read(task, first)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := v.Write(&b, Style{}); err != nil {
		t.Fatal(err)
	}
	want := `struct task ` + first.String() + ` = {
  pid = -10,
  flags = 2147483649,
  state = DEAD,
  low = 5,
  high = -10,
  idle = true,
  comm = "k\"worker",
  next = ` + second.String() + `,
  at = {
    x = 3,
    y = -4,
  },
  {
    number = 0x8000000000000007,
    word = 7,
  },
  bits = {0 (4 times), 1000000000 (4 times)},
  path = {
    {
      x = 1,
      y = 0,
    },
    {
      x = 0,
      y = 0,
    }, (2 times)
  },
  name = ` + (first + 16).String() + ` "k\"worker",
  tail = {},
}
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("object (-want +got):\n%s", d)
	}
	b.Reset()
	if err := v.Members[0].Write(&b, Style{Hex: true}); err != nil || b.String() != "pid = 0xfffffff6\n" {
		t.Errorf("in hexadecimal: %q, %v", b.String(), err)
	}
	got, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	wantJSON := `{"pid":-10,"flags":2147483649,"state":"DEAD","low":5,"high":-10,"idle":true,"comm":"k\"worker","next":"` + second.String() +
		`","at":{"x":3,"y":-4},"number":9223372036854775815,"word":7,"bits":[0,0,0,0,1000000000,1000000000,1000000000,1000000000],` +
		`"path":[{"x":1,"y":0},{"x":0,"y":0},{"x":0,"y":0}],"name":"` + (first + 16).String() + `","tail":[]}`
	if d := cmp.Diff(wantJSON, string(got)); d != "" {
		t.Errorf("JSON (-want +got):\n%s", d)
	}
}

// What the dump lacks is said in its place, what it has is shown.
func TestMissing(t *testing.T) {
	k, _, second := machine(t)
	task := typ(t, types(t), "task")
	r := NewReader(k, nil)
	v, err := r.Read(task, second)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range v.Members {
		switch m.Name {
		case "comm":
			if m.Missing != nil || m.Text != "second" {
				t.Errorf("comm is %q, missing %v; want second", m.Text, m.Missing)
			}
		case "bits":
			// It begins on one page and ends on the other.
			if e := m.Members; len(e) != 8 || e[0].Missing != nil || !errors.Is(e[7].Missing, vmcore.ErrUnreadable) {
				t.Errorf("bits are %+v; want the last ones missing", e)
			}
		}
	}
	var b strings.Builder
	if err := v.Write(&b, Style{}); err != nil || !strings.Contains(b.String(), "<") {
		t.Errorf("%q, %v does not say what is missing", b.String(), err)
	}
	if j, err := json.Marshal(v); err != nil || !strings.Contains(string(j), "null") {
		t.Errorf("JSON %s, %v", j, err)
	}
	if _, err := r.Read(task, second+64); !errors.Is(err, vmcore.ErrUnreadable) {
		t.Errorf("an object that is all missing: %v; want ErrUnreadable", err)
	}
}

func TestMember(t *testing.T) {
	k, first, _ := machine(t)
	task := typ(t, types(t), "task")
	for path, want := range map[string]string{
		"pid": "pid = -10\n", "high": "high = -10\n", "next.comm": "next.comm = \"second\"\n", "next->at.y": "next->at.y = -4\n",
		"at.x": "at.x = 3\n", "number": "number = 0x8000000000000007\n", "bits[4]": "bits[4] = 1000000000\n", "path[0].x": "path[0].x = 1\n",
	} {
		v, err := NewReader(k, nil).Member(task, first, path)
		var b strings.Builder
		if err != nil || v.Write(&b, Style{}) != nil || b.String() != want {
			t.Errorf("%s: %q, %v; want %q", path, b.String(), err, want)
		}
	}
	for _, path := range []string{"none", "pid.x", "bits[8]", "bits[x]", "next->next->pid", "at[0]", "bits[", ".", "pid["} {
		if v, err := NewReader(k, nil).Member(task, first, path); err == nil {
			t.Errorf("%s is %+v; want an error", path, v)
		}
	}
	if off, err := Offset(task, "path[2].y"); err != nil || off != 88+2*8+4 {
		t.Errorf("Offset(path[2].y) = %d, %v", off, err)
	}
	if m, err := MemberType(task, "next->path[1]"); err != nil || m.Name != "point" {
		t.Errorf("MemberType(next->path[1]) = %v, %v", m, err)
	}
	if d := cmp.Diff([]string{"pid", "flags", "state", "low", "high", "idle", "comm", "next", "at", "number", "word", "bits", "path", "name", "tail"}, MemberNames(task)); d != "" {
		t.Errorf("names (-want +got):\n%s", d)
	}
}

func TestAddress(t *testing.T) {
	k, first, _ := machine(t)
	for s, want := range map[string]kernel.VirtAddr{first.String(): first, first.String() + "+0x10": first + 16} {
		if got, err := Address(k, s); err != nil || got != want {
			t.Errorf("Address(%q) = %s, %v; want %s", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0x", "0xg", "0x1:0", "0x1+", "zzz"} {
		if got, err := Address(k, s); err == nil {
			t.Errorf("Address(%q) = %s; want an error", s, got)
		}
	}
}

// Whatever the types and the memory say, a value is an error or is written.
func FuzzRead(f *testing.F) {
	f.Add(uint32(1), uint16(20))
	f.Add(uint32(0xffffffff), uint16(33))
	k, first, _ := machine(f)
	i32 := &referee.Int{Name: "int", Size: 4, Encoding: referee.Signed}
	inner := &referee.Struct{Name: "inner", Size: 8, Members: []referee.Member{{Name: "a", Type: i32, BitfieldSize: 7}, {Name: "b", Type: i32, Offset: 32}}}
	b, err := referee.NewBuilder([]referee.Type{&referee.Struct{Name: "outer", Size: 64, Members: []referee.Member{
		{Name: "all", Type: &referee.Array{Index: i32, Nelems: 4, Type: inner}}, {Type: inner, Offset: 256}, {Name: "p", Type: &referee.Pointer{Target: inner}, Offset: 320},
	}}}, nil)
	if err != nil {
		f.Fatal(err)
	}
	good, err := b.Marshal(nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value uint32, at uint16) {
		raw := append([]byte(nil), good...)
		off := 24 + int(at)%(len(raw)-28)
		binary.LittleEndian.PutUint32(raw[off:], value)
		s, err := btf.Parse(raw, nil)
		if err != nil {
			return
		}
		for typ, err := range s.All() {
			if err != nil {
				return
			}
			v, err := NewReader(k, nil).Read(typ, first)
			if err != nil {
				continue
			}
			var b strings.Builder
			if err := v.Write(&b, Style{}); err != nil {
				t.Error(err)
			}
			if j, err := json.Marshal(v); err != nil || !json.Valid(j) {
				t.Errorf("%s: %v", j, err)
			}
			for _, m := range MemberNames(typ) {
				NewReader(k, nil).Member(typ, first, m)
			}
		}
	})
}
