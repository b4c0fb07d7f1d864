package crashenv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/target"
	"github.com/panicroom-kdump/panicroom/target/targettest"
)

// testDead is a dead kernel of 1 MiB.
type testDead struct {
	log    func(io.Writer) (int64, error)
	dump   func(context.Context, target.File) (*capture.Result, error)
	report func(context.Context, io.Writer, io.Writer) error
	warned func([]string) // hears what the report is to warn of
	logged bool
}

func (d *testDead) Crash() Crash {
	c := Crash{Time: time.Date(2026, 11, 23, 8, 37, 12, 0, time.UTC), Release: "6.12.107+deb13", Machine: "riscv64"}
	if d.logged {
		c.Panic = "Kernel panic - not syncing: test"
	}
	return c
}

func (d *testDead) SaveLog(w io.Writer) (int64, error) {
	d.logged = true
	if d.log != nil {
		return d.log(w)
	}
	n, err := io.WriteString(w, "[    1.000000] Kernel panic - not syncing: test\n")
	return int64(n), err
}

func (d *testDead) SaveDump(ctx context.Context, f target.File, progress progressFunc) (*capture.Result, error) {
	progress(1, 2, "")
	if d.dump != nil {
		return d.dump(ctx, f)
	}
	for i := range int64(16) {
		if _, err := f.WriteAt(bytes.Repeat([]byte{byte(i)}, 64<<10), i<<16); err != nil {
			return &capture.Result{}, err
		}
	}
	return &capture.Result{Complete: true}, nil
}

func (d *testDead) SaveRaw(ctx context.Context, f target.File, _ progressFunc) (*capture.Result, error) {
	_, err := f.WriteAt([]byte("raw"), 0)
	return &capture.Result{Complete: true}, err
}

func (d *testDead) MakeReport(ctx context.Context, _ *os.File, warnings []string, text, js io.Writer) (uint64, error) {
	if d.warned != nil {
		d.warned(warnings)
	}
	if d.report != nil {
		return 0, d.report(ctx, text, js)
	}
	io.WriteString(text, "it died\n")
	io.WriteString(js, "{}\n")
	return 0, nil
}

func (d *testDead) Close() error { return nil }

// save saves a test's dead kernel; the manifest is the one on the target.
func save(t *testing.T, d *testDead, tgt *targettest.Memory, change func(*SaveOptions)) (*Manifest, error) {
	t.Helper()
	opts := SaveOptions{Input: VMCore, Target: tgt, Level: 31,
		open: func(*SaveOptions) (deadKernel, error) { return d, nil }}
	if change != nil {
		change(&opts)
	}
	m, err := Save(t.Context(), opts)
	if m == nil {
		return nil, err
	}
	crashes := tgt.Crashes()
	if len(crashes) != 1 || m.Path != "memory:/"+crashes[0] {
		t.Fatalf("crashes %q; the manifest says %q", crashes, m.Path)
	}
	text, ferr := tgt.File(crashes[0], ManifestFile)
	if ferr != nil {
		t.Fatal(ferr)
	}
	saved, perr := ParseManifest(text)
	if perr != nil {
		t.Fatal(perr)
	}
	if m.Complete != saved.Complete || !slices.Equal(m.Reasons, saved.Reasons) {
		t.Errorf("returned manifest: %v %q; saved: %v %q", m.Complete, m.Reasons, saved.Complete, saved.Reasons)
	}
	return saved, err
}

