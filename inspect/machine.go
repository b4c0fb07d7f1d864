package inspect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/mm"
	"github.com/panicroom-kdump/panicroom/report"
)

// MemoryUse asks what memory was used for.
type MemoryUse struct {
	// Caches asks for the slab caches instead, those with the most memory first.
	Caches bool
	Most   int // caches, 0 is all
}

// MemoryAnswer is what memory was used for.
type MemoryAnswer struct{ *mm.Summary }

// CacheList are slab caches.
type CacheList struct {
	Caches []mm.Cache `json:"caches"`
}

// Ask answers.
func (q MemoryUse) Ask(s *Session) (Answer, error) {
	if !q.Caches {
		m, err := mm.Read(s.k)
		if m == nil {
			return nil, err
		}
		return &MemoryAnswer{m}, err
	}
	all, err := mm.Caches(s.k)
	if len(all) == 0 && err != nil {
		return nil, err
	}
	if q.Most > 0 {
		all = all[:min(q.Most, len(all))]
	}
	return &CacheList{all}, err
}

// Write writes tables.
func (a *MemoryAnswer) Write(w io.Writer, width int) error {
	return report.WriteMemory(w, width, a.Summary)
}

// Write writes a table.
func (l *CacheList) Write(w io.Writer, width int) error {
	return report.WriteCaches(w, width, l.Caches)
}

// Modules asks for modules; those of the names if there are any.
type Modules struct{ Names []string }

// ModuleList are modules.
type ModuleList struct {
	Modules []report.Module `json:"modules"`
}

// Ask answers.
func (q Modules) Ask(s *Session) (Answer, error) {
	list := &ModuleList{Modules: []report.Module{}}
	var missing error
	used := make(map[string]bool)
	for m, err := range s.k.Modules() {
		if err != nil {
			missing = err
			break
		}
		if len(q.Names) == 0 || slices.Contains(q.Names, m.Name) {
			used[m.Name] = true
			list.Modules = append(list.Modules, report.ModuleOf(&m))
		}
	}
	for _, n := range q.Names {
		if !used[n] {
			missing = errors.Join(missing, &hinted{fmt.Errorf("module %s: %w", n, kernel.ErrNotFound), "mod alone lists all that were loaded"})
		}
	}
	if len(list.Modules) == 0 && missing != nil {
		return nil, missing
	}
	return list, missing
}

// Write writes a table.
func (l *ModuleList) Write(w io.Writer, width int) error {
	return report.WriteModules(w, width, l.Modules)
}

// Log asks for the kernel's log.
type Log struct{}

// LogRecords are the records of a log.
type LogRecords struct {
	Records []kernel.LogRecord `json:"records"`
}

// Ask answers.
func (Log) Ask(s *Session) (Answer, error) {
	l := &LogRecords{}
	for r, err := range s.k.Log() {
		if err != nil {
			if len(l.Records) == 0 {
				return nil, err
			}
			return l, err
		}
		l.Records = append(l.Records, r)
	}
	return l, nil
}

// Write writes it as dmesg would have, without what could disturb a terminal.
func (l *LogRecords) Write(w io.Writer, _ int) error {
	clean := strings.NewReplacer("\v", `\x0b`, "\f", `\x0c`, "\r", `\x0d`)
	for _, r := range l.Records {
		if _, err := clean.WriteString(w, strings.TrimRight(r.Line(), "\n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// MarshalJSON writes the records; what could disturb a terminal is escaped there too.
func (l *LogRecords) MarshalJSON() ([]byte, error) {
	type plain LogRecords
	b, err := json.Marshal((*plain)(l))
	return bytes.ReplaceAll(b, []byte{0x7f}, []byte(`\u007f`)), err
}

// Summary asks what happened: the report, or its beginning.
type Summary struct{ Brief bool }

// ReportAnswer is a report.
type ReportAnswer struct {
	*report.Report
	brief, live bool
}

// Ask answers.
func (q Summary) Ask(s *Session) (Answer, error) {
	r, err := report.Make(s.k, nil)
	if err != nil {
		return nil, err
	}
	return &ReportAnswer{r, q.Brief, s.live}, nil
}

// Write writes it.
func (a *ReportAnswer) Write(w io.Writer, width int) error {
	if a.brief {
		return a.WriteSummary(w, width, !a.live)
	}
	return a.WriteText(w, width)
}
