package crashenv

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/target"
)

// ErrIncomplete: a crash was saved, but not all of it. What there is stays on
// the target under its incomplete name.
var ErrIncomplete = errors.New("saved incompletely")

// IncompleteError is the error of a crash that was saved in part. It is
// [ErrIncomplete] and what it was caused by.
type IncompleteError struct {
	Path string // of the crash
	Err  error  // why
}

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("%s: %v: %s", e.Path, ErrIncomplete, oneLine(e.Err.Error()))
}

// Unwrap makes the error ErrIncomplete and its cause.
func (e *IncompleteError) Unwrap() []error { return []error{ErrIncomplete, e.Err} }

// SaveOptions say what [Save] saves and how. Input and Target must be given.
type SaveOptions struct {
	// Input is the dead kernel's memory: /proc/vmcore or a dump.
	Input  string
	Target target.Target
	// Name of the crash; "" is made of the time of the crash and the release of
	// the kernel.
	Name string
	// Level is the dump level of makedumpfile(8) -d, or capture.LevelReport.
	Level int
	// Form is how the dump is written.
	Form Form
	// Threads is how many CPUs compress; 0 is all.
	Threads int
	// MemLimit bounds the memory of the process while it saves the dump and,
	// roughly, that of the reporter, in bytes; 0 is capture's default, and no
	// bound for the reporter.
	MemLimit uint64
	// Layout of the dead kernel's structures, if it is known from elsewhere.
	Layout *kernel.Layout
	// LogLines bounds the tail of the log in the report; 0 is its default.
	LogLines int
	// Raw also saves a literal copy of the input; for tests.
	Raw bool
	// NoReport leaves the report out.
	NoReport bool
	// NoHash leaves reading back out.
	NoHash bool
	// Deadlines end phases; nil is none.
	Deadlines Deadlines
	// Host goes into the manifest.
	Host *Host
	// Events hear how far it is.
	Events Events

	// before are the phases that brought us here, for the manifest.
	before []PhaseResult
	// attempts are the targets that were tried before, for the manifest.
	attempts []Attempt
	// room is what the dump may take on the target, 0 if unknown.
	room uint64
	// supervised: PID 1 is ours.
	supervised bool
	// loaded compares the panic room with what was loaded; nil is no panic room.
	loaded *inspector
	die    string                                 // Test.Die
	open   func(*SaveOptions) (deadKernel, error) // a fake, in tests
	// saved hears, after each phase, where the crash is and whether its log is
	// durable.
	saved func(m *Manifest, at string, log bool)
}

// deadKernel is what Save needs of the dead kernel and its memory. The real
// one is in dead.go.
type deadKernel interface {
	// Crash says what died; Panic is filled only after SaveLog.
	Crash() Crash
	// SaveLog writes the log and returns its size in bytes. With an error, what
	// was written is all there is.
	SaveLog(w io.Writer) (int64, error)
	// SaveDump writes the memory.
	SaveDump(ctx context.Context, f target.File, progress progressFunc) (*capture.Result, error)
	// SaveRaw writes a literal copy.
	SaveRaw(ctx context.Context, f target.File, progress progressFunc) (*capture.Result, error)
	// MakeReport reads the dump, or the dead kernel's memory if dump is nil, in
	// a process of its own. The report has the warnings in it.
	MakeReport(ctx context.Context, dump *os.File, warnings []string, text, json io.Writer) (memory uint64, err error)
	Close() error
}

// saver is one Save.
type saver struct {
	SaveOptions
	phases   phases
	m        Manifest
	dead     deadKernel
	crash    target.Crash
	manifest target.File // nil when it could not be created
	logSaved bool
	reasons  []error // why the crash is incomplete
	sampled  time.Time
}

