package host

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
)

// secrets are properties of a device tree that identify a machine or seed its
// random numbers. They keep their length and lose their value.
var secrets = []string{"rng-seed", "kaslr-seed", "serial-number", "mac-address", "local-mac-address"}

// Record writes every file that Read reads of fsys into the directory dir,
// which must not exist yet: reading os.DirFS(dir) gives the same Machine. It is
// its owner's alone (0700): others may not see where the kernel lies.
//
// The folder is meant to be shown to others. Seeds, serial numbers and network
// addresses of the device tree are zeroed, and of the kernel's memory only the
// vmcoreinfo note and the page tables of the page structs go in. Host name and
// user data are never read; what stands on the kernel's command line is
// recorded as it is.
func Record(fsys fs.FS, dir string) (*Machine, error) {
	files := map[string][]byte{}
	r := &reader{fsys: fsys, kept: func(name string, data []byte) { files[name] = data }}
	r.core = func(k *kcore) { files["proc/kcore"] = k.compact() }
	m, err := r.read(&Options{})
	if err != nil {
		return nil, err
	}
	if b, ok := files["sys/firmware/fdt"]; ok {
		if b, err = scrub(b); err != nil {
			return nil, fmt.Errorf("/sys/firmware/fdt: %w", err)
		}
		files["sys/firmware/fdt"] = b
	}
	for name, b := range files {
		if dir, base := path.Split(name); strings.HasPrefix(dir, unflattenedDir) && slices.Contains(secrets, base) {
			files[name] = make([]byte, len(b))
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	for name, b := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func scrub(blob []byte) ([]byte, error) {
	t, err := fdt.Parse(blob)
	if err != nil {
		return nil, err
	}
	t.Root.Walk(func(n *fdt.Node) bool {
		for _, name := range secrets {
			if v, ok := n.Get(name); ok {
				n.Set(name, make([]byte, len(v)))
			}
		}
		return true
	})
	return t.Marshal()
}
