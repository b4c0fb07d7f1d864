package bootloader

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Wanted is what shall stand behind crashkernel=.
type Wanted struct {
	Value string
	// Replace says that a value which somebody else has set is replaced; without
	// it such a file is left alone.
	Replace bool
	// Cmdline is the running kernel's, which tells who started it.
	Cmdline string
}

// Plan is what would be changed.
type Plan struct {
	Found []*Found `json:"found"`
	Edits []Edit   `json:"edits"`
	// Kept are values that somebody else has set and that stay.
	Kept []Kept `json:"kept,omitempty"`
	// Files are all files that have the wanted value when the plan is applied.
	Files []string `json:"files"`
	Notes []string `json:"notes,omitempty"`
}

// Kept is a value that stays.
type Kept struct {
	Path   string   `json:"path"`
	Values []string `json:"values"`
}

// Edit is a file before and after.
type Edit struct {
	Loader string `json:"loader"`
	Path   string `json:"path"` // from "/"
	Why    string `json:"why"`
	New    bool   `json:"new"` // the file is not there yet
	Before []byte `json:"-"`
	After  []byte `json:"-"`
	Diff   string `json:"diff"`
	// Was are the values that are replaced, none where there was none.
	Was []string `json:"was,omitempty"`
	// Run is the program that must run when all is written, nil for none.
	Run []string `json:"run,omitempty"`
}

// ErrValue: what is wanted cannot stand behind crashkernel=.
var ErrValue = errors.New("not a value of crashkernel=")

// value has no byte that means something to a shell or a boot loader.
var value = regexp.MustCompile(`^[0-9][0-9A-Za-z:,@.-]*$`)

// CheckValue checks the form of a value, not its sense.
func CheckValue(v string) error {
	if !value.MatchString(v) || len(v) > 200 {
		return ui.Hint(fmt.Errorf("%q: %w", v, ErrValue), "write it like 128M, or 1G-4G:128M,4G-:192M")
	}
	return nil
}

// Make finds the boot loaders of the machine whose files root has, and plans the
// edits. ours is what panicroom has changed before, which it may change again; nil
// is nothing.
func Make(root fs.FS, want Wanted, ours *Record) (*Plan, error) {
	if err := CheckValue(want.Value); err != nil {
		return nil, err
	}
	found, err := find(root, want.Cmdline)
	if err != nil {
		return nil, fmt.Errorf("boot loaders: %w", err)
	}
	p := &Plan{Found: found}
	for _, l := range found {
		if !l.Used {
			continue
		}
		for _, f := range l.files {
			if err := p.file(l, f, want, ours); err != nil {
				return nil, fmt.Errorf("/%s: %w", f.path, err)
			}
		}
	}
	if unified, _ := fs.Glob(root, "efi/EFI/Linux/*.efi"); len(unified) > 0 {
		p.Notes = append(p.Notes, "/"+unified[0]+" has its command line inside: it changes when the image is built again, by kernel-install add")
	}
	return p, nil
}

// file plans what becomes of one file.
func (p *Plan) file(l *Found, f file, want Wanted, ours *Record) error {
	e := Edit{Loader: l.Loader, Path: "/" + f.path, Why: f.why, New: f.missing, Before: f.text, Run: l.Run}
	if f.missing {
		e.After = fmt.Appendf(nil, f.template, Parameter+want.Value)
	} else {
		set := values(f.text, f.editor.words(f.text))
		foreign := slices.DeleteFunc(slices.Clone(set), func(v string) bool { return v == want.Value || ours.has(e.Path, v) })
		if len(foreign) > 0 && !want.Replace {
			p.Kept = append(p.Kept, Kept{Path: e.Path, Values: slices.Compact(foreign)})
			return nil
		}
		if slices.ContainsFunc(set, func(v string) bool { return v != want.Value }) {
			e.Was = slices.Compact(slices.DeleteFunc(set, func(v string) bool { return v == want.Value }))
		}
		var err error
		if e.After, err = f.editor.edit(f.text, want.Value); err != nil {
			return ui.Hint(err, fmt.Sprintf("put %s%s there by hand", Parameter, want.Value))
		}
	}
	p.Files = append(p.Files, e.Path)
	if bytes.Equal(e.Before, e.After) && !e.New {
		return nil
	}
	e.Diff = diff(e.Path, e.Before, e.After, e.New)
	p.Edits = append(p.Edits, e)
	return nil
}

// edit puts a value into a text: in place of what is there, one to a line, and
// where nothing is.
func (e editor) edit(text []byte, value string) ([]byte, error) {
	out := replace(text, e.words(text), value)
	out = single(out, e.words(out))
	complete := len(e.words(out)) > 0
	if e.complete != nil {
		complete = e.complete(out)
	}
	if complete || e.add == nil {
		return out, nil
	}
	out, err := e.add(out, value)
	if err == nil && !slices.Contains(values(out, e.words(out)), value) {
		// As behind a quote that is never closed.
		err = fmt.Errorf("%w: what is put in would not be found there", errShell)
	}
	return out, err
}

// single takes all but the first of several parameters on one line out.
func single(text []byte, spans []span) []byte {
	for i := len(spans) - 1; i > 0; i-- {
		a, b := spans[i-1], spans[i]
		if bytes.IndexByte(text[a.end:b.start], '\n') < 0 {
			text = append(bytes.Clone(text[:a.end]), cut(text[a.end:], []span{{b.start - a.end, b.end - a.end}}, string(text[b.start:b.end]))...)
		}
	}
	return text
}

// without takes what panicroom has put into a text out again: the value, or it
// puts back what was there before.
func (e editor) without(text []byte, value string, was []string) []byte {
	spans := e.words(text)
	if len(was) == 0 {
		return cut(text, spans, value)
	}
	mine := slices.DeleteFunc(spans, func(s span) bool { return string(text[s.start:s.end]) != value })
	return replace(text, mine, strings.Join(was, " "+Parameter))
}

// Commands are the programs that must run when the plan has been applied, each
// once.
func (p *Plan) Commands() [][]string {
	var list [][]string
	for _, e := range p.Edits {
		if e.Run != nil && !slices.ContainsFunc(list, func(c []string) bool { return slices.Equal(c, e.Run) }) {
			list = append(list, e.Run)
		}
	}
	return list
}

// Used are the boot loaders that have a place for the parameter.
func (p *Plan) Used() []*Found {
	return slices.DeleteFunc(slices.Clone(p.Found), func(f *Found) bool { return !f.Used })
}

func sum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }
