package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// BTF is read here by hand, streaming, and not through cilium/ebpf, for three
// reasons that were measured or read in its version 0.22: loading all of a
// 5.5 MB BTF takes 12 MB of anonymous memory, where this takes 0.2; it links
// os/exec, encoding/xml and a part of the Go compiler into the binary of the
// crash environment; and it follows types by recursion without a bound, so
// that one damaged page of a dump could end the process with a stack overflow
// that nothing can recover. It stays the referee in this package's tests.
//
// The format: Documentation/bpf/btf.rst and include/uapi/linux/btf.h (7.2).

// Limits of what is believed of a BTF. The largest known vmlinux BTF has
// 8 MB, 150 000 types and structs of 300 members.
const (
	maxBTFSection = 64 << 20 // bytes of types, bytes of strings
	maxBTFString  = 256      // bytes of a name
	maxBTFVisits  = 1 << 14  // members looked at for one struct, inner ones included
	maxBTFDepth   = 32       // typedefs, qualifiers and arrays around a type
	maxBTFNested  = 8        // nameless structs in structs
	maxBTFEnum    = 1 << 10  // enumerators
	maxBTFSame    = 16       // types of one name
	btfStride     = 64       // one type offset is remembered per that many types
	btfScanChunk  = 64 << 10
	btfPeekChunk  = 4 << 10
)

// Kinds of types, include/uapi/linux/btf.h.
const (
	btfInt       = 1
	btfPtr       = 2
	btfArray     = 3
	btfStruct    = 4
	btfUnion     = 5
	btfEnum      = 6
	btfFwd       = 7
	btfTypedef   = 8
	btfVolatile  = 9
	btfConst     = 10
	btfRestrict  = 11
	btfFunc      = 12
	btfFuncProto = 13
	btfVar       = 14
	btfDatasec   = 15
	btfFloat     = 16
	btfDeclTag   = 17
	btfTypeTag   = 18
	btfEnum64    = 19
)

// LayoutFromBTF makes a Layout from the BTF of a kernel, raw as in
// /sys/kernel/btf/vmlinux or between __start_BTF and __stop_BTF in its memory.
// Memory in use does not grow with the BTF. Damage is reported as ErrCorrupt;
// errors of r are passed through, wrapped.
func LayoutFromBTF(r io.ReaderAt) (*Layout, error) {
	b, err := newBTF(r)
	if err != nil {
		return nil, err
	}
	wanted, err := parseWanted()
	if err != nil {
		return nil, err
	}
	if err := b.findNames(wanted.names); err != nil {
		return nil, fmt.Errorf("strings of BTF: %w", err)
	}
	if err := b.findTypes(wanted); err != nil {
		return nil, fmt.Errorf("types of BTF: %w", err)
	}
	return b.layout(wanted)
}

// wantedTypes is the table of wantedStructs and wantedEnums, parsed.
type wantedTypes struct {
	structs map[string]map[string]bool
	enums   map[string]bool
	names   map[string]bool // all of the above
}

func parseWanted() (*wantedTypes, error) {
	w := &wantedTypes{
		structs: make(map[string]map[string]bool),
		enums:   make(map[string]bool),
		names:   make(map[string]bool),
	}
	for line := range strings.Lines(wantedStructs) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		name, members, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("table of wanted structs: line %q", line)
		}
		if w.structs[name] == nil {
			w.structs[name] = make(map[string]bool)
		}
		w.names[name] = true
		for _, m := range strings.Fields(members) {
			w.structs[name][m] = true
			w.names[m] = true
		}
	}
	for _, e := range strings.Fields(wantedEnums) {
		w.enums[e] = true
		w.names[e] = true
	}
	return w, nil
}