// Save saves a crash: the log first, then the memory, then a report, each
// durable before the next begins. Whatever goes wrong, what was saved before
// stays, and the manifest says what happened. With a crash that is incomplete
// the error is an [*IncompleteError] and the manifest is returned too; without
// a manifest nothing could be saved.
func Save(ctx context.Context, opts SaveOptions) (*Manifest, error) {
	s := &saver{SaveOptions: opts}
	if s.open == nil {
		s.open = openDead
	}
	s.phases = phases{deadlines: opts.Deadlines, events: s.watched(), die: opts.die, results: opts.before}
	s.m = Manifest{Version: manifestVersion, Level: opts.Level, Tool: thisTool(), Host: opts.Host, Attempts: opts.attempts}
	s.m.SavedBy, _ = sys.KernelRelease()
	return s.run(ctx)
}

// watched hands events on, and looks at the memory whenever something happens.
func (s *saver) watched() Events {
	return Events{
		Begin: s.Events.begin,
		End: func(r PhaseResult) {
			s.m.Memory.sample(s.supervised)
			s.m.Phases = s.phases.results
			s.Events.end(r)
			if s.saved != nil && s.crash != nil {
				s.saved(&s.m, s.crash.Path(), s.logSaved)
			}
		},
		Progress: func(phase string, done, total uint64, more string) {
			if now := time.Now(); now.Sub(s.sampled) > 100*time.Millisecond {
				s.sampled = now
				s.m.Memory.sample(s.supervised)
			}
			s.Events.progress(phase, done, total, more)
		},
		Note: func(text string) { s.Events.note("%s", text) },
	}
}

// warn notes what went wrong without making the crash incomplete.
func (s *saver) warn(err error) { s.m.Warnings = append(s.m.Warnings, oneLine(err.Error())) }

// fail notes what makes the crash incomplete.
func (s *saver) fail(err error) {
	s.reasons = append(s.reasons, err)
	s.m.Reasons = append(s.m.Reasons, oneLine(err.Error()))
}

func (s *saver) run(ctx context.Context) (*Manifest, error) {
	err := s.phases.run(ctx, PhaseOpen, s.openPhase)
	if s.dead != nil {
		defer s.dead.Close()
	}
	if err != nil {
		return nil, err
	}
	if err := s.phases.run(ctx, PhaseLog, s.logPhase); err != nil {
		s.fail(err)
	}
	if s.loaded != nil {
		if err := s.phases.run(ctx, PhaseIntegrity, s.integrityPhase); err != nil {
			s.warn(err)
		}
	}
	if err := s.phases.run(ctx, PhaseDump, s.dumpPhase); err != nil {
		s.fail(err)
	}
	if s.Raw {
		if err := s.phases.run(ctx, PhaseRaw, s.rawPhase); err != nil {
			s.fail(err)
		}
	}
	if !s.NoReport && ctx.Err() == nil {
		if err := s.phases.run(ctx, PhaseReport, s.reportPhase); err != nil {
			s.warn(err)
		}
	}
	if o, ok := s.crash.(target.Opener); ok && !s.NoHash && ctx.Err() == nil {
		if err := s.phases.run(ctx, PhaseHash, func(ctx context.Context) (string, error) { return s.hashPhase(ctx, o) }); err != nil {
			s.warn(err)
		}
	}
	// Whoever canceled the rest gets a manifest that says so.
	if err := s.phases.run(context.WithoutCancel(ctx), PhaseCommit, s.commitPhase); err != nil {
		s.fail(err)
		s.lastWord()
	}
	if s.saved != nil {
		s.saved(&s.m, s.crash.Path(), s.logSaved)
	}
	if len(s.reasons) > 0 {
		return &s.m, &IncompleteError{Path: s.m.Path, Err: errors.Join(s.reasons...)}
	}
	return &s.m, nil
}

