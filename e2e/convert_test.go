//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/e2e/referee"
	"github.com/panicroom-kdump/panicroom/report"
)

// form is a way to write a dump, in the words that panicroom convert is told.
type form struct {
	name  string
	words []string
	kind  referee.Kind
	with  string // compression
	flat  bool
	parts int // files of a split dump
}

// forms are all of them. Flattening, splitting and sharing know nothing of how
// pages are compressed, and are met with one compression each.
var forms = []form{
	{name: "zstd", words: []string{"--compress", "zstd"}, kind: referee.Kdump, with: "zstd"},
	{name: "lzo", words: []string{"--compress", "lzo"}, kind: referee.Kdump, with: "lzo"},
	{name: "snappy", words: []string{"--compress", "snappy"}, kind: referee.Kdump, with: "snappy"},
	{name: "zlib", words: []string{"--compress", "zlib"}, kind: referee.Kdump, with: "zlib"},
	{name: "none", words: []string{"--compress", "none"}, kind: referee.Kdump, with: "none"},
	{name: "shared", words: []string{"--compress", "lzo", "--share", "65536"}, kind: referee.Kdump, with: "lzo"},
	{name: "flattened", words: []string{"--flatten"}, kind: referee.Kdump, with: "zstd", flat: true},
	{name: "split", words: []string{"--split", "3"}, kind: referee.Kdump, with: "zstd", parts: 3},
	{name: "elf", words: []string{"--format", "elf"}, kind: referee.ELF},
	{name: "elf-flattened", words: []string{"--format", "elf", "--flatten"}, kind: referee.ELF, flat: true},
	{name: "raw", words: []string{"--format", "raw"}, kind: referee.Raw},
}

// formLevels are the dump levels at which forms are made.
var formLevels = []int{0, 1, 16, 31}

// convert makes a dump of the raw copy as a user does. It goes away with the test.
func (f form) convert(t *testing.T, raw string, level int) referee.Form {
	t.Helper()
	program, err := lab.Build(t.Context(), "cmd/panicroom", "")
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "vmcore")
	args := append([]string{"convert", "--level", strconv.Itoa(level)}, f.words...)
	if said, err := exec.CommandContext(t.Context(), program, append(args, raw, out)...).CombinedOutput(); err != nil {
		t.Fatalf("panicroom %q: %v\n%s", args, err, said)
	}
	r := referee.Form{Kind: f.kind, Compression: f.with, Flat: f.flat, Level: level, Files: []string{out}}
	if f.parts > 0 {
		r.Files = nil
		for i := range f.parts {
			r.Files = append(r.Files, fmt.Sprintf("%s.%d", out, i+1))
		}
	}
	return r
}

// judged lets referees look at dumps of the crash whose raw copy this is.
func judged(t *testing.T, raw string) *referee.Judge {
	t.Helper()
	j, err := referee.NewJudge(raw, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

// tell logs what referees found and fails the test if they disagree.
func tell(t *testing.T, r *referee.Report, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	for _, f := range r.Findings {
		verdict := "ok"
		if !f.OK {
			verdict = "WRONG"
		}
		t.Logf("%s: %s %s", verdict, f.Check, f.Detail)
	}
	for who, seconds := range r.Seconds {
		t.Logf("%.1f s: %s", seconds, who)
	}
}

// allLevels are each bit of the dump level alone, none and all.
var allLevels = []int{0, 1, 2, 4, 8, 16, 31}

// rightPages checks that dumps of all these levels have the pages that the rules
// keep, one by one.
func rightPages(t *testing.T, j *referee.Judge, raw string) {
	dumps := map[int]string{}
	for _, level := range allLevels {
		f := form{words: []string{"--compress", "snappy"}, kind: referee.Kdump}.convert(t, raw, level)
		dumps[level] = f.Files[0]
	}
	r, err := j.Levels(dumps)
	tell(t, r, err)
}

// everyForm lets somebody else's readers open dumps in all forms at all levels. In
// other than full runs each form is opened once, half of them of each kernel.
func everyForm(t *testing.T, j *referee.Judge, raw string, turn int) {
	for i, f := range forms {
		for k, level := range formLevels {
			chosen := i%2 == turn && i/2%len(formLevels) == k
			if !chosen && !full() {
				continue
			}
			t.Run(fmt.Sprintf("%s/level%d", f.name, level), func(t *testing.T) {
				form := f.convert(t, raw, level)
				r, err := j.Form(t.Context(), form)
				tell(t, r, err)
				if f.kind != referee.Raw { // which does not say where memory begins
					sameReport(t, raw, form.Files)
				}
			})
		}
	}
}

// sameReport checks that a dump tells the same story in whatever form it is, and
// without the pages that levels leave out.
func sameReport(t *testing.T, raw string, files []string) {
	t.Helper()
	if diff := cmp.Diff(reportOf(t, raw), reportOf(t, files...)); diff != "" {
		t.Errorf("report of the raw copy (-) and of %s (+):\n%s", filepath.Base(files[0]), diff)
	}
}

// reportOf is the report of a dump, in the lines of its JSON form.
func reportOf(t *testing.T, files ...string) []string {
	t.Helper()
	_, k := openDump(t, files...)
	r, err := report.Make(k, nil)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := r.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	return strings.Split(text.String(), "\n")
}

// knownDifferences lets makedumpfile choose pages at each level: where it differs
// from the rules, it is for a defect that its version is known to have.
func knownDifferences(t *testing.T, j *referee.Judge) {
	r, err := j.Explain(t.Context(), allLevels)
	tell(t, r, err)
}

// crashOpens lets crash open dumps: with sv57 one in each form, so that each level
// is met, too; with the others the dump as it was saved. It knows no sv48, and no
// kernel's debug data are in the tests that run after every change: they are 1 GB
// to fetch for each kernel, and a start takes 100 seconds of CPU time.
func crashOpens(t *testing.T, k *lab.Kernel, j *referee.Judge, s *saved, sv, turn int) {
	vmlinux, err := k.Vmlinux(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(t *testing.T, f referee.Form) {
		r, err := j.Crash(t.Context(), vmlinux, f)
		tell(t, r, err)
	}
	if sv != 57 {
		ask(t, referee.Form{Kind: referee.Kdump, Compression: "zstd", Level: 31, Files: []string{s.file("vmcore")}})
		return
	}
	t.Run("modules", func(t *testing.T) {
		r, err := j.CrashNeedsModules(t.Context(), vmlinux, forms[0].convert(t, s.file("vmcore.raw"), 31))
		tell(t, r, err)
	})
	for i, f := range forms {
		level := formLevels[(i+turn)%len(formLevels)]
		t.Run(fmt.Sprintf("%s/level%d", f.name, level), func(t *testing.T) {
			ask(t, f.convert(t, s.file("vmcore.raw"), level))
		})
	}
}
