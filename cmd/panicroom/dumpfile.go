package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strings"
	"syscall"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// dumpOutput is what makedumpfile writes to: the files that the command line
// names, each under its own name from the beginning, which is how scripts know
// them; or standard output; or nothing.
type dumpOutput []*dumpFile

// dumpFile is one of them.
type dumpFile struct {
	output
	made   bool // was not there before
	device bool // or another file that has no size
}

// Sync is capture.File's. Not everything that can be written can be synced.
func (f *dumpFile) Sync() error {
	err := f.output.Sync()
	if f.device && (errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP)) {
		return nil
	}
	return err
}

// newOutput opens the files that the command line names; with -F, text goes to
// standard output as it is, and a dump flattened.
func (m *makedumpfile) newOutput(text bool) (dumpOutput, error) {
	var all dumpOutput
	if m.line.Flatten {
		w := m.stdout
		if m.line.DryRun {
			w = io.Discard
		}
		f := &dumpFile{}
		if text {
			f.buf = bufio.NewWriterSize(w, 64<<10)
			return dumpOutput{f}, nil
		}
		return dumpOutput{f}, f.flatten(w)
	}
	for _, path := range m.line.Out {
		f := &dumpFile{device: true}
		if !m.line.DryRun {
			var err error
			if f, err = openDumpFile(path, m.line.Force); err != nil {
				return nil, errors.Join(err, all.abandon())
			}
		}
		all = append(all, f)
	}
	return all, nil
}

// openDumpFile makes a file that only its owner may read, or with force
// empties one that is there.
func openDumpFile(path string, force bool) (*dumpFile, error) {
	_, err := os.Lstat(path)
	f := &dumpFile{made: errors.Is(err, fs.ErrNotExist)}
	f.path = path
	how := os.O_EXCL
	if force {
		how = os.O_TRUNC
	}
	if f.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|how, 0o600); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = ui.Hint(err, "-f writes over a file that exists")
		}
		return nil, err
	}
	st, err := f.file.Stat()
	if err == nil && st.Mode().IsRegular() {
		err = f.file.Chmod(0o600)
	} else {
		f.device = true
	}
	if err != nil {
		return nil, errors.Join(err, f.file.Close())
	}
	return f, nil
}

// notOver refuses to write over what is read, which -f would empty first.
func (m *makedumpfile) notOver(in ...string) error {
	for _, from := range in {
		a, err := os.Stat(from)
		if err != nil {
			return err
		}
		for _, to := range m.line.Out {
			if b, err := os.Stat(to); err == nil && os.SameFile(a, b) {
				return fmt.Errorf("%s and %s are the same file", from, to)
			}
		}
	}
	return nil
}

// files are the files for capture, each of at most limit bytes; a dump that
// goes to standard output is flattened.
func (all dumpOutput) files(limit uint64) (files []capture.File) {
	for _, f := range all {
		switch {
		case f.file == nil && f.flat == nil:
			files = append(files, capture.Limit(nowhere{}, limit))
		case limit == math.MaxUint64:
			files = append(files, f)
		default:
			files = append(files, capture.Limit(f, limit))
		}
	}
	return files
}

// stream is the one file, for text.
func (all dumpOutput) stream(limit uint64) io.Writer {
	f := all[0]
	if f.file == nil {
		return f.buf
	}
	return io.NewOffsetWriter(all.files(limit)[0], 0)
}

// nowhere is a file for --dry-run.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// Sync is capture.File's.
func (nowhere) Sync() error { return nil }

// empty makes room for another dump.
func (all dumpOutput) empty() error {
	for _, f := range all {
		if f.file == nil || f.device {
			continue
		}
		if err := f.file.Truncate(0); err != nil {
			return err
		}
	}
	return nil
}

// names are the names of the files.
func (all dumpOutput) names() string {
	var names []string
	for _, f := range all {
		if f.path == "" {
			return "standard output"
		}
		names = append(names, f.path)
	}
	return strings.Join(names, ", ")
}

// close ends all files. The sizes of files are settled, and nothing is renamed.
func (all dumpOutput) close() error {
	var errs []error
	for _, f := range all {
		if f.flat != nil {
			errs = append(errs, f.flat.Close())
		}
		if f.buf != nil {
			errs = append(errs, f.buf.Flush())
		}
		if f.file != nil {
			errs = append(errs, f.Sync(), f.file.Close())
		}
	}
	return errors.Join(errs...)
}

// abandon takes away the files that were made: nothing was saved.
func (all dumpOutput) abandon() error {
	var errs []error
	for _, f := range all {
		if f.file == nil {
			continue
		}
		errs = append(errs, f.file.Close())
		if f.made {
			errs = append(errs, os.Remove(f.path))
		}
	}
	return errors.Join(errs...)
}
