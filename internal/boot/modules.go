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
	Name  string   // as the kernel spells it, with underscores
	Path  string   // below the tree, like kernel/fs/ext4/ext4.ko.xz
	Codec Codec    // of the file
	Deps  []string // names of all that must be loaded before, in that order

	// Soft tells in a [ModuleTree.Closure] that only soft dependencies want
	// the module. It may refuse to load without harm: sha256_riscv64 does
	// with ENODEV on a CPU without vector cryptography, and btrfs, which
	// wants it, is content with another.
	Soft bool
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
