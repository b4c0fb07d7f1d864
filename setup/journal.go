package setup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// JournalFile is where it is noted what setup has changed.
const JournalFile = "/var/lib/panicroom/setup.json"

// Done is an action that was carried out, and what there was before it.
type Done struct {
	Action
	Before string `json:"before,omitempty"` // a sysctl's value
}

// Journal is all that setup has changed on a machine, in order.
type Journal struct {
	Done []Done `json:"done"`
}

// has tells whether a was carried out before: a value may not be noted a second time,
// or that before it would be lost.
func (j *Journal) has(a Action) bool {
	return slices.ContainsFunc(j.Done, func(d Done) bool {
		switch {
		case a.Sysctl != nil:
			return d.Sysctl != nil && d.Sysctl.Name == a.Sysctl.Name
		case a.Dir != nil:
			return d.Dir != nil && d.Dir.Path == a.Dir.Path
		case a.File != nil:
			return d.File != nil && d.File.Path == a.File.Path
		case a.Key != nil:
			return d.Key != nil && d.Key.Path == a.Key.Path
		case a.Units != nil:
			return d.Units != nil
		case a.Reserve != nil:
			return d.Reserve != nil
		}
		return true // a start leaves nothing behind
	})
}

func readJournal(m Machine) (*Journal, error) {
	b, err := m.ReadFile(JournalFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &Journal{}, nil
	}
	if err != nil {
		return nil, err
	}
	j := &Journal{}
	if err := json.Unmarshal(b, j); err != nil {
		return nil, fmt.Errorf("%s: %w", JournalFile, err)
	}
	return j, nil
}

func (j *Journal) write(m Machine) error {
	b, err := json.MarshalIndent(j, "", "\t")
	if err != nil {
		return err
	}
	if err := m.Mkdir("/var/lib/panicroom", 0o700); err != nil {
		return err
	}
	return m.Replace(JournalFile, append(b, '\n'), 0o600)
}
