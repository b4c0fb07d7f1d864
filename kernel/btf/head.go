// Package btf reads the types that a kernel carries of itself: BTF, the BPF type
// format, Documentation/bpf/btf.rst and include/uapi/linux/btf.h (Linux 7.2).
//
// [Decode] reads one type wherever its bytes come from; package kernel makes its
// small table of offsets with it, in bounded memory. A [Spec] holds all types of a
// kernel or a module, for people who ask for any of them. Nothing in a BTF is
// believed: what is damaged ends with [ErrCorrupt], types that contain themselves
// too.
package btf

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrCorrupt: the BTF is damaged.
var ErrCorrupt = errors.New("damaged BTF")

// Kind is what a type is.
type Kind uint8

// Kinds of types, include/uapi/linux/btf.h.
const (
	Int       Kind = 1
	Ptr       Kind = 2
	Array     Kind = 3
	Struct    Kind = 4
	Union     Kind = 5
	Enum      Kind = 6
	Fwd       Kind = 7
	Typedef   Kind = 8
	Volatile  Kind = 9
	Const     Kind = 10
	Restrict  Kind = 11
	Func      Kind = 12
	FuncProto Kind = 13
	Var       Kind = 14
	Datasec   Kind = 15
	Float     Kind = 16
	DeclTag   Kind = 17
	TypeTag   Kind = 18
	Enum64    Kind = 19
)

// HeadSize is the size in bytes of the head of each type.
const HeadSize = 12

// Head is the beginning of each type.
type Head struct {
	Name uint32 // offset in the strings
	Kind Kind
	Flag bool   // bit fields in a struct, signed values in an enum, a union of Fwd
	Vlen uint32 // members, enumerators, parameters
	Size uint32 // in bytes, or the type referred to
	// Extra is how many bytes follow the head.
	Extra uint64
}

// Decode reads the head of a type.
func Decode(order binary.ByteOrder, p []byte) (Head, error) {
	if len(p) < HeadSize {
		return Head{}, fmt.Errorf("%w: %d bytes left for a type", ErrCorrupt, len(p))
	}
	info := order.Uint32(p[4:])
	h := Head{
		Name: order.Uint32(p),
		// 16 bits of length and 5 of kind until 7.0, 24 and 7 from then; the
		// bits between were zero before.
		Vlen: info & 0xffffff,
		Kind: Kind(info >> 24 & 0x7f),
		Flag: info>>31 != 0,
		Size: order.Uint32(p[8:]),
	}
	n := uint64(h.Vlen)
	switch h.Kind {
	case Int, Var, DeclTag:
		h.Extra = 4
	case Array:
		h.Extra = 12
	case Struct, Union, Datasec, Enum64:
		h.Extra = 12 * n
	case Enum, FuncProto:
		h.Extra = 8 * n
	case Ptr, Fwd, Typedef, Volatile, Const, Restrict, Func, Float, TypeTag:
	default:
		return Head{}, fmt.Errorf("%w: kind %d unknown", ErrCorrupt, h.Kind)
	}
	return h, nil
}

// MaxSection bounds the bytes of types and those of strings that are believed.
// The largest known vmlinux BTF has 8 MB.
const MaxSection = 64 << 20

// Header says where the sections of a BTF are.
type Header struct {
	Order                                      binary.ByteOrder
	TypesOff, TypesLen, StringsOff, StringsLen uint64 // in bytes from the beginning
}

// HeaderSize is how many bytes [ParseHeader] looks at.
const HeaderSize = 24

// ParseHeader reads the beginning of a BTF.
func ParseHeader(p []byte) (Header, error) {
	var h Header
	if len(p) < HeaderSize {
		return h, fmt.Errorf("%w: shorter than its header", ErrCorrupt)
	}
	switch {
	case binary.LittleEndian.Uint16(p) == 0xeb9f:
		h.Order = binary.LittleEndian
	case binary.BigEndian.Uint16(p) == 0xeb9f:
		h.Order = binary.BigEndian
	default:
		return h, fmt.Errorf("%w: magic %#x, not 0xeb9f", ErrCorrupt, p[:2])
	}
	if p[2] != 1 {
		return h, fmt.Errorf("%w: version %d, not 1", ErrCorrupt, p[2])
	}
	// Sections are counted from the end of the header, whose length grows
	// with kernels: 24 bytes, 32 where there is a layout section (7.2).
	length := uint64(h.Order.Uint32(p[4:]))
	h.TypesOff, h.TypesLen = length+uint64(h.Order.Uint32(p[8:])), uint64(h.Order.Uint32(p[12:]))
	h.StringsOff, h.StringsLen = length+uint64(h.Order.Uint32(p[16:])), uint64(h.Order.Uint32(p[20:]))
	if length < HeaderSize || length > 1<<16 {
		return h, fmt.Errorf("%w: header of %d bytes", ErrCorrupt, length)
	}
	if h.TypesLen > MaxSection || h.StringsLen > MaxSection {
		return h, fmt.Errorf("%w: %d bytes of types, %d of strings, at most %d", ErrCorrupt, h.TypesLen, h.StringsLen, MaxSection)
	}
	return h, nil
}
