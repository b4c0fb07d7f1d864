package inspect

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/btf"
	"github.com/panicroom-kdump/panicroom/kernel/value"
)

// Struct asks for a type or for an object of it.
type Struct struct {
	// Type is its name, with or without "struct"; members may follow behind a dot,
	// with commas between them.
	Type string
	// At is where an object is; "" asks for the type.
	At string
	// Count is how many objects there are from At on, 0 is 1.
	Count int
	// Members are those that are wanted, by their paths; none is all.
	Members []string
	Hex     bool // numbers in hexadecimal
}

// maxObjects bounds Count.
const maxObjects = 1 << 12

// Declaration is a type as C declares it.
type Declaration struct {
	Name   string `json:"name"`
	Module string `json:"module,omitempty"` // "" of the kernel proper
	Others int    `json:"others,omitempty"` // types with the same name, not shown
	Size   uint64 `json:"size"`
	// Members are those of a struct or a union, nameless ones taken apart.
	Members     []MemberPlace    `json:"members,omitempty"`
	Enumerators []btf.Enumerator `json:"enumerators,omitempty"`

	only bool // Members were asked for
	typ  btf.Type
}

// MemberPlace is where a member lies.
type MemberPlace struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Offset uint64 `json:"offset"`
	Size   uint64 `json:"size"`
	Bit    uint64 `json:"bit,omitempty"` // from Offset on
	Bits   uint32 `json:"bits,omitempty"`
}

// Objects are the values of objects of one type.
type Objects struct {
	Type    string   `json:"type"`
	Objects []Object `json:"objects"`

	style value.Style
}

// Object is one of them.
type Object struct {
	Addr kernel.VirtAddr `json:"addr"`
	// Value is all of it; Members are those that were asked for, by their paths.
	Value   *value.Value           `json:"value,omitempty"`
	Members map[string]value.Value `json:"members,omitempty"`

	order []string
}

// Ask answers.
func (q Struct) Ask(s *Session) (Answer, error) {
	types, err := s.Types()
	if err != nil {
		return nil, err
	}
	name := q.Type
	members := q.Members
	if base, path, ok := strings.Cut(name, "."); ok {
		name = base
		members = append(strings.Split(path, ","), members...)
	}
	t, err := types.Find(name)
	if err != nil {
		if errors.Is(err, kernel.ErrNotFound) {
			err = &hinted{err, "types have their names as in C; whatis shows what a name is" + like(types, name)}
		}
		return nil, corrupt(err)
	}
	if q.At == "" {
		return declaration(t, members)
	}
	at, err := s.address(q.At)
	if err != nil {
		return nil, err
	}
	if q.Count < 0 || q.Count > maxObjects {
		return nil, fmt.Errorf("%d objects; at most %d are shown at once", q.Count, maxObjects)
	}
	size, err := t.Sizeof()
	if err != nil {
		return nil, corrupt(err)
	}
	if size == 0 {
		return nil, fmt.Errorf("%s has no size, so that there are no objects of it", t)
	}
	all := &Objects{Type: t.String(), style: value.Style{Hex: q.Hex}}
	r := value.NewReader(s.k, s.Names())
	for range max(q.Count, 1) {
		o := Object{Addr: at}
		if len(members) == 0 {
			v, err := r.Read(t.Type, at)
			if err != nil {
				return all.some(), corrupt(err)
			}
			o.Value = &v
		} else {
			o.Members, o.order = make(map[string]value.Value), members
			for _, path := range members {
				v, err := r.Member(t.Type, at, path)
				if err != nil {
					return all.some(), corrupt(err)
				}
				o.Members[path] = v
			}
		}
		all.Objects = append(all.Objects, o)
		at += kernel.VirtAddr(size)
	}
	return all, nil
}

// some is the answer as far as it came; nil if it did not begin.
func (a *Objects) some() Answer {
	if len(a.Objects) == 0 {
		return nil
	}
	return a
}

// like names a type that is spelled almost so.
func like(types *value.Types, name string) string {
	_, name, _ = cutKeyword(name)
	best := ""
	if len(name) > 3 {
		types.Names(name[:len(name)-2], func(n string) {
			if best == "" || len(n) < len(best) {
				best = n
			}
		})
	}
	if best == "" {
		return ""
	}
	return "; there is " + best
}

