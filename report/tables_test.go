package report_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/report"
	"github.com/panicroom-kdump/panicroom/report/reporttest"
)

// The tables of verbs, of a machine whose names want to disturb a terminal.
func TestTables(t *testing.T) {
	r := reporttest.Full(60, 40, 6)
	r.Tasks = append(r.Tasks[:12:12], r.Tasks[len(r.Tasks)-4:]...)
	var b bytes.Buffer
	for _, table := range []struct {
		name  string
		write func(w io.Writer, width int) error
	}{
		{"tasks", func(w io.Writer, width int) error { return report.WriteTasks(w, width, r.Tasks, r.Memory.Total) }},
		{"tasks of unknown memory", func(w io.Writer, width int) error { return report.WriteTasks(w, width, r.Tasks[:2], 0) }},
		{"no tasks", func(w io.Writer, width int) error { return report.WriteTasks(w, width, nil, 0) }},
		{"whose stack", func(w io.Writer, width int) error { return report.WriteTaskHead(w, width, &r.Tasks[5]) }},
		{"stack", func(w io.Writer, width int) error { return report.WriteStack(w, width, r.CPUs[0].Stack, false) }},
		{"stack with all registers", func(w io.Writer, width int) error { return report.WriteStack(w, width, r.CPUs[0].Stack, true) }},
		{"memory", func(w io.Writer, width int) error { return report.WriteMemory(w, width, r.Memory) }},
		{"caches", func(w io.Writer, width int) error { return report.WriteCaches(w, width, r.Slabs[:4]) }},
		{"modules", func(w io.Writer, width int) error { return report.WriteModules(w, width, r.Modules) }},
		{"mounts", func(w io.Writer, width int) error { return report.WriteMounts(w, width, r.Mounts) }},
		{"disks", func(w io.Writer, width int) error { return report.WriteDisks(w, width, r.Disks) }},
		{"interfaces", func(w io.Writer, width int) error { return report.WriteInterfaces(w, width, r.Net) }},
		{"run queues", func(w io.Writer, width int) error { return report.WriteRunQueues(w, width, r.RunQueues[:2]) }},
		{"summary", func(w io.Writer, width int) error { return r.WriteSummary(w, width, true) }},
		{"summary of a living one", func(w io.Writer, width int) error { return r.WriteSummary(w, width, false) }},
	} {
		var one bytes.Buffer
		if err := table.write(&one, 80); err != nil {
			t.Errorf("%s: %v", table.name, err)
		}
		for line := range strings.Lines(one.String()) {
			line = strings.TrimSuffix(line, "\n")
			if len(line) > 80 && table.name != "mounts" || strings.HasSuffix(line, " ") {
				t.Errorf("%s: line of %d columns: %q", table.name, len(line), line)
			}
			for _, c := range line {
				if c < ' ' || c > '~' {
					t.Errorf("%s: %q disturbs a terminal", table.name, line)
				}
			}
		}
		fmt.Fprintf(&b, "== %s\n%s", table.name, &one)
	}
	golden := filepath.Join("testdata", "tables.txt")
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("tables (-want +got), -update accepts it:\n%s", d)
	}
}