func TestSave(t *testing.T) {
	tgt := targettest.NewMemory(1 << 30)
	var said []string
	m, err := save(t, &testDead{}, tgt, func(o *SaveOptions) {
		o.Raw = true
		o.Events.Begin = func(phase string, limit time.Duration) {
			if limit != 0 {
				t.Errorf("phase %s has a deadline of %v; want none", phase, limit)
			}
			said = append(said, phase)
		}
		o.Events.Panic = func(line string) { said = append(said, line) }
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{PhaseOpen, PhaseLog, "Kernel panic - not syncing: test", PhaseDump, PhaseRaw, PhaseReport, PhaseHash, PhaseCommit}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	const name = "2026-11-23T08:37:12Z-6.12.107+deb13"
	if got := tgt.Crashes(); !slices.Equal(got, []string{name}) {
		t.Fatalf("crashes %q; want %q", got, name)
	}
	if got, want := tgt.Files(name), []string{"dmesg.txt", "manifest.json", "report.json", "report.txt", "vmcore", "vmcore.raw"}; !slices.Equal(got, want) {
		t.Errorf("files %q; want %q", got, want)
	}
	if !m.Complete || m.Path != "memory:/"+name || m.Name != name || m.Level != 31 || len(m.Reasons)+len(m.Warnings) > 0 ||
		m.Crash.Panic != "Kernel panic - not syncing: test" || m.Tool.Go == "" || len(m.Phases) != 6 {
		t.Errorf("manifest %+v", m)
	}
	sizes := map[string]int64{}
	for _, f := range m.Files {
		sizes[f.Name] = f.Size
		if hashed := len(f.SHA256) == 64; hashed != (f.Name != RawFile) {
			t.Errorf("hash of %s is %q", f.Name, f.SHA256)
		}
	}
	if diff := cmp.Diff(map[string]int64{"dmesg.txt": 48, "vmcore": 1 << 20, "vmcore.raw": 3, "report.txt": 8, "report.json": 3}, sizes); diff != "" {
		t.Errorf("sizes (-want +got):\n%s", diff)
	}
	if got, want := m.file("report.json").SHA256, fmt.Sprintf("%x", sha256.Sum256([]byte("{}\n"))); got != want {
		t.Errorf("hash of report.json %s; want %s", got, want)
	}
}

func TestSaveFails(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name    string
		dead    testDead
		limit   uint64 // of the target
		change  func(*SaveOptions)
		reasons string // in the manifest's reasons, "" for a complete crash
		warns   string
		is      error
		files   []string
	}{
		{
			name:    "the log cannot be read",
			dead:    testDead{log: func(io.Writer) (int64, error) { return 0, broken }},
			reasons: "log: broken", is: broken,
			files: []string{"dmesg.txt", "manifest.json", "report.json", "report.txt", "vmcore"},
		},
		{
			name:  "the log is damaged",
			dead:  testDead{log: func(w io.Writer) (int64, error) { n, _ := io.WriteString(w, "half"); return int64(n), broken }},
			warns: "the log is damaged: broken", files: []string{"dmesg.txt", "manifest.json", "report.json", "report.txt", "vmcore"},
		},
		{
			name:    "the dump panics",
			dead:    testDead{dump: func(context.Context, target.File) (*capture.Result, error) { panic("index out of range") }},
			reasons: "dump: panic in panicroom: index out of range", is: errPanic,
			files: []string{"dmesg.txt", "manifest.json", "report.json", "report.txt", "vmcore"},
		},
		{
			name:    "the dump is not whole",
			dead:    testDead{dump: func(context.Context, target.File) (*capture.Result, error) { return &capture.Result{}, nil }},
			reasons: "dump: the dump is not complete",
			files:   []string{"dmesg.txt", "manifest.json", "report.json", "report.txt", "vmcore"},
		},
		{
			name:  "the report fails",
			dead:  testDead{report: func(context.Context, io.Writer, io.Writer) error { return broken }},
			warns: "report: broken", files: []string{"dmesg.txt", "manifest.json", "vmcore"},
		},
		{
			// What is kept free for them takes the report and the manifest.
			name: "the target is full", limit: 512 << 10,
			reasons: "no space left for vmcore", is: target.ErrNoSpace,
			files: []string{"dmesg.txt", "manifest.json", "report.json", "report.txt", "vmcore"},
		},
		{
			name: "there is no room for all pages",
			dead: testDead{dump: func(context.Context, target.File) (*capture.Result, error) {
				return &capture.Result{}, fmt.Errorf("%w: 7", capture.ErrNoRoom)
			}},
			reasons: "no space left: no room for all pages: 7", is: target.ErrNoSpace,
			files: []string{"dmesg.txt", "manifest.json", "report.json", "report.txt", "vmcore"},
		},
		{
			name: "a phase is late", change: func(o *SaveOptions) { o.Deadlines, o.die = Deadlines{PhaseDump: 5}, "dump:late" },
			reasons: "dump: phase dump was not done within its 5s", is: context.DeadlineExceeded,
			dead: testDead{dump: func(ctx context.Context, _ target.File) (*capture.Result, error) {
				return &capture.Result{}, fmt.Errorf("page 7: %w", ctx.Err())
			}},
			files: []string{"dmesg.txt", "manifest.json", "report.json", "report.txt", "vmcore"},
		},
		{
			name: "the commit panics", change: func(o *SaveOptions) { o.die = "commit:panic" },
			reasons: "commit: panic in panicroom", is: errPanic,
			files: []string{"dmesg.txt", "manifest.json", "report.json", "report.txt", "vmcore"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if c.limit == 0 {
					c.limit = 1 << 30
				}
				tgt := targettest.NewMemory(c.limit)
				m, err := save(t, &c.dead, tgt, c.change)
				name := "2026-11-23T08:37:12Z-6.12.107+deb13"
				if c.reasons != "" {
					name += target.IncompleteSuffix
				}
				if got := tgt.Crashes(); !slices.Equal(got, []string{name}) {
					t.Fatalf("crashes %q; want %q", got, name)
				}
				if got := tgt.Files(name); !slices.Equal(got, c.files) {
					t.Errorf("files %q; want %q", got, c.files)
				}
				if m.Complete != (c.reasons == "") || !strings.Contains(strings.Join(m.Reasons, "\n"), c.reasons) ||
					strings.Contains(strings.Join(m.Reasons, "\n"), "begun and not ended") {
					t.Errorf("manifest: complete %v, reasons %q; want %q", m.Complete, m.Reasons, c.reasons)
				}
				if !strings.Contains(strings.Join(m.Warnings, "\n"), c.warns) || (c.warns == "" && len(m.Warnings) > 0) {
					t.Errorf("warnings %q; want %q", m.Warnings, c.warns)
				}
				switch {
				case c.reasons == "" && err != nil:
					t.Errorf("Save: %v; want nil", err)
				case c.reasons != "" && (!errors.Is(err, ErrIncomplete) || (c.is != nil && !errors.Is(err, c.is))):
					t.Errorf("Save: %v; want ErrIncomplete and %v", err, c.is)
				}
			})
		})
	}
}