// lastWord leaves a manifest when the commit phase did not come to it, and the
// crash where it is.
func (s *saver) lastWord() {
	defer func() {
		if r := recover(); r != nil {
			s.fail(fmt.Errorf("%w: %v", errPanic, r))
		}
	}()
	s.m.Complete = false
	if s.manifest != nil {
		s.warnIf(writeManifest(s.manifest, &s.m, false))
		s.warnIf(s.manifest.Close())
		s.manifest = nil
	}
	s.warnIf(s.crash.Abort())
}

func (s *saver) warnIf(err error) {
	if err != nil {
		s.warn(err)
	}
}

// openPhase looks into the dead kernel and makes the crash on the target.
func (s *saver) openPhase(ctx context.Context) (string, error) {
	var err error
	if s.dead, err = s.open(&s.SaveOptions); err != nil {
		return "", err
	}
	s.m.Crash = s.dead.Crash()
	if s.Name == "" {
		s.Name = crashName(s.m.Crash, time.Now())
	}
	s.crash, err = s.Target.Begin(ctx, s.Name)
	if err != nil {
		return "", err
	}
	s.place()
	text := "the dead kernel"
	if c := s.m.Crash; c.Release != "" {
		text = fmt.Sprintf("Linux %s on %s", c.Release, c.Machine)
	}
	return fmt.Sprintf("%s, saving to %s", text, s.m.Path), nil
}

// place says in the manifest where the crash is now.
func (s *saver) place() {
	base := path.Base(s.crash.Path())
	s.m.Name = strings.TrimSuffix(base, target.IncompleteSuffix)
	s.m.Path = strings.TrimSuffix(s.Target.Name(), "/") + "/" + base
}

// crashName names a crash: its time in UTC and the release of the kernel.
func crashName(c Crash, now time.Time) string {
	if c.Time.IsZero() {
		c.Time = now
	}
	name := c.Time.UTC().Format("2006-01-02T15:04:05Z")
	if c.Release != "" {
		name += "-" + c.Release
	}
	clean := func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z', strings.ContainsRune("+-._:~", r):
			return r
		}
		return '_'
	}
	name = strings.Map(clean, name)
	return name[:min(len(name), 120)]
}

// logPhase saves the log, and then drafts the manifest.
func (s *saver) logPhase(context.Context) (string, error) {
	var damaged error
	size, err := s.writeFile(LogFile, func(w io.Writer) error {
		_, damaged = s.dead.SaveLog(w)
		return nil // an error of w comes back when it is flushed
	})
	switch {
	case damaged != nil && size == 0:
		err = errors.Join(damaged, err)
	case damaged != nil && err == nil:
		// The dead kernel's fault, not ours.
		s.warn(fmt.Errorf("the log is damaged: %w", damaged))
	}
	s.logSaved = err == nil && size > 0
	s.m.Crash = s.dead.Crash()
	if s.m.Crash.Panic != "" {
		s.Events.panicked(s.m.Crash.Panic)
	}
	err = errors.Join(err, s.draft())
	return "saved " + ui.Bytes(uint64(size)), err
}

// integrityPhase compares the panic room with what was loaded. The log is
// safe by now; and should the dump end all, the console has said why.
func (s *saver) integrityPhase(ctx context.Context) (string, error) {
	return s.loaded.integrity(ctx, func(list []Verified) { s.m.Integrity = list })
}

// draft writes the manifest as it must be read if nothing comes after it.
func (s *saver) draft() error {
	f, err := s.crash.Create(ManifestFile)
	if err != nil {
		return err
	}
	s.manifest = f
	m := s.m
	m.Reasons = append(m.Reasons, "the dump was begun and not ended")
	return writeManifest(f, &m, true)
}

