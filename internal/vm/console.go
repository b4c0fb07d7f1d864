package vm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// console splits what the serial line says into lines, keeps them, and wakes
// whoever waits for one.
type console struct {
	file   *os.File
	start  time.Time
	onLine func(Line)
	end    chan struct{} // closed when the console has been read to its end

	mu      sync.Mutex
	lines   []Line
	changed chan struct{} // closed and replaced at every new line and at the end
	ended   bool
	err     error // of writing the file; to be read after end
}

func newConsole(path string, onLine func(Line)) (*console, error) {
	// The console may show memory of the dead kernel.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &console{file: f, start: time.Now(), onLine: onLine,
		end: make(chan struct{}), changed: make(chan struct{})}, nil
}

// maxLine is where a line without an end is cut: a guest gone wild must not
// fill our memory with one line.
const maxLine = 64 << 10

// copy reads the console to its end.
func (c *console) copy(r io.Reader) {
	buf := make([]byte, 32<<10)
	var partial []byte
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, werr := c.file.Write(buf[:n]); werr != nil && c.err == nil {
				c.err = werr
			}
			partial = append(partial, buf[:n]...)
			for {
				i := bytes.IndexByte(partial, '\n')
				if i < 0 && len(partial) < maxLine {
					break
				}
				if i < 0 {
					i = len(partial) - 1
				}
				c.add(string(partial[:i+1]))
				partial = partial[i+1:]
			}
		}
		if err != nil {
			break
		}
	}
	if len(partial) > 0 {
		c.add(string(partial))
	}
	if err := c.file.Close(); err != nil && c.err == nil {
		c.err = err
	}
	c.mu.Lock()
	c.ended = true
	close(c.changed)
	c.mu.Unlock()
	close(c.end)
}

func (c *console) add(text string) {
	line := Line{Text: strings.TrimRight(text, "\r\n"), At: time.Since(c.start)}
	if c.onLine != nil {
		c.onLine(line)
	}
	c.mu.Lock()
	c.lines = append(c.lines, line)
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
}

// tail is the last n lines, for error texts.
func (c *console) tail(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	from := max(0, len(c.lines)-n)
	var b strings.Builder
	for _, l := range c.lines[from:] {
		fmt.Fprintf(&b, "\n\t%s", l.Text)
	}
	return b.String()
}

// Match is a line of the console that was waited for.
type Match struct {
	Line   Line
	Index  int      // of the line, from 0
	Groups []string // of the regular expression, [0] the whole match
}

// Expect waits for the first line from index on that re matches. It returns an
// error wrapping [ErrEnded] if the machine ends without one, and the context's
// error if that is done first. The line after a match is at Match.Index+1.
func (m *Machine) Expect(ctx context.Context, re *regexp.Regexp, from int) (Match, error) {
	c := m.console
	for i := from; ; {
		c.mu.Lock()
		lines, changed, ended := c.lines, c.changed, c.ended
		c.mu.Unlock()
		for ; i < len(lines); i++ {
			if g := re.FindStringSubmatch(lines[i].Text); g != nil {
				return Match{Line: lines[i], Index: i, Groups: g}, nil
			}
		}
		if ended {
			return Match{}, fmt.Errorf("console line %q: %w; console in %s, its last lines:%s",
				re, ErrEnded, c.file.Name(), c.tail(8))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Match{}, fmt.Errorf("console line %q: %w; console in %s, its last lines:%s",
				re, context.Cause(ctx), c.file.Name(), c.tail(8))
		}
	}
}

// Lines returns the lines that the console has said so far.
func (m *Machine) Lines() []Line {
	m.console.mu.Lock()
	defer m.console.mu.Unlock()
	return m.console.lines[:len(m.console.lines):len(m.console.lines)]
}
