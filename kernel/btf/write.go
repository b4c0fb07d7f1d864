package btf

import (
	"fmt"
	"io"
	"strings"
)

// Limits of what is written of one type.
const (
	maxNested  = 10
	maxWritten = 1 << 14 // members
)

// Write writes the declaration of a type with what is in it, one member a line, each
// behind its offset in bytes; that of a bit field has the bit after a colon:
//
//	struct list_head {
//	    [0] struct list_head *next;
//	    [8] struct list_head *prev;
//	};
//	SIZE: 16
func (t Type) Write(w io.Writer) error {
	d := &writer{w: w}
	switch t.Kind {
	case Struct, Union:
		fmt.Fprintf(w, "%s {\n", t)
		if err := d.members(t, 0, 1); err != nil {
			return err
		}
		fmt.Fprintf(w, "};\nSIZE: %d (%#x)\n", t.Size, t.Size)
		return nil
	case Enum, Enum64:
		return d.enum(t)
	case Typedef:
		of, err := t.Elem()
		if err != nil {
			return err
		}
		if of.Name == "" && (of.Kind == Struct || of.Kind == Union) {
			fmt.Fprintf(w, "typedef %s {\n", of.Keyword())
			if err := d.members(of, 0, 1); err != nil {
				return err
			}
			fmt.Fprintf(w, "} %s;\nSIZE: %d (%#x)\n", t.Name, of.Size, of.Size)
			return nil
		}
		s, err := of.Declare(t.Name)
		if err != nil {
			return err
		}
		size, err := t.Sizeof()
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "typedef %s;\n", s)
		if size > 0 {
			fmt.Fprintf(w, "SIZE: %d (%#x)\n", size, size)
		}
		if under, err := t.Strip(); err == nil && under.Kind != Ptr && (under.Kind == Struct || under.Kind == Union || under.Kind == Enum || under.Kind == Enum64) {
			return under.Write(w)
		}
		return nil
	}
	s, err := t.Declare(t.Name)
	if t.Kind == Int || t.Kind == Float {
		s = t.Name
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s;\n", s)
	return err
}

type writer struct {
	w    io.Writer
	done int
}

// members writes those of t, which lies base bits into what is written.
func (d *writer) members(t Type, base uint64, depth int) error {
	if depth > maxNested {
		return fmt.Errorf("%w: structs in structs without end", ErrCorrupt)
	}
	members, err := t.Members()
	if err != nil {
		return err
	}
	for _, m := range members {
		if d.done++; d.done > maxWritten {
			return fmt.Errorf("%w: more than %d members", ErrCorrupt, maxWritten)
		}
		at := base + uint64(m.Bit)
		where := fmt.Sprintf("[%d]", at/8)
		tail := ""
		if m.Bits != 0 {
			where, tail = fmt.Sprintf("[%d:%d]", at/8, at%8), fmt.Sprintf(" : %d", m.Bits)
		}
		// Offsets stand in a column, so that members do where nameless structs end.
		indent := strings.Repeat("    ", depth)
		if of, ok := nameless(m.Type); ok {
			fmt.Fprintf(d.w, "%9s %s%s {\n", "", indent, of.Keyword())
			if err := d.members(of, at, depth+1); err != nil {
				return err
			}
			s, err := declareAround(m.Type, m.Name)
			if err != nil {
				return err
			}
			fmt.Fprintf(d.w, "%9s %s}%s;\n", "", indent, s)
			continue
		}
		s, err := m.Type.Declare(m.Name)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(d.w, "%9s %s%s%s;\n", where, indent, s, tail); err != nil {
			return err
		}
	}
	return nil
}

// nameless is the struct or union without a name that a member is, or that it is an
// array of or a pointer to.
func nameless(t Type) (Type, bool) {
	for range maxDepth {
		switch t.Kind {
		case Struct, Union:
			return t, t.Name == ""
		case Array, Ptr, Const, Volatile, Restrict, TypeTag:
			var err error
			if t, err = t.Elem(); err != nil {
				return t, false
			}
		default:
			return t, false
		}
	}
	return t, false
}

// declareAround declares a name of a type without the nameless struct at its root:
// " *name[2]".
func declareAround(t Type, name string) (string, error) {
	s, err := t.Declare(name)
	if err != nil {
		return "", err
	}
	_, s, _ = strings.Cut(s, "{...}")
	return s, nil
}

func (d *writer) enum(t Type) error {
	all, err := t.Enumerators()
	if err != nil {
		return err
	}
	fmt.Fprintf(d.w, "%s {\n", t)
	for _, e := range all {
		if t.Signed() || e.Value >= 0 {
			fmt.Fprintf(d.w, "    %s = %d,\n", e.Name, e.Value)
		} else {
			fmt.Fprintf(d.w, "    %s = %#x,\n", e.Name, uint64(e.Value))
		}
	}
	_, err = fmt.Fprintf(d.w, "};\nSIZE: %d (%#x)\n", t.Size, t.Size)
	return err
}
