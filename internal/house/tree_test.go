package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// module is the path of this module.
const module = "github.com/panicroom-kdump/panicroom"

// root is the top of the repository, seen from this package.
const root = "../.."

// goFile is one parsed Go file of the repository.
type goFile struct {
	path    string // slash-separated, from the top of the repository
	pkg     string // directory, "." for the top
	test    bool   // *_test.go
	syntax  *ast.File
	imports []string
}

var readTree = sync.OnceValues(func() (*tree, error) {
	t := &tree{fset: token.NewFileSet()}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			// out and bin hold what make builds; a dot hides what is not ours.
			if rel != "." && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".ci" || rel == "out" || rel == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || rel == ".git" {
			return nil
		}
		t.files = append(t.files, rel)
		if !strings.HasSuffix(rel, ".go") || strings.Contains("/"+rel, "/testdata/") {
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(t.fset, rel, src, parser.ParseComments)
		if err != nil {
			return err
		}
		g := &goFile{path: rel, pkg: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go"), syntax: f}
		for _, s := range f.Imports {
			name, err := strconv.Unquote(s.Path.Value)
			if err != nil {
				return err
			}
			g.imports = append(g.imports, name)
		}
		t.goFiles = append(t.goFiles, g)
		return nil
	})
	return t, err
})

// tree is the repository's source.
type tree struct {
	fset    *token.FileSet
	files   []string // all, slash-separated from the top
	goFiles []*goFile
}

func source(t *testing.T) *tree {
	t.Helper()
	tr, err := readTree()
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.goFiles) < 10 {
		t.Fatalf("%d Go files below %s: this is not the repository", len(tr.goFiles), root)
	}
	return tr
}

// packages are the directories with Go files that are no tests.
func (t *tree) packages() []string {
	var all []string
	for _, f := range t.goFiles {
		if !f.test && !slices.Contains(all, f.pkg) {
			all = append(all, f.pkg)
		}
	}
	slices.Sort(all)
	return all
}

// constraint is the file's //go:build line, if it has one.
func (f *goFile) constraint() string {
	for _, g := range f.syntax.Comments {
		for _, c := range g.List {
			if c.Pos() > f.syntax.Package {
				return ""
			}
			if strings.HasPrefix(c.Text, "//go:build ") {
				return c.Text
			}
		}
	}
	return ""
}
