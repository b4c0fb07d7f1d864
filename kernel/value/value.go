package value

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/btf"
)

// Limits of one question.
const (
	maxBytes  = 16 << 20 // of an object
	maxValues = 1 << 17  // members and elements
	maxDepth  = 32       // structs and arrays in each other
	pageSize  = 4096     // memory is missing by pages, of that size or a multiple
)

// Value is what an object was when the kernel died.
type Value struct {
	Name string // of the member or the variable; "" of an element and of what is asked for by its address
	Type btf.Type
	Addr kernel.VirtAddr

	// Missing is why it is not known; nothing below is set then.
	Missing error

	Form    Form
	Number  uint64 // sign-extended
	Signed  bool
	Text    string  // characters, the name of an enumerator, the symbol that a pointer points to
	Pointee string  // text that a pointer to characters points to, as far as it is short and printable
	Members []Value // of a struct, elements of an array
}

// Form is which fields of a [Value] count.
type Form int

const (
	FormNumber  Form = iota // Number
	FormBool                // Number
	FormEnum                // Text if the number has a name
	FormPointer             // Number, Text
	FormString              // Text
	FormStruct              // Members
	FormArray               // Members
	FormNothing             // a type without a size
)

// Reader reads values. It is for one goroutine.
type Reader struct {
	k     *kernel.Kernel
	names *Names
	left  int
	enums map[btf.ID][]btf.Enumerator
}

// NewReader makes one; names may be nil.
func NewReader(k *kernel.Kernel, names *Names) *Reader {
	return &Reader{k: k, names: names, left: maxValues, enums: make(map[btf.ID][]btf.Enumerator)}
}

// Read reads the object of a type at an address. The error is what is wrong with the
// type; what of memory is missing stands in the value, unless it is all.
func (r *Reader) Read(t btf.Type, addr kernel.VirtAddr) (Value, error) {
	return r.read(place{typ: t, addr: addr})
}

func (r *Reader) read(at place) (Value, error) {
	size, err := at.typ.Sizeof()
	if err != nil {
		return Value{}, err
	}
	if at.bits != 0 {
		size = uint64(at.bit+at.bits+7) / 8
	}
	if size > maxBytes {
		return Value{}, fmt.Errorf("%s has %d bytes, more than %d are not read at once", at.typ, size, maxBytes)
	}
	m := r.load(at.addr, size)
	if m.all != nil {
		return Value{}, fmt.Errorf("%s: %w", at.typ, m.all)
	}
	return r.value("", at.typ, m, uint64(at.bit), at.bits, 0)
}

// memory is the bytes of an object as far as they are there.
type memory struct {
	addr  kernel.VirtAddr
	b     []byte
	holes []hole
	all   error // nothing is there
}

type hole struct {
	from, to uint64
	err      error
}

func (r *Reader) load(addr kernel.VirtAddr, size uint64) *memory {
	m := &memory{addr: addr, b: make([]byte, size)}
	if size == 0 || r.k.ReadVirt(m.b, addr) == nil {
		return m
	}
	pages := 0
	for off := uint64(0); off < size; pages++ {
		n := min(size-off, pageSize-uint64(addr+kernel.VirtAddr(off))%pageSize)
		if err := r.k.ReadVirt(m.b[off:off+n], addr+kernel.VirtAddr(off)); err != nil {
			m.holes = append(m.holes, hole{off, off + n, err})
		}
		off += n
	}
	if len(m.holes) == pages {
		m.all = m.holes[0].err
	}
	return m
}

// missing is why bytes are not known.
func (m *memory) missing(from, to uint64) error {
	for _, h := range m.holes {
		if from < h.to && to > h.from {
			return h.err
		}
	}
	return nil
}

