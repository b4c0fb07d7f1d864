package saved

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/report"
	"github.com/panicroom-kdump/panicroom/target"
)

// Crash is a saved crash, or what there is of one.
type Crash struct {
	// Path is its directory, and Name the last part of that.
	Path string `json:"path"`
	Name string `json:"name"`
	// Time of the crash; when it was saved if the dead kernel did not say.
	Time   time.Time `json:"time"`
	Kernel string    `json:"kernel,omitempty"` // release
	Host   string    `json:"host,omitempty"`
	Size   uint64    `json:"size"` // bytes on the disk
	// Complete tells that log and dump are whole, and Reasons why not.
	Complete bool     `json:"complete"`
	Reasons  []string `json:"reasons,omitempty"`
	// Title is what happened, in one line of printable text, "" if unknown; Kind
	// is its class (see report.Kind), Where the function at fault.
	Title string      `json:"title,omitempty"`
	Kind  report.Kind `json:"kind,omitempty"`
	Where string      `json:"where,omitempty"`

	// Ours tells that panicroom has made the directory, under the name that it
	// has, or that and the suffix of incomplete ones: only then may it go.
	Ours bool `json:"ours"`
	// Written is when the crash was written to last.
	Written time.Time `json:"written"`
	// Fresh crashes are newer than those that are not, whatever clocks have said;
	// who knows sets it.
	Fresh bool `json:"-"`
}

// Busy tells whether a crash may still be on its way, on a machine that was booted
// at the given time: what the panic kernel wrote was written before that, so it is
// somebody's who is at it by hand. A clock that was wrong makes a crash look busy
// until the next boot.
func (c *Crash) Busy(boot time.Time) bool {
	return !c.Complete && strings.HasSuffix(c.Name, target.IncompleteSuffix) && !c.Written.Before(boot)
}

// Why says in one line why a crash is not complete.
func (c *Crash) Why() string {
	switch {
	case c.Complete:
		return ""
	case len(c.Reasons) == 0:
		return "it was not saved to its end"
	}
	return strings.Join(c.Reasons, "; ")
}

// Names and bounds of what is read of a crash.
const (
	manifestFile = "manifest.json"
	reportFile   = "report.json"
	maxManifest  = 1 << 20
	maxReport    = 8 << 20
	maxEntries   = 10000 // of a directory
	maxTitle     = 300   // bytes
)

// manifest is what of crashenv.Manifest is read here. A newer version may say
// more.
type manifest struct {
	Version  int      `json:"version"`
	Name     string   `json:"name"`
	Complete bool     `json:"complete"`
	Reasons  []string `json:"reasons"`
	Crash    struct {
		Time    time.Time `json:"time"`
		Release string    `json:"release"`
		Panic   string    `json:"panic"`
	} `json:"crash"`
	Host *struct {
		Name string `json:"name"`
	} `json:"host"`
	Tool struct {
		Version string `json:"version"`
		Go      string `json:"go"`
	} `json:"tool"`
}

// List returns the crashes in a directory, the oldest first; none if the directory
// does not exist. Other things in it are passed over.
func List(dir string) ([]Crash, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer root.Close()
	entries, err := readDir(root, ".")
	if err != nil {
		return nil, err
	}
	var list []Crash
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		c, ok, err := look(root, e.Name())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, e.Name()), err)
		}
		if ok {
			c.Path = filepath.Join(dir, c.Name)
			list = append(list, c)
		}
	}
	slices.SortFunc(list, older)
	return list, nil
}

// older compares crashes by their age.
func older(a, b Crash) int {
	if a.Fresh != b.Fresh {
		if a.Fresh {
			return 1
		}
		return -1
	}
	return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Name, b.Name))
}

// readDir is what is in a directory; links are not followed.
func readDir(root *os.Root, name string) ([]fs.DirEntry, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(maxEntries)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return entries, err
}

// look looks into a directory; ok tells whether it is a crash.
func look(dir *os.Root, name string) (c Crash, ok bool, err error) {
	root, err := dir.OpenRoot(name)
	if err != nil {
		return c, false, err
	}
	defer root.Close()
	text, err := readFile(root, manifestFile, maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	if err == nil {
		// A report that cannot be read leaves what the manifest says.
		rep, _ := readFile(root, reportFile, maxReport)
		c, err = parse(name, text, rep)
	}
	if err != nil {
		c = Crash{Name: name, Reasons: []string{Printable(err.Error())}}
	}
	c.Size, c.Written = measure(root)
	if c.Time.IsZero() {
		c.Time = c.Written
	}
	return c, true, nil
}

// readFile reads a regular file of bounded size.
func readFile(root *os.Root, name string, limit int64) ([]byte, error) {
	info, err := root.Lstat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file", name)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s has %d bytes, at most %d", name, info.Size(), limit)
	}
	return root.ReadFile(name)
}

// measure tells what a crash takes on the disk, and when it was written to last.
func measure(root *os.Root) (size uint64, last time.Time) {
	n := 0
	_ = fs.WalkDir(root.FS(), ".", func(_ string, e fs.DirEntry, err error) error {
		if n++; n > maxEntries {
			return fs.SkipAll
		}
		if err != nil {
			return nil // what cannot be seen takes nothing
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		size += sys.Allocated(info)
		if info.ModTime().After(last) {
			last = info.ModTime()
		}
		return nil
	})
	return size, last
}

// parse makes a Crash of what stands in its files.
func parse(name string, text, rep []byte) (Crash, error) {
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Crash{}, fmt.Errorf("%s: %w", manifestFile, err)
	}
	base, incomplete := strings.CutSuffix(name, target.IncompleteSuffix)
	c := Crash{
		Name: name, Time: m.Crash.Time, Kernel: Printable(m.Crash.Release), Title: Printable(m.Crash.Panic),
		// Whatever a manifest says: a crash without its name was not committed.
		Complete: m.Complete && !incomplete,
		Ours:     m.Version > 0 && m.Tool.Go != "" && named(base, m.Name),
	}
	if m.Host != nil {
		c.Host = Printable(m.Host.Name)
	}
	for _, r := range m.Reasons {
		c.Reasons = append(c.Reasons, Printable(r))
	}
	var r report.Report
	if json.Unmarshal(rep, &r) != nil {
		return c, nil
	}
	c.Kind, c.Where = report.Kind(Printable(string(r.Crash.Kind))), Printable(r.Crash.Where)
	if r.Crash.Kind != "" && r.Crash.Kind != report.KindUnknown {
		c.Title = Printable(r.Headline())
	}
	if c.Host == "" {
		c.Host = Printable(r.Machine.Hostname)
	}
	return c, nil
}

// named tells whether a directory has the name of a crash; a number behind it tells
// the crash from another of the same name, and some filesystems take no colons
// (target.Target.Begin).
func named(base, name string) bool {
	number, ok := strings.CutPrefix(base, name)
	if !ok {
		number, ok = strings.CutPrefix(base, target.WithoutColons(name))
	}
	return ok && name != "" && (number == "" || number[0] == '.' && len(number) > 1 && strings.Trim(number[1:], "0123456789") == "")
}

// Printable is s, which a dead kernel may have said, as one line of bounded length
// that does no harm to a terminal.
func Printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	return strings.TrimSpace(s[:min(len(s), maxTitle)])
}
