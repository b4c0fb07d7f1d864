// Package target is where dumps go. A [Target] is a place that holds crashes;
// a [Crash] is one saved crash with its files; it bears the suffix
// "-incomplete" until [Crash.Commit], so that whoever finds it knows whether
// everything in it has arrived.
//
// Package targettest has the suite that every implementation passes.
package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// IncompleteSuffix ends the name of a crash that is not, or never was, saved
// to its end.
const IncompleteSuffix = "-incomplete"

// Errors of targets. They are wrapped with the place and the numbers.
var (
	// ErrNoSpace: the target is full.
	ErrNoSpace = errors.New("no space left")
	// ErrGone: the target does not answer any more. It is not asked again.
	ErrGone = errors.New("does not answer any more")
	// ErrReadOnly: the target cannot be written to.
	ErrReadOnly = errors.New("target is read-only")
	// ErrName: the name of a crash or file is not one simple file name.
	ErrName = errors.New("not a simple file name")
	// ErrExists: the crash already has a file of that name.
	ErrExists = errors.New("file exists")
	// ErrFinished: the crash has been committed or aborted.
	ErrFinished = errors.New("crash is finished")
)

// Target is a place where crashes are saved.
type Target interface {
	// Name says for people where the place is.
	Name() string
	// Begin makes an empty, incomplete crash. If the target already has a crash
	// of that name, complete or not, the new one gets a number: NAME.2 and so
	// on; nothing saved before is touched. Where no name may have colons, see
	// [WithoutColons], it gets hyphens. ctx bounds Begin itself. Errors wrap
	// ErrName, ErrNoSpace or ErrReadOnly where they are the cause.
	Begin(ctx context.Context, name string) (Crash, error)
	// Free is how many bytes the target takes at most, as far as it knows.
	Free() (uint64, error)
}

// Crash is one crash on its way to a target. Its methods may be called
// concurrently, except Commit and Abort.
type Crash interface {
	// Path says where the crash is now; it changes with Commit.
	Path() string
	// Create makes a new file. Errors wrap ErrName, ErrExists, ErrFinished,
	// ErrNoSpace or ErrReadOnly where they are the cause.
	Create(name string) (File, error)
	// Commit makes everything durable and, as the last step, takes
	// IncompleteSuffix off the name. All files must be closed. After an error
	// the crash is still incomplete and Commit may be tried again.
	Commit() error
	// Abort ends the crash without Commit. What was written stays, under the
	// incomplete name: half a dump is better than none. After Commit it does
	// nothing.
	Abort() error
}

// File is a file of a crash. Write appends after what Write wrote before;
// WriteAt may be called concurrently and with holes, which read as zeros. Both
// return an error wrapping [ErrNoSpace] when the target is full; what was
// written before stays.
type File interface {
	io.Writer
	io.WriterAt
	// Truncate cuts the file to size bytes. What is written afterwards with Write
	// still comes after what Write wrote before.
	Truncate(size int64) error
	// Sync returns when everything written is on the target for good.
	Sync() error
	// Close syncs and ends the file.
	Close() error
}

// Opener is a [Crash] whose files can be read back before Commit. Targets that
// can only be written to are none.
type Opener interface {
	// Open opens a file for reading. The error wraps fs.ErrNotExist if there is
	// none of that name.
	Open(name string) (ReadFile, error)
}

// ReadFile is a file that is read back; that of a [Directory] is an *os.File.
type ReadFile interface {
	io.Reader
	io.ReaderAt
	io.Closer
}

// NoSpaceError is the error of a full target. It is [ErrNoSpace].
type NoSpaceError struct {
	Target string // its name
	File   string // that was being written, "" for the crash itself
	Offset int64  // in File, of the data that did not fit
	Length int    // bytes of that data
	Free   uint64 // what the target says it has left
	Err    error  // what the system said, may be nil
}

func (e *NoSpaceError) Error() string {
	if e.File == "" {
		return fmt.Sprintf("%s: %v (%s free)", e.Target, ErrNoSpace, ui.Bytes(e.Free))
	}
	return fmt.Sprintf("%s: %v for %s: %s at offset %d did not fit (%s free)",
		e.Target, ErrNoSpace, e.File, ui.Bytes(uint64(max(0, e.Length))), e.Offset, ui.Bytes(e.Free))
}

// Unwrap makes the error [ErrNoSpace] and what the system said.
func (e *NoSpaceError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrNoSpace}
	}
	return []error{ErrNoSpace, e.Err}
}

// Hints says what to do.
func (e *NoSpaceError) Hints() []string {
	if errors.Is(e.Err, syscall.EFBIG) {
		return []string{"choose a filesystem with larger files for " + e.Target + ", or save less (level)"}
	}
	return []string{"remove old crashes from " + e.Target + ", or choose a larger target"}
}

// ReadOnlyError is the error of a target that cannot be written to. It is
// [ErrReadOnly].
type ReadOnlyError struct {
	Target string
	Err    error
}

func (e *ReadOnlyError) Error() string { return fmt.Sprintf("%s: %v", e.Target, ErrReadOnly) }

// Unwrap makes the error [ErrReadOnly] and what the system said.
func (e *ReadOnlyError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrReadOnly}
	}
	return []error{ErrReadOnly, e.Err}
}

// Hints says what to do.
func (e *ReadOnlyError) Hints() []string {
	return []string{"check that the disk of " + e.Target + " is not write-protected and that its filesystem is healthy (dmesg, fsck)"}
}

// GoneError is the error of a target that is on a machine that went away. It is
// [ErrGone].
type GoneError struct {
	Target string
	Err    error // what the system said
}

func (e *GoneError) Error() string { return fmt.Sprintf("%s %v: %v", e.Target, ErrGone, e.Err) }

// Unwrap makes the error [ErrGone] and what the system said.
func (e *GoneError) Unwrap() []error { return []error{ErrGone, e.Err} }

// Hints says what to do.
func (e *GoneError) Hints() []string {
	return []string{"check the other machine and the network on the way to " + e.Target}
}

// WithoutColons is the name of a crash on filesystems that take no colons in names,
// vfat among them.
func WithoutColons(name string) string { return strings.ReplaceAll(name, ":", "-") }

// maxName leaves room for a number and the suffix within the 255 bytes that
// filesystems allow.
const maxName = 200

// CheckName returns an error wrapping [ErrName] unless name can be the name of
// a crash or of a file on any target: one path element, printable ASCII, not
// hidden, not ending like an incomplete crash.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("empty name: %w", ErrName)
	case len(name) > maxName:
		return fmt.Errorf("name of %d bytes, at most %d: %w", len(name), maxName, ErrName)
	case name[0] == '.' || name[0] == '-':
		return fmt.Errorf("name %q begins with %q: %w", name, name[0], ErrName)
	case strings.HasSuffix(name, IncompleteSuffix):
		return fmt.Errorf("name %q ends with %q: %w", name, IncompleteSuffix, ErrName)
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' || c == '/' || c == '\\' {
			return fmt.Errorf("name %q has %q in it: %w", name, c, ErrName)
		}
	}
	return nil
}