// writeFile saves a small file that is written from begin to end.
func (s *saver) writeFile(name string, write func(io.Writer) error) (size int64, err error) {
	f, err := s.crash.Create(name)
	if err != nil {
		return 0, err
	}
	c := &counter{w: f}
	b := bufio.NewWriterSize(c, 64<<10)
	err = write(b)
	err = errors.Join(err, b.Flush(), f.Close())
	s.m.file(name).Size = c.n
	return c.n, err
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// reserve is what a dump leaves free for the report and the manifest on a
// target that it fills, unless that is very small.
const reserve = 8 << 20

// dumpPhase saves the memory.
func (s *saver) dumpPhase(ctx context.Context) (string, error) {
	b := &bounded{target: s.Target.Name(), left: -1}
	if free, err := s.Target.Free(); err == nil {
		b.keep = min(reserve, free/8)
		b.left = int64(min(free-b.keep, 1<<62))
		s.room = uint64(b.left)
	}
	err := s.writeAt(DumpFile, b, func(f target.File) (err error) {
		s.m.Dump, err = s.dead.SaveDump(ctx, f, s.progress(PhaseDump))
		return err
	})
	if errors.Is(err, capture.ErrNoRoom) && !errors.Is(err, target.ErrNoSpace) {
		full := &target.NoSpaceError{Target: s.Target.Name()}
		err = ui.Hint(fmt.Errorf("%s: %w: %w", full.Target, target.ErrNoSpace, err), full.Hints()...)
	}
	if r := s.m.Dump; r != nil && r.Used != r.Level {
		s.warn(fmt.Errorf("level %s was used instead of %s: %s", capture.LevelName(r.Used), capture.LevelName(r.Level), r.Why))
	}
	if r := s.m.Dump; err == nil && (r == nil || !r.Complete) {
		err = errors.New("the dump is not complete")
	}
	return "saved " + ui.Bytes(uint64(b.size.Load())), err
}

// progressFunc hears of bytes that are done, of all, and what else there is to
// say.
type progressFunc func(done, total uint64, more string)

func (s *saver) progress(phase string) progressFunc {
	return func(done, total uint64, more string) { s.phases.events.progress(phase, done, total, more) }
}

// rawPhase saves a literal copy.
func (s *saver) rawPhase(ctx context.Context) (string, error) {
	b := &bounded{target: s.Target.Name(), left: -1}
	err := s.writeAt(RawFile, b, func(f target.File) error {
		_, err := s.dead.SaveRaw(ctx, f, s.progress(PhaseRaw))
		return err
	})
	return "saved " + ui.Bytes(uint64(b.size.Load())), err
}

// writeAt saves a large file that is written at offsets through b. Whatever
// becomes of save, a panic included, the file is closed and its size known.
func (s *saver) writeAt(name string, b *bounded, save func(target.File) error) (err error) {
	if b.File, err = s.crash.Create(name); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, b.File.Close())
		s.m.file(name).Size = b.size.Load()
	}()
	return save(b)
}

// bounded is a file that may not take the last of the target's space, and
// knows its size.
type bounded struct {
	target.File
	target string
	keep   uint64
	left   int64 // bytes that it may get, -1 for any number
	used   atomic.Int64
	size   atomic.Int64
}

func (b *bounded) WriteAt(p []byte, offset int64) (int, error) {
	// What makes the file longer is refused. What is written into it is not: a
	// dump that ends early gets its header last.
	// Nor does what is written again take more than the file has.
	end := offset + int64(len(p))
	if used := min(b.used.Add(int64(len(p))), end); b.left >= 0 && used > b.left && end > b.size.Load() {
		b.used.Add(-int64(len(p)))
		return 0, &target.NoSpaceError{Target: b.target, File: DumpFile, Offset: offset, Length: len(p), Free: b.keep}
	}
	n, err := b.File.WriteAt(p, offset)
	for end := offset + int64(n); n > 0; {
		old := b.size.Load()
		if end <= old || b.size.CompareAndSwap(old, end) {
			break
		}
	}
	return n, err
}

func (b *bounded) Write([]byte) (int, error) {
	return 0, errors.New("a dump is written at its offsets")
}

