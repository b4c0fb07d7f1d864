package status

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// Look looks at targets, as far as this machine can without writing there.
func Look(list []config.Target) []Target {
	var all []Target
	for _, t := range list {
		l := Target{Target: t}
		switch t.Kind() {
		case config.KindDir:
			l.Free, l.Err = free(t.Dir)
			l.Known = l.Err == nil
		default:
			l.Note = "not asked now"
		}
		all = append(all, l)
	}
	return all
}

// free is what the filesystem has free that a directory is on, or will be.
func free(dir string) (uint64, error) {
	for {
		_, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) && dir != "/" {
			dir = filepath.Dir(dir)
			continue
		}
		if err != nil {
			return 0, err
		}
		info, err := sys.StatFS(dir)
		// The crash environment is root.
		return info.Free, err
	}
}
