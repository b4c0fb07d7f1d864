package saved

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/report"
)

// boot is when the machine of these tests was booted.
var boot = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// put makes a crash in dir, with a manifest like that of crashenv.
func put(t *testing.T, dir, name string, when time.Time, change func(map[string]any)) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	m := map[string]any{
		"version": 1, "name": strings.TrimSuffix(name, "-incomplete"), "complete": !strings.HasSuffix(name, "-incomplete"),
		"crash": map[string]any{"time": when, "release": "6.12.107", "panic": "Kernel panic - not syncing: test"},
		"host":  map[string]any{"name": "board"},
		"tool":  map[string]any{"version": "v1", "go": "go1.26"},
	}
	if change != nil {
		change(m)
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{manifestFile: text, "vmcore": make([]byte, 100<<10), "dmesg.txt": []byte("dead\n")} {
		if err := os.WriteFile(filepath.Join(path, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(path, file), when, when); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
	return path
}

func names(list []Crash) (all []string) {
	for _, c := range list {
		all = append(all, c.Name)
	}
	return all
}

func TestList(t *testing.T) {
	dir := t.TempDir()
	day := 24 * time.Hour
	put(t, dir, "newer", boot.Add(-day), nil)
	put(t, dir, "older", boot.Add(-2*day), nil)
	put(t, dir, "half-incomplete", boot.Add(-3*day), func(m map[string]any) { m["reasons"] = []string{"the disk\x1b[2J was full"}; m["complete"] = true })
	renamed := put(t, dir, "kept", boot.Add(-4*day), nil)
	if err := os.Rename(renamed, filepath.Join(dir, "for-good")); err != nil {
		t.Fatal(err)
	}
	broken := put(t, dir, "broken", boot.Add(-5*day), nil)
	if err := os.WriteFile(filepath.Join(broken, manifestFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(broken, manifestFile), boot.Add(-5*day), boot.Add(-5*day)); err != nil {
		t.Fatal(err)
	}
	rep := report.Report{Crash: report.Crash{Kind: report.KindOops, Cause: "Unable to handle kernel paging request", Reason: "Fatal exception", Where: "broken+0x10/0x20"}}
	text, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "newer", reportFile), text, 0o600); err != nil {
		t.Fatal(err)
	}
	// What is not ours.
	for _, name := range []string{"stranger", ".removing-x"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("newer", filepath.Join(dir, "latest")); err != nil {
		t.Fatal(err)
	}

	list, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"broken", "for-good", "half-incomplete", "older", "newer"}; !slices.Equal(names(list), want) {
		t.Fatalf("List = %q; want %q", names(list), want)
	}
	for i, want := range []struct {
		complete, ours bool
		title, why     string
	}{
		{false, false, "", "manifest.json: unexpected end of JSON input"},
		{true, false, "Kernel panic - not syncing: test", ""},
		{false, true, "Kernel panic - not syncing: test", "the disk [2J was full"},
		{true, true, "Kernel panic - not syncing: test", ""},
		{true, true, "Unable to handle kernel paging request (panic: Fatal exception)", ""},
	} {
		c := list[i]
		if c.Complete != want.complete || c.Ours != want.ours || c.Title != want.title || c.Why() != want.why {
			t.Errorf("%s: %+v; want %+v", c.Name, c, want)
		}
		if c.Size < 100<<10 || c.Path != filepath.Join(dir, c.Name) {
			t.Errorf("%s: %d bytes, %s", c.Name, c.Size, c.Path)
		}
	}
	last := list[4]
	if last.Where != "broken+0x10/0x20" || last.Kind != report.KindOops || last.Host != "board" || last.Kernel != "6.12.107" || !last.Time.Equal(boot.Add(-day)) {
		t.Errorf("%+v", last)
	}
	if list, err := List(filepath.Join(dir, "absent")); err != nil || len(list) > 0 {
		t.Errorf("List of nothing = %v, %v", list, err)
	}
}

func TestNamed(t *testing.T) {
	for base, want := range map[string]bool{"crash": true, "crash.2": true, "crash.1000": true, "crash.": false, "crash.x": false, "crash2": false, "another": false, ".2": false} {
		if got := named(base, "crash"); got != want {
			t.Errorf("named(%q) = %v; want %v", base, got, want)
		}
	}
	for base, want := range map[string]bool{"12-00": true, "12-00.2": true, "12:00": true, "12_00": false} {
		if got := named(base, "12:00"); got != want {
			t.Errorf("named(%q, 12:00) = %v; want %v", base, got, want)
		}
	}
	if named(".2", "") {
		t.Error("a crash without a name is ours")
	}
}

func TestBusy(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a-incomplete", boot.Add(-time.Minute), nil)
	put(t, dir, "b-incomplete", boot.Add(time.Minute), nil)
	put(t, dir, "c", boot.Add(2*time.Minute), nil)
	list, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true, false} {
		if got := list[i].Busy(boot); got != want {
			t.Errorf("%s: Busy = %v; want %v", list[i].Name, got, want)
		}
	}
}