// value makes a value of what begins at a bit of the memory.
func (r *Reader) value(name string, t btf.Type, m *memory, bit uint64, bits uint32, depth int) (Value, error) {
	v := Value{Name: name, Type: t, Addr: m.addr + kernel.VirtAddr(bit/8)}
	if r.left--; r.left < 0 {
		return v, fmt.Errorf("more than %d members and elements; ask for one member", maxValues)
	}
	if depth > maxDepth {
		return v, fmt.Errorf("structs in structs without end: %w", btf.ErrCorrupt)
	}
	u, err := t.Strip()
	if err != nil {
		return v, err
	}
	size, err := u.Sizeof()
	if err != nil {
		return v, err
	}
	off := bit / 8
	if bits != 0 {
		size = (bit%8 + uint64(bits) + 7) / 8
	}
	if off > uint64(len(m.b)) || size > uint64(len(m.b))-off {
		return v, fmt.Errorf("%s reaches beyond what it is in: %w", name, btf.ErrCorrupt)
	}
	switch u.Kind {
	case btf.Struct, btf.Union:
		v.Form = FormStruct
		return v, r.members(&v, u, m, bit, depth)
	case btf.Array:
		return v, r.array(&v, u, m, off, size, depth)
	}
	if size == 0 {
		v.Form = FormNothing
		return v, nil
	}
	if v.Missing = m.missing(off, off+size); v.Missing != nil {
		return v, nil
	}
	v.Number, v.Signed = integer(m.b[off:], bit%8, bits, size), u.Signed()
	if bits == 0 {
		bits = uint32(8 * min(size, 8))
	}
	if v.Signed && bits < 64 {
		v.Number = uint64(int64(v.Number<<(64-bits)) >> (64 - bits))
	}
	switch {
	case u.Kind == btf.Ptr:
		v.Form = FormPointer
		if r.names != nil {
			v.Text = r.names.Of(kernel.VirtAddr(v.Number))
		}
		if v.Number != 0 && pointsToText(u) {
			v.Pointee = r.text(kernel.VirtAddr(v.Number))
		}
	case u.Kind == btf.Enum || u.Kind == btf.Enum64:
		v.Form = FormEnum
		v.Text, err = r.enumerator(u, v.Number)
	case u.Bool() && v.Number <= 1:
		v.Form = FormBool
	}
	return v, err
}

// pointsToText tells whether a pointer points to characters.
func pointsToText(t btf.Type) bool {
	to, err := t.Elem()
	if err == nil {
		to, err = to.Strip()
	}
	return err == nil && to.Char()
}

// text is the printable text at an address; "" if there is none.
func (r *Reader) text(at kernel.VirtAddr) string {
	const most = 64
	b := make([]byte, min(most, pageSize-uint64(at)%pageSize))
	if r.k.ReadVirt(b, at) != nil {
		return ""
	}
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return "" // long, or none
	}
	for _, c := range b[:end] {
		if c < ' ' || c >= 0x7f {
			return ""
		}
	}
	return string(b[:end])
}

// integer is a number in little-endian bytes; of more than 64 bits the lowest.
func integer(b []byte, bit uint64, bits uint32, size uint64) uint64 {
	var n uint64
	for i := min(size, 8); i > 0; i-- {
		n = n<<8 | uint64(b[i-1])
	}
	if bits == 0 {
		return n
	}
	n >>= bit
	if size > 8 { // a bit field over nine bytes
		n |= uint64(b[8]) << (64 - bit)
	}
	if bits < 64 {
		n &= 1<<bits - 1
	}
	return n
}

func (r *Reader) members(v *Value, t btf.Type, m *memory, base uint64, depth int) error {
	members, err := t.Members()
	if err != nil {
		return err
	}
	v.Members = make([]Value, 0, len(members))
	for _, f := range members {
		inner, err := r.value(f.Name, f.Type, m, base+uint64(f.Bit), f.Bits, depth+1)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", t, f.Name, err)
		}
		v.Members = append(v.Members, inner)
	}
	return nil
}

func (r *Reader) array(v *Value, t btf.Type, m *memory, off, size uint64, depth int) error {
	elem, err := t.Elem()
	if err != nil {
		return err
	}
	under, err := elem.Strip()
	if err != nil {
		return err
	}
	if under.Char() && size > 0 {
		if v.Missing = m.missing(off, off+size); v.Missing == nil {
			v.Form, v.Text = FormString, characters(m.b[off:off+size])
		}
		return nil
	}
	v.Form = FormArray
	each, err := elem.Sizeof()
	if err != nil || each == 0 {
		return err
	}
	for i := range size / each {
		e, err := r.value("", elem, m, 8*(off+i*each), 0, depth+1)
		if err != nil {
			return err
		}
		v.Members = append(v.Members, e)
	}
	return nil
}

// characters are those up to the first NUL; all of them, without the last NULs, if
// there is something behind it.
func characters(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 && len(bytes.Trim(b[i:], "\x00")) == 0 {
		b = b[:i]
	}
	return strings.ToValidUTF8(string(bytes.TrimRight(b, "\x00")), "\ufffd")
}

func (r *Reader) enumerator(t btf.Type, n uint64) (string, error) {
	all, ok := r.enums[t.ID]
	if !ok {
		var err error
		if all, err = t.Enumerators(); err != nil {
			return "", err
		}
		r.enums[t.ID] = all
	}
	for _, e := range all {
		if uint64(e.Value) == n {
			return e.Name, nil
		}
	}
	return "", nil
}
