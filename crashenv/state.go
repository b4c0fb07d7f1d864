package crashenv

import (
	"encoding/json"
	"fmt"
	"os"
)

// stateFile is where the worker leaves word for whoever goes on when it dies.
const stateFile = "/run/panicroom.json"

// state is how far the worker has come.
type state struct {
	Target   int       `json:"target"`           // number of the target in the plan that the worker tries
	Crash    string    `json:"crash,omitempty"`  // directory of the crash, "" if there is none yet or it is on another machine
	LogSaved bool      `json:"log_saved"`        // the log is durable
	Ended    bool      `json:"ended"`            // the worker has said its last word
	Reason   string    `json:"reason,omitempty"` // why it failed
	Phase    string    `json:"phase,omitempty"`  // that failed
	Manifest *Manifest `json:"manifest,omitempty"`
	// Early are the files that this worker and those before it have compared and
	// deleted.
	Early map[string]Verified `json:"early,omitempty"`
}

func readState(file string) (*state, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s := new(state)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// write replaces the file, so that a worker that dies in between leaves the
// former state.
func (s *state) write(file string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
