package house

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

func TestOnePackageComment(t *testing.T) {
	with := map[string][]string{}
	tr := source(t)
	for _, f := range tr.goFiles {
		if f.syntax.Doc == nil {
			continue
		}
		if f.test {
			t.Errorf("%s: the package comment stands in a test", f.path)
			continue
		}
		with[f.pkg] = append(with[f.pkg], f.path)
		if text := f.syntax.Doc.Text(); f.syntax.Name.Name != "main" && !strings.HasPrefix(text, "Package "+f.syntax.Name.Name+" ") {
			t.Errorf("%s: the package comment starts with %.40q; want \"Package %s ...\"", f.path, text, f.syntax.Name.Name)
		}
	}
	for _, pkg := range tr.packages() {
		if n := len(with[pkg]); n != 1 {
			t.Errorf("package %s has %d package comments %v; want exactly one", pkg, n, with[pkg])
		}
	}
}

// goarchs are the architectures that the go command reads out of file names
// (internal/syslist/syslist.go, Go 1.26).
var goarchs = strings.Fields(`386 amd64 amd64p32 arm armbe arm64 arm64be loong64
	mips mipsle mips64 mips64le mips64p32 mips64p32le ppc ppc64 ppc64le riscv riscv64
	s390 s390x sparc sparc64 wasm`)

// Dumps of every architecture are read on every host: an architecture is data
// there, and a file called mmu_riscv64.go would silently be left out of the
// build everywhere else.
func TestNoArchitectureInFileNames(t *testing.T) {
	onTheMachine := []string{"internal/sys", "load", "crashenv"}
	for _, f := range source(t).goFiles {
		if slices.Contains(onTheMachine, f.pkg) {
			continue
		}
		name := strings.TrimSuffix(strings.TrimSuffix(path.Base(f.path), ".go"), "_test")
		if _, last, ok := cutLast(name, "_"); ok && slices.Contains(goarchs, last) {
			t.Errorf("%s: built for %s only; call it %s_%s.go", f.path, last, last, strings.TrimSuffix(name, "_"+last))
		}
		c := strings.FieldsFunc(f.constraint(), func(r rune) bool { return strings.ContainsRune(" ()!&|", r) })
		for _, word := range c {
			if slices.Contains(goarchs, word) {
				t.Errorf("%s: %s: architectures are data here", f.path, f.constraint())
			}
		}
	}
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func TestNoInit(t *testing.T) {
	tr := source(t)
	for _, f := range tr.goFiles {
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init runs whether it is wanted or not, in PID 1 too", tr.fset.Position(fn.Pos()))
			}
		}
	}
}

// Package variables are tables, errors and patterns: nothing assigns to them
// after the program has started.
func TestNoGlobalMutableState(t *testing.T) {
	tr := source(t)
	globals := map[string]map[string]bool{} // by package and its name, since tests have two
	for _, f := range tr.goFiles {
		key := f.pkg + " " + f.syntax.Name.Name
		if globals[key] == nil {
			globals[key] = map[string]bool{}
		}
		for _, d := range f.syntax.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				for _, n := range s.(*ast.ValueSpec).Names {
					if n.Name != "_" {
						globals[key][n.Name] = true
					}
				}
			}
		}
	}
	for _, f := range tr.goFiles {
		names := globals[f.pkg+" "+f.syntax.Name.Name]
		check := func(e ast.Expr) {
			for {
				switch x := e.(type) {
				case *ast.IndexExpr:
					e = x.X
				case *ast.SelectorExpr:
					e = x.X
				case *ast.StarExpr:
					e = x.X
				case *ast.ParenExpr:
					e = x.X
				case *ast.Ident:
					// The parser resolves what is local to the file; what is
					// left without an object is declared in another file.
					global := x.Obj == nil || x.Obj == f.syntax.Scope.Objects[x.Name]
					if global && names[x.Name] {
						t.Errorf("%s: assigns to the package variable %s", tr.fset.Position(x.Pos()), x.Name)
					}
					return
				default:
					return
				}
			}
		}
		for _, d := range f.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				switch s := n.(type) {
				case *ast.AssignStmt:
					if s.Tok != token.DEFINE {
						for _, l := range s.Lhs {
							check(l)
						}
					}
				case *ast.IncDecStmt:
					check(s.X)
				}
				return true
			})
		}
	}
}

// Tests wait for events. A sleep is either too short or wasted.
func TestNoSleepingTests(t *testing.T) {
	tr := source(t)
	for _, f := range tr.goFiles {
		if !f.test && !strings.HasPrefix(f.pkg+"/", "e2e/") {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Sleep" {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
				t.Errorf("%s: time.Sleep in a test; wait for the event", tr.fset.Position(sel.Pos()))
			}
			return true
		})
	}
}

// What is exported says what it is, in which units, and where the format
// comes from; here only that it says anything can be tested.
func TestExportedIsDocumented(t *testing.T) {
	tr := source(t)
	for _, f := range tr.goFiles {
		if f.test || f.syntax.Name.Name == "main" {
			continue
		}
		if strings.HasSuffix(f.path, "_other.go") {
			continue // the same functions are documented in their real files
		}
		for _, d := range f.syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !wellKnown[d.Name.Name] {
					t.Errorf("%s: %s has no comment", tr.fset.Position(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				if d.Tok == token.CONST && len(d.Specs) > 0 && d.Specs[0].(*ast.ValueSpec).Type != nil {
					continue // values of a type, which says what they are
				}
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						if s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
							t.Errorf("%s: %s has no comment", tr.fset.Position(s.Pos()), s.Name.Name)
						}
					case *ast.ValueSpec:
						if s.Names[0].IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
							t.Errorf("%s: %s has no comment", tr.fset.Position(s.Pos()), s.Names[0].Name)
						}
					}
				}
			}
		}
	}
}

// wellKnown are methods whose meaning their interface of the standard library
// (or of the house: Hints) has settled.
var wellKnown = map[string]bool{
	"Error": true, "Unwrap": true, "Is": true, "Hints": true, "String": true,
	"Read": true, "ReadAt": true, "Write": true, "WriteAt": true, "WriteTo": true, "Close": true,
	"Len": true, "Less": true, "Swap": true, "MarshalJSON": true, "UnmarshalJSON": true,
	"MarshalText": true, "UnmarshalText": true,
	"Name": true, "Size": true, "Mode": true, "ModTime": true, "IsDir": true, "Sys": true,
}

func exportedReceiver(fn *ast.FuncDecl) bool {
	if fn.Recv == nil {
		return true
	}
	e := fn.Recv.List[0].Type
	if s, ok := e.(*ast.StarExpr); ok {
		e = s.X
	}
	if i, ok := e.(*ast.IndexExpr); ok {
		e = i.X
	}
	id, ok := e.(*ast.Ident)
	return ok && id.IsExported()
}