// reportPhase has the report made of the dump, which thereby is proven
// readable; of the dead kernel's memory if there is no dump.
func (s *saver) reportPhase(ctx context.Context) (string, error) {
	var dump *os.File
	if o, ok := s.crash.(target.Opener); ok && s.m.Dump != nil && len(s.reasons) == 0 {
		if f, err := o.Open(DumpFile); err == nil {
			defer f.Close()
			dump, _ = f.(*os.File)
		}
	}
	var size int64
	var text, js strings.Builder // bounded by MakeReport
	memory, err := s.dead.MakeReport(ctx, dump, mismatches(s.m.Integrity), &text, &js)
	s.m.Memory.Reporter = memory
	for _, r := range []struct {
		name string
		text *strings.Builder
	}{{ReportFile, &text}, {ReportJSONFile, &js}} {
		if r.text.Len() == 0 {
			continue
		}
		n, werr := s.writeFile(r.name, func(w io.Writer) error {
			_, err := io.WriteString(w, r.text.String())
			return err
		})
		size += n
		err = errors.Join(err, werr)
	}
	from := "the dump"
	if dump == nil {
		from = "memory"
	}
	return fmt.Sprintf("made from %s, saved %s", from, ui.Bytes(uint64(size))), err
}

// hashPhase reads everything back from the disk.
func (s *saver) hashPhase(ctx context.Context, o target.Opener) (string, error) {
	// The raw copy is of no use to anybody but tests, which compare it anyhow.
	raw := func(e *SavedFile) bool { return e.Name == RawFile }
	var total, done uint64
	for i := range s.m.Files {
		if !raw(&s.m.Files[i]) {
			total += uint64(s.m.Files[i].Size)
		}
	}
	for i := range s.m.Files {
		e := &s.m.Files[i]
		if raw(e) {
			continue
		}
		f, err := o.Open(e.Name)
		if err != nil {
			return "", err
		}
		h := sha256.New()
		size, err := readBack(ctx, f, h, func(n int) {
			done += uint64(n)
			s.phases.events.progress(PhaseHash, done, total, "")
		})
		f.Close()
		if err != nil {
			return "", fmt.Errorf("%s: %w", e.Name, err)
		}
		if size != e.Size {
			return "", fmt.Errorf("%s: %d bytes were written and %d read back", e.Name, e.Size, size)
		}
		e.SHA256 = hex.EncodeToString(h.Sum(nil))
	}
	return fmt.Sprintf("read %s back", ui.Bytes(done)), nil
}

// readBack reads a file whole, through the disk where that can be had.
func readBack(ctx context.Context, f target.ReadFile, h hash.Hash, progress func(int)) (size int64, err error) {
	file, _ := f.(*os.File)
	if file != nil {
		// Everything was synced; what the cache forgets comes from the disk. A
		// filesystem without a cache does not mind.
		_ = sys.DropCache(file, 0, 0)
	}
	buf := make([]byte, 256<<10)
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		size += int64(n)
		progress(n)
		if err == io.EOF {
			return size, nil
		}
		if err != nil {
			return size, err
		}
	}
	return size, context.Cause(ctx)
}

// commitPhase writes the manifest and gives the crash its name.
func (s *saver) commitPhase(context.Context) (string, error) {
	if s.manifest == nil {
		return "", errors.New("there is no manifest")
	}
	s.m.Complete = len(s.reasons) == 0
	if s.m.Complete {
		s.m.Path = strings.TrimSuffix(s.m.Path, target.IncompleteSuffix)
	}
	err := writeManifest(s.manifest, &s.m, false)
	if err != nil {
		return "", err // there is a last word
	}
	err = s.manifest.Close()
	s.manifest = nil
	switch {
	case err != nil:
	case s.m.Complete:
		err = s.crash.Commit()
	default:
		err = s.crash.Abort()
	}
	s.m.Complete = s.m.Complete && err == nil
	s.place()
	return s.m.Path, err
}
