package lab

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// moduleFiles are the files of the modules with the given names and of all
// they need, dependencies first, relative to the modules directory. A module
// that is built into the kernel is none. It is written without the product's
// own resolver, so that a fault there is not hidden here.
func (k *Kernel) moduleFiles(names ...string) ([]string, error) {
	deps := map[string][]string{} // file → files
	file := map[string]string{}   // name → file
	err := eachLine(filepath.Join(k.ModulesDir(), "modules.dep"), func(line string) {
		if f, needs, ok := strings.Cut(line, ":"); ok {
			deps[f] = strings.Fields(needs)
			file[moduleName(f)] = f
		}
	})
	if err != nil {
		return nil, err
	}
	soft := map[string][]string{} // name → names wanted before it
	err = eachLine(filepath.Join(k.ModulesDir(), "modules.softdep"), func(line string) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "softdep" {
			return
		}
		pre := false
		for _, w := range f[2:] {
			switch {
			case strings.HasSuffix(w, ":"):
				pre = w == "pre:"
			case pre:
				soft[moduleName(f[1])] = append(soft[moduleName(f[1])], w)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	alias := map[string][]string{} // exact aliases only: softdeps name them
	err = eachLine(filepath.Join(k.ModulesDir(), "modules.alias"), func(line string) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" {
			alias[moduleName(f[1])] = append(alias[moduleName(f[1])], f[2])
		}
	})
	if err != nil {
		return nil, err
	}
	builtin := map[string]bool{}
	err = eachLine(filepath.Join(k.ModulesDir(), "modules.builtin"), func(line string) { builtin[moduleName(line)] = true })
	if err != nil {
		return nil, err
	}
	var files []string
	seen := map[string]bool{}
	var add func(f string)
	add = func(f string) {
		if seen[f] {
			return
		}
		seen[f] = true
		for _, s := range soft[moduleName(f)] {
			for _, m := range append(alias[moduleName(s)], s) {
				if sf, ok := file[moduleName(m)]; ok { // else it is built in
					add(sf)
				}
			}
		}
		// modules.dep lists the nearest first.
		for _, d := range slices.Backward(deps[f]) {
			add(d)
		}
		files = append(files, f)
	}
	for _, n := range names {
		f, ok := file[moduleName(n)]
		if !ok {
			if builtin[moduleName(n)] {
				continue
			}
			return nil, fmt.Errorf("%s: no module %s", k.Release, n)
		}
		add(f)
	}
	return files, nil
}

// moduleName is the name under which the kernel knows the module in a file.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".")
	return strings.ReplaceAll(name, "-", "_")
}

func eachLine(path string, do func(string)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		do(s.Text())
	}
	return s.Err()
}
