package house

import (
	"bytes"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// urls are the hosts that may be named: sources of facts and licences. The
// mirror of the Debian archive is none of them, it is the machine's business.
var urls = []string{
	"www.apache.org", "go.dev", "pkg.go.dev", "github.com", "git.kernel.org", "www.kernel.org",
	"docs.kernel.org", "lore.kernel.org", "keepachangelog.com", "semver.org",
	"example.com", "example.org", "uefi.org", "www.devicetree.org", "www.freedesktop.org",
	"datatracker.ietf.org", "riscv.org", "www.sourceware.org", "www.gnu.org", "www.debian.org",
}

// machinePaths are places on somebody's machine.
var machinePaths = regexp.MustCompile(`(^|[^A-Za-z0-9_.~$}/-])(/home/[a-z]|/Users/[A-Za-z]|/root/[.A-Za-z]|/work/[a-z])`)

// testPlaces are made up for tests of what paths mean.
var testPlaces = []string{"/home/c"}

// mirrors are Debian's own addresses.
var mirrors = regexp.MustCompile(`\b(deb|ftp|httpredir|security|archive|snapshot|ports)(\.[a-z]{2})?\.debian\.org\b`)

var urlInText = regexp.MustCompile("https?://[^\\s\"'`<>()\\]]+")

// maxFile is the size of the largest file that belongs into a repository.
const maxFile = 1 << 20

func TestNothingOfThisMachine(t *testing.T) {
	host, _ := os.Hostname()
	if len(host) < 4 { // too short to be told from a word
		host = ""
	}
	for _, name := range source(t).files {
		p := filepath.Join(root, filepath.FromSlash(name))
		st, err := os.Stat(p)
		if err != nil {
			t.Error(err)
			continue
		}
		if st.Size() > maxFile {
			t.Errorf("%s: %d bytes; big files are made or fetched, not kept", name, st.Size())
			continue
		}
		b, err := os.ReadFile(p)
		if err != nil {
			t.Error(err)
			continue
		}
		if slices.ContainsFunc([]string{"\x7fELF", "MZ", "\xcf\xfa\xed\xfe"}, func(m string) bool { return bytes.HasPrefix(b, []byte(m)) }) &&
			!strings.Contains(name, "testdata/") {
			t.Errorf("%s: a program; build it, do not keep it", name)
			continue
		}
		// Recorded machines and fuzz seeds are other machines' words.
		if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 || strings.Contains(name, "testdata/machines/") || strings.Contains(name, "testdata/fuzz/") {
			continue
		}
		if strings.HasPrefix(name, "internal/house/") {
			continue // the patterns themselves
		}
		for i, line := range strings.Split(string(b), "\n") {
			if m := machinePaths.FindStringSubmatch(line); m != nil && !(strings.HasSuffix(name, "_test.go") && slices.Contains(testPlaces, m[2])) {
				t.Errorf("%s:%d: %s...: a path of somebody's machine", name, i+1, m[2])
			}
			if m := mirrors.FindString(line); m != "" {
				t.Errorf("%s:%d: %s: the mirror comes from the machine's apt configuration", name, i+1, m)
			}
			if host != "" && strings.Contains(line, host) {
				t.Errorf("%s:%d: names this machine, %s", name, i+1, host)
			}
			for _, u := range urlInText.FindAllString(line, -1) {
				parsed, err := url.Parse(u)
				if err != nil || strings.ContainsAny(parsed.Hostname(), "$%{") {
					continue
				}
				if !slices.Contains(urls, parsed.Hostname()) && !strings.HasSuffix(parsed.Hostname(), ".invalid") {
					t.Errorf("%s:%d: %s: host not known; add it to urls in internal/house/tidy_test.go if readers need it", name, i+1, u)
				}
			}
		}
	}
}

// goCommand runs the go command at the top of the repository.
func goCommand(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	program, err := exec.LookPath("go")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("no go command on this machine")
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out) + stderr.String(), err
	}
	return string(out), nil
}

func TestGoModIsTidy(t *testing.T) {
	source(t) // so that a cached result does not outlive a change
	out, err := goCommand(t, []string{"GOPROXY=off", "GOFLAGS=-mod=mod"}, "mod", "tidy", "-diff")
	if err == nil {
		return
	}
	if strings.Contains(out, "GOPROXY=off") {
		// What only tests of other modules need is not in everybody's cache.
		t.Skipf("not all modules are on this machine; make lint asks for them:\n%s", out)
	}
	t.Errorf("go mod tidy changes something:\n%s", out)
}
