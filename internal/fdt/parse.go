package fdt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// ErrMalformed is wrapped by every error about a blob that breaks the format.
var ErrMalformed = errors.New("malformed device tree")

// The format, Devicetree Specification v0.4 chapter 5.
const (
	magic      = 0xd00dfeed
	headerSize = 40

	tokenBeginNode = 1
	tokenEndNode   = 2
	tokenProp      = 3
	tokenNop       = 4
	tokenEnd       = 9

	// Versions read: 16 lacks the size of the structure block, 17 has it.
	// Older ones name nodes by full paths and have not been made since 2005.
	oldestVersion = 16
	version       = 17
)

// Bounds that no honest tree meets.
const (
	// maxDepth is that of the kernel (drivers/of/fdt.c FDT_MAX_DEPTH, 6.12).
	maxDepth = 64
	// maxName bounds names of nodes and properties, NUL excluded. The
	// specification says 31, vendors go beyond.
	maxName = 255
)

// MaxSize is the largest blob that [Parse] takes and [Tree.Marshal] makes, in
// bytes. riscv maps two early 2 MiB pages for it (arch/riscv/mm/init.c
// create_fdt_early_page_table, 6.12), so a larger one cannot have booted
// anything.
const MaxSize = 4 << 20

// Parse reads a blob. What follows the size told by its header is ignored. The
// tree does not keep blob.
func Parse(blob []byte) (*Tree, error) {
	p, err := newParser(blob)
	if err != nil {
		return nil, err
	}
	t := &Tree{BootCPU: binary.BigEndian.Uint32(p.blob[28:])}
	if t.Reserve, err = p.reservations(); err != nil {
		return nil, err
	}
	if t.Root, err = p.structure(); err != nil {
		return nil, err
	}
	return t, nil
}

type parser struct {
	blob   []byte // our copy, cut at totalsize
	body   []byte // structure block
	pos    int    // in body
	names  string // strings block
	memory int    // offset of the reservation block
}

func newParser(blob []byte) (*parser, error) {
	if len(blob) < headerSize {
		return nil, fmt.Errorf("%w: %d bytes are less than a header", ErrMalformed, len(blob))
	}
	word := func(i int) uint32 { return binary.BigEndian.Uint32(blob[4*i:]) }
	if word(0) != magic {
		return nil, fmt.Errorf("%w: magic %#x instead of %#x", ErrMalformed, word(0), uint32(magic))
	}
	total, off, strs, rsv := word(1), word(2), word(3), word(4)
	ver, compat, strsSize, size := word(5), word(6), word(8), word(9)
	if ver < oldestVersion || compat > version {
		return nil, fmt.Errorf("%w: version %d, compatible with %d, is not %d", ErrMalformed, ver, compat, version)
	}
	if total < headerSize || total > MaxSize || int(total) > len(blob) {
		return nil, fmt.Errorf("%w: total size %d with %d bytes given and %d allowed", ErrMalformed, total, len(blob), MaxSize)
	}
	if ver < version {
		// The structure block ends where its end token says.
		size = 0
		if off < total {
			size = (total - off) &^ 3
		}
	}
	if off%4 != 0 || size%4 != 0 || !within(off, size, total) {
		return nil, fmt.Errorf("%w: structure block of %d bytes at %d in %d", ErrMalformed, size, off, total)
	}
	if !within(strs, strsSize, total) {
		return nil, fmt.Errorf("%w: strings block of %d bytes at %d in %d", ErrMalformed, strsSize, strs, total)
	}
	if rsv%8 != 0 || rsv < headerSize || rsv > total {
		return nil, fmt.Errorf("%w: reservation block at %d in %d", ErrMalformed, rsv, total)
	}
	blob = bytes.Clone(blob[:total])
	return &parser{
		blob:   blob,
		body:   blob[off:][:size],
		names:  string(blob[strs:][:strsSize]),
		memory: int(rsv),
	}, nil
}

// within tells whether [off, off+size) lies behind the header and inside total.
func within(off, size, total uint32) bool {
	return off >= headerSize && off <= total && size <= total-off
}

