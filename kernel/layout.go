package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// ErrLayout: the layout is that of another kernel.
var ErrLayout = errors.New("layout does not fit the kernel")

// Layout is how the dumped kernel lays out the structs that a dump is read
// by: sizes, offsets and enums, and nothing else of its types. It is plain
// data. The host makes it from /sys/kernel/btf/vmlinux while the machine is
// healthy (see [LayoutFromBTF]) and ships it to the crash kernel, which has
// no memory to spare; for a dump read later it is found in the dump itself.
//
// What vmcoreinfo says about the same thing wins: it comes from the kernel
// that died, always.
type Layout struct {
	// Structs by their C name without "struct"; typedefs of nameless structs
	// by the typedef.
	Structs map[string]Struct `json:"structs"`
	// Enums by their C name: enumerator to value.
	Enums map[string]map[string]int64 `json:"enums"`
}

// Struct is the layout of one struct or union, in bytes.
type Struct struct {
	Size   uint64           `json:"size"`
	Fields map[string]Field `json:"fields,omitempty"`
}

// Field is where a member lies in its struct. Members of nameless inner
// structs and unions count as members of the outer one, as in C.
type Field struct {
	// Offset and Size in bytes. For a bit field Offset is the byte in which it
	// begins and Size is that of its declared type.
	Offset uint64 `json:"offset"`
	Size   uint64 `json:"size"`
	// Count is the number of elements of an array (of all dimensions), 0 for
	// what is no array.
	Count uint64 `json:"count,omitempty"`
	// Bit and Bits are first bit (counted from Offset) and width of a bit
	// field; Bits 0 is an ordinary member.
	Bit  uint8 `json:"bit,omitempty"`
	Bits uint8 `json:"bits,omitempty"`
}

// ElemSize is the size in bytes of one element of an array, of the whole
// member when it is no array.
func (f Field) ElemSize() uint64 {
	if f.Count == 0 {
		return f.Size
	}
	return f.Size / f.Count
}

// Field looks up a member by "struct.member". It is false for what this
// kernel does not have; on a nil Layout always.
func (l *Layout) Field(name string) (Field, bool) {
	if l == nil {
		return Field{}, false
	}
	s, m, ok := strings.Cut(name, ".")
	if !ok {
		return Field{}, false
	}
	f, ok := l.Structs[s].Fields[m]
	return f, ok
}

// Offset is the offset in bytes of "struct.member".
func (l *Layout) Offset(name string) (uint64, bool) {
	f, ok := l.Field(name)
	return f.Offset, ok
}

// Size is the size in bytes of a struct.
func (l *Layout) Size(name string) (uint64, bool) {
	if l == nil {
		return 0, false
	}
	s, ok := l.Structs[name]
	return s.Size, ok
}

// Enum is the values of an enum by enumerator, nil if this kernel has no such
// enum.
func (l *Layout) Enum(name string) map[string]int64 {
	if l == nil {
		return nil
	}
	return l.Enums[name]
}

// EnumValue is the value of one enumerator.
func (l *Layout) EnumValue(enum, enumerator string) (int64, bool) {
	v, ok := l.Enum(enum)[enumerator]
	return v, ok
}

// maxLayoutJSON bounds what ParseLayout accepts, in bytes; a real layout has
// about 15 KiB.
const maxLayoutJSON = 1 << 20

// ParseLayout reads the JSON form of a layout.
func ParseLayout(p []byte) (*Layout, error) {
	if len(p) > maxLayoutJSON {
		return nil, fmt.Errorf("layout: %d bytes of JSON, at most %d", len(p), maxLayoutJSON)
	}
	l := new(Layout)
	if err := json.Unmarshal(p, l); err != nil {
		return nil, fmt.Errorf("layout: %w", err)
	}
	return l, nil
}

// Agrees compares the layout with vmcoreinfo wherever both know a size or an
// offset of a struct, and returns an error that names the first difference: a
// layout of another kernel must not be used. offset and size are
// VMCoreInfo.Offset and VMCoreInfo.Size.
func (l *Layout) Agrees(offset, size func(name string) (uint64, bool)) error {
	if l == nil {
		return nil
	}
	for name, s := range l.Structs {
		if v, ok := size(name); ok && v != s.Size {
			return fmt.Errorf("%w: size of %s is %d, vmcoreinfo says %d", ErrLayout, name, s.Size, v)
		}
		for m, f := range s.Fields {
			if v, ok := offset(name + "." + m); ok && v != f.Offset {
				return fmt.Errorf("%w: offset of %s.%s is %d, vmcoreinfo says %d", ErrLayout, name, m, f.Offset, v)
			}
		}
	}
	return nil
}
