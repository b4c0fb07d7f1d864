package kernel

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// maxObject bounds the bytes of one struct that is read whole: task_struct, the
// largest that is asked for, has 4 to 10 KiB.
const maxObject = 64 << 10

// StructReader reads structs of one type. It is made once by [Kernel.Struct],
// which makes sure that the members are there; reading then needs no checks.
type StructReader struct {
	k      *Kernel
	name   string
	layout Struct
}

// Struct prepares to read structs of a type, named in C without "struct". The
// members must be there, but for those that begin with "?", which only some
// kernels have. The error is that of [Kernel.Layout], or ErrNoInfo with the
// name of what this kernel lacks. What is asked for must stand in the table of
// wanted structs, since a Layout holds no more.
func (k *Kernel) Struct(name string, members ...string) (*StructReader, error) {
	l, err := k.Layout()
	if err != nil {
		return nil, err
	}
	s, ok := l.Structs[name]
	if !ok {
		return nil, fmt.Errorf("struct %s: %w", name, ErrNoInfo)
	}
	if s.Size == 0 {
		// Where all its members are for what the kernel was built without.
		return nil, fmt.Errorf("struct %s is empty: %w", name, ErrNoInfo)
	}
	if s.Size > maxObject {
		return nil, fmt.Errorf("struct %s of %d bytes: %w", name, s.Size, ErrCorrupt)
	}
	for _, m := range members {
		optional := strings.HasPrefix(m, "?")
		m = strings.TrimPrefix(m, "?")
		f, ok := s.Fields[m]
		if !ok {
			if optional {
				continue
			}
			return nil, fmt.Errorf("%s.%s: %w", name, m, ErrNoInfo)
		}
		if f.Offset > s.Size || f.Size > s.Size-f.Offset {
			return nil, fmt.Errorf("%s.%s at %d with %d bytes of %d: %w", name, m, f.Offset, f.Size, s.Size, ErrCorrupt)
		}
	}
	return &StructReader{k, name, s}, nil
}

// Size is the struct's size in bytes.
func (r *StructReader) Size() uint64 { return r.layout.Size }

// Has tells whether this kernel's struct has the member.
func (r *StructReader) Has(member string) bool {
	_, ok := r.layout.Fields[member]
	return ok
}

// Offset is where the member lies, in bytes; 0 if there is none.
func (r *StructReader) Offset(member string) uint64 { return r.layout.Fields[member].Offset }

// Field is how the member lies in the struct.
func (r *StructReader) Field(member string) (Field, bool) {
	f, ok := r.layout.Fields[member]
	return f, ok
}

// At reads the struct at an address, whole.
func (r *StructReader) At(addr VirtAddr) (Object, error) {
	b := make([]byte, r.layout.Size)
	if err := r.k.ReadVirt(b, addr); err != nil {
		return Object{}, fmt.Errorf("struct %s: %w", r.name, err)
	}
	return Object{addr, r, b}, nil
}

// Head reads the first bytes of the struct at an address. Members that do not
// lie within them, whole, are zero. This is for structs that end with an array
// of which less is in memory than its type says.
func (r *StructReader) Head(addr VirtAddr, size uint64) (Object, error) {
	b := make([]byte, min(size, r.layout.Size))
	if err := r.k.ReadVirt(b, addr); err != nil {
		return Object{}, fmt.Errorf("struct %s: %w", r.name, err)
	}
	return Object{addr, r, b}, nil
}

// In is the struct that is a member of another, or in an array that is one.
// An Object without bytes, whose members are all zero, is what comes of a
// member that is missing or too short.
func (r *StructReader) In(o Object, member string, index int) Object {
	f, ok := o.r.layout.Fields[member]
	each := r.layout.Size
	if f.Count > 0 {
		each = f.ElemSize()
	}
	off := f.Offset + uint64(index)*each
	if !ok || index < 0 || uint64(index) >= max(f.Count, 1) || each < r.layout.Size || off+r.layout.Size > uint64(len(o.b)) {
		return Object{Addr: o.Addr + VirtAddr(off), r: r}
	}
	return Object{o.Addr + VirtAddr(off), r, o.b[off:][:r.layout.Size]}
}