// cutKeyword takes "struct" and the like off a name.
func cutKeyword(name string) (word, rest string, ok bool) {
	word, rest, ok = strings.Cut(strings.TrimSpace(name), " ")
	switch word {
	case "struct", "union", "enum":
		return word, strings.TrimSpace(rest), ok
	}
	return "", strings.TrimSpace(name), false
}

func declaration(t value.Found, members []string) (Answer, error) {
	size, err := t.Sizeof()
	if err != nil {
		return nil, corrupt(err)
	}
	d := &Declaration{Name: t.String(), Module: t.Module, Others: t.Others, Size: size, typ: t.Type, only: len(members) > 0}
	if d.only {
		for _, path := range members {
			m, err := value.MemberType(t.Type, path)
			if err != nil {
				return nil, corrupt(err)
			}
			p := MemberPlace{Name: path, Type: m.String()}
			if p.Offset, err = value.Offset(t.Type, path); err != nil {
				return nil, corrupt(err)
			}
			if p.Size, err = m.Sizeof(); err != nil {
				return nil, corrupt(err)
			}
			d.Members = append(d.Members, p)
		}
		return d, nil
	}
	under, err := t.Strip()
	if err != nil {
		return nil, corrupt(err)
	}
	if d.Enumerators, err = under.Enumerators(); err != nil {
		return nil, corrupt(err)
	}
	return d, corrupt(d.add(under, 0, 0))
}

// add notes the members of t, which lies base bits into the struct.
func (d *Declaration) add(t btf.Type, base uint64, depth int) error {
	const maxDepth, maxMembers = 10, 1 << 14
	members, err := t.Members()
	if err != nil {
		return err
	}
	for _, m := range members {
		if depth > maxDepth || len(d.Members) > maxMembers {
			return fmt.Errorf("%s has no end: %w", d.Name, btf.ErrCorrupt)
		}
		at := base + uint64(m.Bit)
		if m.Name == "" {
			if err := d.add(m.Type, at, depth+1); err != nil {
				return err
			}
			continue
		}
		size, err := m.Type.Sizeof()
		if err != nil {
			return err
		}
		p := MemberPlace{Name: m.Name, Type: m.Type.String(), Offset: at / 8, Size: size, Bits: m.Bits}
		if m.Bits != 0 {
			p.Bit = at % 8
		}
		d.Members = append(d.Members, p)
	}
	return nil
}

// Write writes the declaration.
func (d *Declaration) Write(w io.Writer, _ int) error {
	if d.Module != "" {
		fmt.Fprintf(w, "/* of module %s */\n", d.Module)
	}
	if d.only {
		for _, m := range d.Members {
			s, err := declared(d.typ, m.Name)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "[%d] %s;\n", m.Offset, s)
		}
		return nil
	}
	if err := d.typ.Write(w); err != nil {
		return err
	}
	if d.Others > 0 {
		_, err := fmt.Fprintf(w, "(%d more of that name)\n", d.Others)
		return err
	}
	return nil
}

// declared is how a member is declared, by its path.
func declared(t btf.Type, path string) (string, error) {
	m, err := value.MemberType(t, path)
	if err != nil {
		return "", err
	}
	return m.Declare(path)
}

// Write writes the values.
func (a *Objects) Write(w io.Writer, _ int) error {
	for i, o := range a.Objects {
		if i > 0 && (o.Value != nil || len(o.order) > 0) {
			fmt.Fprintln(w)
		}
		if o.Value != nil {
			if err := o.Value.Write(w, a.style); err != nil {
				return err
			}
			continue
		}
		if len(a.Objects) > 1 && len(o.order) > 0 {
			fmt.Fprintf(w, "%s %s\n", a.Type, o.Addr)
		}
		if len(o.order) == 0 {
			fmt.Fprintln(w, o.Addr)
		}
		for _, path := range o.order {
			if err := o.Members[path].Write(w, a.style); err != nil {
				return err
			}
		}
	}
	return nil
}
