package btf

import (
	"bytes"
	"fmt"
	"iter"
)

// Limits of what is believed of types.
const (
	maxDepth   = 32   // typedefs, qualifiers, pointers and arrays around a type
	maxName    = 1024 // bytes
	maxSize    = 1 << 40
	maxMembers = 1 << 16 // members, enumerators or parameters of one type
)

// ID is the number of a type; 0 is void.
type ID uint32

// Spec is all types of a kernel, or of a module, which go on where those of its
// kernel end.
type Spec struct {
	base    *Spec // nil for that of a kernel
	head    Header
	types   []byte
	strings []byte

	first    ID       // of its own types
	offsets  []uint32 // in types, of each of them
	firstStr uint32   // its own strings begin at this offset
}

// Parse reads a BTF, which it keeps. base is the kernel's, whose types and strings
// that of a module goes on from; nil for the kernel's own.
func Parse(raw []byte, base *Spec) (*Spec, error) {
	h, err := ParseHeader(raw)
	if err != nil {
		return nil, err
	}
	s := &Spec{base: base, head: h, first: 1}
	if base != nil {
		s.first, s.firstStr = base.next(), base.firstStr+uint32(len(base.strings))
	}
	if s.types, err = section(raw, h.TypesOff, h.TypesLen); err != nil {
		return nil, fmt.Errorf("types: %w", err)
	}
	if s.strings, err = section(raw, h.StringsOff, h.StringsLen); err != nil {
		return nil, fmt.Errorf("strings: %w", err)
	}
	for off := uint64(0); off < uint64(len(s.types)); {
		t, err := Decode(h.Order, s.types[off:])
		if err != nil {
			return nil, fmt.Errorf("type %d: %w", s.next(), err)
		}
		s.offsets = append(s.offsets, uint32(off))
		if off += HeadSize + t.Extra; off > uint64(len(s.types)) {
			return nil, fmt.Errorf("type %d reaches beyond the types: %w", s.next()-1, ErrCorrupt)
		}
	}
	return s, nil
}

func section(raw []byte, off, n uint64) ([]byte, error) {
	if off > uint64(len(raw)) || n > uint64(len(raw))-off {
		return nil, fmt.Errorf("%w: %d bytes at %d of %d", ErrCorrupt, n, off, len(raw))
	}
	return raw[off : off+n], nil
}

// next is the number after that of the last type.
func (s *Spec) next() ID { return s.first + ID(len(s.offsets)) }

// Len is how many types the spec has itself.
func (s *Spec) Len() int { return len(s.offsets) }

// Type is one type.
type Type struct {
	ID   ID
	Kind Kind // 0 is void
	Name string
	Size uint64 // in bytes, of those that have one of their own; pointers have 8

	s     *Spec // that it stands in; nil for void
	head  Head
	extra []byte
}

// Type is the type of a number.
func (s *Spec) Type(id ID) (Type, error) {
	if id == 0 {
		return Type{Name: "void"}, nil
	}
	if id < s.first && s.base != nil {
		return s.base.Type(id)
	}
	if id < s.first || id >= s.next() {
		return Type{}, fmt.Errorf("%w: type %d of %d", ErrCorrupt, id, s.next()-1)
	}
	off := uint64(s.offsets[id-s.first])
	h, err := Decode(s.head.Order, s.types[off:])
	if err != nil {
		return Type{}, fmt.Errorf("type %d: %w", id, err)
	}
	name, err := s.name(h.Name)
	if err != nil {
		return Type{}, fmt.Errorf("type %d: %w", id, err)
	}
	t := Type{ID: id, Kind: h.Kind, Name: name, s: s, head: h, extra: s.types[off+HeadSize:][:h.Extra]}
	switch h.Kind {
	case Int, Struct, Union, Enum, Enum64, Float:
		t.Size = uint64(h.Size)
	case Ptr:
		t.Size = 8
	}
	return t, nil
}

// name is the string at an offset.
func (s *Spec) name(off uint32) (string, error) {
	if off < s.firstStr && s.base != nil {
		return s.base.name(off)
	}
	p := s.strings
	if off -= s.firstStr; uint64(off) >= uint64(len(p)) {
		if off == 0 {
			return "", nil // no strings at all
		}
		return "", fmt.Errorf("%w: name at %d of %d", ErrCorrupt, off, len(p))
	}
	p = p[off:]
	end := bytes.IndexByte(p[:min(len(p), maxName)], 0)
	if end < 0 {
		return "", fmt.Errorf("%w: name of more than %d bytes", ErrCorrupt, min(len(p), maxName))
	}
	for _, c := range p[:end] {
		if c < ' ' || c >= 0x7f {
			return "", fmt.Errorf("%w: name %q", ErrCorrupt, p[:end])
		}
	}
	return string(p[:end]), nil
}

