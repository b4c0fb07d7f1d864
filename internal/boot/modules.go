package boot

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

var (
	// ErrNoModule is wrapped when a module is neither in the tree nor built in.
	ErrNoModule = errors.New("no such module")
	// ErrModuleTree is wrapped when the files that depmod(8) wrote are missing
	// or broken.
	ErrModuleTree = errors.New("bad modules directory")
)

// Limits on files that depmod(8) wrote: 20 times what Debian's largest are.
const (
	maxIndexBytes = 64 << 20
	maxModules    = 1 << 20
)

// Module is one file of a module tree.
type Module struct {
	Name  string   // as the kernel spells it, with underscores
	Path  string   // below the tree, like kernel/fs/ext4/ext4.ko.xz
	Codec Codec    // of the file
	Deps  []string // names of all that must be loaded before, in that order
}

// ModuleTree is the directory /lib/modules/RELEASE of a kernel. Its indexes are
// the text files of depmod(8), kmod 34: modules.dep, modules.softdep,
// modules.weakdep, modules.alias, modules.builtin, modules.builtin.modinfo.
type ModuleTree struct {
	fsys    fs.FS
	modules map[string]Module // by name
	builtin map[string]bool
	soft    map[string]softDeps // by name
	aliases []alias
}

// softDeps are what a module would like to have before and after it, as
// written: names or aliases.
type softDeps struct{ pre, post []string }

type alias struct {
	pattern string
	literal int // that many first bytes of pattern stand for themselves
	module  string
}

