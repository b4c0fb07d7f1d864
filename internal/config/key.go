package config

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// listName is the table that there are several of.
const listName = "target"

// keys are the keys of a table, in their order, and where their values go. The
// table is a pointer to one of the structs of [Config].
func keys(table any) iter.Seq2[string, reflect.Value] {
	v := reflect.ValueOf(table).Elem()
	return func(yield func(string, reflect.Value) bool) {
		for i := range v.NumField() {
			if name := v.Type().Field(i).Tag.Get("toml"); name != "" && !yield(name, v.Field(i)) {
				return
			}
		}
	}
}

// tables are the tables of a configuration, in their order, as pointers; the list
// of targets is one, of an empty target.
func (c *Config) tables() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for name, v := range keys(c) {
			table := v.Addr().Interface()
			if name == listName {
				table = new(Target)
			}
			if !yield(name, table) {
				return
			}
		}
	}
}

// find finds the value of a key.
func find(table any, key string) (reflect.Value, bool) {
	for name, v := range keys(table) {
		if name == key {
			return v, true
		}
	}
	return reflect.Value{}, false
}

// set gives a key the value that stands in the file.
func set(v reflect.Value, n *unstable.Node) error {
	text, isText := string(n.Data), n.Kind == unstable.String
	switch p := v.Addr().Interface().(type) {
	case *string:
		if !isText {
			return errors.New("the value is a text in quotes")
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return errors.New("the text has control characters in it")
		}
		*p = text
	case *int:
		i, err := number(n)
		if err != nil {
			return err
		}
		*p = i
	case *uint64:
		if n.Kind == unstable.Integer {
			i, err := number(n)
			if err != nil || i < 0 {
				return errors.New("the value is a size like \"10GiB\", or a number of bytes")
			}
			*p = uint64(i)
			return nil
		}
		if !isText {
			return errors.New("the value is a size like \"10GiB\"")
		}
		size, err := ui.ParseBytes(text)
		if err != nil {
			return err
		}
		*p = size
	case *time.Duration:
		if !isText {
			return errors.New("the value is a time like \"30m\" or \"1h30m\", in quotes")
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is no time; write it like 90s, 30m or 1h30m", text)
		}
		*p = d
	default:
		return fmt.Errorf("keys of type %s are not supported", v.Type())
	}
	return nil
}

// number reads an integer, which TOML may write with underscores or as hexadecimal.
func number(n *unstable.Node) (int, error) {
	if n.Kind != unstable.Integer {
		return 0, errors.New("the value is a whole number")
	}
	i, err := strconv.ParseInt(string(n.Data), 0, 64)
	if err != nil || i > math.MaxInt32 || i < math.MinInt32 {
		return 0, fmt.Errorf("%s is out of range", n.Data)
	}
	return int(i), nil
}

// literal is how a value stands in a file.
func literal(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case string:
		return quote(x)
	case uint64:
		return quote(exactBytes(x))
	case time.Duration:
		return quote(exactDuration(x))
	default:
		return fmt.Sprint(x)
	}
}

// quote writes a basic string of TOML.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// exactBytes is a size that is read back as the same.
func exactBytes(n uint64) string {
	for i, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if shift := 40 - 10*i; n > 0 && n%(1<<shift) == 0 {
			return strconv.FormatUint(n>>shift, 10) + unit
		}
	}
	return strconv.FormatUint(n, 10)
}

// exactDuration leaves out the zeros that time.Duration.String ends with.
func exactDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
