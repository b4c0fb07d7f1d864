package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/crashenv"
	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/load"
	"github.com/panicroom-kdump/panicroom/status"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// configured writes a configuration and returns its path.
func configured(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "panicroom.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestConfig(t *testing.T) {
	file := configured(t, "[keep]\ncount = 3\n")
	code, out, errOut := try(t, "config", "--config", file)
	if code != exitDone || !strings.HasPrefix(out, "# from "+file+"\n") || !strings.Contains(out, "\ncount = 3\n") || errOut != "" {
		t.Errorf("code %d, %q, %q", code, out, errOut)
	}
	// What it prints means the same.
	if code, again, errOut := try(t, "config", "--config", configured(t, out)); code != exitDone || strings.SplitN(again, "\n", 2)[1] != strings.SplitN(out, "\n", 2)[1] {
		t.Errorf("code %d, %q, %q", code, again, errOut)
	}
	code, out, _ = try(t, "config", "--json", "--config", file)
	var got struct {
		Files  []string
		Keep   struct{ Count, Bytes int }
		Target []map[string]any
	}
	if err := json.Unmarshal([]byte(out), &got); code != exitDone || err != nil {
		t.Fatalf("code %d, %v, %q", code, err, out)
	}
	if got.Keep.Count != 3 || !slices.Equal(got.Files, []string{file}) || cmp.Diff(got.Target, []map[string]any{{"dir": "/var/crash", "deadline": 14400.0}}) != "" {
		t.Errorf("%+v", got)
	}
	if code, out, _ := try(t, "config", "--shipped"); code != exitDone || out != config.Shipped {
		t.Errorf("code %d, %q", code, out)
	}
}

func TestConfigWrong(t *testing.T) {
	file := configured(t, "[dump]\nlevle = \"full\"\nformat = \"raw\"\n")
	for _, args := range [][]string{{"config"}, {"load", "--dry-run"}} {
		code, out, errOut := try(t, append(args, "--config", file)...)
		if code != exitConfig || out != "" {
			t.Errorf("%q: code %d, %q", args, code, out)
		}
		for _, want := range []string{file + ":2:1: unknown key levle in [dump]; did you mean level?\n", file + ":3:10: dump.format: \"raw\" is none of kdump, elf", "\nhint: "} {
			if !strings.Contains(errOut, want) {
				t.Errorf("%q said %q; want %q in it", args, errOut, want)
			}
		}
	}
	if code, _, errOut := try(t, "config", "--config", file+".absent"); code != exitError || !strings.Contains(errOut, "no such file") {
		t.Errorf("without the file: code %d, %q", code, errOut)
	}
	if code, _, errOut := try(t, "load", "--reboot", "--config", file); code != exitUsage {
		t.Errorf("load --reboot --config: code %d, %q", code, errOut)
	}
}

// Flags win over the file.
func TestLoadConfigure(t *testing.T) {
	conf := config.Default()
	conf.Kernel = config.Kernel{Image: "/k", Modules: "/m", Append: "a b", Method: "load", CPUs: 2}
	conf.Dump = config.Dump{Level: "report", Format: "elf", Compress: "none", MemLimit: "64M"}
	conf.Network = config.Network{Method: "dhcp", Interface: "end0"}
	conf.After = config.After{Saved: "halt", Failed: "poweroff"}
	conf.Targets = []config.Target{config.Directory("/a"), config.Directory("/b")}
	all := loading{kernel: "/k", modules: "/m", append: "a b", method: "load", cpus: 2, level: capture.LevelReport,
		form: crashenv.Form{Format: "elf", Compression: "none"}, memory: "64M", final: "halt", failed: "poweroff", targets: conf.Targets, network: conf.Network}
	for _, c := range []struct {
		args []string
		want func(*loading)
	}{
		{nil, func(*loading) {}},
		{[]string{"--kernel=/x", "--modules=", "--append=c", "--cpus=1", "--mem-limit=32M"}, func(l *loading) {
			l.kernel, l.modules, l.append, l.cpus, l.memory = "/x", "", "c", 1, "32M"
		}},
		{[]string{"--method=auto", "--level=31", "--format=kdump", "--compress=zstd", "--final=reboot", "--target=/t", "--target=nfs:store:/export", "--network=copy"}, func(l *loading) {
			l.method, l.level, l.form, l.final, l.failed = "auto", 31, crashenv.Form{Format: "kdump", Compression: "zstd"}, "reboot", ""
			l.places, l.targets = []string{"/t", "nfs:store:/export"}, []config.Target{config.Directory("/t"), {NFS: "store:/export", Deadline: config.DefaultDeadline}}
			l.network.Method = "copy"
		}},
	} {
		l := &loading{}
		cmd := l.command(&command{})
		if err := cmd.ParseFlags(c.args); err != nil {
			t.Fatal(err)
		}
		if err := l.configure(cmd, conf); err != nil {
			t.Fatal(err)
		}
		want := all
		c.want(&want)
		l.root = nil
		if diff := cmp.Diff(want, *l, cmp.AllowUnexported(loading{}, loadingTest{})); diff != "" {
			t.Errorf("%q: %s", c.args, diff)
		}
	}
}

// The words that the configuration takes are those of who uses them.
func TestConfiguredWordsAreKnown(t *testing.T) {
	takes := func(table, key, value string) bool {
		_, err := config.Load(configured(t, "["+table+"]\n"+key+" = \""+value+"\"\n"))
		return err == nil
	}
	for _, word := range []string{"full", "kernel", "report", "0", "31", "32", "-1", "all", "", "kdump", "elf", "raw", "zstd", "lzo", "snappy", "zlib", "none", "gzip", "lz4",
		"auto", "load", "file", "reboot", "poweroff", "halt", "shell", "15M", "16M", "16777215", "16777216"} {
		_, levelErr := capture.ParseLevel(word)
		_, compressErr := vmcore.ParseCompression(word)
		_, methodErr := load.ParseMethod(word)
		formErr := crashenv.Form{Format: capture.Format(word)}.Check()
		limitErr := error(nil)
		if word != "auto" {
			_, limitErr = memLimit(newSave(&command{}), word)
		}
		for _, c := range []struct {
			table, key string
			want       bool
		}{
			{"dump", "level", levelErr == nil},
			{"dump", "compress", compressErr == nil},
			{"dump", "format", formErr == nil && word != ""},
			{"dump", "mem-limit", limitErr == nil && word != ""},
			{"kernel", "method", methodErr == nil && word != ""},
			{"after", "saved", slices.Contains([]crashenv.Final{crashenv.Reboot, crashenv.PowerOff, crashenv.Halt}, crashenv.Final(word))},
		} {
			if got := takes(c.table, c.key, word); got != c.want {
				t.Errorf("%s.%s = %q is taken: %v; want %v", c.table, c.key, word, got, c.want)
			}
		}
	}
}

func TestStatusTellsOfConfiguration(t *testing.T) {
	var out bytes.Buffer
	c := &command{stdout: &out}
	_, wrong := config.Load(configured(t, "x = 1\n"))
	f := &status.Facts{Root: fstest.MapFS{}, ConfigErr: wrong, Load: &load.Status{}}
	if err := c.status(f, status.Check(f)); err == nil || !strings.Contains(out.String(), "warning  configuration  ") || !strings.Contains(strings.Join(strings.Fields(out.String()), " "), ":1:1: unknown key x") {
		t.Errorf("%v, %q", err, out.String())
	}
}
