package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// answerTime is what the monitor may take for an answer.
const answerTime = 30 * time.Second

// watch stops the machine if the line that shows its begin does not come in
// time.
func (m *Machine) watch() {
	ctx, cancel := context.WithTimeoutCause(m.ctx, m.config.BeginLimit, ErrNoBegin)
	defer cancel()
	_, err := m.Expect(ctx, m.config.Begin, 0)
	if !errors.Is(err, ErrNoBegin) {
		return
	}
	last := Line{Text: "nothing"}
	if lines := m.Lines(); len(lines) > 0 {
		last = lines[len(lines)-1]
	}
	now := time.Since(m.console.start)
	found := fmt.Errorf("%w: no line like %q in %v; the last one is %q, %v ago", ErrNoBegin,
		m.config.Begin, m.config.BeginLimit, last.Text, (now - last.At).Round(time.Second/10))
	if err := m.saveRegisters(); err != nil {
		found = fmt.Errorf("%w; registers: %w", found, err)
	} else {
		found = fmt.Errorf("%w; registers in %s", found, m.config.Registers)
	}
	m.cancel(found)
}

// saveRegisters writes what the monitor says of the CPUs, twice: whatever is the
// same then stands still.
func (m *Machine) saveRegisters() error {
	ctx, cancel := context.WithTimeout(m.ctx, answerTime)
	defer cancel()
	var text []byte
	for _, command := range []string{"info status", "info cpus", "info registers -a", "info registers -a"} {
		reply, err := m.Command(ctx, "human-monitor-command", map[string]string{"command-line": command})
		if err != nil {
			return err
		}
		var said string
		if err := json.Unmarshal(reply, &said); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		text = fmt.Appendf(text, "%v: %s\n%s\n", time.Since(m.console.start).Round(time.Millisecond), command, said)
	}
	return os.WriteFile(m.config.Registers, text, 0o600)
}
