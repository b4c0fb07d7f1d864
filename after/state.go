package after

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Files of the state's directory.
const (
	stateFile = "after.json"
	lockFile  = "after.lock"
)

const (
	stateVersion = 1
	maxState     = 4 << 20
	// maxTold bounds what is remembered: a directory that is not mounted now is
	// not forgotten, but not for ever.
	maxTold = 1000
)

// errState: the state was read and means nothing.
var errState = errors.New("what was told before is not known")

// state is what has been told, in after.json.
type state struct {
	Version int `json:"version"`
	// Crashes by their paths.
	Crashes map[string]*told `json:"crashes"`
}

// told is what was said of a crash.
type told struct {
	Time    time.Time `json:"time"`
	Webhook string    `json:"webhook,omitempty"` // "" if there was none then
	Tries   int       `json:"tries,omitempty"`   // boots on which it did not arrive
}

// States of a webhook.
const (
	webhookPending = "pending"
	webhookSent    = "sent"
	webhookFailed  = "failed"
)

func readState(dir string) (*state, error) {
	s := &state{Version: stateVersion, Crashes: map[string]*told{}}
	name := filepath.Join(dir, stateFile)
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return nil, err
	}
	if info.Size() > maxState {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d", errState, name, info.Size(), maxState)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return parseState(name, text)
}

func parseState(name string, text []byte) (*state, error) {
	s := &state{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errState, name, err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("%w: %s: version %d; this is for %d", errState, name, s.Version, stateVersion)
	}
	if s.Crashes == nil {
		s.Crashes = map[string]*told{}
	}
	for path, t := range s.Crashes {
		if t == nil {
			delete(s.Crashes, path)
		}
	}
	return s, nil
}

// forget drops the oldest of too many entries, whose crashes are gone.
func (s *state) forget() {
	type entry struct {
		path string
		time time.Time
	}
	var gone []entry
	for path, t := range s.Crashes {
		if _, err := os.Lstat(path); err != nil {
			gone = append(gone, entry{path, t.Time})
		}
	}
	slices.SortFunc(gone, func(a, b entry) int { return a.time.Compare(b.time) })
	for i := 0; i < len(gone) && len(s.Crashes) > maxTold; i++ {
		delete(s.Crashes, gone[i].path)
	}
}

// write replaces the file; either the old or the new one is there, whatever
// happens.
func (s *state) write(dir string) error {
	s.forget()
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, stateFile+".")
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, stateFile))
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
