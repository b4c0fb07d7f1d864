package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// CacheDir is where packages and kernels are kept: $PANICROOM_CACHE, or
// panicroom below the user's cache directory.
func CacheDir() (string, error) {
	if dir := os.Getenv("PANICROOM_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	return filepath.Join(dir, "panicroom"), nil
}

// lock takes a named lock of the cache, so that two runs do not fetch the same
// thing at once; the returned function gives it back.
func lock(cache, name string) (unlock func(), err error) {
	dir := filepath.Join(cache, "locks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := sys.LockFile(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// readPointer reads a small JSON file that says which directory of the cache
// is current, and when that was last checked against the archive.
func readPointer(path string, v any) (checked time.Time, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}, err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", path, err)
	}
	st, err := os.Stat(path)
	if err != nil {
		return time.Time{}, err
	}
	return st.ModTime(), nil
}

func writePointer(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
