package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel/btf"
)

// BTF is read here by hand, streaming, and not through cilium/ebpf, for three
// reasons that were measured or read in its version 0.22: loading all of a
// 5.5 MB BTF takes 12 MB of anonymous memory, where this takes 0.2; it links
// os/exec, encoding/xml and a part of the Go compiler into the binary of the
// crash environment; and it follows types by recursion without a bound, so
// that one damaged page of a dump could end the process with a stack overflow
// that nothing can recover. It stays the referee in this package's tests.
//
// Heads of types are decoded by package kernel/btf, which tells the format; all
// types of a kernel, for whoever has the memory, are there, too.

// Limits of what is believed of a BTF beyond those of package btf. The largest known
// vmlinux BTF has 8 MB, 150 000 types and structs of 300 members.
const (
	maxBTFString = 256     // bytes of a name
	maxBTFVisits = 1 << 14 // members looked at for one struct, inner ones included
	maxBTFDepth  = 32      // typedefs, qualifiers and arrays around a type
	maxBTFNested = 8       // nameless structs in structs
	maxBTFEnum   = 1 << 10 // enumerators
	maxBTFSame   = 16      // types of one name
	btfStride    = 64      // one type offset is remembered per that many types
	btfScanChunk = 64 << 10
	btfPeekChunk = 4 << 10
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
	r io.ReaderAt
	btf.Header

	scan, peek btfWindow

	names map[uint32]string // wanted names by their offset in the strings
	index []uint32          // offset in the types of every btfStride-th type, the first is type 1
	count uint32            // types, without void
	found map[string][]uint32
}