// made is a crash of a size, that many minutes before the machine was booted.
func made(name string, minutes int, size uint64, complete bool) Crash {
	when := boot.Add(time.Duration(-minutes) * time.Minute)
	return Crash{Name: name, Time: when, Written: when, Size: size, Complete: complete, Ours: true}
}

func TestSurplus(t *testing.T) {
	const mib = 1 << 20
	list := []Crash{
		made("d", 10, 40*mib, true), made("a", 40, 10*mib, true), made("b-incomplete", 30, 20*mib, false), made("c", 20, 30*mib, true), made("e-incomplete", 5, 50*mib, false),
	}
	stranger := made("s", 1000, 1000*mib, true)
	stranger.Ours = false
	busy := made("w-incomplete", -1, 5*mib, false)
	fresh := made("f", 5000, mib, true)
	fresh.Fresh = true
	for _, c := range []struct {
		what string
		list []Crash
		keep config.Keep
		free uint64
		want []string
	}{
		{"no limit", list, config.Keep{}, 0, nil},
		{"within the limits", list, config.Keep{Count: 5, Bytes: 150 * mib, Free: mib}, mib, nil},
		{"count", list, config.Keep{Count: 3}, 0, []string{"a", "b-incomplete"}},
		{"the newest and the newest complete stay", list, config.Keep{Count: 1}, 0, []string{"a", "b-incomplete", "c"}},
		{"bytes", list, config.Keep{Bytes: 125 * mib}, 0, []string{"a", "b-incomplete"}},
		{"free", list, config.Keep{Free: 60 * mib}, 5 * mib, []string{"a", "b-incomplete", "c"}},
		{"strangers neither go nor count", append(list, stranger), config.Keep{Count: 5}, 0, nil},
		{"what is being written stays", append(list, busy), config.Keep{Count: 1}, 0, []string{"a", "b-incomplete", "c", "e-incomplete"}},
		{"fresh ones are newer whatever their clock said", append(list, fresh), config.Keep{Count: 1}, 0, []string{"a", "b-incomplete", "c", "d", "e-incomplete"}},
		{"nothing", nil, config.Keep{Count: 1}, 0, nil},
	} {
		var got []string
		for _, r := range Surplus(c.list, c.keep, c.free, boot) {
			got = append(got, r.Crash.Name)
			if r.Why == "" {
				t.Errorf("%s: %s goes without a reason", c.what, r.Crash.Name)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q go; want %q", c.what, got, c.want)
		}
	}
}

// Whatever there is: what must stay stays, the oldest go first, no more than has
// to, and the limits hold unless all that may go has gone.
func TestSurplusProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for round := range 3000 {
		var list []Crash
		for i := range rng.IntN(12) {
			c := made(fmt.Sprintf("c%d", i), rng.IntN(20)-5, uint64(rng.IntN(50)), rng.IntN(3) > 0)
			if !c.Complete {
				c.Name += "-incomplete"
			}
			c.Ours, c.Fresh = rng.IntN(8) > 0, rng.IntN(6) == 0
			list = append(list, c)
		}
		keep := config.Keep{Count: rng.IntN(6), Bytes: uint64(rng.IntN(200)), Free: uint64(rng.IntN(150))}
		if rng.IntN(2) == 0 {
			keep.Bytes = 0
		}
		free := uint64(rng.IntN(150))
		before := slices.Clone(list)
		gone := Surplus(list, keep, free, boot)
		if cmp.Diff(before, list) != "" {
			t.Fatal("Surplus has changed its list")
		}

		ours := slices.DeleteFunc(slices.Clone(list), func(c Crash) bool { return !c.Ours })
		slices.SortFunc(ours, older)
		mustStay := func(c Crash) bool {
			complete := slices.DeleteFunc(slices.Clone(ours), func(c Crash) bool { return !c.Complete })
			return c.Busy(boot) || c.Name == ours[len(ours)-1].Name || len(complete) > 0 && c.Name == complete[len(complete)-1].Name
		}
		over := func(gone []Removal) bool {
			count, bytes, free := len(ours)-len(gone), uint64(0), free
			for _, c := range ours {
				bytes += c.Size
			}
			for _, r := range gone {
				bytes -= r.Crash.Size
				free += r.Crash.Size
			}
			return keep.Count > 0 && count > keep.Count || keep.Bytes > 0 && bytes > keep.Bytes || free < keep.Free
		}
		var may []string
		for _, c := range ours {
			if !mustStay(c) {
				may = append(may, c.Name)
			}
		}
		var went []string
		for _, r := range gone {
			went = append(went, r.Crash.Name)
		}
		switch {
		case len(went) > len(may) || !slices.Equal(went, may[:len(went)]):
			t.Fatalf("round %d: %q go of %q, not the oldest first", round, went, may)
		case over(gone) && len(went) < len(may):
			t.Fatalf("round %d: the limits %+v do not hold, and only %q go of %q", round, keep, went, may)
		case len(gone) > 0 && !over(gone[:len(gone)-1]):
			t.Fatalf("round %d: %q go, and the limits %+v hold with one less", round, went, keep)
		}
	}
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func TestRemove(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	precious := filepath.Join(elsewhere, "precious")
	if err := os.WriteFile(precious, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	crash := put(t, dir, "crash", boot, nil)
	// Links in a crash, and a directory that a hook has left.
	for link, to := range map[string]string{"file": precious, "dir": elsewhere} {
		if err := os.Symlink(to, filepath.Join(crash, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(crash, "notes", "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Remove(dir, "crash"); err != nil {
		t.Fatal(err)
	}
	if exists(t, crash) || exists(t, filepath.Join(dir, removing+"crash")) {
		t.Error("the crash is still there")
	}
	if !exists(t, precious) {
		t.Error("a link was followed")
	}
}

func TestRemoveOnlyOurs(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	outside := put(t, elsewhere, "outside", boot, nil)
	if err := os.Symlink(outside, filepath.Join(dir, "outside")); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "inside", boot, nil)
	if err := os.Symlink("inside", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "stranger"), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "foreign", boot, func(m map[string]any) { delete(m, "tool") })
	put(t, dir, "renamed", boot, func(m map[string]any) { m["name"] = "another" })
	put(t, dir, "future", boot, func(m map[string]any) { m["version"] = 0 })
	linked := put(t, dir, "linked", boot, nil)
	if err := os.Rename(filepath.Join(linked, manifestFile), filepath.Join(dir, "manifest")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../manifest", filepath.Join(linked, manifestFile)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"outside", "link", "stranger", "foreign", "renamed", "future", "linked"} {
		if err := Remove(dir, name); !errors.Is(err, ErrNotOurs) {
			t.Errorf("Remove(%s) = %v; want ErrNotOurs", name, err)
		}
		if !exists(t, filepath.Join(dir, name)) {
			t.Errorf("%s is gone", name)
		}
	}
	for _, name := range []string{"..", "../" + filepath.Base(elsewhere) + "/outside", "absent"} {
		if err := Remove(dir, name); err == nil {
			t.Errorf("Remove(%q) = nil", name)
		}
	}
	if !exists(t, filepath.Join(outside, "vmcore")) {
		t.Error("a crash outside of the directory is gone")
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	// Cut short after the dump, and before the last step.
	put(t, dir, "halfway", boot, nil)
	if err := os.Rename(filepath.Join(dir, "halfway"), filepath.Join(dir, removing+"halfway")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, removing+"halfway", "vmcore")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{removing + "empty", removing + "stranger"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, removing+"stranger", "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "crash", boot, nil)
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if want := []string{removing + "stranger", "crash"}; !slices.Equal(got, want) {
		t.Errorf("%q are left; want %q", got, want)
	}
	if err := Sweep(filepath.Join(dir, "absent")); err != nil {
		t.Errorf("Sweep of nothing = %v", err)
	}
}

// Whatever stands in the files, what is said of it is printable and short.
func FuzzParse(f *testing.F) {
	f.Add("crash", []byte(`{"version":1,"name":"crash","complete":true,"crash":{"time":"2026-11-25T12:00:00Z","release":"6.12","panic":"dead"},"tool":{"go":"go1.26"}}`),
		[]byte(`{"crash":{"kind":"oops","cause":"Unable\u001b[2J","reason":"Fatal"},"machine":{"hostname":"board"}}`))
	f.Add("crash-incomplete", []byte(`{"reasons":["a","b"]}`), []byte(`null`))
	f.Add("x", []byte(`[]`), []byte(`{`))
	f.Fuzz(func(t *testing.T, name string, text, rep []byte) {
		c, err := parse(name, text, rep)
		if err != nil {
			return
		}
		for _, s := range append([]string{c.Title, c.Kernel, c.Host, c.Where, string(c.Kind)}, c.Reasons...) {
			if s != Printable(s) || len(s) > maxTitle {
				t.Errorf("%q", s)
			}
		}
		if c.Complete && strings.HasSuffix(name, "-incomplete") {
			t.Error("complete under an incomplete name")
		}
	})
}

func TestBootTime(t *testing.T) {
	stat := func(text string) fstest.MapFS { return fstest.MapFS{"proc/stat": {Data: []byte(text)}} }
	if got, err := BootTime(stat("cpu 1 2\nbtime 1764072000\nprocesses 3\n")); err != nil || got.Unix() != 1764072000 {
		t.Errorf("BootTime = %v, %v", got, err)
	}
	for _, text := range []string{"", "btime x\n", "cpu 1\n"} {
		if got, err := BootTime(stat(text)); err == nil {
			t.Errorf("BootTime of %q = %v", text, got)
		}
	}
	if _, err := BootTime(fstest.MapFS{}); err == nil {
		t.Error("BootTime of nothing")
	}
}
