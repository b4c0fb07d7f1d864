package crashenv

import (
	"bufio"
	"compress/gzip"
	"io"
	"io/fs"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/boot"
)

// maxConfig bounds a kernel's configuration, in bytes; it is 0.3 MB.
const maxConfig = 16 << 20

// findConfig looks for the configuration of a kernel where distributions put
// it; nil if there is none.
func findConfig(root, modules fs.FS, release string) boot.ConfigValue {
	type place struct {
		fsys fs.FS
		name string
	}
	places := []place{{modules, "config"}, {root, "boot/config-" + release}}
	if text, err := fs.ReadFile(root, "proc/sys/kernel/osrelease"); err == nil && strings.TrimSpace(string(text)) == release {
		places = append(places, place{root, "proc/config.gz"})
	}
	for _, p := range places {
		f, err := p.fsys.Open(p.name)
		if err != nil {
			continue
		}
		values, err := readConfig(f, strings.HasSuffix(p.name, ".gz"))
		f.Close()
		if err == nil && len(values) > 0 {
			return func(symbol string) (string, bool) { v, ok := values[symbol]; return v, ok }
		}
	}
	return nil
}

// readConfig reads lines CONFIG_X=value; what is not set has none.
func readConfig(r io.Reader, zipped bool) (map[string]string, error) {
	if zipped {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = z
	}
	values := map[string]string{}
	s := bufio.NewScanner(io.LimitReader(r, maxConfig))
	for s.Scan() {
		if k, v, ok := strings.Cut(s.Text(), "="); ok && strings.HasPrefix(k, "CONFIG_") {
			values[k] = strings.Trim(v, `"`)
		}
	}
	return values, s.Err()
}
