package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Bounds of what is read.
const (
	maxFile     = 1 << 20 // bytes
	maxDropIns  = 256
	maxTargets  = 16
	maxProblems = 20 // of one file; nobody reads more
)

// Load reads the configuration in the file at path and in its drop-ins; without
// the file, and with [File] for its path, it is [Default] and the drop-ins. Errors
// are an [*Error] or of the filesystem.
func Load(file string) (*Config, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	name := strings.TrimPrefix(filepath.ToSlash(abs), "/")
	if _, err := os.Stat(abs); errors.Is(err, fs.ErrNotExist) {
		if abs != File {
			return nil, ui.Hint(err, "panicroom config --shipped > "+file+" makes one, with every key explained")
		}
	} else if err != nil {
		return nil, err
	}
	return Parse(os.DirFS("/"), name)
}

// Parse reads the configuration of a machine whose root directory is root: the
// file name, if there is one, and NAME.d/*.toml, where NAME is without ".toml",
// in the order of their names. A later file changes single keys; one with targets
// replaces all targets.
func Parse(root fs.FS, name string) (*Config, error) {
	c := Default()
	dir := strings.TrimSuffix(name, ".toml") + ".d"
	names := []string{name}
	entries, err := fs.ReadDir(root, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, rooted(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".toml") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, path.Join(dir, e.Name()))
		}
	}
	if len(names) > maxDropIns {
		return nil, fmt.Errorf("/%s: %d files, at most %d", dir, len(names), maxDropIns)
	}
	var problems []Problem
	for i, name := range names {
		text, err := read(root, name)
		if i == 0 && errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		c.Files = append(c.Files, "/"+name)
		problems = append(problems, c.merge("/"+name, text)...)
	}
	if len(problems) > 0 {
		return nil, &Error{Problems: problems}
	}
	return c, nil
}

func read(root fs.FS, name string) ([]byte, error) {
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		// Of a name that the directory has.
		return nil, ui.Hint(rooted(err), "it is a link to a file that is not there: make that file, or remove the link")
	} else if err != nil {
		return nil, rooted(err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, rooted(err)
	case !info.Mode().IsRegular():
		return nil, ui.Hint(fmt.Errorf("/%s is no file", name),
			"the configuration is a file, and in the directory of the same name with .d every *.toml is one")
	case info.Size() > maxFile:
		return nil, fmt.Errorf("/%s has %d bytes, at most %d", name, info.Size(), maxFile)
	}
	return fs.ReadFile(root, name)
}

// rooted names a file as the machine does; io/fs has no slash before its names.
func rooted(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok && !strings.HasPrefix(e.Path, "/") {
		return &fs.PathError{Op: e.Op, Path: "/" + e.Path, Err: e.Err}
	}
	return err
}

// reader reads one file into a configuration.
type reader struct {
	c        *Config
	file     string
	p        unstable.Parser
	seen     map[string]unstable.Range // keys and tables, by their full names
	inlined  map[string]bool           // tables written as { }
	targets  []target
	problems []Problem
}

// target is one of the file, with where its keys stand.
type target struct {
	Target
	at    unstable.Range
	given []string
	keys  map[string]unstable.Range
}

// merge changes the configuration by the text of a file, and returns what is
// wrong with that.
func (c *Config) merge(file string, text []byte) []Problem {
	r := &reader{c: c, file: file, seen: map[string]unstable.Range{}, inlined: map[string]bool{}}
	r.p.Reset(text)
	if bytes.HasPrefix(text, []byte("\ufeff")) {
		r.problem(unstable.Range{}, "", "the file begins with a byte order mark, which TOML does not have: save it as UTF-8 without one")
		return r.problems
	}
	table := "" // that the header above has begun; "-" for one that is wrong
	for r.p.NextExpression() {
		switch e := r.p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = r.header(e)
		case unstable.KeyValue:
			r.keyValue(table, e)
		}
	}
	if e, ok := errors.AsType[*unstable.ParserError](r.p.Error()); ok {
		at := unstable.Range{Offset: uint32(len(text))} // the end of the file
		if len(e.Highlight) > 0 {
			at = r.p.Range(e.Highlight)
		}
		r.problem(at, "", "%s", e.Message)
	} else if err := r.p.Error(); err != nil {
		r.problem(unstable.Range{}, "", "%v", err)
	}
	r.end()
	return r.problems
}