func newBTF(r io.ReaderAt) (*btfReader, error) {
	var h [btf.HeaderSize]byte
	_, err := r.ReadAt(h[:], 0)
	if err != nil {
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
	if b.Header, err = btf.ParseHeader(h[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
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
	for off := uint64(0); off < b.StringsLen; {
		p, err := b.scan.some(b.StringsOff+off, b.StringsLen-off)
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
	for off := uint64(0); off < b.TypesLen; {
		p, err := b.scan.at(b.TypesOff+off, min(btf.HeadSize, b.TypesLen-off))
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
		if name, ok := b.names[t.Name]; ok && t.Name != 0 {
			switch t.Kind {
			case btf.Struct, btf.Union, btf.Typedef:
				ok = w.structs[name] != nil
			case btf.Enum, btf.Enum64:
				ok = w.enums[name]
			default:
				ok = false
			}
			if ok && len(b.found[name]) < maxBTFSame {
				b.found[name] = append(b.found[name], b.count)
			}
		}
		off += btf.HeadSize + t.Extra
		if off > b.TypesLen {
			return fmt.Errorf("%w: type %d reaches beyond the types", ErrCorrupt, b.count)
		}
	}
	return nil
}

// btfType is a type and where it is.
type btfType struct {
	id uint32
	btf.Head
	off uint64 // of what follows the head, in the types
}

func (b *btfReader) decode(p []byte) (btfType, error) {
	h, err := btf.Decode(b.Order, p)
	if err != nil {
		return btfType{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return btfType{Head: h}, nil
}

// typeByID finds a type from the nearest one in the index.
func (b *btfReader) typeByID(id uint32) (btfType, error) {
	if id == 0 || id > b.count {
		return btfType{}, fmt.Errorf("%w: type %d of %d", ErrCorrupt, id, b.count)
	}
	off := uint64(b.index[(id-1)/btfStride])
	for i := (id - 1) % btfStride; ; i-- {
		p, err := b.peek.at(b.TypesOff+off, min(btf.HeadSize, b.TypesLen-min(off, b.TypesLen)))
		if err != nil {
			return btfType{}, err
		}
		t, err := b.decode(p)
		if err != nil {
			return btfType{}, fmt.Errorf("type %d: %w", id-i, err)
		}
		if i == 0 {
			t.id, t.off = id, off+btf.HeadSize
			if t.off+t.Extra > b.TypesLen {
				return btfType{}, fmt.Errorf("%w: type %d reaches beyond the types", ErrCorrupt, id)
			}
			return t, nil
		}
		off += btf.HeadSize + t.Extra
	}
}

// extra reads n bytes of what follows the head of t, from off on.
func (b *btfReader) extra(t btfType, off, n uint64) ([]byte, error) {
	if off+n > t.Extra {
		return nil, fmt.Errorf("%w: type %d is too short", ErrCorrupt, t.id)
	}
	return b.peek.at(b.TypesOff+t.off+off, n)
}

// strip removes typedefs and qualifiers.
func (b *btfReader) strip(id uint32) (btfType, error) {
	for range maxBTFDepth {
		t, err := b.typeByID(id)
		if err != nil {
			return t, err
		}
		switch t.Kind {
		case btf.Typedef, btf.Volatile, btf.Const, btf.Restrict, btf.TypeTag:
			id = t.Size
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
		switch t.Kind {
		case btf.Int, btf.Struct, btf.Union, btf.Enum, btf.Enum64, btf.Float:
			size = uint64(t.Size)
		case btf.Ptr:
			size = 8
		case btf.Array:
			p, err := b.extra(t, 0, 12)
			if err != nil {
				return 0, 0, err
			}
			id = b.Order.Uint32(p)
			array = true
			if factor *= uint64(b.Order.Uint32(p[8:])); factor > limit {
				return 0, 0, fmt.Errorf("%w: array of %d elements", ErrCorrupt, factor)
			}
			continue
		default:
			return 0, 0, fmt.Errorf("%w: member is of type %d, kind %d, without a size", ErrCorrupt, t.id, t.Kind)
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
			switch t.Kind {
			case btf.Struct, btf.Union:
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
			case btf.Enum, btf.Enum64:
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
	s := Struct{Size: uint64(t.Size), Fields: make(map[string]Field)}
	visits := 0
	err := b.members(&s, t, members, 0, 0, &visits)
	return s, err
}

// members adds the wanted members of t, which lies base bits into s.
func (b *btfReader) members(s *Struct, t btfType, wanted map[string]bool, base uint64, depth int, visits *int) error {
	if depth > maxBTFNested {
		return fmt.Errorf("%w: structs in structs without end", ErrCorrupt)
	}
	for i := range uint64(t.Vlen) {
		if *visits++; *visits > maxBTFVisits {
			return fmt.Errorf("%w: more than %d members", ErrCorrupt, maxBTFVisits)
		}
		p, err := b.extra(t, 12*i, 12)
		if err != nil {
			return err
		}
		name, id, pos := b.Order.Uint32(p), b.Order.Uint32(p[4:]), b.Order.Uint32(p[8:])
		bits := uint32(0)
		if t.Flag {
			bits, pos = pos>>24, pos&0xffffff
		}
		at := base + uint64(pos)
		if name == 0 {
			inner, err := b.strip(id)
			if err != nil {
				return err
			}
			if inner.Kind == btf.Struct || inner.Kind == btf.Union {
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
	if t.Vlen > maxBTFEnum {
		return nil, fmt.Errorf("%w: %d enumerators", ErrCorrupt, t.Vlen)
	}
	e := make(map[string]int64, t.Vlen)
	width := t.Extra / max(uint64(t.Vlen), 1) // 8 or 12
	for i := range uint64(t.Vlen) {
		p, err := b.extra(t, width*i, width)
		if err != nil {
			return nil, err
		}
		v := uint64(b.Order.Uint32(p[4:]))
		if t.Kind == btf.Enum64 {
			v |= uint64(b.Order.Uint32(p[8:])) << 32
		} else if t.Flag {
			v = uint64(int64(int32(v)))
		}
		name, err := b.name(b.Order.Uint32(p))
		if err != nil {
			return nil, err
		}
		e[name] = int64(v)
	}
	return e, nil
}

// name reads one string.
func (b *btfReader) name(off uint32) (string, error) {
	if uint64(off) >= b.StringsLen {
		return "", fmt.Errorf("%w: name at %d of %d", ErrCorrupt, off, b.StringsLen)
	}
	p, err := b.peek.at(b.StringsOff+uint64(off), min(maxBTFString, b.StringsLen-uint64(off)))
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
