package inspect

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Bounds of the history: lines that are read back, and the size at which the file is
// written anew with these.
const (
	maxHistory     = 1000
	maxHistoryFile = 256 << 10
)

// History are the lines that were typed, kept in a file from one session to the
// next.
type History struct {
	path  string // "" keeps nothing
	lines []string
}

// OpenHistory reads the history of a file, which is made, for its owner alone, when
// there is something to be written. The error says why nothing is kept; the history
// can be used nevertheless.
func OpenHistory(path string) (*History, error) {
	h := &History{path: path}
	if path == "" {
		return h, nil
	}
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err != nil {
		h.path = ""
		return h, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "history", Path: path, Err: errors.New("not a file")}
	}
	var b []byte
	if err == nil {
		b, err = readEnd(path, 2*maxHistoryFile)
	}
	if err != nil {
		h.path = ""
		return h, err
	}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && len(line) <= maxLine && !strings.ContainsFunc(line, control) {
			h.lines = append(h.lines, line)
		}
	}
	h.lines = h.lines[max(0, len(h.lines)-maxHistory):]
	if info.Size() > maxHistoryFile {
		err = h.rewrite()
	}
	return h, err
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// readEnd reads the last bytes of a file.
func readEnd(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, info.Size()-most)
	b := make([]byte, min(info.Size(), most))
	n, err := f.ReadAt(b, from)
	if n < len(b) && err != nil {
		return nil, err
	}
	if from > 0 {
		_, b, _ = bytes.Cut(b, []byte{'\n'})
	}
	return b, nil
}

// rewrite leaves in the file what is remembered.
func (h *History) rewrite() error {
	tmp, err := os.CreateTemp(filepath.Dir(h.path), "history") // 0600
	if err != nil {
		return err
	}
	_, err = tmp.WriteString(strings.Join(h.lines, "\n") + "\n")
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), h.path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(tmp.Name()))
	}
	return err
}

// Add remembers a line, unless it is that before again.
func (h *History) Add(line string) {
	line = strings.TrimSpace(line)
	if line == "" || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return
	}
	h.lines = append(h.lines, line)
	h.lines = h.lines[max(0, len(h.lines)-maxHistory):]
	if h.path == "" {
		return
	}
	f, err := os.OpenFile(h.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err == nil {
		_, err = f.WriteString(line + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		h.path = "" // a full disk is no reason to stop asking
	}
}

// Len is how many lines there are.
func (h *History) Len() int { return len(h.lines) }

// At is a line, 0 the last one.
func (h *History) At(i int) string { return h.lines[len(h.lines)-1-i] }
