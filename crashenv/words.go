package crashenv

import (
	"bufio"
	"fmt"
	"io"
	"sync"
	"time"
)

// words are what a child says to the supervisor.
type words struct {
	mu    sync.Mutex
	w     io.Writer
	alive time.Time
}

// begin says that a phase begins which may take so long.
func (w *words) begin(phase string, limit time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Without a supervisor there is nobody to tell.
	_, _ = fmt.Fprintf(w.w, "begin %s %d\n", phase, limit.Milliseconds())
}

// progress says that there is some, once a second at most.
func (w *words) progress() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Sub(w.alive) >= time.Second {
		w.alive = now
		_, _ = io.WriteString(w.w, "alive\n")
	}
}

// readLines sends the lines of r until its end, or until stop.
func readLines(r io.Reader, lines chan<- string, stop <-chan struct{}) {
	s := bufio.NewScanner(r)
	for s.Scan() {
		select {
		case lines <- s.Text():
		case <-stop:
			return
		}
	}
}