// btfReader reads one BTF through two windows: a large one for the passes over all
// of it, a small one for single types.
type btfReader struct {
	r                io.ReaderAt
	order            binary.ByteOrder
	typeOff, typeLen uint64 // absolute in r
	strOff, strLen   uint64

	scan, peek btfWindow

	names map[uint32]string // wanted names by their offset in the strings
	index []uint32          // offset in the types of every btfStride-th type, the first is type 1
	count uint32            // types, without void
	found map[string][]uint32
}

func newBTF(r io.ReaderAt) (*btfReader, error) {
	var h [24]byte
	if _, err := r.ReadAt(h[:], 0); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: shorter than its header", ErrCorrupt)
		}
		return nil, fmt.Errorf("header of BTF: %w", err)
	}
	b := &btfReader{
		r:     r,
		scan:  btfWindow{r: r, size: btfScanChunk},
		peek:  btfWindow{r: r, size: btfPeekChunk},
		names: make(map[uint32]string),
		found: make(map[string][]uint32),
	}
	switch {
	case binary.LittleEndian.Uint16(h[:]) == 0xeb9f:
		b.order = binary.LittleEndian
	case binary.BigEndian.Uint16(h[:]) == 0xeb9f:
		b.order = binary.BigEndian
	default:
		return nil, fmt.Errorf("%w: magic %#x, not 0xeb9f", ErrCorrupt, h[:2])
	}
	if h[2] != 1 {
		return nil, fmt.Errorf("%w: version %d, not 1", ErrCorrupt, h[2])
	}
	// Sections are counted from the end of the header, whose length grows
	// with kernels: 24 bytes, 32 where there is a layout section (7.2).
	hdrLen := uint64(b.order.Uint32(h[4:]))
	b.typeOff = hdrLen + uint64(b.order.Uint32(h[8:]))
	b.typeLen = uint64(b.order.Uint32(h[12:]))
	b.strOff = hdrLen + uint64(b.order.Uint32(h[16:]))
	b.strLen = uint64(b.order.Uint32(h[20:]))
	if hdrLen < 24 || hdrLen > 1<<16 {
		return nil, fmt.Errorf("%w: header of %d bytes", ErrCorrupt, hdrLen)
	}
	if b.typeLen > maxBTFSection || b.strLen > maxBTFSection {
		return nil, fmt.Errorf("%w: %d bytes of types, %d of strings, at most %d", ErrCorrupt, b.typeLen, b.strLen, maxBTFSection)
	}
	return b, nil
}

// findNames notes where in the string section the wanted names are. The
// section holds each string once (libbpf's deduplication), so comparing
// offsets later compares names.
func (b *btfReader) findNames(wanted map[string]bool) error {
	var (
		name  []byte // of the string under way; cut off beyond maxBTFString
		start uint64
	)
	for off := uint64(0); off < b.strLen; {
		p, err := b.scan.some(b.strOff+off, b.strLen-off)
		if err != nil {
			return err
		}
		off += uint64(len(p))
		for len(p) > 0 {
			part, rest, end := bytes.Cut(p, []byte{0})
			if room := maxBTFString - len(name); room > 0 {
				name = append(name, part[:min(room, len(part))]...)
			}
			p = rest
			if !end {
				break
			}
			if wanted[string(name)] {
				b.names[uint32(start)] = string(name)
			}
			name = name[:0]
			start = off - uint64(len(p))
		}
	}
	return nil
}

// findTypes walks over all types once, builds the index and notes the ids of
// the wanted ones.
func (b *btfReader) findTypes(w *wantedTypes) error {
	for off := uint64(0); off < b.typeLen; {
		p, err := b.scan.at(b.typeOff+off, min(btfTypeSize, b.typeLen-off))
		if err != nil {
			return err
		}
		t, err := b.decode(p)
		if err != nil {
			return fmt.Errorf("type %d: %w", b.count+1, err)
		}
		if b.count%btfStride == 0 {
			b.index = append(b.index, uint32(off))
		}
		b.count++
		if name, ok := b.names[t.name]; ok && t.name != 0 {
			switch t.kind {
			case btfStruct, btfUnion, btfTypedef:
				ok = w.structs[name] != nil
			case btfEnum, btfEnum64:
				ok = w.enums[name]
			default:
				ok = false
			}
			if ok && len(b.found[name]) < maxBTFSame {
				b.found[name] = append(b.found[name], b.count)
			}
		}
		off += btfTypeSize + t.extra
		if off > b.typeLen {
			return fmt.Errorf("%w: type %d reaches beyond the types", ErrCorrupt, b.count)
		}
	}
	return nil
}

