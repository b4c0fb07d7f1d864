package boot

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
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
	Name  string // as the kernel spells it, with underscores
	Path  string // below the tree, like kernel/fs/ext4/ext4.ko.xz
	Codec Codec  // of the file
}

// ModuleTree is the directory /lib/modules/RELEASE of a kernel. Its indexes are
// the text files of depmod(8), kmod 34: modules.dep, modules.softdep,
// modules.alias, modules.builtin.
type ModuleTree struct {
	fsys    fs.FS
	modules map[string]*moduleEntry // by name
	builtin map[string]bool
	soft    map[string][]string // pre and post dependencies, as written
	aliases []alias
}

type moduleEntry struct {
	Module
	deps []string // names, in the order of modules.dep: a later one first
}

type alias struct{ pattern, module string }

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
		modules: map[string]*moduleEntry{},
		builtin: map[string]bool{},
		soft:    map[string][]string{},
	}
	if err := t.index("modules.dep", t.depLine); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModuleTree, err)
	}
	for _, index := range []struct {
		name string
		line func(string) error
	}{
		{"modules.builtin", t.builtinLine},
		{"modules.softdep", t.softLine},
		{"modules.alias", t.aliasLine},
	} {
		if err := t.index(index.name, index.line); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w", ErrModuleTree, err)
		}
	}
	return t, nil
}

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
	e := &moduleEntry{Module: Module{Name: ModuleName(file), Path: file, Codec: codec}}
	for dep := range strings.FieldsSeq(deps) {
		e.deps = append(e.deps, ModuleName(dep))
	}
	t.modules[e.Name] = e
	return nil
}

func (t *ModuleTree) builtinLine(line string) error {
	t.builtin[ModuleName(line)] = true
	return nil
}

// softLine reads "softdep NAME pre: a b post: c".
func (t *ModuleTree) softLine(line string) error {
	fields := strings.Fields(line)
	if len(fields) < 2 || fields[0] != "softdep" {
		return fmt.Errorf("not a soft dependency: %.80q", line)
	}
	name := ModuleName(fields[1])
	for _, f := range fields[2:] {
		if f != "pre:" && f != "post:" {
			t.soft[name] = append(t.soft[name], f)
		}
	}
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
	t.aliases = append(t.aliases, alias{fields[1], ModuleName(fields[2])})
	return nil
}

// Builtin tells whether the module is part of the kernel image.
func (t *ModuleTree) Builtin(name string) bool { return t.builtin[ModuleName(name)] }

// Lookup finds a module of the tree by name.
func (t *ModuleTree) Lookup(name string) (Module, bool) {
	e, ok := t.modules[ModuleName(name)]
	if !ok {
		return Module{}, false
	}
	return e.Module, true
}

// ByAlias names the modules that want to drive a device with the given
// modalias, or that offer what is named so (like "crypto-crc32c"), in the order
// of modules.alias. None is no error: the driver may be built in.
func (t *ModuleTree) ByAlias(modalias string) []string {
	var names []string
	seen := map[string]bool{}
	for _, a := range t.aliases {
		if !seen[a.module] && Match(a.pattern, modalias) {
			seen[a.module] = true
			names = append(names, a.module)
		}
	}
	return names
}

// Closure lists the modules to load for the named ones, in the order in which
// they load: what a module depends on comes before it. Built-in modules need
// nothing and are left out. A soft dependency is taken along if it exists. A
// module that is nowhere is an error wrapping ErrNoModule.
func (t *ModuleTree) Closure(names ...string) ([]Module, error) {
	var order []Module
	done := map[string]bool{}
	var add func(name string, soft bool) error
	add = func(name string, soft bool) error {
		name = ModuleName(name)
		if done[name] || t.builtin[name] {
			return nil
		}
		e, ok := t.modules[name]
		if !ok {
			if soft {
				return nil
			}
			return fmt.Errorf("%w: %s", ErrNoModule, name)
		}
		// Before its dependencies, so that a circle ends.
		done[name] = true
		for _, s := range t.soft[name] {
			wanted := []string{s}
			if _, ok := t.modules[ModuleName(s)]; !ok {
				wanted = t.ByAlias(s)
			}
			for _, w := range wanted {
				if err := add(w, true); err != nil {
					return err
				}
			}
		}
		for i := len(e.deps) - 1; i >= 0; i-- {
			if err := add(e.deps[i], false); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		order = append(order, e.Module)
		return nil
	}
	for _, name := range names {
		if err := add(name, false); err != nil {
			return nil, err
		}
	}
	return order, nil
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
