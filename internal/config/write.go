package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// WriteTOML writes the whole configuration as a file that is read back as the
// same.
func (c *Config) WriteTOML(w io.Writer) error {
	var b bytes.Buffer
	for name, table := range c.tables() {
		if name != listName {
			writeTable(&b, "["+name+"]", table, false)
			continue
		}
		for i := range c.Targets {
			writeTable(&b, "[["+name+"]]", &c.Targets[i], true)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func writeTable(b *bytes.Buffer, header string, table any, brief bool) {
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	fmt.Fprintln(b, header)
	for key, v := range keys(table) {
		if brief && v.IsZero() {
			continue // of another kind
		}
		fmt.Fprintf(b, "%s = %s\n", key, literal(v))
	}
}

// MarshalJSON has the names of the file; sizes are bytes, times seconds.
func (c *Config) MarshalJSON() ([]byte, error) {
	all := map[string]any{"files": append([]string{}, c.Files...)}
	for name, v := range keys(c) {
		if name != listName {
			all[name] = plain(v.Addr().Interface(), false)
			continue
		}
		list := []any{}
		for i := range c.Targets {
			list = append(list, plain(&c.Targets[i], true))
		}
		all[name] = list
	}
	return json.Marshal(all)
}

// plain is a table for encoding/json.
func plain(table any, brief bool) map[string]any {
	m := map[string]any{}
	for key, v := range keys(table) {
		if brief && v.IsZero() {
			continue
		}
		m[key] = v.Interface()
		if d, ok := m[key].(time.Duration); ok {
			m[key] = d.Seconds()
		}
	}
	return m
}
