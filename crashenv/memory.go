package crashenv

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
)

// Memory tells how close to the edge the crash environment was, in bytes; 0 is
// unknown.
type Memory struct {
	Total        uint64 `json:"total"`         // MemTotal of the panic kernel
	AvailableMin uint64 `json:"available_min"` // lowest MemAvailable seen
	PeakRSS      uint64 `json:"peak_rss"`      // VmHWM of the process that saved the dump
	// Anonymous is the largest RssAnon seen of that process: its own memory,
	// without the pages of its binary, which is in memory anyway, and of windows
	// into the dead kernel's. Supervisor is the same of PID 1 in the panic room.
	Anonymous  uint64 `json:"anonymous"`
	Supervisor uint64 `json:"supervisor_anonymous,omitempty"`
	// Reporter is the same of the process that made the report, as often as it was
	// looked at.
	Reporter uint64 `json:"reporter_anonymous,omitempty"`
}

// sample looks at /proc/meminfo and /proc/self/status, and at PID 1 if that is
// our supervisor; where there is no /proc it changes nothing.
func (m *Memory) sample(supervised bool) {
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		m.Total = kilobytes(text, "MemTotal")
		if a := kilobytes(text, "MemAvailable"); a > 0 && (m.AvailableMin == 0 || a < m.AvailableMin) {
			m.AvailableMin = a
		}
	}
	if text, err := os.ReadFile("/proc/self/status"); err == nil {
		m.PeakRSS = max(m.PeakRSS, kilobytes(text, "VmHWM"))
		m.Anonymous = max(m.Anonymous, kilobytes(text, "RssAnon"))
	}
	if !supervised {
		return
	}
	if text, err := os.ReadFile("/proc/1/status"); err == nil {
		m.Supervisor = max(m.Supervisor, kilobytes(text, "RssAnon"))
	}
}

// kilobytes finds a line "NAME:   123 kB" and returns its number in bytes, 0 if
// there is none.
func kilobytes(text []byte, name string) uint64 {
	s := bufio.NewScanner(bytes.NewReader(text))
	for s.Scan() {
		k, v, ok := strings.Cut(s.Text(), ":")
		if !ok || k != name {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 53)
		if err != nil {
			return 0
		}
		return n << 10
	}
	return 0
}
