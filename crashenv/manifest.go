package crashenv

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/target"
)

// Names of the files of a saved crash.
const (
	ManifestFile   = "manifest.json"
	LogFile        = "dmesg.txt"
	DumpFile       = "vmcore"
	RawFile        = "vmcore.raw" // tests only
	ReportFile     = "report.txt"
	ReportJSONFile = "report.json"
)

// manifestVersion is the version of the manifest's form.
const manifestVersion = 1

// Manifest says what a saved crash consists of and how it was saved. It is
// written before the dump, so that it is there whatever happens, and again at
// the end.
type Manifest struct {
	Version int `json:"version"`
	// Name of the crash; its directory is called so when the crash is complete.
	Name string `json:"name"`
	// Path is where the crash was saved, as the healthy system sees it.
	Path string `json:"path"`
	// Complete tells that the log and the dump are whole. Reasons says why not;
	// Warnings tells what else went wrong.
	Complete bool     `json:"complete"`
	Reasons  []string `json:"reasons,omitempty"`
	Warnings []string `json:"warnings,omitempty"`

	// Attempts are the targets that were tried before, in vain. What they had
	// taken by then is there still, as an incomplete crash.
	Attempts []Attempt `json:"attempts,omitempty"`

	Crash Crash `json:"crash"`
	// Host is from the Plan; nil for a dump that was saved by hand.
	Host *Host `json:"host,omitempty"`
	// Tool saved the crash, running on the kernel SavedBy.
	Tool    Tool   `json:"tool"`
	SavedBy string `json:"saved_by,omitempty"`

	// Integrity tells what of the panic room was compared with what was loaded;
	// nil for a dump that was saved by hand.
	Integrity []Verified `json:"integrity,omitempty"`

	Level  int             `json:"level"`
	Dump   *capture.Result `json:"dump,omitempty"`
	Files  []SavedFile     `json:"files"`
	Phases []PhaseResult   `json:"phases"`
	Memory Memory          `json:"memory"`
}

// Crash is what the dead kernel said about itself.
type Crash struct {
	Time    time.Time `json:"time,omitzero"`
	Release string    `json:"release,omitempty"`
	Machine string    `json:"machine,omitempty"`
	// Panic is the line of the log that says why.
	Panic string `json:"panic,omitempty"`
}

// Tool is the program that saved the crash.
type Tool struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
}

// SavedFile is a file of a saved crash.
type SavedFile struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes
	// SHA256 is of what was read back from the disk; "" if it was not.
	SHA256 string `json:"sha256,omitempty"`
}

func thisTool() Tool {
	t := Tool{Version: "(unknown)", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return t
	}
	t.Version = info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			t.Commit = s.Value
		}
	}
	return t
}

// file finds or adds a file.
func (m *Manifest) file(name string) *SavedFile {
	for i := range m.Files {
		if m.Files[i].Name == name {
			return &m.Files[i]
		}
	}
	m.Files = append(m.Files, SavedFile{Name: name})
	return &m.Files[len(m.Files)-1]
}

// ParseManifest reads a manifest.
func ParseManifest(text []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	if m.Version != manifestVersion {
		return nil, fmt.Errorf("%s: version %d; this is for %d", ManifestFile, m.Version, manifestVersion)
	}
	return m, nil
}

// draftSize is the space that a manifest takes on the disk before the dump
// does: the last one must fit when the disk is full. Spaces behind the JSON
// fill it.
const draftSize = 32 << 10

// writeManifest writes the manifest over the one before. A draft is filled up
// to draftSize, the last one cut to its size.
func writeManifest(f target.File, m *Manifest, draft bool) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	size := int64(len(text))
	for len(text) < draftSize {
		text = append(text, ' ')
	}
	if _, err := f.WriteAt(text, 0); err != nil {
		return err
	}
	if !draft {
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	return f.Sync()
}
