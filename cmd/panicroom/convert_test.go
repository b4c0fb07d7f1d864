package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/vmcore"
	"github.com/panicroom-kdump/panicroom/vmcore/vmcoretest"
)

func deadMachine() *vmcoretest.Core {
	c := vmcoretest.New(0x80000000, 4<<20)
	c.SetVMCoreInfo("OSRELEASE=6.12.0-test\nPAGESIZE=4096\n")
	for at := vmcore.PhysAddr(0x80000000); at < 0x80400000; at += 3 * 4096 {
		c.Put(at, bytes.Repeat([]byte{byte(at >> 12), 7}, 2048))
	}
	return c
}

// sameMemory compares a dump with the machine, page by page.
func sameMemory(t *testing.T, c *vmcoretest.Core, paths ...string) *vmcore.Dump {
	t.Helper()
	d, err := vmcore.Open(paths[0], paths[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	got, want := make([]byte, 4<<20), make([]byte, 4<<20)
	if _, err := d.ReadPhys(got, 0x80000000); err != nil {
		t.Fatalf("%v: %v", paths, err)
	}
	if _, err := c.ReadPhys(want, 0x80000000); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: not the machine's memory", paths)
	}
	return d
}

func TestConvert(t *testing.T) {
	c := deadMachine()
	in := c.WriteFile(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	convert := func(args ...string) string {
		t.Helper()
		code, out, errOut := try(t, append([]string{"convert"}, args...)...)
		if code != exitDone {
			t.Fatalf("convert %q = %d, %q", args, code, errOut)
		}
		return out
	}
	convert(in, at("kdump"))
	sameMemory(t, c, at("kdump"))
	if st, err := os.Stat(at("kdump")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", st.Mode(), err)
	}
	convert("--compress", "lzo", at("kdump"), at("lzo"))
	if d := sameMemory(t, c, at("lzo")); d.KdumpHeader().Compression != vmcore.CompressionLZO {
		t.Errorf("--compress lzo: %v", d.KdumpHeader().Compression)
	}
	convert("--format", "elf", at("lzo"), at("elf"))
	if d := sameMemory(t, c, at("elf")); d.Format() != vmcore.FormatELF {
		t.Errorf("--format elf: %v", d.Format())
	}
	convert("--flatten", "--format", "elf", at("lzo"), at("flat"))
	if d := sameMemory(t, c, at("flat")); !d.Flattened() {
		t.Error("--flatten: not flattened")
	}
	convert("--split", "2", at("flat"), at("split"))
	sameMemory(t, c, at("split.2"), at("split.1"))
	convert(at("split.1"), at("split.2"), at("joined"))
	sameMemory(t, c, at("joined"))
	convert("--format", "raw", at("joined"), at("raw"))
	if raw, err := os.ReadFile(at("raw")); err != nil || len(raw) != 4<<20 {
		t.Errorf("raw: %d bytes, %v", len(raw), err)
	}
	pipe := convert(at("joined"), "-")
	if err := os.WriteFile(at("pipe"), []byte(pipe), 0o600); err != nil {
		t.Fatal(err)
	}
	sameMemory(t, c, at("pipe"))

	var said struct {
		Paths    []string `json:"paths"`
		Complete bool     `json:"complete"`
		Pages    struct {
			Saved uint64 `json:"saved"`
		} `json:"pages"`
	}
	if err := json.Unmarshal([]byte(convert("--json", in, at("json"))), &said); err != nil {
		t.Fatal(err)
	}
	if len(said.Paths) != 1 || said.Paths[0] != at("json") || !said.Complete || said.Pages.Saved != 1024 {
		t.Errorf("--json says %+v", said)
	}
	if left, _ := filepath.Glob(at("*-incomplete")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestConvertRefuses(t *testing.T) {
	in := deadMachine().WriteFile(t)
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	for _, tt := range []struct {
		args []string
		code int
	}{
		{[]string{in}, exitUsage},
		{[]string{"--format", "tar", in, out}, exitUsage},
		{[]string{"--compress", "gzip", in, out}, exitUsage},
		{[]string{"--split", "0", in, out}, exitUsage},
		{[]string{"--split", "2", "--flatten", in, out}, exitUsage},
		{[]string{"--split", "2", "--format", "elf", in, out}, exitUsage},
		{[]string{"--share", "-1", in, out}, exitUsage},
		{[]string{"--level", "32", in, out}, exitUsage},
		{[]string{"--json", in, "-"}, exitUsage},
		{[]string{in, there}, exitError},
		{[]string{there, out}, exitNotADump},
	} {
		code, _, errOut := try(t, append([]string{"convert"}, tt.args...)...)
		if code != tt.code {
			t.Errorf("convert %q = %d, %q; want %d", tt.args, code, errOut, tt.code)
		}
		if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("convert %q made %s", tt.args, out)
		}
	}
	if b, err := os.ReadFile(there); err != nil || string(b) != "precious" {
		t.Errorf("the file that was there: %q, %v", b, err)
	}
	if left, _ := filepath.Glob(out + "*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What cannot be read makes the result incomplete in name and exit code when
// the dump said so of itself.
func TestConvertIncomplete(t *testing.T) {
	c := deadMachine()
	d := c.Open(t)
	dir := t.TempDir()
	cut := filepath.Join(dir, "cut")
	f, err := os.Create(cut)
	if err != nil {
		t.Fatal(err)
	}
	w, err := vmcore.NewELFWriter(f, vmcore.ELFHeader{Machine: d.Machine(), PageSize: 4096, Notes: d.Notes(), Segments: d.Segments()}, vmcore.ELFOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e := w.NewExtent(1)
	if err := e.Add(0x80000, bytes.Repeat([]byte{1}, 4096)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write(e), w.Finish(false), f.Close()); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	code, _, errOut := try(t, "convert", cut, out)
	if code != exitIncomplete || !strings.Contains(errOut, out+"-incomplete") {
		t.Errorf("%d, %q; want %d and the name", code, errOut, exitIncomplete)
	}
	if _, err := os.Stat(out + "-incomplete"); err != nil {
		t.Error(err)
	}
	if code, _, errOut := try(t, "convert", cut, out); code != exitError || !strings.Contains(errOut, "hint: ") {
		t.Errorf("again: %d, %q", code, errOut)
	}
}