// problem notes what is wrong.
func (r *reader) problem(at unstable.Range, suggestion, format string, args ...any) {
	if len(r.problems) >= maxProblems {
		return
	}
	p := r.p.Shape(at).Start
	r.problems = append(r.problems, Problem{File: r.file, Line: p.Line, Column: p.Column, Text: fmt.Sprintf(format, args...), Suggestion: suggestion})
}

// names are the parts of a dotted key and where it begins.
func (r *reader) names(e *unstable.Node) (names []string, at unstable.Range) {
	for it := e.Key(); it.Next(); {
		if len(names) == 0 {
			at = it.Node().Raw
		}
		names = append(names, string(it.Node().Data))
	}
	return names, at
}

// once tells whether something has not been defined before.
func (r *reader) once(name string, at unstable.Range) bool {
	if before, ok := r.seen[name]; ok {
		r.problem(at, "", "%s stands twice; the first is in line %d", name, r.p.Shape(before).Start.Line)
		return false
	}
	r.seen[name] = at
	return true
}

// header begins a table and returns its name.
func (r *reader) header(e *unstable.Node) string {
	const wrong = "-"
	names, at := r.names(e)
	name := strings.Join(names, ".")
	var all []string
	for t := range r.c.tables() {
		all = append(all, t)
	}
	switch list := e.Kind == unstable.ArrayTable; {
	case len(names) != 1 || !slices.Contains(all, name):
		suggestion := ui.Like(name, all)
		if suggestion != "" {
			suggestion = r.brackets(suggestion)
		}
		r.problem(at, suggestion, "unknown table %s", name)
		return wrong
	case list != (name == listName):
		r.problem(at, "", "%s is written %s", name, r.brackets(name))
		return wrong
	case list:
		if before, ok := r.seen[name]; ok {
			r.problem(at, "", "%s is a list in line %d already", name, r.p.Shape(before).Start.Line)
			return wrong
		}
		return r.begin(at)
	case !r.once(name, at):
		return wrong
	}
	return name
}

// brackets are how a table's header is written.
func (r *reader) brackets(table string) string {
	if table == listName {
		return "[[" + table + "]]"
	}
	return "[" + table + "]"
}

// begin begins a target.
func (r *reader) begin(at unstable.Range) string {
	r.targets = append(r.targets, target{at: at, keys: map[string]unstable.Range{}})
	return listName
}

// keyValue reads a line KEY = VALUE below the header of a table.
func (r *reader) keyValue(table string, e *unstable.Node) {
	if table == "-" {
		return // the header's problem was told
	}
	names, at := r.names(e)
	if table != "" {
		names = append([]string{table}, names...)
	} else if len(names) > 1 {
		if names[0] == listName {
			r.problem(at, "", "targets are written below %s", r.brackets(listName))
			return
		}
		if r.inlined[names[0]] {
			r.problem(at, "", "%s was written as one value before", names[0])
			return
		}
		// A header of the same name is wrong after this.
		if _, ok := r.seen[names[0]]; !ok {
			r.seen[names[0]] = at
		}
	}
	r.assign(names, at, e.Value())
}

