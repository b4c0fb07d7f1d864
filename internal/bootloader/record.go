package bootloader

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// Store is where [Plan.Apply] keeps what files were before.
const Store = "/var/lib/panicroom/backup"

// recordFile is the name of the record in the store.
const recordFile = "bootloader.json"

// Record is what panicroom has changed and not taken back.
type Record struct {
	Version int      `json:"version"`
	Changed []Change `json:"changed"`
}

// Change is one file that was changed.
type Change struct {
	Loader string   `json:"loader"`
	Path   string   `json:"path"`
	New    bool     `json:"new"` // there was no such file
	Value  string   `json:"value"`
	Was    []string `json:"was,omitempty"` // values that were replaced
	Run    []string `json:"run,omitempty"` // makes what the boot loader reads
	// Backup is the name of the file in the store with the bytes from before, and
	// Before and After the SHA-256 of these and of what was written.
	Backup string `json:"backup,omitempty"`
	Before string `json:"before_sha256,omitempty"`
	After  string `json:"after_sha256"`
}

const recordVersion = 1

// has tells whether panicroom has put a value into a file.
func (r *Record) has(path, value string) bool {
	return r != nil && slices.ContainsFunc(r.Changed, func(c Change) bool { return c.Path == path && c.Value == value })
}

// OpenRecord reads the record in a store; nil if nothing is changed.
func OpenRecord(store string) (*Record, error) {
	name := filepath.Join(store, recordFile)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("%s: version %d, this program writes %d", name, r.Version, recordVersion)
	}
	for _, c := range r.Changed {
		if !filepath.IsAbs(c.Path) || c.Backup != filepath.Base(c.Backup) && c.Backup != "" {
			return nil, fmt.Errorf("%s: %q with the backup %q", name, c.Path, c.Backup)
		}
	}
	return &r, nil
}

