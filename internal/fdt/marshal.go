package fdt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// ErrTooLarge says that a tree is larger than [MaxSize], or that the names of
// its properties together are larger than any tree's.
var ErrTooLarge = errors.New("device tree is too large")

// maxStrings bounds the strings block, in bytes. QEMU's has 400, large boards
// a few thousand.
const maxStrings = 64 << 10

// Marshal writes the tree as a packed blob of version 17, laid out like dtc
// does: header, reservations, structure, strings. It fails only for what the
// format cannot carry: names that are empty, too long or hold a NUL, nesting
// or size beyond the bounds, a reservation of size 0 (it would end the list).
func (t *Tree) Marshal() ([]byte, error) {
	m := &marshaller{known: map[string]uint32{}}
	if err := m.node(t.Root, 1); err != nil {
		return nil, err
	}
	m.body = binary.BigEndian.AppendUint32(m.body, tokenEnd)

	out := make([]byte, headerSize)
	for _, r := range t.Reserve {
		if r.Size == 0 {
			return nil, fmt.Errorf("memory reservation at %#x: size is 0", r.Address)
		}
		out = binary.BigEndian.AppendUint64(out, r.Address)
		out = binary.BigEndian.AppendUint64(out, r.Size)
	}
	out = append(out, make([]byte, 16)...)
	offBody := len(out)
	out = append(out, m.body...)
	offStrings := len(out)
	out = append(out, m.strings.String()...)
	if len(out) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, len(out), MaxSize)
	}
	for i, v := range [...]uint32{
		magic, uint32(len(out)), uint32(offBody), uint32(offStrings), headerSize,
		version, oldestVersion, t.BootCPU, uint32(m.strings.Len()), uint32(len(m.body)),
	} {
		binary.BigEndian.PutUint32(out[4*i:], v)
	}
	return out, nil
}

type marshaller struct {
	body    []byte
	strings strings.Builder
	known   map[string]uint32 // offsets in strings of names and their tails
}

func (m *marshaller) node(n *Node, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("node %s: nested deeper than %d", n.Path(), maxDepth)
	}
	if n.parent != nil {
		if err := checkNodeName(n.name); err != nil {
			return err
		}
	}
	m.cell(tokenBeginNode)
	m.bytes(append([]byte(n.name), 0))
	for _, p := range n.props {
		if p.Name == "" || len(p.Name) > maxName || strings.Contains(p.Name, "\x00") {
			return fmt.Errorf("node %s: property name %q", n.Path(), p.Name)
		}
		if len(p.Value) > MaxSize {
			return fmt.Errorf("%w: property %s of %s has %d bytes, limit %d", ErrTooLarge, p.Name, n.Path(), len(p.Value), MaxSize)
		}
		m.cell(tokenProp)
		m.cell(uint32(len(p.Value)))
		m.cell(m.name(p.Name))
		m.bytes(p.Value)
		if len(m.body) > MaxSize || m.strings.Len() > maxStrings {
			return fmt.Errorf("%w: structure of %d and names of %d bytes, limits %d and %d",
				ErrTooLarge, len(m.body), m.strings.Len(), MaxSize, maxStrings)
		}
	}
	for _, c := range n.children {
		if err := m.node(c, depth+1); err != nil {
			return err
		}
	}
	m.cell(tokenEndNode)
	return nil
}

func (m *marshaller) cell(v uint32) { m.body = binary.BigEndian.AppendUint32(m.body, v) }

func (m *marshaller) bytes(b []byte) {
	m.body = append(m.body, b...)
	m.body = append(m.body, make([]byte, -len(b)&3)...)
}

// name returns the offset of a name in the strings block. A name that ends
// another one shares its bytes ("reg" in "linux,reg"), so every tail of what is
// written is known.
func (m *marshaller) name(s string) uint32 {
	if off, ok := m.known[s]; ok {
		return off
	}
	off := uint32(m.strings.Len())
	m.strings.WriteString(s)
	m.strings.WriteByte(0)
	for i := range len(s) {
		if _, ok := m.known[s[i:]]; !ok {
			m.known[s[i:]] = off + uint32(i)
		}
	}
	return off
}
