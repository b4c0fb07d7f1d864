package fdt

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// Tree is a device tree in memory.
type Tree struct {
	// Root is the node "/". Never nil in a tree from [Parse] or [New].
	Root *Node
	// Reserve are the entries of the memory reservation block (/memreserve/):
	// physical memory that the kernel must not give away.
	Reserve []Range
	// BootCPU is the physical id of the boot CPU (boot_cpuid_phys). riscv
	// ignores it, the hart says who it is in register a0.
	BootCPU uint32
}

// New returns a tree with an empty root.
func New() *Tree { return &Tree{Root: &Node{}} }

// Node is one node of a tree. Its properties and children keep their order.
type Node struct {
	name     string // "cpu@0"; empty for the root
	parent   *Node
	props    []Property
	children []*Node
}

// Property is a name and its bytes; what they mean is known by whoever asks.
type Property struct {
	Name  string
	Value []byte
}

// Name is the node's name with its unit address ("memory@80000000").
func (n *Node) Name() string { return n.name }

// Parent is nil for the root.
func (n *Node) Parent() *Node { return n.parent }

// Path is the full path of the node, "/" for the root.
func (n *Node) Path() string {
	if n.parent == nil {
		return "/"
	}
	var parts []string
	for ; n.parent != nil; n = n.parent {
		parts = append(parts, n.name)
	}
	slices.Reverse(parts)
	return "/" + strings.Join(parts, "/")
}

// Children returns the nodes below n in their order. The slice is a copy, so
// nodes may be removed while walking it.
func (n *Node) Children() []*Node { return slices.Clone(n.children) }

// Properties returns the properties of n in their order. The values are not
// copied: change them with [Node.Set] only.
func (n *Node) Properties() []Property { return slices.Clone(n.props) }

// Walk calls f for n and every node below, parents first, until f says false.
func (n *Node) Walk(f func(*Node) bool) bool {
	if !f(n) {
		return false
	}
	for _, c := range n.children {
		if !c.Walk(f) {
			return false
		}
	}
	return true
}

// Child finds a child by name. A name without unit address finds the first
// child that has the name with any unit address, like libfdt
// (fdt_subnode_offset). nil when there is none.
func (n *Node) Child(name string) *Node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	if strings.Contains(name, "@") {
		return nil
	}
	for _, c := range n.children {
		if base, _, ok := strings.Cut(c.name, "@"); ok && base == name {
			return c
		}
	}
	return nil
}

// EnsureChild finds a child by name, or appends an empty one.
func (n *Node) EnsureChild(name string) *Node {
	if c := n.Child(name); c != nil {
		return c
	}
	return n.AddChild(name)
}

// AddChild appends an empty child. A name that the format cannot carry is
// found by [Tree.Marshal].
func (n *Node) AddChild(name string) *Node {
	c := &Node{name: name, parent: n}
	n.children = append(n.children, c)
	return c
}

// RemoveChild removes c and all below it from n. False when c is not there.
func (n *Node) RemoveChild(c *Node) bool {
	i := slices.Index(n.children, c)
	if i < 0 {
		return false
	}
	n.children = slices.Delete(n.children, i, i+1)
	c.parent = nil
	return true
}

// Find returns the node at an absolute path ("/cpus/cpu@0"), or nil. Each
// element may leave out its unit address, see [Node.Child].
func (t *Tree) Find(path string) *Node {
	if !strings.HasPrefix(path, "/") {
		return nil
	}
	n := t.Root
	for _, name := range elements(path) {
		if n = n.Child(name); n == nil {
			return nil
		}
	}
	return n
}

// Ensure returns the node at an absolute path; what is missing is created.
func (t *Tree) Ensure(path string) *Node {
	n := t.Root
	for _, name := range elements(path) {
		n = n.EnsureChild(name)
	}
	return n
}

func elements(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// Clone returns a tree that shares nothing with t.
func (t *Tree) Clone() *Tree {
	return &Tree{Root: t.Root.clone(nil), Reserve: slices.Clone(t.Reserve), BootCPU: t.BootCPU}
}

func (n *Node) clone(parent *Node) *Node {
	c := &Node{name: n.name, parent: parent}
	for _, p := range n.props {
		c.props = append(c.props, Property{p.Name, bytes.Clone(p.Value)})
	}
	for _, child := range n.children {
		c.children = append(c.children, child.clone(c))
	}
	return c
}

// Has tells whether n has the property, empty ones included.
func (n *Node) Has(name string) bool { return n.index(name) >= 0 }

func (n *Node) index(name string) int {
	return slices.IndexFunc(n.props, func(p Property) bool { return p.Name == name })
}

// Get returns the bytes of a property. They belong to the tree.
func (n *Node) Get(name string) ([]byte, bool) {
	if i := n.index(name); i >= 0 {
		return n.props[i].Value, true
	}
	return nil, false
}

// Set gives a property the bytes of value, in place if it is there, else as
// the last one.
func (n *Node) Set(name string, value []byte) {
	value = bytes.Clone(value)
	if i := n.index(name); i >= 0 {
		n.props[i].Value = value
		return
	}
	n.props = append(n.props, Property{name, value})
}

// Remove drops every property of that name. False when there was none.
func (n *Node) Remove(name string) bool {
	before := len(n.props)
	n.props = slices.DeleteFunc(n.props, func(p Property) bool { return p.Name == name })
	return len(n.props) != before
}

// String returns a property as text: what precedes its first NUL. False when
// the property is absent or has no NUL.
func (n *Node) String(name string) (string, bool) {
	v, ok := n.Get(name)
	i := bytes.IndexByte(v, 0)
	if !ok || i < 0 {
		return "", false
	}
	return string(v[:i]), true
}

// Strings returns a property as a list of NUL-terminated texts ("compatible").
func (n *Node) Strings(name string) []string {
	v, _ := n.Get(name)
	var all []string
	for len(v) > 0 {
		s, rest, ok := bytes.Cut(v, []byte{0})
		if !ok {
			break
		}
		all, v = append(all, string(s)), rest
	}
	return all
}

// SetString stores s and its NUL. The length is exact: what follows the NUL is
// nobody's business.
func (n *Node) SetString(name, s string) { n.Set(name, append([]byte(s), 0)) }

// Uint returns a property of one or two cells (4 or 8 bytes) as a number;
// /chosen/linux,initrd-start for one comes in both sizes.
func (n *Node) Uint(name string) (uint64, bool) {
	switch v, _ := n.Get(name); len(v) {
	case 4:
		return uint64(binary.BigEndian.Uint32(v)), true
	case 8:
		return binary.BigEndian.Uint64(v), true
	}
	return 0, false
}

// SetU32 stores v as one cell.
func (n *Node) SetU32(name string, v uint32) {
	n.Set(name, binary.BigEndian.AppendUint32(nil, v))
}

// SetU64 stores v as two cells.
func (n *Node) SetU64(name string, v uint64) {
	n.Set(name, binary.BigEndian.AppendUint64(nil, v))
}