// When everything ends in the middle of the dump, the manifest on the disk
// says so.
func TestSaveDraft(t *testing.T) {
	tgt := targettest.NewMemory(1 << 30)
	looked := false
	d := &testDead{dump: func(context.Context, target.File) (*capture.Result, error) {
		text, err := tgt.File(tgt.Crashes()[0], ManifestFile)
		if err != nil {
			t.Fatal(err)
		}
		m, err := ParseManifest(text)
		if err != nil || m.Complete || len(m.Reasons) != 1 || m.file(LogFile).Size != 48 || len(text) != draftSize {
			t.Errorf("draft of %d bytes: %+v, %v", len(text), m, err)
		}
		looked = true
		return &capture.Result{Complete: true}, nil
	}}
	if _, err := save(t, d, tgt, nil); err != nil || !looked {
		t.Errorf("Save: %v, looked %v", err, looked)
	}
}

// A dump that ends early gets its header when there is no more room.
func TestBounded(t *testing.T) {
	tgt := targettest.NewMemory(1 << 20)
	c, err := tgt.Begin(t.Context(), "bounded")
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Create(DumpFile)
	if err != nil {
		t.Fatal(err)
	}
	b := &bounded{File: f, target: "here", keep: 7, left: 100}
	for _, w := range []struct {
		offset, length int64
		fits           bool
	}{{50, 40, true}, {0, 50, true}, {90, 11, false}, {90, 10, true}, {100, 1, false}, {0, 50, true}, {99, 2, false}} {
		n, err := b.WriteAt(make([]byte, w.length), w.offset)
		if (err == nil) != w.fits || (w.fits && n != int(w.length)) || (!w.fits && !errors.Is(err, target.ErrNoSpace)) {
			t.Errorf("WriteAt %d bytes at %d = %d, %v; want fits %v", w.length, w.offset, n, err, w.fits)
		}
	}
	if got := b.size.Load(); got != 100 {
		t.Errorf("size %d; want 100", got)
	}
}

func TestSaveCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := &testDead{dump: func(ctx context.Context, _ target.File) (*capture.Result, error) {
		cancel()
		return &capture.Result{}, ctx.Err()
	}}
	tgt := targettest.NewMemory(1 << 30)
	m, err := Save(ctx, SaveOptions{Target: tgt, open: func(*SaveOptions) (deadKernel, error) { return d, nil }})
	if !errors.Is(err, ErrIncomplete) || !errors.Is(err, context.Canceled) || m == nil || m.Complete {
		t.Errorf("Save: %+v, %v; want an incomplete crash, context.Canceled", m, err)
	}
	text, err := tgt.File(tgt.Crashes()[0], ManifestFile)
	if err != nil || !strings.Contains(string(text), "context canceled") {
		t.Errorf("manifest %s, %v; want the reason", text, err)
	}
}

func TestSaveNowhere(t *testing.T) {
	broken := errors.New("broken")
	tgt := targettest.NewMemory(1 << 20)
	m, err := Save(t.Context(), SaveOptions{Target: tgt, open: func(*SaveOptions) (deadKernel, error) { return nil, broken }})
	if m != nil || !errors.Is(err, broken) || errors.Is(err, ErrIncomplete) || len(tgt.Crashes()) != 0 {
		t.Errorf("Save: %v, %v, crashes %q; want nothing but the error", m, err, tgt.Crashes())
	}
}

func TestCrashName(t *testing.T) {
	now := time.Date(2027, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	for _, c := range []struct {
		crash Crash
		want  string
	}{
		{Crash{}, "2027-01-02T02:04:05Z"},
		{Crash{Release: "6.12.107+deb13-riscv64"}, "2027-01-02T02:04:05Z-6.12.107+deb13-riscv64"},
		{Crash{Release: "../../etc/x\n"}, "2027-01-02T02:04:05Z-.._.._etc_x_"},
		{Crash{Release: strings.Repeat("x", 500)}, "2027-01-02T02:04:05Z-" + strings.Repeat("x", 99)},
	} {
		got := crashName(c.crash, now)
		if got != c.want {
			t.Errorf("crashName(%+v) = %q; want %q", c.crash, got, c.want)
		}
		if err := target.CheckName(got); err != nil {
			t.Errorf("crashName(%+v): %v", c.crash, err)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"version": 1, "name": "x", "files": [{"name": "vmcore", "size": 7}]}   `))
	f.Fuzz(func(t *testing.T, text []byte) {
		if m, err := ParseManifest(text); (m == nil) == (err == nil) {
			t.Errorf("ParseManifest = %v, %v; want one of both", m, err)
		}
	})
}
