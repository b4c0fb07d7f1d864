package house

import (
	"go/ast"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func document(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The exit codes of the document are those of the command.
func TestExitCodesAreDocumented(t *testing.T) {
	var code, documented []string
	for _, f := range source(t).goFiles {
		if f.path != "cmd/panicroom/exit.go" {
			continue
		}
		for _, d := range f.syntax.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				if lit, ok := v.Values[0].(*ast.BasicLit); ok && strings.HasPrefix(v.Names[0].Name, "exit") {
					code = append(code, lit.Value)
				}
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\| ([0-9]+) \|`).FindAllStringSubmatch(document(t, "docs/exit-codes.md"), -1) {
		documented = append(documented, m[1])
	}
	if len(code) < 2 || !slices.Equal(code, documented) {
		t.Errorf("cmd/panicroom/exit.go has %v, docs/exit-codes.md has %v", code, documented)
	}
}

// Who reads docs/architecture.md has seen every package.
func TestArchitectureShowsEveryPackage(t *testing.T) {
	text := document(t, "docs/architecture.md")
	for _, pkg := range source(t).packages() {
		if pkg == "." || strings.HasPrefix(pkg, "e2e/") || strings.HasPrefix(pkg, "tools") || strings.Contains(path.Base(pkg), "test") {
			continue
		}
		if !strings.Contains(text, pkg) {
			t.Errorf("docs/architecture.md does not mention %s", pkg)
		}
	}
}

// Links between the documents lead somewhere.
func TestLinksInDocuments(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)
	fence := regexp.MustCompile("(?s)```.*?```")
	for _, name := range source(t).files {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(document(t, name), ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(filepath.FromSlash(name)), filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
	}
}

// docs/seed.md names a test in each row of its tables, and each test is there.
func TestSeedNamesTests(t *testing.T) {
	there := map[string]bool{}
	for _, f := range source(t).goFiles {
		if !f.test {
			continue
		}
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				there[f.pkg+": "+fn.Name.Name] = true
			}
		}
	}
	rows := 0
	for line := range strings.Lines(document(t, "docs/seed.md")) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| ") || strings.HasSuffix(line, "| test |") {
			continue
		}
		rows++
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		for _, list := range strings.Split(cells[len(cells)-1], "; ") {
			pkg, tests, ok := strings.Cut(list, ": ")
			if !ok {
				t.Errorf("docs/seed.md: %q names no test as \"package: TestName\"", list)
			}
			for _, name := range strings.Split(tests, ", ") {
				if ok && !there[pkg+": "+name] {
					t.Errorf("docs/seed.md: there is no %s in %s", name, pkg)
				}
			}
		}
	}
	if rows < 20 {
		t.Errorf("docs/seed.md has %d rows", rows)
	}
}