// Object is a struct of the dead kernel, a copy: what its members say is what
// they said when it was read. Members that this kernel's struct lacks, and
// those that do not have the size of what is asked for, are zero.
type Object struct {
	Addr VirtAddr

	r *StructReader
	b []byte
}

// field is the bytes of a member; nil if it is not there.
func (o Object) field(member string) (Field, []byte) {
	f, ok := o.r.layout.Fields[member]
	if !ok || f.Offset > uint64(len(o.b)) || f.Size > uint64(len(o.b))-f.Offset {
		return Field{}, nil
	}
	return f, o.b[f.Offset:][:f.Size]
}

// Has tells whether the object has the member.
func (o Object) Has(member string) bool { return o.r.Has(member) }

// Uint is an unsigned integer of 1 to 8 bytes, or a bit field.
func (o Object) Uint(member string) uint64 {
	f, b := o.field(member)
	if f.Bits != 0 {
		var v uint64
		for i := range uint64(8) {
			if at := f.Offset + i; at < uint64(len(o.b)) {
				v |= uint64(o.b[at]) << (8 * i)
			}
		}
		return v >> f.Bit & (1<<f.Bits - 1)
	}
	return uintOf(b)
}

// Int is a signed integer of 1 to 8 bytes.
func (o Object) Int(member string) int64 {
	f, b := o.field(member)
	v, bits := uintOf(b), uint(8*len(b))
	if f.Bits != 0 {
		v, bits = o.Uint(member), uint(f.Bits)
	}
	if bits == 0 || bits > 64 {
		return 0
	}
	return int64(v<<(64-bits)) >> (64 - bits)
}

// Pointer is a pointer.
func (o Object) Pointer(member string) VirtAddr {
	if _, b := o.field(member); len(b) == 8 {
		return VirtAddr(binary.LittleEndian.Uint64(b))
	}
	return 0
}

// String is an array of characters up to its NUL, made printable.
func (o Object) String(member string) string {
	_, b := o.field(member)
	return symbolText([]byte(cString(b)))
}

// Bytes are the bytes of a member as they are in memory; nil if there is none.
func (o Object) Bytes(member string) []byte {
	_, b := o.field(member)
	return b
}

// Uints are the elements of an array of integers.
func (o Object) Uints(member string) []uint64 {
	f, b := o.field(member)
	each := f.ElemSize()
	if b == nil || each == 0 || each > 8 {
		return nil
	}
	var all []uint64
	for ; uint64(len(b)) >= each; b = b[each:] {
		all = append(all, uintOf(b[:each]))
	}
	return all
}

// AddrOf is where the member is in the dead kernel's memory, as &object->member.
func (o Object) AddrOf(member string) VirtAddr { return o.Addr + VirtAddr(o.r.Offset(member)) }

// uintOf is the little-endian integer that fills b, 0 if there is none that
// long.
func uintOf(b []byte) uint64 {
	if len(b) > 8 {
		return 0
	}
	var v uint64
	for i, c := range b {
		v |= uint64(c) << (8 * i)
	}
	return v
}

// ReadString reads a string that ends with NUL, at most limit bytes of it, made
// printable.
func (k *Kernel) ReadString(va VirtAddr, limit int) (string, error) {
	var all []byte
	for len(all) < limit {
		// Up to the end of the page: what lies behind the string may be nothing.
		n := min(limit-len(all), chunkSize-int(uint64(va)%chunkSize), 256)
		b := make([]byte, n)
		if err := k.ReadVirt(b, va); err != nil {
			return symbolText(all), err
		}
		s := cString(b)
		all = append(all, s...)
		if len(s) < n {
			break
		}
		va += VirtAddr(n)
	}
	return symbolText(all), nil
}

// Variable finds the address of one variable or function of the kernel proper.
func (k *Kernel) Variable(name string) (VirtAddr, error) {
	syms, err := k.Lookup(name)
	if addr, ok := syms[name]; ok {
		return addr, nil
	}
	if err == nil {
		err = fmt.Errorf("symbol %s: %w", name, ErrNotFound)
	}
	return 0, err
}
