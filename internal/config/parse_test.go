package config

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// machine is a root directory with the given files.
func machine(files map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range files {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

func parse(text string) (*Config, error) {
	return Parse(machine(map[string]string{"etc/panicroom.toml": text}), "etc/panicroom.toml")
}

func TestDefaults(t *testing.T) {
	c, err := Parse(machine(nil), "etc/panicroom.toml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), c); diff != "" {
		t.Errorf("without files: %s", diff)
	}
}

func TestParse(t *testing.T) {
	c, err := parse(`
reserve = { size = "256M,high" }
dump.level = "3"
dump.mem-limit = "64M"
[kernel]
image = "/boot/vmlinux"
append = "earlycon \"quoted\""
cpus = 0x2
[[target]]
ssh = "crash@[fe80::1%eth0]:2222:/srv/crash"
deadline = "1h30m"
[[target]]
nfs = "nas:/export"
options = "rsize=65536"
[[target]]
partition = "PARTUUID=3c5a1f9e-02"
[[target]]
dir = "/srv/crash"
[after]
saved = "poweroff"
[keep]
count = 1_0
bytes = "10GiB"
free = 4096
[network]
method = "dhcp"
interface = "enp1s0"
[notify]
hooks = ""
webhook = "https://example.org/hook?token=x"
`)
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Reserve: Reserve{"256M,high"},
		Kernel:  Kernel{Image: "/boot/vmlinux", Append: `earlycon "quoted"`, Method: "auto", CPUs: 2},
		Dump:    Dump{Level: "3", Format: "kdump", Compress: "zstd", MemLimit: "64M"},
		Targets: []Target{
			{SSH: "crash@[fe80::1%eth0]:2222:/srv/crash", Key: "/etc/panicroom/id_ed25519", KnownHosts: "/etc/panicroom/known_hosts", Deadline: 90 * time.Minute},
			{NFS: "nas:/export", Options: "rsize=65536", Deadline: DefaultDeadline},
			{Partition: "PARTUUID=3c5a1f9e-02", Deadline: DefaultDeadline},
			{Dir: "/srv/crash", Deadline: DefaultDeadline},
		},
		Network: Network{"dhcp", "enp1s0"},
		After:   After{"poweroff", "reboot"},
		Keep:    Keep{10, 10 << 30, 4096},
		Notify:  Notify{"", "https://example.org/hook?token=x"},
		Files:   []string{"/etc/panicroom.toml"},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
}

func TestDropIns(t *testing.T) {
	c, err := Parse(machine(map[string]string{
		"etc/panicroom.toml":           "[keep]\ncount = 3\nfree = \"1GiB\"\n[[target]]\ndir = \"/a\"\n[[target]]\ndir = \"/b\"\n",
		"etc/panicroom.d/20-b.toml":    "[keep]\ncount = 5\n",
		"etc/panicroom.d/10-a.toml":    "[keep]\ncount = 4\n[[target]]\ndir = \"/c\"\n",
		"etc/panicroom.d/README":       "not read",
		"etc/panicroom.d/.hidden.toml": "not read",
	}), "etc/panicroom.toml")
	if err != nil {
		t.Fatal(err)
	}
	if want := (Keep{Count: 5, Free: 1 << 30}); c.Keep != want {
		t.Errorf("keep %+v; want %+v", c.Keep, want)
	}
	if want := []Target{Directory("/c")}; cmp.Diff(want, c.Targets) != "" {
		t.Errorf("targets %+v; want %+v: a later list replaces the first", c.Targets, want)
	}
	if want := []string{"/etc/panicroom.toml", "/etc/panicroom.d/10-a.toml", "/etc/panicroom.d/20-b.toml"}; cmp.Diff(want, c.Files) != "" {
		t.Errorf("files %q; want %q", c.Files, want)
	}
}

// All problems are told at once, each with its place and a suggestion.
func TestProblems(t *testing.T) {
	_, err := Parse(machine(map[string]string{
		"etc/panicroom.toml": `level = "full"
[dump]
level = "kernal"
fromat = "elf"
mem-limit = "1M"
[kepe]
count = 3
[keep]
count = "3"
[[target]]
ssh = "host:/x"
known_hosts = "/etc/hosts"
[[target]]
dir = "/x"
options = "ro"
`,
		"etc/panicroom.d/x.toml": "[network]\nmethod = \n",
	}), "etc/panicroom.toml")
	e, ok := errors.AsType[*Error](err)
	if !ok || !errors.Is(err, ErrInvalid) {
		t.Fatalf("Parse: %v; want an *Error", err)
	}
	want := []string{
		"/etc/panicroom.toml:1:1: unknown key level in no table; did you mean level in [dump]?",
		`/etc/panicroom.toml:3:9: dump.level: "kernal" is none of full, kernel, report, 0 to 31; did you mean "kernel"?`,
		"/etc/panicroom.toml:4:1: unknown key fromat in [dump]; did you mean format?",
		"/etc/panicroom.toml:5:13: dump.mem-limit: 1M: saving a dump takes at least 16 MiB",
		"/etc/panicroom.toml:6:2: unknown table kepe; did you mean [keep]?",
		"/etc/panicroom.toml:9:9: keep.count: the value is a whole number",
		"/etc/panicroom.toml:12:1: unknown key known_hosts in [[target]]; did you mean known-hosts?",
		"/etc/panicroom.toml:15:1: options belongs to a target of kind nfs, and this is dir",
	}
	var got []string
	for _, p := range e.Problems {
		got = append(got, p.String())
	}
	last := got[len(got)-1]
	if diff := cmp.Diff(want, got[:len(got)-1]); diff != "" {
		t.Error(diff)
	}
	if !strings.HasPrefix(last, "/etc/panicroom.d/x.toml:2:10: ") {
		t.Errorf("the drop-in's problem is %q", last)
	}
	if !strings.HasPrefix(err.Error(), "9 errors in the configuration\n  /etc/") || len(ui.Hints(err)) == 0 {
		t.Errorf("the error is %q, hints %q", err, ui.Hints(err))
	}
}

func TestBadValues(t *testing.T) {
	for text, want := range map[string]string{
		"[reserve]\nsize = \"much\"":                       "crashkernel=",
		"[reserve]\nsize = \"128M,high,low\"":              "crashkernel=",
		"[reserve]\nsize = \"\"":                           "crashkernel=",
		"[kernel]\ncpus = 0":                               "1 to 4096",
		"[kernel]\ncpus = 99999999999":                     "out of range",
		"[kernel]\nimage = \"vmlinuz\"":                    "does not begin with /",
		"[kernel]\nmodules = \"/lib/../x\"":                "another way to write",
		"[kernel]\nappend = \"crashkernel=128M\"":          "reserve.size",
		"[kernel]\nappend = \"a\\nb\"":                     "control characters",
		"[kernel]\nappend = 3":                             "text in quotes",
		"[kernel]\nmethod = \"\"":                          "none of auto, load, file",
		"[dump]\nlevel = \"32\"":                           "between 0 and 31",
		"[dump]\nlevel = 31":                               "text in quotes",
		"[dump]\nmem-limit = \"half\"":                     "neither auto nor a size",
		"[keep]\ncount = -1":                               "below 0",
		"[keep]\nbytes = -1":                               "size like",
		"[keep]\nbytes = \"10 apples\"":                    "no size",
		"[keep]\nfree = 1.5":                               "size like",
		"[keep]\ncount = 1\ncount = 2":                     "stands twice; the first is in line 2",
		"[keep]\n[dump]\n[keep]":                           "stands twice; the first is in line 1",
		"keep.count = 1\n[keep]\nbytes = \"1\"":            "stands twice",
		"keep = {count = 1}\nkeep.bytes = \"1\"":           "written as one value before",
		"keep = 3":                                         "written [keep]",
		"[[keep]]\ncount = 1":                              "written [keep]",
		"[target]\ndir = \"/x\"":                           "written [[target]]",
		"target.dir = \"/x\"":                              "written below [[target]]",
		"target = []":                                      "there is no target",
		"target = [3]":                                     "written [[target]]",
		"target = [{dir = \"/x\"}]\n[[target]]":            "is a list in line 1 already",
		"[[target]]":                                       "of no kind",
		"[[target]]\ndir = \"/x\"\nnfs = \"h:/x\"":         "this is dir and nfs",
		"[[target]]\ndir = \"/x\"\nkey = \"/k\"":           "key belongs to a target of kind ssh",
		"[[target]]\ndir = \"/x\"\ndir = \"/y\"":           "stands twice",
		"[[target]]\ndir = \"x\"":                          "does not begin with /",
		"[[target]]\ndir = \"/x\"\ndeadline = \"0s\"":      "between one second",
		"[[target]]\ndir = \"/x\"\ndeadline = \"soon\"":    "no time",
		"[[target]]\ndir = \"/x\"\ndeadline = 30":          "time like",
		"[[target]]\npartition = \"sda1\"":                 "none of /dev/NAME",
		"[[target]]\npartition = \"LABEL=\"":               "not behind LABEL=",
		"[[target]]\nssh = \"host\"":                       "no colon",
		"[[target]]\nnfs = \"host:x\"":                     "begins with /",
		"[[target]]\nnfs = \"h:/x\"\noptions = \"ro, rw\"": "space",
		"[network]\ninterface = \"a/b\"":                   "no name of a network interface",
		"[after]\nsaved = \"sleep\"":                       "none of reboot, poweroff, halt",
		"[notify]\nwebhook = \"ftp://example.org/\"":       "neither with https",
		"[notify]\nwebhook = \"https:/x\"":                 "names no host",
		"[notify]\nhooks = \"hooks\"":                      "does not begin with /",
		"[dump.level]\nx = 1":                              "unknown table dump.level",
		"[dump]\nlevel.x = 1":                              "unknown key level.x in [dump]",
		"a.b.c = 1":                                        "unknown key a.b.c in no table",
		"[dump]\nlevel = \"kernel":                         ":2:",
		"[dump":                                            ":1:",
		"\xff":                                             ":1:",
	} {
		_, err := parse(text)
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}

// A secret in a URL stays out of what is said about it.
func TestProblemsKeepSecrets(t *testing.T) {
	for _, url := range []string{"ftp://user:hunter2@example.org/", "https:/hunter2@x/", "https://example.org/#hunter2", "https://example.org/%hunter2"} {
		_, err := parse("[notify]\nwebhook = \"" + url + "\"")
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestCrashkernel(t *testing.T) {
	for _, good := range []string{"auto", "128M", "0x8000000", "192M@1G", "256M,high", "64M,low", "128M,cma", "2G-8G:160M,8G-:256M", "2G-:128M@512M"} {
		if err := checkCrashkernel(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "M", "128 M", "high", "128M,", "128M,high,low", "2G-8G", "2G:128M", "2G-8G:", "-8G:1M", "128M@", "128M@1G,high", "1_0M", "2G-8G:160M,high"} {
		if checkCrashkernel(bad) == nil {
			t.Errorf("crashkernel=%s is taken", bad)
		}
	}
}

func TestBounds(t *testing.T) {
	if _, err := parse(strings.Repeat("# long\n", maxFile/6)); err == nil {
		t.Error("a file of more than a megabyte is taken")
	}
	if _, err := parse(strings.Repeat("[[target]]\ndir=\"/x\"\n", maxTargets+1)); err == nil {
		t.Error("any number of targets is taken")
	}
	_, err := parse(strings.Repeat("x = 1\n", 10000))
	if e, ok := errors.AsType[*Error](err); !ok || len(e.Problems) != maxProblems {
		t.Errorf("10000 problems are told")
	}
	if _, err := parse("[kernel]\nappend = \"" + strings.Repeat("x", maxText+1) + "\""); err == nil {
		t.Error("a text of any length is taken")
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir + "/absent.toml"); err == nil {
		t.Error("a file that was named and is not there is the default")
	} else if hints := ui.Hints(err); len(hints) == 0 || !strings.Contains(hints[0], "panicroom config --shipped > "+dir) {
		t.Errorf("%v has the hints %q", err, hints)
	}
}

// What cannot be read is named as the machine names it, with what to do.
func TestUnreadableDropIn(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/c.d", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/c.toml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(path string) error{
		"a link to nothing": func(path string) error { return os.Symlink("nowhere", path) },
		"a directory":       func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		path := dir + "/c.d/x.toml"
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		_, err := Load(dir + "/c.toml")
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), " "+path[1:]) || len(ui.Hints(err)) == 0 {
			t.Errorf("%s: %v, hints %q", name, err, ui.Hints(err))
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestByteOrderMark(t *testing.T) {
	if _, err := parse("\ufeff[dump]\n"); err == nil || !strings.Contains(err.Error(), "byte order mark") {
		t.Errorf("a file with a byte order mark: %v", err)
	}
}

// What is written is read back as the same.
func TestWriteTOML(t *testing.T) {
	c := Default()
	c.Kernel.Append = "a=\"b\\c\" ü"
	c.Keep = Keep{Count: 0, Bytes: 3 << 29, Free: 12345}
	c.Targets = []Target{{SSH: "h:/x", Key: "/k", KnownHosts: "/h", Deadline: 90 * time.Second}, {NFS: "[::1]:/x", Options: "vers=4.2", Deadline: 25 * time.Hour}, {Dir: "/x", Deadline: time.Hour}}
	var b strings.Builder
	if err := c.WriteTOML(&b); err != nil {
		t.Fatal(err)
	}
	got, err := parse(b.String())
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	got.Files = nil
	if diff := cmp.Diff(c, got); diff != "" {
		t.Errorf("%s\n%s", diff, b.String())
	}
}

func TestDirectories(t *testing.T) {
	for want, targets := range map[string][]Target{
		"[/var/crash]":  {Directory("/var/crash/")},
		"[]":            {{SSH: "h:/x"}},
		"[/a /b]":       {Directory("/a"), {SSH: "h:/x"}, {Partition: "/dev/sda1"}, Directory("/b"), Directory("/a")},
		"[/var/crash ]": {{Partition: "/dev/sda1"}},
	} {
		c := &Config{Targets: targets}
		if got := fmt.Sprint(c.Directories()); got != strings.Replace(want, " ]", "]", 1) {
			t.Errorf("Directories of %v = %s; want %s", targets, got, want)
		}
	}
}

// Whatever is taken is TOML to the library's whole parser, too, and is read back
// from what is written of it.
func FuzzParse(f *testing.F) {
	f.Add([]byte(Shipped))
	f.Add([]byte("dump.level = \"3\"\nkeep = {count = 1}\n[[target]]\nssh='a@[::1]:22:x'\ndeadline=\"\"\"1h\"\"\"\n"))
	f.Add([]byte("target = [{dir = \"/x\"}, {nfs = \"h:/x\"}]\n[keep]\nfree = 0xff"))
	f.Add([]byte("[keep]\ncount = \"3\"\n[kepe]\n\"a\".b = 1979-05-27"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parse(string(text))
		if err != nil {
			if c != nil {
				t.Fatalf("both a configuration and %v", err)
			}
			return
		}
		var all map[string]any
		if err := toml.Unmarshal(text, &all); err != nil {
			t.Fatalf("taken, and the library says %v", err)
		}
		var b strings.Builder
		if err := c.WriteTOML(&b); err != nil {
			t.Fatal(err)
		}
		again, err := parse(b.String())
		if err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		if diff := cmp.Diff(c, again); diff != "" && c.Keep.Bytes < 1<<53 && c.Keep.Free < 1<<53 {
			t.Fatalf("%s\n%s", diff, b.String())
		}
	})
}