// btfTypeSize is the size in bytes of the head of each type.
const btfTypeSize = 12

// btfType is the head of a type.
type btfType struct {
	id    uint32
	name  uint32 // offset in the strings
	kind  uint8
	flag  bool   // bit fields in a struct, signed values in an enum
	vlen  uint32 // members, enumerators
	size  uint32 // in bytes, or the type pointed to
	off   uint64 // of what follows the head, in the types
	extra uint64 // bytes that follow the head
}

func (b *btfReader) decode(p []byte) (btfType, error) {
	if len(p) < btfTypeSize {
		return btfType{}, fmt.Errorf("%w: %d bytes left for a type", ErrCorrupt, len(p))
	}
	info := b.order.Uint32(p[4:])
	t := btfType{
		name: b.order.Uint32(p),
		// 16 bits of length and 5 of kind until 7.0, 24 and 7 from then; the
		// bits between were zero before.
		vlen: info & 0xffffff,
		kind: uint8(info >> 24 & 0x7f),
		flag: info>>31 != 0,
		size: b.order.Uint32(p[8:]),
	}
	n := uint64(t.vlen)
	switch t.kind {
	case btfInt, btfVar, btfDeclTag:
		t.extra = 4
	case btfArray:
		t.extra = 12
	case btfStruct, btfUnion, btfDatasec, btfEnum64:
		t.extra = 12 * n
	case btfEnum, btfFuncProto:
		t.extra = 8 * n
	case btfPtr, btfFwd, btfTypedef, btfVolatile, btfConst, btfRestrict, btfFunc, btfFloat, btfTypeTag:
	default:
		return btfType{}, fmt.Errorf("%w: kind %d unknown", ErrCorrupt, t.kind)
	}
	return t, nil
}

// typeByID finds a type from the nearest one in the index.
func (b *btfReader) typeByID(id uint32) (btfType, error) {
	if id == 0 || id > b.count {
		return btfType{}, fmt.Errorf("%w: type %d of %d", ErrCorrupt, id, b.count)
	}
	off := uint64(b.index[(id-1)/btfStride])
	for i := (id - 1) % btfStride; ; i-- {
		p, err := b.peek.at(b.typeOff+off, min(btfTypeSize, b.typeLen-min(off, b.typeLen)))
		if err != nil {
			return btfType{}, err
		}
		t, err := b.decode(p)
		if err != nil {
			return btfType{}, fmt.Errorf("type %d: %w", id-i, err)
		}
		if i == 0 {
			t.id, t.off = id, off+btfTypeSize
			if t.off+t.extra > b.typeLen {
				return btfType{}, fmt.Errorf("%w: type %d reaches beyond the types", ErrCorrupt, id)
			}
			return t, nil
		}
		off += btfTypeSize + t.extra
	}
}

// extra reads n bytes of what follows the head of t, from off on.
func (b *btfReader) extra(t btfType, off, n uint64) ([]byte, error) {
	if off+n > t.extra {
		return nil, fmt.Errorf("%w: type %d is too short", ErrCorrupt, t.id)
	}
	return b.peek.at(b.typeOff+t.off+off, n)
}

// strip removes typedefs and qualifiers.
func (b *btfReader) strip(id uint32) (btfType, error) {
	for range maxBTFDepth {
		t, err := b.typeByID(id)
		if err != nil {
			return t, err
		}
		switch t.kind {
		case btfTypedef, btfVolatile, btfConst, btfRestrict, btfTypeTag:
			id = t.size
		default:
			return t, nil
		}
	}
	return btfType{}, fmt.Errorf("%w: type %d is a typedef of itself", ErrCorrupt, id)
}

