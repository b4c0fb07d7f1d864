package value

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Style is how values are written.
type Style struct {
	Hex bool // all numbers in hexadecimal
}

// Write writes a value as C writes initial ones, one member a line:
//
//	comm = "systemd",
//	sibling = {
//	  next = 0xff60000080c34a98,
//	  prev = 0xff60000080c34a98,
//	},
//
// The outermost one has its type and its address in front.
func (v Value) Write(w io.Writer, s Style) error {
	t := &writer{w: w, style: s}
	head := v.Type.String() + " " + v.Addr.String()
	if v.Name != "" {
		head = v.Name
	}
	t.value("", head, v, "")
	return t.err
}

type writer struct {
	w     io.Writer
	style Style
	err   error
}

func (t *writer) line(s string) {
	if t.err == nil {
		_, t.err = fmt.Fprintln(t.w, s)
	}
}

// value writes name = value; a name of "" is an element of an array or a nameless
// struct.
func (t *writer) value(indent, name string, v Value, end string) {
	if name != "" {
		name += " = "
	}
	if len(v.Members) == 0 || v.Missing != nil {
		t.line(indent + name + t.scalar(v) + end)
		return
	}
	if v.Form == FormArray && flat(v) {
		t.flat(indent, name, v, end)
		return
	}
	t.line(indent + name + "{")
	for i := 0; i < len(v.Members); {
		m := v.Members[i]
		same := 1
		if v.Form == FormArray {
			for i+same < len(v.Members) && equal(m, v.Members[i+same]) {
				same++
			}
		}
		after := ","
		if same > 1 {
			after = fmt.Sprintf(", (%d times)", same)
		}
		t.value(indent+"  ", m.Name, m, after)
		i += same
	}
	t.line(indent + "}" + end)
}

// flat tells whether an array is one of scalars.
func flat(v Value) bool {
	for _, m := range v.Members {
		if len(m.Members) > 0 {
			return false
		}
	}
	return true
}

// textWidth is where lines of scalars are broken.
const textWidth = 78

// flat writes an array of scalars in as few lines as it takes.
func (t *writer) flat(indent, name string, v Value, end string) {
	var words []string
	for i := 0; i < len(v.Members); {
		same := 1
		for i+same < len(v.Members) && equal(v.Members[i], v.Members[i+same]) {
			same++
		}
		word := t.scalar(v.Members[i])
		if same > 1 {
			word += fmt.Sprintf(" (%d times)", same)
		}
		words = append(words, word)
		i += same
	}
	one := indent + name + "{" + strings.Join(words, ", ") + "}" + end
	if len(one) <= textWidth {
		t.line(one)
		return
	}
	t.line(indent + name + "{")
	line := indent + " "
	for _, word := range words {
		if len(line)+len(word)+2 > textWidth && line != indent+" " {
			t.line(line)
			line = indent + " "
		}
		line += " " + word + ","
	}
	t.line(line)
	t.line(indent + "}" + end)
}

// equal tells whether two values are written alike.
func equal(a, b Value) bool {
	if a.Form != b.Form || a.Number != b.Number || a.Text != b.Text || len(a.Members) != len(b.Members) || (a.Missing == nil) != (b.Missing == nil) {
		return false
	}
	for i := range a.Members {
		if !equal(a.Members[i], b.Members[i]) {
			return false
		}
	}
	return true
}

func (t *writer) scalar(v Value) string {
	if v.Missing != nil {
		return "<" + v.Missing.Error() + ">"
	}
	switch v.Form {
	case FormBool:
		return strconv.FormatBool(v.Number != 0)
	case FormEnum:
		if v.Text != "" {
			return v.Text
		}
	case FormPointer:
		s := fmt.Sprintf("%#x", v.Number)
		if v.Pointee != "" {
			return s + " " + strconv.Quote(v.Pointee)
		}
		if v.Text != "" {
			s += " <" + v.Text + ">"
		}
		return s
	case FormString:
		return strconv.QuoteToASCII(v.Text)
	case FormStruct, FormArray, FormNothing:
		return "{}"
	}
	switch {
	case t.style.Hex:
		return fmt.Sprintf("%#x", v.Number&mask(v))
	case v.Signed:
		return strconv.FormatInt(int64(v.Number), 10)
	case v.Number>>63 != 0: // an address, or flags
		return fmt.Sprintf("%#x", v.Number)
	}
	return strconv.FormatUint(v.Number, 10)
}

// mask are the bits that a number of v's type can have.
func mask(v Value) uint64 {
	size, err := v.Type.Sizeof()
	if err != nil || size >= 8 || size == 0 {
		return 1<<64 - 1
	}
	return 1<<(8*size) - 1
}

// MarshalJSON writes a struct as an object of its members, those of nameless structs
// among them; an array as one; pointers as text in hexadecimal; an enumerator by its
// name; and null where memory is missing.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.Missing != nil {
		return []byte("null"), nil
	}
	switch v.Form {
	case FormBool:
		return strconv.AppendBool(nil, v.Number != 0), nil
	case FormEnum:
		if v.Text != "" {
			return json.Marshal(v.Text)
		}
	case FormPointer:
		return fmt.Appendf(nil, "%q", fmt.Sprintf("%#x", v.Number)), nil
	case FormString:
		b, err := json.Marshal(v.Text)
		return bytes.ReplaceAll(b, []byte{0x7f}, []byte(`\u007f`)), err
	case FormNothing:
		return []byte("null"), nil
	case FormArray:
		if v.Members == nil {
			return []byte("[]"), nil
		}
		return json.Marshal(v.Members)
	case FormStruct:
		b := []byte{'{'}
		b, err := v.appendMembers(b)
		return append(b, '}'), err
	}
	if v.Signed {
		return strconv.AppendInt(nil, int64(v.Number), 10), nil
	}
	return strconv.AppendUint(nil, v.Number, 10), nil
}

func (v Value) appendMembers(b []byte) ([]byte, error) {
	for _, m := range v.Members {
		var err error
		if m.Name == "" && m.Form == FormStruct && m.Missing == nil {
			if b, err = m.appendMembers(b); err != nil {
				return b, err
			}
			continue
		}
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "%q:", m.Name)
		j, err := m.MarshalJSON()
		if err != nil {
			return b, err
		}
		b = append(b, j...)
	}
	return b, nil
}
