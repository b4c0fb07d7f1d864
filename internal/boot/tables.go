package boot

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// depLine reads "FILE: DEPENDENCIES", all of them with the first to load last.
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