func (p *parser) reservations() ([]Range, error) {
	var list []Range
	for b := p.blob[p.memory:]; len(b) >= 16; b = b[16:] {
		r := Range{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
		// The kernel and libfdt end at a size of 0 whatever the address
		// (scripts/dtc/libfdt/fdt_rw.c fdt_num_mem_rsv, 6.12).
		if r.Size == 0 {
			return list, nil
		}
		list = append(list, r)
	}
	return nil, fmt.Errorf("%w: reservation block has no end", ErrMalformed)
}

// structure reads the tree without recursion: depth is bounded, but by data.
func (p *parser) structure() (*Node, error) {
	var root, cur *Node
	for depth := 0; ; {
		at := p.pos
		token, ok := p.cell()
		if !ok {
			return nil, p.errorf(at, "no end token")
		}
		switch token {
		case tokenNop:
		case tokenBeginNode:
			name, ok := p.nodeName()
			if !ok {
				return nil, p.errorf(at, "node name has no end within %d bytes", maxName)
			}
			if root != nil && cur == nil {
				return nil, p.errorf(at, "second root node %q", name)
			}
			if depth++; depth > maxDepth {
				return nil, p.errorf(at, "nodes nest deeper than %d", maxDepth)
			}
			n := &Node{name: name, parent: cur}
			if cur == nil {
				// Some tools write "/" here.
				n.name, root = "", n
				if name != "" && name != "/" {
					return nil, p.errorf(at, "root node is called %q", name)
				}
			} else {
				if err := checkNodeName(name); err != nil {
					return nil, p.errorf(at, "%v", err)
				}
				cur.children = append(cur.children, n)
			}
			cur = n
		case tokenEndNode:
			if cur == nil {
				return nil, p.errorf(at, "end of a node that has no beginning")
			}
			cur = cur.parent
			depth--
		case tokenProp:
			prop, err := p.property(at)
			if err != nil {
				return nil, err
			}
			if cur == nil {
				return nil, p.errorf(at, "property %q outside of a node", prop.Name)
			}
			if len(cur.children) > 0 {
				// Forbidden, and Linux would not see it.
				return nil, p.errorf(at, "property %q after child nodes of %s", prop.Name, cur.Path())
			}
			cur.props = append(cur.props, prop)
		case tokenEnd:
			if root == nil {
				return nil, p.errorf(at, "no root node")
			}
			if cur != nil {
				return nil, p.errorf(at, "node %s has no end", cur.Path())
			}
			return root, nil
		default:
			return nil, p.errorf(at, "unknown token %#x", token)
		}
	}
}

func (p *parser) errorf(at int, format string, args ...any) error {
	return fmt.Errorf("%w: %s (structure block + %#x)", ErrMalformed, fmt.Sprintf(format, args...), at)
}

func (p *parser) cell() (uint32, bool) {
	if len(p.body)-p.pos < 4 {
		return 0, false
	}
	v := binary.BigEndian.Uint32(p.body[p.pos:])
	p.pos += 4
	return v, true
}

// skip advances by n bytes and the padding to the next cell.
func (p *parser) skip(n int) { p.pos = min(p.pos+(n+3)&^3, len(p.body)) }

func (p *parser) nodeName() (string, bool) {
	b := p.body[p.pos:]
	i := bytes.IndexByte(b[:min(len(b), maxName+1)], 0)
	if i < 0 {
		return "", false
	}
	p.skip(i + 1)
	return string(b[:i]), true
}

func (p *parser) property(at int) (Property, error) {
	size, ok1 := p.cell()
	off, ok2 := p.cell()
	if !ok1 || !ok2 || uint64(size) > uint64(len(p.body)-p.pos) {
		return Property{}, p.errorf(at, "property of %d bytes goes beyond the block", size)
	}
	if uint64(off) >= uint64(len(p.names)) {
		return Property{}, p.errorf(at, "name of a property at %d in %d bytes of strings", off, len(p.names))
	}
	// Slices of one string: many properties may share a name, and a hostile
	// blob would have them share a long one.
	name := p.names[off:]
	i := strings.IndexByte(name[:min(len(name), maxName+1)], 0)
	if i <= 0 {
		return Property{}, p.errorf(at, "name of a property at %d of the strings is empty or has no end within %d bytes", off, maxName)
	}
	value := p.body[p.pos:][:size:size]
	p.skip(int(size))
	return Property{name[:i], value}, nil
}

// checkNodeName tells whether a path can lead to a node of that name.
func checkNodeName(name string) error {
	if name == "" || len(name) > maxName || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("node name %q", name)
	}
	return nil
}
