package value

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/btf"
)

// maxNested bounds how deep nameless structs are looked into.
const maxNested = 10

// place is an object and where it is.
type place struct {
	typ       btf.Type
	addr      kernel.VirtAddr
	bit, bits uint32 // of a bit field, from addr on
}

// Member goes from an object to one of its members: "mm.pgd", "cpus_mask.bits[0]",
// "mm->exe_file". A pointer on the way is followed, whichever of "." and "->" stands
// behind it.
func (r *Reader) Member(t btf.Type, addr kernel.VirtAddr, path string) (Value, error) {
	at, err := r.walk(place{typ: t, addr: addr}, path)
	if err != nil {
		return Value{}, err
	}
	v, err := r.read(at)
	v.Name = path
	return v, err
}

func (r *Reader) walk(at place, path string) (place, error) {
	rest := strings.ReplaceAll(path, "->", ".")
	for step := 0; rest != ""; step++ {
		if step > 64 {
			return at, fmt.Errorf("%q has more than %d steps", path, step)
		}
		var err error
		if at.typ, err = at.typ.Strip(); err != nil {
			return at, err
		}
		if index, after, ok := strings.Cut(strings.TrimPrefix(rest, "["), "]"); rest[0] == '[' {
			n, err := number(index)
			if !ok || err != nil {
				return at, fmt.Errorf("%q: [%s is no index", path, index)
			}
			if at, err = r.element(at, n); err != nil {
				return at, fmt.Errorf("%q: %w", path, err)
			}
			rest = strings.TrimPrefix(after, ".")
			continue
		}
		end := strings.IndexAny(rest, ".[")
		if end < 0 {
			end = len(rest)
		}
		name := rest[:end]
		if name == "" {
			return at, fmt.Errorf("%q has a step without a name", path)
		}
		rest = strings.TrimPrefix(rest[end:], ".")
		if at.typ.Kind == btf.Ptr {
			if at, err = r.follow(at); err != nil {
				return at, fmt.Errorf("%q: %w", path, err)
			}
		}
		m, bit, err := member(at.typ, name, 0)
		if err != nil {
			return at, err
		}
		at = place{typ: m.Type, addr: at.addr + kernel.VirtAddr(bit/8), bits: m.Bits}
		if m.Bits != 0 {
			at.bit = uint32(bit % 8)
		}
	}
	return at, nil
}

// follow goes to what a pointer points to.
func (r *Reader) follow(at place) (place, error) {
	to, err := at.typ.Elem()
	if err == nil {
		to, err = to.Strip()
	}
	if err != nil {
		return at, err
	}
	p, err := r.k.ReadPointer(at.addr)
	if err != nil {
		return at, err
	}
	if p == 0 {
		return at, fmt.Errorf("the pointer before is null: %w", kernel.ErrNotFound)
	}
	return place{typ: to, addr: p}, nil
}

// element goes to an element of an array, or of what a pointer points to.
func (r *Reader) element(at place, n uint64) (place, error) {
	t := at.typ
	if t.Kind == btf.Ptr {
		to, err := r.follow(at)
		if err != nil {
			return at, err
		}
		at = to
	} else {
		if t.Kind != btf.Array {
			return at, fmt.Errorf("%s is no array", t)
		}
		if c := t.Count(); c > 0 && n >= c {
			return at, fmt.Errorf("index %d of %s", n, t)
		}
		var err error
		if at.typ, err = t.Elem(); err != nil {
			return at, err
		}
	}
	size, err := at.typ.Sizeof()
	if err != nil {
		return at, err
	}
	if n > 1<<32 {
		return at, fmt.Errorf("index %d is beyond all arrays", n)
	}
	at.addr += kernel.VirtAddr(n * size)
	return at, nil
}

// member finds a member by its name, in nameless structs and unions too; bit is
// where it begins.
func member(t btf.Type, name string, depth int) (m btf.Member, bit uint64, err error) {
	if depth > maxNested {
		return m, 0, fmt.Errorf("%s: %w", t, btf.ErrCorrupt)
	}
	if t.Kind != btf.Struct && t.Kind != btf.Union {
		return m, 0, fmt.Errorf("%s has no members: %q: %w", t, name, kernel.ErrNotFound)
	}
	members, err := t.Members()
	if err != nil {
		return m, 0, err
	}
	for _, m := range members {
		if m.Name == name {
			return m, uint64(m.Bit), nil
		}
		if m.Name != "" {
			continue
		}
		inner, err := m.Type.Strip()
		if err != nil {
			return m, 0, err
		}
		if inner.Kind != btf.Struct && inner.Kind != btf.Union {
			continue
		}
		if found, at, err := member(inner, name, depth+1); err == nil {
			return found, uint64(m.Bit) + at, nil
		}
	}
	return m, 0, fmt.Errorf("%s has no member %q: %w", t, name, kernel.ErrNotFound)
}

// MemberNames are the names of a type's members, those of nameless structs in it
// too; of a pointer, those of what it points to.
func MemberNames(t btf.Type) []string {
	var names []string
	var add func(t btf.Type, depth int)
	add = func(t btf.Type, depth int) {
		t, err := t.Strip()
		if err != nil || depth > maxNested || len(names) > 1<<12 {
			return
		}
		members, err := t.Members()
		if err != nil {
			return
		}
		for _, m := range members {
			if m.Name != "" {
				names = append(names, m.Name)
			} else {
				add(m.Type, depth+1)
			}
		}
	}
	if s, err := t.Strip(); err == nil && s.Kind == btf.Ptr {
		t, _ = s.Elem()
	}
	add(t, 0)
	return names
}

// MemberType is the type of a member by its path, without looking at memory.
func MemberType(t btf.Type, path string) (btf.Type, error) {
	for name := range strings.SplitSeq(strings.ReplaceAll(path, "->", "."), ".") {
		name, index, _ := strings.Cut(name, "[")
		var err error
		if t, err = t.Strip(); err != nil {
			return t, err
		}
		if t.Kind == btf.Ptr {
			if t, err = t.Elem(); err == nil {
				t, err = t.Strip()
			}
			if err != nil {
				return t, err
			}
		}
		m, _, err := member(t, name, 0)
		if err != nil {
			return t, err
		}
		t = m.Type
		for range strings.Count(index, "]") {
			if t, err = t.Strip(); err == nil {
				t, err = t.Elem()
			}
			if err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

// Offset is where a member lies in its type, in bytes, by a path without pointers.
func Offset(t btf.Type, path string) (uint64, error) {
	var off uint64
	for name := range strings.SplitSeq(path, ".") {
		var err error
		if t, err = t.Strip(); err != nil {
			return 0, err
		}
		name, index, isArray := strings.Cut(name, "[")
		m, bit, err := member(t, name, 0)
		if err != nil {
			return 0, err
		}
		off += bit / 8
		t = m.Type
		if !isArray {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(index, "]"), 0, 32)
		if err != nil {
			return 0, fmt.Errorf("%q: %w", path, errNumber)
		}
		if t, err = t.Strip(); err == nil {
			t, err = t.Elem()
		}
		if err != nil {
			return 0, err
		}
		size, err := t.Sizeof()
		if err != nil {
			return 0, err
		}
		off += n * size
	}
	return off, nil
}
