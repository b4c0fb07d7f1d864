package btf

import (
	"fmt"
	"strings"
)

// maxDeclaration bounds the types that one declaration names: functions take
// functions, and each parameter of a damaged one may be that function again.
const maxDeclaration = 256

// String names the type as C does: "struct page", "unsigned int *".
func (t Type) String() string {
	s, err := t.Declare("")
	if err != nil {
		return fmt.Sprintf("type %d", t.ID)
	}
	return s
}

// Keyword is what stands before the name of such a type: "struct", "union", "enum"
// or nothing.
func (t Type) Keyword() string {
	switch t.Kind {
	case Struct:
		return "struct"
	case Union:
		return "union"
	case Enum, Enum64:
		return "enum"
	case Fwd:
		if t.head.Flag {
			return "union"
		}
		return "struct"
	}
	return ""
}

// Declare is how C declares a name of that type, without what is in a struct:
// "int (*name)(struct page *)". Without a name it is the type alone.
func (t Type) Declare(name string) (string, error) {
	d := declarer{left: maxDeclaration}
	return d.declare(t, name, false)
}

type declarer struct{ left int }

// declare puts a type around a name, from the inside outwards. pointer tells
// whether the outermost thing in inner is a pointer, which binds less than an array
// and a function.
func (d *declarer) declare(t Type, inner string, pointer bool) (string, error) {
	if d.left--; d.left < 0 {
		return "", fmt.Errorf("%w: type %d is declared with more than %d others", ErrCorrupt, t.ID, maxDeclaration)
	}
	join := func(left string) (string, error) { return strings.TrimSuffix(left+" "+inner, " "), nil }
	switch t.Kind {
	case 0:
		return join("void")
	case Int, Float, Typedef:
		return join(t.Name)
	case Struct, Union, Enum, Enum64, Fwd:
		if t.Name == "" {
			return join(t.Keyword() + " {...}")
		}
		return join(t.Keyword() + " " + t.Name)
	}
	elem, err := t.Elem()
	if err != nil {
		return "", err
	}
	switch t.Kind {
	case Ptr:
		return d.declare(elem, "*"+inner, true)
	case Const, Volatile, Restrict:
		word := map[Kind]string{Const: "const", Volatile: "volatile", Restrict: "restrict"}[t.Kind]
		if elem.Kind == Ptr {
			return d.declare(elem, strings.TrimSuffix(word+" "+inner, " "), false)
		}
		s, err := d.declare(elem, inner, pointer)
		return word + " " + s, err
	case TypeTag:
		return d.declare(elem, inner, pointer)
	case Var, Func:
		return d.declare(elem, t.Name, false)
	}
	if pointer && (t.Kind == Array || t.Kind == FuncProto) {
		inner = "(" + inner + ")"
	}
	switch t.Kind {
	case Array:
		return d.declare(elem, fmt.Sprintf("%s[%d]", inner, t.Count()), false)
	case FuncProto:
		params, err := t.Params()
		if err != nil {
			return "", err
		}
		list := make([]string, 0, len(params))
		for _, p := range params {
			s := "..."
			if p.Name != "" || p.Type.Kind != 0 {
				if s, err = d.declare(p.Type, p.Name, false); err != nil {
					return "", err
				}
			}
			list = append(list, s)
		}
		if len(list) == 0 {
			list = []string{"void"}
		}
		return d.declare(elem, inner+"("+strings.Join(list, ", ")+")", false)
	}
	return "", fmt.Errorf("%w: type %d of kind %d is of nothing", ErrCorrupt, t.ID, t.Kind)
}