// All yields the spec's own types in the order of their numbers.
func (s *Spec) All() iter.Seq2[Type, error] {
	return func(yield func(Type, error) bool) {
		for i := range s.offsets {
			t, err := s.Type(s.first + ID(i))
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}

// Find is the types of a name that are one of the kinds, in this spec alone. There
// may be several: each driver can have a struct of the same name.
func (s *Spec) Find(name string, kinds ...Kind) ([]Type, error) {
	if name == "" {
		return nil, nil
	}
	var found []Type
	for i, off := range s.offsets {
		// Names are compared where they are: to make strings of all takes ten times
		// as long.
		h, err := Decode(s.head.Order, s.types[off:])
		if err != nil {
			return nil, err
		}
		if !in(h.Kind, kinds) || !s.named(h.Name, name) {
			continue
		}
		t, err := s.Type(s.first + ID(i))
		if err != nil {
			return nil, err
		}
		found = append(found, t)
	}
	return found, nil
}

func in(k Kind, kinds []Kind) bool {
	for _, o := range kinds {
		if k == o {
			return true
		}
	}
	return false
}

// named tells whether the string at an offset is name.
func (s *Spec) named(off uint32, name string) bool {
	if off < s.firstStr && s.base != nil {
		return s.base.named(off, name)
	}
	off -= s.firstStr
	if uint64(off)+uint64(len(name)) >= uint64(len(s.strings)) {
		return false
	}
	p := s.strings[off:]
	return string(p[:len(name)]) == name && p[len(name)] == 0
}

// Elem is what the type refers to: what a pointer points to, the type that a
// typedef names or a qualifier qualifies, what an array consists of, a function's
// prototype, what a prototype returns. It is void for others.
func (t Type) Elem() (Type, error) {
	switch t.Kind {
	case Ptr, Typedef, Volatile, Const, Restrict, TypeTag, Func, FuncProto, Var, DeclTag:
		return t.s.Type(ID(t.head.Size))
	case Array:
		return t.s.Type(ID(t.s.head.Order.Uint32(t.extra)))
	}
	return Type{Name: "void"}, nil
}

// Count is the number of elements of an array.
func (t Type) Count() uint64 {
	if t.Kind != Array {
		return 0
	}
	return uint64(t.s.head.Order.Uint32(t.extra[8:]))
}

// Strip removes typedefs and qualifiers.
func (t Type) Strip() (Type, error) {
	for range maxDepth {
		switch t.Kind {
		case Typedef, Volatile, Const, Restrict, TypeTag:
			var err error
			if t, err = t.Elem(); err != nil {
				return Type{}, err
			}
		default:
			return t, nil
		}
	}
	return Type{}, fmt.Errorf("%w: type %d is a typedef of itself", ErrCorrupt, t.ID)
}

// Sizeof is the size of the type in bytes; 0 of void, functions and structs that
// are only declared.
func (t Type) Sizeof() (uint64, error) {
	factor := uint64(1)
	for range maxDepth {
		var err error
		if t, err = t.Strip(); err != nil {
			return 0, err
		}
		if t.Kind != Array {
			if n := t.Size * factor; t.Size <= maxSize/factor {
				return n, nil
			}
			return 0, fmt.Errorf("%w: array of %d elements of %d bytes", ErrCorrupt, factor, t.Size)
		}
		n := t.Count()
		if n == 0 {
			return 0, nil
		}
		if n > maxSize/factor {
			return 0, fmt.Errorf("%w: array of more than %d elements", ErrCorrupt, factor)
		}
		factor *= n
		if t, err = t.Elem(); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%w: arrays in arrays without end", ErrCorrupt)
}

// Member is a member of a struct or a union.
type Member struct {
	Name string // "" of a nameless struct or union
	Type Type
	// Bit is where it begins, counted from the beginning of the struct; Bits is the
	// width of a bit field, 0 for what is none.
	Bit, Bits uint32
}

// Members are those of a struct or a union.
func (t Type) Members() ([]Member, error) {
	if t.Kind != Struct && t.Kind != Union {
		return nil, nil
	}
	if t.head.Vlen > maxMembers {
		return nil, fmt.Errorf("%w: %s with %d members", ErrCorrupt, t, t.head.Vlen)
	}
	members := make([]Member, 0, t.head.Vlen)
	for p := t.extra; len(p) > 0; p = p[12:] {
		name, err := t.s.name(t.s.head.Order.Uint32(p))
		if err != nil {
			return nil, err
		}
		typ, err := t.s.Type(ID(t.s.head.Order.Uint32(p[4:])))
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t, name, err)
		}
		m := Member{Name: name, Type: typ, Bit: t.s.head.Order.Uint32(p[8:])}
		if t.head.Flag {
			m.Bits, m.Bit = m.Bit>>24, m.Bit&0xffffff
		}
		members = append(members, m)
	}
	return members, nil
}

// Enumerator is a name of a value.
type Enumerator struct {
	Name  string `json:"name"`
	Value int64  `json:"value"` // of 64 bits, the value without a sign has the same bits
}

// Enumerators are those of an enum.
func (t Type) Enumerators() ([]Enumerator, error) {
	width := 8
	switch t.Kind {
	case Enum:
	case Enum64:
		width = 12
	default:
		return nil, nil
	}
	if t.head.Vlen > maxMembers {
		return nil, fmt.Errorf("%w: %s with %d enumerators", ErrCorrupt, t, t.head.Vlen)
	}
	all := make([]Enumerator, 0, t.head.Vlen)
	for p := t.extra; len(p) > 0; p = p[width:] {
		name, err := t.s.name(t.s.head.Order.Uint32(p))
		if err != nil {
			return nil, err
		}
		v := uint64(t.s.head.Order.Uint32(p[4:]))
		if t.Kind == Enum64 {
			v |= uint64(t.s.head.Order.Uint32(p[8:])) << 32
		} else if t.head.Flag {
			v = uint64(int64(int32(v)))
		}
		all = append(all, Enumerator{name, int64(v)})
	}
	return all, nil
}

// Param is a parameter of a function; the last one without a name and of type void
// stands for more.
type Param struct {
	Name string
	Type Type
}

// Params are the parameters of a function's prototype.
func (t Type) Params() ([]Param, error) {
	if t.Kind != FuncProto {
		return nil, nil
	}
	if t.head.Vlen > maxMembers {
		return nil, fmt.Errorf("%w: function with %d parameters", ErrCorrupt, t.head.Vlen)
	}
	all := make([]Param, 0, t.head.Vlen)
	for p := t.extra; len(p) > 0; p = p[8:] {
		name, err := t.s.name(t.s.head.Order.Uint32(p))
		if err != nil {
			return nil, err
		}
		typ, err := t.s.Type(ID(t.s.head.Order.Uint32(p[4:])))
		if err != nil {
			return nil, err
		}
		all = append(all, Param{name, typ})
	}
	return all, nil
}

// Signed tells whether an integer or an enum has a sign.
func (t Type) Signed() bool {
	if t.Kind == Int {
		return t.s.head.Order.Uint32(t.extra)>>24&1 != 0
	}
	return (t.Kind == Enum || t.Kind == Enum64) && t.head.Flag
}

// Bool tells whether an integer is one of two values.
func (t Type) Bool() bool {
	return t.Kind == Int && (t.s.head.Order.Uint32(t.extra)>>24&4 != 0 || t.Name == "_Bool")
}

// Char tells whether an integer is a character, whatever its sign.
func (t Type) Char() bool {
	if t.Kind != Int || t.Size != 1 {
		return false
	}
	return t.s.head.Order.Uint32(t.extra)>>24&2 != 0 || t.Name == "char"
}

// Entry is a variable in a section.
type Entry struct {
	Var          Type
	Offset, Size uint32 // bytes
}

// Entries are the variables of a section.
func (t Type) Entries() ([]Entry, error) {
	if t.Kind != Datasec {
		return nil, nil
	}
	var all []Entry
	for p := t.extra; len(p) > 0; p = p[12:] {
		typ, err := t.s.Type(ID(t.s.head.Order.Uint32(p)))
		if err != nil {
			return nil, err
		}
		all = append(all, Entry{typ, t.s.head.Order.Uint32(p[4:]), t.s.head.Order.Uint32(p[8:])})
	}
	return all, nil
}

// Len is how many members, enumerators or parameters the type has.
func (t Type) Len() int { return int(t.head.Vlen) }

// Names yields the names, that begin with a prefix, of the spec's own types of some
// kinds.
func (s *Spec) Names(prefix string, kinds []Kind, yield func(name string)) {
	for _, off := range s.offsets {
		h, err := Decode(s.head.Order, s.types[off:])
		if err != nil || !in(h.Kind, kinds) || !s.starts(h.Name, prefix) {
			continue
		}
		if name, err := s.name(h.Name); err == nil && name != "" {
			yield(name)
		}
	}
}

// starts tells whether the string at an offset begins with prefix.
func (s *Spec) starts(off uint32, prefix string) bool {
	if off < s.firstStr && s.base != nil {
		return s.base.starts(off, prefix)
	}
	off -= s.firstStr
	return uint64(off)+uint64(len(prefix)) <= uint64(len(s.strings)) && string(s.strings[off:][:len(prefix)]) == prefix
}
