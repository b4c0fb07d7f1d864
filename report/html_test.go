package report_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/report"
	"github.com/panicroom-kdump/panicroom/report/reporttest"
)

func pageOf(t testing.TB, r *report.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// tag is an element's beginning or end as this page writes them: attributes in double
// quotes.
var tag = regexp.MustCompile(`^<(/?)([a-z0-9]+)((?: [a-zA-Z-]+(?:="[^"<>]*")?)*)(/?)>`)

var attribute = regexp.MustCompile(` ([a-zA-Z-]+)(?:="[^"<>]*")?`)

// What the page is made of. Nothing else may come out of it, whatever goes in.
var (
	elements = strings.Fields(`html head meta title style body header p span b i h1 h2 dl dt dd ul ol li code small nav a button main section
		details summary div table thead tbody tr th td br figure figcaption svg rect title input select option label output script`)
	attributes = strings.Fields(`lang charset http-equiv content name class id href aria-label open type placeholder autocomplete spellcheck value
		checked scope data-v viewBox preserveAspectRatio role x width height tabindex`)
	void = strings.Fields("meta input br")
)

// wellFormed checks that a page consists of its own elements, each closed where it has
// to be, and of characters that show.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	for _, own := range []string{"style", "script"} {
		// These are constants, and the browser looks for their ends only.
		before, rest, ok := strings.Cut(page, "<"+own+">")
		_, after, ok2 := strings.Cut(rest, "</"+own+">")
		if !ok || !ok2 {
			t.Fatalf("no %s", own)
		}
		page = before + after
	}
	page, ok := strings.CutPrefix(page, "<!doctype html>")
	if !ok {
		t.Error("no doctype")
	}
	var open []string
	for i := 0; i < len(page); i++ {
		switch c := page[i]; {
		case c == '<':
			end := strings.IndexByte(page[i:], '>')
			m := tag.FindStringSubmatch(page[i : i+end+1])
			if m == nil || !slices.Contains(elements, m[2]) {
				t.Fatalf("no element of ours: %.80q", page[i:])
			}
			for _, a := range attribute.FindAllStringSubmatch(m[3], -1) {
				if !slices.Contains(attributes, a[1]) {
					t.Fatalf("no attribute of ours: %q", m[0])
				}
			}
			switch {
			case m[1] == "/":
				if len(open) == 0 || open[len(open)-1] != m[2] {
					t.Fatalf("%q closes %q: %.200q", m[0], open, page[max(0, i-100):])
				}
				open = open[:len(open)-1]
			case m[4] == "" && !slices.Contains(void, m[2]):
				open = append(open, m[2])
			}
			i += len(m[0]) - 1
		case c == '>' || c == '"' || c == '\'':
			t.Fatalf("not escaped: %.80q", page[max(0, i-40):])
		case c != '\n' && (c < ' ' || c > '~'):
			t.Fatalf("character %#x: %.80q", c, page[max(0, i-40):])
		}
	}
	if len(open) > 0 {
		t.Errorf("not closed: %q", open)
	}
}

func TestPage(t *testing.T) {
	for name, r := range map[string]*report.Report{"full": reporttest.Full(400, 500, 8), "nothing": {}} {
		t.Run(name, func(t *testing.T) {
			page := pageOf(t, r)
			wellFormed(t, page)
			if name == "full" && !strings.Contains(page, "&lt;script&gt;bad()&lt;/script&gt;?[31m?&#34;&#39;&amp;") {
				t.Error("what wants to break out is not there as text")
			}
			// The policy allows what is there, byte for byte, and nothing else.
			for _, own := range []string{"style", "script"} {
				_, rest, _ := strings.Cut(page, "<"+own+">")
				text, _, _ := strings.Cut(rest, "</"+own+">")
				sum := sha256.Sum256([]byte(text))
				if want := own + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(page, want) || text == "" {
					t.Errorf("the policy has no %s", want)
				}
			}
			if strings.Count(page, "<script") != 1 || strings.Contains(page, "unsafe") || !strings.Contains(page, "default-src 'none'") {
				t.Error("the policy is not strict, or there is another script")
			}
		})
	}
}

// The page is in the crash kernel's memory, too, which never shows it.
func TestPageWeight(t *testing.T) {
	var bytes int64
	files, err := filepath.Glob("page/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		bytes += st.Size()
	}
	if bytes > 24<<10 {
		t.Errorf("%d bytes of style and script; want at most 24 KiB", bytes)
	}
}