func newAlias(pattern, module string) alias {
	literal := strings.IndexAny(pattern, `*?[\`)
	if literal < 0 {
		literal = len(pattern)
	}
	return alias{pattern, literal, ModuleName(module)}
}

// matches tells whether a name has the shape of the alias. There are 20,000 of
// them, and nearly all differ in their first bytes.
func (a alias) matches(name string) bool {
	return strings.HasPrefix(name, a.pattern[:a.literal]) && Match(a.pattern[a.literal:], name[a.literal:])
}

// ModuleName is the kernel's name of the module in a file, or written by a
// person: without directory and suffixes, with underscores.
func ModuleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// OpenModules reads the indexes of a module tree. fsys is the directory
// /lib/modules/RELEASE. Only modules.dep must be there.
func OpenModules(fsys fs.FS) (*ModuleTree, error) {
	t := &ModuleTree{
		fsys:    fsys,
		modules: map[string]Module{},
		builtin: map[string]bool{},
		soft:    map[string]softDeps{},
	}
	if err := t.index("modules.dep", t.depLine); err != nil {
		err = fmt.Errorf("%w: %w", ErrModuleTree, err)
		if errors.Is(err, fs.ErrNotExist) {
			err = &hinted{err, "install the package of that kernel; for one built by hand: make modules_install && depmod RELEASE"}
		}
		return nil, err
	}
	for _, index := range []struct {
		name string
		line func(string) error
	}{
		{"modules.builtin", t.builtinLine},
		{"modules.softdep", t.softLine},
		{"modules.weakdep", t.weakLine},
		{"modules.alias", t.aliasLine},
	} {
		if err := t.index(index.name, index.line); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w", ErrModuleTree, err)
		}
	}
	if err := t.modinfo(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrModuleTree, err)
	}
	return t, nil
}

// hinted is an error with advice.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error   { return h.error }
func (h *hinted) Hints() []string { return []string{h.hint} }

// index hands each line of an index file to parse.
func (t *ModuleTree) index(name string, parse func(string) error) error {
	f, err := t.fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, maxIndexBytes))
	lines.Buffer(nil, 1<<20)
	number := 0
	for lines.Scan() {
		number++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if err := parse(string(line)); err != nil {
			return fmt.Errorf("%s:%d: %w", name, number, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s:%d: %w", name, number+1, err)
	}
	return nil
}

func (t *ModuleTree) depLine(line string) error {
	file, deps, ok := strings.Cut(line, ":")
	if !ok {
		return fmt.Errorf("no colon in %.80q", line)
	}
	if !fs.ValidPath(file) {
		return fmt.Errorf("%.80q is no path below the tree", file)
	}
	base, suffix, ok := strings.Cut(path.Base(file), ".ko")
	if !ok || base == "" {
		return fmt.Errorf("%.80q is no module", file)
	}
	codec := Codec(strings.TrimPrefix(suffix, "."))
	switch codec {
	case None, Gzip, XZ, Zstd:
	default:
		return fmt.Errorf("%.80q: %w", file, ErrCodec)
	}
	if len(t.modules) >= maxModules {
		return fmt.Errorf("more than %d modules", maxModules)
	}
	m := Module{Name: ModuleName(file), Path: file, Codec: codec}
	for dep := range strings.FieldsSeq(deps) {
		m.Deps = append(m.Deps, ModuleName(dep))
	}
	// The last one must be loaded first.
	slices.Reverse(m.Deps)
	t.modules[m.Name] = m
	return nil
}

func (t *ModuleTree) builtinLine(line string) error {
	t.builtin[ModuleName(line)] = true
	return nil
}

// softLine reads "softdep NAME pre: a b post: c". Words before any "pre:" say
// nothing to modprobe.d(5), but there are modules (cifs) that mean it, and one
// module too many does no harm.
func (t *ModuleTree) softLine(line string) error {
	fields := strings.Fields(line)
	if len(fields) < 2 || fields[0] != "softdep" {
		return fmt.Errorf("not a soft dependency: %.80q", line)
	}
	name := ModuleName(fields[1])
	s := t.soft[name]
	list := &s.pre
	for _, f := range fields[2:] {
		switch f {
		case "pre:":
			list = &s.pre
		case "post:":
			list = &s.post
		default:
			*list = append(*list, f)
		}
	}
	t.soft[name] = s
	return nil
}

// weakLine reads "weakdep NAME a b": what a module asks modprobe for while it
// runs. In a crash kernel there is no modprobe to ask, so it must be there
// before.
func (t *ModuleTree) weakLine(line string) error {
	fields := strings.Fields(line)
	if len(fields) < 2 || fields[0] != "weakdep" {
		return fmt.Errorf("not a weak dependency: %.80q", line)
	}
	name := ModuleName(fields[1])
	s := t.soft[name]
	s.pre = append(s.pre, fields[2:]...)
	t.soft[name] = s
	return nil
}

// aliasLine reads "alias PATTERN MODULE".
func (t *ModuleTree) aliasLine(line string) error {
	fields := strings.Fields(line)
	if len(fields) != 3 || fields[0] != "alias" {
		return fmt.Errorf("not an alias: %.80q", line)
	}
	if len(t.aliases) >= maxModules {
		return fmt.Errorf("more than %d aliases", maxModules)
	}
	t.aliases = append(t.aliases, newAlias(fields[1], fields[2]))
	return nil
}

// modinfo reads the aliases of built-in modules from modules.builtin.modinfo:
// "NAME.KEY=VALUE" with a NUL behind each (kernel Makefile.vmlinux, 6.12).
func (t *ModuleTree) modinfo() error {
	const file = "modules.builtin.modinfo"
	f, err := t.fsys.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxIndexBytes))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for len(data) > 0 {
		var entry []byte
		entry, data, _ = bytes.Cut(data, []byte{0})
		left, pattern, ok := strings.Cut(string(entry), "=")
		if name, is := strings.CutSuffix(left, ".alias"); ok && is && len(t.aliases) < maxModules {
			t.aliases = append(t.aliases, newAlias(pattern, name))
		}
	}
	return nil
}

// Builtin tells whether the module is part of the kernel image.
func (t *ModuleTree) Builtin(name string) bool { return t.builtin[ModuleName(name)] }

// Lookup finds a module of the tree by name.
func (t *ModuleTree) Lookup(name string) (Module, bool) {
	m, ok := t.modules[ModuleName(name)]
	return m, ok
}

// ByAlias names the modules that want to drive a device with the given
// modalias, or that offer what is named so (like "crypto-crc32c"), in the order
// of modules.alias; built-in ones, which [ModuleTree.Builtin] tells, come last.
func (t *ModuleTree) ByAlias(modalias string) []string {
	var names []string
	seen := map[string]bool{}
	for _, a := range t.aliases {
		if !seen[a.module] && a.matches(modalias) {
			seen[a.module] = true
			names = append(names, a.module)
		}
	}
	return names
}

// Closure lists the modules to load for the named ones, each once, in an order
// in which they load: what a module depends on comes before it. Names may be
// aliases, and built-in modules need nothing and are left out. Soft
// dependencies are taken along if they exist, on the side that they ask for. A
// name that is nowhere is an error wrapping [ErrNoModule].
func (t *ModuleTree) Closure(names ...string) ([]Module, error) {
	w := &walk{tree: t, begun: map[string]bool{}, loaded: map[string]bool{}}
	for _, name := range names {
		wanted, known := t.resolve(name)
		if !known {
			return nil, &hinted{fmt.Errorf("%w: %s", ErrNoModule, name),
				"if it was installed just now, run: depmod RELEASE"}
		}
		for _, m := range wanted {
			if err := w.all(m); err != nil {
				return nil, err
			}
		}
	}
	return w.order, nil
}

// resolve finds the modules of the tree that a name or an alias means. known
// tells whether it means anything, in the tree or built in.
func (t *ModuleTree) resolve(name string) (names []string, known bool) {
	n := ModuleName(name)
	if _, ok := t.modules[n]; ok {
		return []string{n}, true
	}
	if t.builtin[n] {
		return nil, true
	}
	for _, n := range t.ByAlias(name) {
		if _, ok := t.modules[n]; ok {
			names, known = append(names, n), true
		} else if t.builtin[n] {
			known = true
		}
	}
	return names, known
}

// walk puts modules behind what they depend on.
type walk struct {
	tree   *ModuleTree
	begun  map[string]bool // so that a circle ends
	loaded map[string]bool // begun and in order
	later  []string        // wishes that wait for what is only begun
	order  []Module
}

// all adds a module and then the wishes that had to wait for it.
func (w *walk) all(name string) error {
	for list := []string{name}; len(list) > 0; list = w.later {
		w.later = nil
		for _, m := range list {
			if err := w.add(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// add appends a module of the tree behind its dependencies.
func (w *walk) add(name string) error {
	if w.begun[name] || w.tree.builtin[name] {
		return nil
	}
	m, ok := w.tree.modules[name]
	if !ok {
		return fmt.Errorf("%w: %s", ErrNoModule, name)
	}
	w.begun[name] = true
	if err := w.wish(w.tree.soft[name].pre); err != nil {
		return err
	}
	for _, d := range m.Deps {
		if err := w.add(d); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	w.loaded[name] = true
	w.order = append(w.order, m)
	return w.wish(w.tree.soft[name].post)
}

// wish adds what soft dependencies mean, if it is there with all that it needs.
func (w *walk) wish(list []string) error {
	for _, s := range list {
		found, _ := w.tree.resolve(s)
		for _, f := range found {
			missing := w.tree.anyDep(f, func(d string) bool {
				_, ok := w.tree.modules[d]
				return !ok && !w.tree.builtin[d]
			})
			if missing {
				continue
			}
			if w.tree.anyDep(f, func(d string) bool { return w.begun[d] && !w.loaded[d] }) {
				// It needs what is just being loaded, so it cannot be
				// first.
				w.later = append(w.later, f)
			} else if err := w.add(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// anyDep tells whether something is true of any module that one needs. depmod
// lists them all with each module, but who knows who wrote the table.
func (t *ModuleTree) anyDep(name string, is func(string) bool) bool {
	seen := map[string]bool{}
	var any func(string) bool
	any = func(name string) bool {
		return slices.ContainsFunc(t.modules[name].Deps, func(d string) bool {
			if seen[d] {
				return false
			}
			seen[d] = true
			return is(d) || any(d)
		})
	}
	return any(name)
}

// maxModuleBytes bounds a module unpacked; the largest in Debian (a GPU driver)
// has 30 MB.
const maxModuleBytes = 512 << 20

// Read returns the file of a module: as it is if it is not compressed or
// compressed with keep, unpacked otherwise. compressed tells which.
func (t *ModuleTree) Read(m Module, keep Codec) (data []byte, compressed bool, err error) {
	f, err := t.fsys.Open(m.Path)
	if err != nil {
		return nil, false, fmt.Errorf("module %s: %w", m.Name, err)
	}
	defer f.Close()
	codec := m.Codec
	if codec == keep {
		codec = None
	}
	r, err := Decompress(f, codec, maxModuleBytes)
	if err != nil {
		return nil, false, fmt.Errorf("module %s: %s: %w", m.Name, m.Path, err)
	}
	if data, err = io.ReadAll(r); err != nil {
		return nil, false, fmt.Errorf("module %s: %s: %w", m.Name, m.Path, err)
	}
	return data, codec == None && m.Codec != None, nil
}
