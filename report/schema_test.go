package report_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
	"github.com/panicroom-kdump/panicroom/report"
	"github.com/panicroom-kdump/panicroom/report/reporttest"
)

// objects are what the document calls types whose own names are those of others, or
// say too little.
var objects = map[reflect.Type]string{
	reflect.TypeFor[report.Task]():  "CrashTask",
	reflect.TypeFor[report.Frame](): "Place",
	reflect.TypeFor[sched.Ref]():    "TaskRef",
	reflect.TypeFor[stack.Regs]():   "SavedRegisters",
}

// schema are the objects of a report's JSON, each with its fields and their types in
// the words of the document: a question mark is behind what is not always there.
func schema(t *testing.T) map[string]map[string]string {
	all := map[string]map[string]string{}
	types := map[string]reflect.Type{}
	var walk func(reflect.Type) string
	walk = func(typ reflect.Type) string {
		switch typ {
		case reflect.TypeFor[kernel.VirtAddr]():
			return "address"
		case reflect.TypeFor[kernel.Register]():
			typ = reflect.TypeFor[report.Register]() // it writes itself as such
		}
		switch typ.Kind() {
		case reflect.Pointer:
			return walk(typ.Elem())
		case reflect.Slice:
			return "array of " + walk(typ.Elem())
		case reflect.Array:
			return fmt.Sprintf("array of %d %s", typ.Len(), walk(typ.Elem()))
		case reflect.Map:
			return "object of " + walk(typ.Elem())
		case reflect.String:
			return "string"
		case reflect.Bool:
			return "boolean"
		case reflect.Struct:
		default:
			return "number"
		}
		if typ.PkgPath() == "time" {
			return "time"
		}
		name := objects[typ]
		if name == "" {
			name = typ.Name()
		}
		if old, ok := types[name]; ok {
			if old != typ {
				t.Fatalf("%s and %s are both called %s: give one a name in objects", old, typ, name)
			}
			return name
		}
		types[name], all[name] = typ, map[string]string{}
		for _, f := range reflect.VisibleFields(typ) {
			tag, there := f.Tag.Lookup("json")
			key, options, _ := strings.Cut(tag, ",")
			maybe := ""
			if strings.Contains(options, "omit") {
				maybe = "?"
			}
			switch {
			case !f.IsExported() || f.Anonymous || key == "-":
			case !there || key == "":
				t.Errorf("%s.%s has no name in JSON", typ, f.Name)
			case strings.Contains(options, "string"):
				all[name][key] = "string" + maybe
			default:
				all[name][key] = walk(f.Type) + maybe
			}
		}
		return name
	}
	walk(reflect.TypeFor[report.Report]())
	return all
}

// documented are the objects of docs/report.md.
func documented(t *testing.T) map[string]map[string]string {
	b, err := os.ReadFile(filepath.Join("..", "docs", "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	heading := regexp.MustCompile(`^### (\w+)$`)
	row := regexp.MustCompile("^\\| `(\\w+)` \\| ([^|]+) \\| ([^|]+) \\|$")
	link := regexp.MustCompile(`\[(\w+)\]\(#(\w+)\)`)
	all := map[string]map[string]string{}
	var now map[string]string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if m := heading.FindStringSubmatch(line); m != nil {
			now = map[string]string{}
			all[m[1]] = now
		} else if strings.HasPrefix(line, "#") {
			now = nil
		}
		m := row.FindStringSubmatch(line)
		if m == nil {
			if now != nil && strings.HasPrefix(line, "| `") {
				t.Errorf("docs/report.md: no row of field, type and meaning: %s", line)
			}
			continue
		}
		if now == nil {
			t.Fatalf("docs/report.md: field %s stands below no object", m[1])
		}
		if _, twice := now[m[1]]; twice {
			t.Errorf("docs/report.md: %s stands twice", m[1])
		}
		for _, l := range link.FindAllStringSubmatch(m[2], -1) {
			if strings.ToLower(l[1]) != l[2] {
				t.Errorf("docs/report.md: %s: %s leads elsewhere", m[1], l[0])
			}
		}
		now[m[1]] = link.ReplaceAllString(m[2], "$1")
	}
	return all
}

// Each name in the JSON of a report is in its document, with its type, and nothing
// else is.
func TestSchemaIsDocumented(t *testing.T) {
	want, got := schema(t), documented(t)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/report.md (- is the code, + the document):\n%s", diff)
	}
	if len(want) < 20 {
		t.Errorf("only %d objects found: %q", len(want), slices.Sorted(maps.Keys(want)))
	}
}

// Nothing gets lost on the way through JSON.
func TestJSONIsWhole(t *testing.T) {
	r := reporttest.Full(400, 100, 8)
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back report.Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, &back, cmpopts.IgnoreUnexported(report.Log{})); diff != "" {
		t.Errorf("- before, + after:\n%s", diff)
	}
}
