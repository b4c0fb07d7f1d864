package house

import (
	"go/ast"
	"slices"
	"testing"
)

// skips are the functions that may leave a test out, and why nothing hides behind
// that: a test that is skipped where every change is tried (.ci/run, which sets CI) is
// a hole that nobody sees.
var skips = map[string]string{
	"internal/lzo TestLiblzo2":            "in CI it fails",
	"internal/zstdpage TestLibzstd":       "in CI it fails",
	"e2e/lab TestForms":                   "in CI it fails",
	"kernel TestLayoutOfRunningKernel":    "in CI it fails",
	"kernel/btf TestRunningKernel":        "in CI it fails",
	"kernel BenchmarkLayoutFromBTF":       "a benchmark",
	"target mount":                        "in CI it fails",
	"target/nfs needRoot":                 "in CI it fails",
	"internal/house goCommand":            "in CI it fails",
	"internal/house TestGoModIsTidy":      "make lint asks again, with all modules",
	"internal/house crashBinary":          "with -short only",
	"internal/network lan":                "TestNetworkInGuest runs it, and fails if it is skipped",
	"internal/network testUpCopy":         "TestNetworkInGuest runs it, and fails if it is skipped",
	"internal/network TestUpBondOfLate":   "TestNetworkInGuest runs it, and fails if it is skipped",
	"internal/device FuzzHolds":           "an input that cannot be read",
	"cmd/panicroom TestMemoryDoesNotGrow": "on Linux it runs",
	"cmd/panicroom TestCompletionScripts": "in CI it fails",
	"crashenv TestReporterFails":          "on Linux it runs",
	"load skipWithoutLocks":               "on Linux it runs",
	"load TestStore":                      "on Linux it fails",
	"target/targettest testReadBack":      "the kind of target does not do it",
	"target/targettest testFree":          "on Linux it runs",
	"target/targettest testFull":          "each kind has one, but for memory and what tests are made of",
	"e2e needSystem":                      "make system; it says so",
	"e2e TestSoak":                        "make soak; it says so",
}

func TestSkipsAreKnown(t *testing.T) {
	seen := map[string]bool{}
	tr := source(t)
	for _, f := range tr.goFiles {
		for _, d := range f.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := f.pkg + " " + fn.Name.Name
			ast.Inspect(fn, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				sel, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); !ok || !slices.Contains([]string{"t", "b", "f", "tb"}, x.Name) {
					return true // of something else
				}
				seen[name] = true
				if skips[name] == "" {
					t.Errorf("%s: %s skips a test. Make it run, or fail where CI is set, and say so in skips", tr.fset.Position(call.Pos()), fn.Name.Name)
				}
				return true
			})
		}
	}
	for name := range skips {
		if !seen[name] {
			t.Errorf("skips has %s, which skips nothing", name)
		}
	}
}