// save writes the record, or removes it when nothing is changed any more.
func (r *Record) save(store string) error {
	name := filepath.Join(store, recordFile)
	if len(r.Changed) == 0 {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return write(name, append(text, '\n'), 0o600)
}

// ErrChanged: a file is not any more what the plan was made from.
var ErrChanged = errors.New("it has changed meanwhile")

// Apply writes the files of the plan below root, which is "/" but in tests, and
// keeps what they were in the store. A file is written beside its place and
// renamed, so that it is whole at any time. The record is written first: what
// stops in the middle can be taken back.
func (p *Plan) Apply(root, store, value string) error {
	if len(p.Edits) == 0 {
		return nil
	}
	if err := os.MkdirAll(store, 0o700); err != nil {
		return err
	}
	r, err := OpenRecord(store)
	if err != nil {
		return err
	}
	if r == nil {
		r = &Record{Version: recordVersion}
	}
	for _, e := range p.Edits {
		at := filepath.Join(root, e.Path)
		now, err := os.ReadFile(at)
		if e.New && errors.Is(err, fs.ErrNotExist) {
			now, err = nil, nil
		}
		if err != nil {
			return err
		}
		if sum(now) != sum(e.Before) {
			return fmt.Errorf("%s: %w", e.Path, ErrChanged)
		}
		if err := r.note(store, e, value); err != nil {
			return err
		}
		if err := r.save(store); err != nil {
			return err
		}
		if e.New {
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				return err
			}
		}
		if err := write(at, e.After, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// note records an edit. What a file was before panicroom came stays what undoing
// brings back, unless somebody else has changed it since.
func (r *Record) note(store string, e Edit, value string) error {
	c := Change{Loader: e.Loader, Path: e.Path, New: e.New, Value: value, Was: e.Was, Run: e.Run, After: sum(e.After)}
	original := e.Before
	i := slices.IndexFunc(r.Changed, func(c Change) bool { return c.Path == e.Path })
	if i >= 0 {
		old := r.Changed[i]
		c.Was = old.Was
		if old.After == sum(e.Before) {
			c.New, c.Backup, c.Before = old.New, old.Backup, old.Before
			r.Changed[i] = c
			return nil
		}
		if ed, ok := editorOf(e.Loader); ok {
			original = ed.without(e.Before, old.Value, old.Was)
		}
	}
	if !c.New {
		c.Before = sum(original)
		c.Backup = r.free(i)
		if err := write(filepath.Join(store, c.Backup), original, 0o600); err != nil {
			return err
		}
	}
	if i >= 0 {
		r.Changed[i] = c
	} else {
		r.Changed = append(r.Changed, c)
	}
	return nil
}

// free is the name of the backup of a change, or of the next one.
func (r *Record) free(i int) string {
	if i >= 0 && r.Changed[i].Backup != "" {
		return r.Changed[i].Backup
	}
	for n := 0; ; n++ {
		name := "bootloader-" + strconv.Itoa(n)
		if !slices.ContainsFunc(r.Changed, func(c Change) bool { return c.Backup == name }) {
			return name
		}
	}
}

// editorOf is the editor of a boot loader's files, for what is not in force to be
// put in.
func editorOf(loader string) (editor, bool) {
	switch loader {
	case GRUB:
		return editor{words: shellWords("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT")}, true
	case Entries:
		return editor{words: entryWords}, true
	case KernelInstall:
		return editor{words: cmdlineWords}, true
	case UBootMenu:
		return editor{words: shellWords("U_BOOT_PARAMETERS")}, true
	case Extlinux:
		return extlinuxEditor(), true
	}
	return editor{}, false
}

// Undone is what became of one file.
type Undone struct {
	Path string   `json:"path"`
	How  string   `json:"how"`
	Run  []string `json:"run,omitempty"`
}

// Undo takes back what the record of a store says: a file that nobody has changed
// since gets its bytes from before, of another only the parameter is taken out.
func Undo(root, store string) ([]Undone, error) {
	r, err := OpenRecord(store)
	if err != nil || r == nil {
		return nil, err
	}
	var done []Undone
	for len(r.Changed) > 0 {
		c := r.Changed[len(r.Changed)-1]
		how, err := c.undo(root, store)
		if err != nil {
			return done, err
		}
		done = append(done, Undone{Path: c.Path, How: how, Run: c.Run})
		r.Changed = r.Changed[:len(r.Changed)-1]
		if err := r.save(store); err != nil {
			return done, err
		}
		if c.Backup != "" {
			if err := os.Remove(filepath.Join(store, c.Backup)); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

// undo takes one change back and says how.
func (c *Change) undo(root, store string) (string, error) {
	at := filepath.Join(root, c.Path)
	now, err := os.ReadFile(at)
	if errors.Is(err, fs.ErrNotExist) {
		return "it is gone already", nil
	}
	if err != nil {
		return "", err
	}
	if c.New && sum(now) == c.After {
		return "removed", os.Remove(at)
	}
	var before []byte
	if !c.New {
		if before, err = os.ReadFile(filepath.Join(store, c.Backup)); err != nil {
			return "", err
		}
		if sum(before) != c.Before {
			return "", fmt.Errorf("%s: the backup of %s is damaged", filepath.Join(store, c.Backup), c.Path)
		}
	}
	switch sum(now) {
	case c.After:
		return "as it was before", write(at, before, 0)
	case c.Before:
		return "it was as before already", nil
	}
	e, ok := editorOf(c.Loader)
	if !ok {
		return "", fmt.Errorf("%s: %q is no boot loader that is known", c.Path, c.Loader)
	}
	after := e.without(now, c.Value, c.Was)
	if sum(after) == sum(now) {
		return "somebody else has changed it, and " + Parameter + c.Value + " is not in it any more", nil
	}
	return "somebody else has changed it: only " + Parameter + c.Value + " was taken back", write(at, after, 0)
}

// write puts a file in place in one step, durably, with the mode and owner of the
// one that was there, or the mode given.
func write(name string, text []byte, mode fs.FileMode) error {
	// A link stays a link.
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	old, err := os.Open(name)
	switch {
	case err == nil:
		defer old.Close()
		info, err := old.Stat()
		if err != nil {
			return err
		}
		mode = info.Mode().Perm()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	// No boot loader reads a name that ends so.
	beside := name + ".panicroom-new"
	f, err := os.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(beside) // does nothing once it is renamed
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil && old != nil {
		err = sys.TakeOwner(f, old)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(beside, name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
