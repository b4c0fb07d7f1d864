package crashenv

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Which target a worker tries, and what others have tried before, stand in these
// variables of its environment; without them it is the first.
const (
	turnNumberEnv   = "PANICROOM_TARGET"
	turnAttemptsEnv = "PANICROOM_ATTEMPTS"
)

// turnEnv tells a worker its turn.
func turnEnv(n int, before []Attempt) []string {
	if n == 0 {
		return nil
	}
	text, err := json.Marshal(before)
	if err != nil {
		text = nil // of strings and numbers that are none; the rest counts
	}
	return []string{turnNumberEnv + "=" + strconv.Itoa(n), turnAttemptsEnv + "=" + string(text)}
}

// turn reads what turnEnv has told, of a plan with so many targets.
func turn(getenv func(string) string, targets int) (n int, before []Attempt, err error) {
	text := getenv(turnNumberEnv)
	if text == "" {
		return 0, nil, nil
	}
	if n, err = strconv.Atoi(text); err != nil || n < 0 || n >= targets {
		return 0, nil, fmt.Errorf("%s=%q: there are %d targets", turnNumberEnv, text, targets)
	}
	if text := getenv(turnAttemptsEnv); text != "" {
		if err := json.Unmarshal([]byte(text), &before); err != nil {
			return 0, nil, fmt.Errorf("%s: %w", turnAttemptsEnv, err)
		}
	}
	return n, before, nil
}