func TestSaveHTML(t *testing.T) {
	r := reporttest.Full(400, 100, 8)
	dir := t.TempDir()
	name := filepath.Join(dir, "crash.html")
	check := func() {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil || string(b) != pageOf(t, r) {
			t.Errorf("%d bytes, %v; want the page", len(b), err)
		}
		if st, err := os.Lstat(name); err != nil || st.Mode()&fs.ModeSymlink == 0 && st.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v; want 0600", st.Mode(), err)
		}
		files, err := os.ReadDir(dir)
		for _, f := range files {
			if strings.HasPrefix(f.Name(), ".") {
				t.Errorf("%s was left behind, %v", f.Name(), err)
			}
		}
	}
	if err := r.SaveHTML(name); err != nil {
		t.Fatal(err)
	}
	check()
	// An old file, that all could read, is replaced.
	if err := os.WriteFile(name, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.SaveHTML(name); err != nil {
		t.Fatal(err)
	}
	check()
	// A link stays one.
	if err := os.Rename(name, filepath.Join(dir, "there.html")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("there.html", name); err != nil {
		t.Fatal(err)
	}
	if err := r.SaveHTML(name); err != nil {
		t.Fatal(err)
	}
	check()
	if to, err := os.Readlink(name); to != "there.html" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	// What is no file stays what it is.
	if err := r.SaveHTML(os.DevNull); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(os.DevNull); err != nil || st.Mode().IsRegular() {
		t.Fatalf("%s is %v, %v", os.DevNull, st.Mode(), err)
	}
	for _, bad := range []string{dir, filepath.Join(dir, "nowhere", "crash.html")} {
		if err := r.SaveHTML(bad); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

// The text of a report with everything in it, for a wide terminal and a narrow one.
func TestGoldenFull(t *testing.T) {
	r := reporttest.Full(400, 40, 8)
	for name, width := range map[string]int{"full": 80, "narrow": 40} {
		var b bytes.Buffer
		if err := r.WriteText(&b, width); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if len(line) > width+1 || strings.HasSuffix(line, " \n") {
				t.Errorf("line of %d columns: %q", len(line)-1, line)
			}
		}
		golden := filepath.Join("testdata", name+".txt")
		if flag.Lookup("update").Value.String() == "true" {
			if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), b.String()); d != "" {
			t.Errorf("%s (-want +got), -update accepts it:\n%s", golden, d)
		}
	}
}

// The text stays readable however large the machine is.
func TestTextIsBrief(t *testing.T) {
	var b bytes.Buffer
	r := reporttest.Full(20000, 60, 512)
	for range 8 {
		r.Blocked = append(r.Blocked, r.Blocked...)
		r.Disks = append(r.Disks, r.Disks...)
		r.Mounts = append(r.Mounts, r.Mounts...)
		r.Net = append(r.Net, r.Net...)
		r.Chains = append(r.Chains, r.Chains...)
	}
	if err := r.WriteText(&b, 80); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n > 450 {
		t.Errorf("%d lines", n)
	}
}

// fill puts the same string and number everywhere.
func fill(v reflect.Value, s string, n uint64) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		v.SetBool(n&1 != 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(n)
	case reflect.Float64:
		v.SetFloat(float64(n) / 7)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), s, n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), s, n)
		fill(v.Index(1), s, n+1)
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), s, n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		e := reflect.New(v.Type().Elem()).Elem()
		fill(e, s, n)
		v.SetMapIndex(reflect.ValueOf(s), e)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(int64(n%1e10), 0)))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), s, n)
			}
		}
	}
}

// Whatever a dead kernel had, the page consists of our elements, and the text of lines
// that do no harm to a terminal.
func FuzzForms(f *testing.F) {
	f.Add(reporttest.Hostile, uint64(1), 80)
	f.Add("a+b\n\"><img src=x onerror=alert(1)>", uint64(1)<<63, 40)
	f.Add("Tainted: G OE", ^uint64(0), 1)
	f.Add("", uint64(0), 0)
	f.Fuzz(func(t *testing.T, s string, n uint64, width int) {
		var r report.Report
		fill(reflect.ValueOf(&r).Elem(), s, n)
		wellFormed(t, pageOf(t, &r))
		width &= 0xff
		var b bytes.Buffer
		if err := r.WriteText(&b, width); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			line = strings.TrimSuffix(line, "\n")
			if width > 0 && len(line) > max(width, 40) {
				t.Errorf("%d columns, width %d: %q", len(line), width, line)
			}
			for _, c := range []byte(line) {
				if c < ' ' || c > '~' {
					t.Fatalf("character %#x: %q", c, line)
				}
			}
		}
	})
}