// sizeOf is the size in bytes of a type, and the number of elements if it is
// an array. Pointers have 8 bytes: kernels of 32 bits are not read here.
func (b *btfReader) sizeOf(id uint32) (size, count uint64, err error) {
	const limit = 1 << 32
	factor, array := uint64(1), false
	for range maxBTFDepth {
		t, err := b.strip(id)
		if err != nil {
			return 0, 0, err
		}
		switch t.kind {
		case btfInt, btfStruct, btfUnion, btfEnum, btfEnum64, btfFloat:
			size = uint64(t.size)
		case btfPtr:
			size = 8
		case btfArray:
			p, err := b.extra(t, 0, 12)
			if err != nil {
				return 0, 0, err
			}
			id = b.order.Uint32(p)
			array = true
			if factor *= uint64(b.order.Uint32(p[8:])); factor > limit {
				return 0, 0, fmt.Errorf("%w: array of %d elements", ErrCorrupt, factor)
			}
			continue
		default:
			return 0, 0, fmt.Errorf("%w: member is of type %d, kind %d, without a size", ErrCorrupt, t.id, t.kind)
		}
		if array {
			count = factor
		}
		return size * factor, count, nil
	}
	return 0, 0, fmt.Errorf("%w: arrays in arrays without end", ErrCorrupt)
}

// layout collects what is wanted of the types found.
func (b *btfReader) layout(w *wantedTypes) (*Layout, error) {
	l := &Layout{
		Structs: make(map[string]Struct),
		Enums:   make(map[string]map[string]int64),
	}
	for name, ids := range b.found {
		for _, id := range ids {
			t, err := b.strip(id)
			if err != nil {
				return nil, fmt.Errorf("struct %s: %w", name, err)
			}
			switch t.kind {
			case btfStruct, btfUnion:
				members := w.structs[name]
				if members == nil {
					continue
				}
				s, err := b.structLayout(t, members)
				if err != nil {
					return nil, fmt.Errorf("struct %s: %w", name, err)
				}
				// Drivers may have a struct of the same name: the one meant
				// is the one that has more of the members.
				if old, ok := l.Structs[name]; !ok || len(s.Fields) > len(old.Fields) {
					l.Structs[name] = s
				}
			case btfEnum, btfEnum64:
				if !w.enums[name] {
					continue
				}
				e, err := b.enum(t)
				if err != nil {
					return nil, fmt.Errorf("enum %s: %w", name, err)
				}
				if len(e) > len(l.Enums[name]) {
					l.Enums[name] = e
				}
			}
		}
	}
	return l, nil
}

func (b *btfReader) structLayout(t btfType, members map[string]bool) (Struct, error) {
	s := Struct{Size: uint64(t.size), Fields: make(map[string]Field)}
	visits := 0
	err := b.members(&s, t, members, 0, 0, &visits)
	return s, err
}

