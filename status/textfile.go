package status

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Textfile is the links as Prometheus reads them (its text format, version 0.0.4).
func Textfile(f *Facts, links []Link) []byte {
	var b bytes.Buffer
	gauge := func(name, help string, value any) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
		if value != nil {
			fmt.Fprintf(&b, "%s %v\n", name, value)
		}
	}
	armed := 1
	if Worst(links) == Broken {
		armed = 0
	}
	gauge("panicroom_armed", "1 if a panic now would leave a whole dump.", armed)
	gauge("panicroom_link_state", "Links of the chain: 0 ok, 1 warning, 2 broken; the worst of those with one name.", nil)
	worst := map[string]int{}
	var names []string
	for _, l := range links {
		n, seen := worst[l.Name]
		if !seen {
			names = append(names, l.Name)
		}
		worst[l.Name] = max(n, map[State]int{OK: 0, Warning: 1, Broken: 2}[l.State])
	}
	for _, name := range names {
		fmt.Fprintf(&b, "panicroom_link_state{link=%q} %d\n", name, worst[name])
	}
	gauge("panicroom_reserved_bytes", "Memory that is reserved for the panic kernel.", f.Load.Reserved)
	if f.Needed > 0 {
		gauge("panicroom_needed_bytes", "Memory that the panic kernel needs here.", f.Needed)
	}
	if p := f.Load.Plan; p != nil && !p.Loaded.IsZero() {
		gauge("panicroom_loaded_timestamp_seconds", "When the panic kernel was loaded.", p.Loaded.Unix())
	}
	gauge("panicroom_crashes", "Saved crashes on this machine.", len(f.Crashes))
	if n := len(f.Crashes); n > 0 {
		gauge("panicroom_last_crash_timestamp_seconds", "When the last saved crash happened.", f.Crashes[n-1].Time.Unix())
	}
	if len(f.Targets) > 0 {
		gauge("panicroom_target_usable", "1 if a target can be reached and written to; those that were not asked are left out.", nil)
		for _, t := range f.Targets {
			if t.Asked {
				fmt.Fprintf(&b, "panicroom_target_usable{target=\"%s\"} %d\n", label(t.String()), map[bool]int{true: 1}[t.Err == nil])
			}
		}
		gauge("panicroom_target_free_bytes", "Room of targets, where it is known.", nil)
		for _, t := range f.Targets {
			if t.Known {
				fmt.Fprintf(&b, "panicroom_target_free_bytes{target=\"%s\"} %d\n", label(t.String()), t.Free)
			}
		}
	}
	return b.Bytes()
}

// label escapes what a value of a label may not have.
func label(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(s)
}

// WriteTextfile writes [Textfile] so that no reader sees half of it.
func WriteTextfile(name string, f *Facts, links []Link) error {
	t, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return ui.Hint(fmt.Errorf("metrics in %s: %w", name, err), "the directory must be there and be writable; the node exporter says which it reads: --collector.textfile.directory")
	}
	defer os.Remove(t.Name())
	_, err = t.Write(Textfile(f, links))
	if err == nil {
		// Whoever reads it is not root.
		err = t.Chmod(0o644)
	}
	if cerr := t.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(t.Name(), name)
}