// assign gives the key of this name a value, or the keys of a table.
func (r *reader) assign(names []string, at unstable.Range, value *unstable.Node) {
	if len(names) == 1 {
		r.whole(names[0], at, value)
		return
	}
	key := strings.Join(names[1:], ".")
	table := r.table(names[0])
	if table == nil {
		r.unknown("", names[0]+"."+key, at)
		return
	}
	v, ok := find(table, key)
	if !ok {
		r.unknown(names[0], key, at)
		return
	}
	name := names[0] + "." + key
	if t := r.current(names[0]); t != nil {
		if before, twice := t.keys[key]; twice {
			r.problem(at, "", "%s stands twice; the first is in line %d", key, r.p.Shape(before).Start.Line)
			return
		}
		t.keys[key] = at
		t.given = append(t.given, key)
	} else if !r.once(name, at) {
		return
	}
	if raw := value.Raw; raw.Length > 0 {
		at = raw
	}
	err := set(v, value)
	if err == nil {
		err = check(names[0], key, v.Interface())
	}
	if err != nil {
		suggestion := ""
		if w, ok := errors.AsType[*wordError](err); ok {
			if suggestion = ui.Like(w.value, w.words); suggestion != "" {
				suggestion = quote(suggestion)
			}
		}
		r.problem(at, suggestion, "%s: %v", name, err)
	}
}

// whole reads a table that is written as a value, or tells that a key stands in
// no table.
func (r *reader) whole(name string, at unstable.Range, value *unstable.Node) {
	switch {
	case r.table(name) == nil && name != listName:
		r.unknown("", name, at)
	case name == listName && value.Kind == unstable.Array:
		if len(r.targets) > 0 {
			r.problem(at, "", "%s stands twice", name)
			return
		}
		if !r.once(name, at) {
			return
		}
		for it := value.Children(); it.Next(); {
			if it.Node().Kind != unstable.InlineTable {
				r.problem(at, "", "%s is written %s", name, r.brackets(name))
				return
			}
			r.inline(r.begin(at), it.Node())
		}
	case name != listName && value.Kind == unstable.InlineTable:
		r.inlined[name] = true
		if r.once(name, at) {
			r.inline(name, value)
		}
	default:
		r.problem(at, "", "%s is a table, written %s", name, r.brackets(name))
	}
}

func (r *reader) inline(table string, value *unstable.Node) {
	for it := value.Children(); it.Next(); {
		names, at := r.names(it.Node())
		r.assign(append([]string{table}, names...), at, it.Node().Value())
	}
}

// table is where the keys of a table go, nil if there is none of that name.
func (r *reader) table(name string) any {
	if t := r.current(name); t != nil {
		return &t.Target
	}
	if v, ok := find(r.c, name); ok && name != listName {
		return v.Addr().Interface()
	}
	return nil
}

// current is the target that was begun last.
func (r *reader) current(table string) *target {
	if table != listName || len(r.targets) == 0 {
		return nil
	}
	return &r.targets[len(r.targets)-1]
}

// unknown tells that there is no such key, and maybe where there is.
func (r *reader) unknown(table, key string, at unstable.Range) {
	var here, elsewhere []string
	for t, keysOf := range r.c.tables() {
		for k := range keys(keysOf) {
			if t == table {
				here = append(here, k)
			}
			if k == strings.ReplaceAll(key, "_", "-") {
				elsewhere = append(elsewhere, k+" in "+r.brackets(t))
			}
		}
	}
	suggestion := ui.Like(key, here)
	if suggestion == "" && len(elsewhere) > 0 {
		suggestion = elsewhere[0]
	}
	where := "in no table"
	if table != "" {
		where = "in " + r.brackets(table)
	}
	r.problem(at, suggestion, "unknown key %s %s", key, where)
}

// end checks the targets of the file, which replace all others.
func (r *reader) end() {
	if len(r.targets) == 0 {
		if at, ok := r.seen[listName]; ok {
			r.problem(at, "", "there is no target: write at least one %s", r.brackets(listName))
		}
		return
	}
	if len(r.targets) > maxTargets {
		r.problem(r.targets[maxTargets].at, "", "%d targets, at most %d", len(r.targets), maxTargets)
		return
	}
	r.c.Targets = nil
	for _, t := range r.targets {
		if key, text := targetProblem(t.given); text != "" {
			at, ok := t.keys[key]
			if !ok {
				at = t.at
			}
			r.problem(at, "", "%s", text)
		}
		t.fill()
		r.c.Targets = append(r.c.Targets, t.Target)
	}
}