// members adds the wanted members of t, which lies base bits into s.
func (b *btfReader) members(s *Struct, t btfType, wanted map[string]bool, base uint64, depth int, visits *int) error {
	if depth > maxBTFNested {
		return fmt.Errorf("%w: structs in structs without end", ErrCorrupt)
	}
	for i := range uint64(t.vlen) {
		if *visits++; *visits > maxBTFVisits {
			return fmt.Errorf("%w: more than %d members", ErrCorrupt, maxBTFVisits)
		}
		p, err := b.extra(t, 12*i, 12)
		if err != nil {
			return err
		}
		name, id, pos := b.order.Uint32(p), b.order.Uint32(p[4:]), b.order.Uint32(p[8:])
		bits := uint32(0)
		if t.flag {
			bits, pos = pos>>24, pos&0xffffff
		}
		at := base + uint64(pos)
		if name == 0 {
			inner, err := b.strip(id)
			if err != nil {
				return err
			}
			if inner.kind == btfStruct || inner.kind == btfUnion {
				if err := b.members(s, inner, wanted, at, depth+1, visits); err != nil {
					return err
				}
			}
			continue
		}
		n, ok := b.names[name]
		if !ok || !wanted[n] {
			continue
		}
		if _, dup := s.Fields[n]; dup {
			continue
		}
		size, count, err := b.sizeOf(id)
		if err != nil {
			return fmt.Errorf("member %s: %w", n, err)
		}
		f := Field{Offset: at / 8, Size: size, Count: count, Bits: uint8(bits)}
		if bits != 0 {
			f.Bit = uint8(at % 8)
		}
		// A flexible array at the end and an empty struct lie at the end.
		if f.Offset > s.Size || (bits == 0 && f.Size > s.Size-f.Offset) {
			return fmt.Errorf("%w: member %s at %d has %d bytes in a struct of %d", ErrCorrupt, n, f.Offset, f.Size, s.Size)
		}
		s.Fields[n] = f
	}
	return nil
}

func (b *btfReader) enum(t btfType) (map[string]int64, error) {
	if t.vlen > maxBTFEnum {
		return nil, fmt.Errorf("%w: %d enumerators", ErrCorrupt, t.vlen)
	}
	e := make(map[string]int64, t.vlen)
	width := t.extra / max(uint64(t.vlen), 1) // 8 or 12
	for i := range uint64(t.vlen) {
		p, err := b.extra(t, width*i, width)
		if err != nil {
			return nil, err
		}
		v := uint64(b.order.Uint32(p[4:]))
		if t.kind == btfEnum64 {
			v |= uint64(b.order.Uint32(p[8:])) << 32
		} else if t.flag {
			v = uint64(int64(int32(v)))
		}
		name, err := b.name(b.order.Uint32(p))
		if err != nil {
			return nil, err
		}
		e[name] = int64(v)
	}
	return e, nil
}

// name reads one string.
func (b *btfReader) name(off uint32) (string, error) {
	if uint64(off) >= b.strLen {
		return "", fmt.Errorf("%w: name at %d of %d", ErrCorrupt, off, b.strLen)
	}
	p, err := b.peek.at(b.strOff+uint64(off), min(maxBTFString, b.strLen-uint64(off)))
	if err != nil {
		return "", err
	}
	s, _, ok := bytes.Cut(p, []byte{0})
	if !ok {
		return "", fmt.Errorf("%w: name of more than %d bytes", ErrCorrupt, len(p))
	}
	return string(s), nil
}

// btfWindow reads r through a buffer of size bytes, or more if a single piece
// needs more; pieces are bounded by the callers.
type btfWindow struct {
	r    io.ReaderAt
	size int
	off  uint64
	buf  []byte // what is at off
	mem  []byte
}

// at returns the n bytes at off, valid until the next call.
func (w *btfWindow) at(off, n uint64) ([]byte, error) {
	if off >= w.off && off+n <= w.off+uint64(len(w.buf)) {
		return w.buf[off-w.off:][:n], nil
	}
	if need := max(int(n), w.size); cap(w.mem) < need {
		w.mem = make([]byte, need)
	}
	m, err := w.r.ReadAt(w.mem[:cap(w.mem)], int64(off))
	w.off, w.buf = off, w.mem[:m]
	if uint64(m) >= n {
		return w.buf[:n], nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: ends at %d, in a piece of %d bytes at %d", ErrCorrupt, off+uint64(m), n, off)
	}
	return nil, fmt.Errorf("at %#x: %w", off, err)
}

// some returns the bytes at off, at least one and at most n.
func (w *btfWindow) some(off, n uint64) ([]byte, error) {
	if _, err := w.at(off, 1); err != nil {
		return nil, err
	}
	p := w.buf[off-w.off:]
	return p[:min(uint64(len(p)), n)], nil
}
