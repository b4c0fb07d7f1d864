package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// The test binary is the process between, as the bench is.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == measureCommand {
		if err := runMeasured(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestMeasure(t *testing.T) {
	s, err := measure(t.Context(), 1, "sh", "-c", "x=$(head -c 40000000 /dev/zero | tr '\\0' a); sleep 0.1")
	if err != nil {
		t.Fatal(err)
	}
	if s.Wall < 100*time.Millisecond || s.CPU <= 0 || s.RSS < 40e6 {
		t.Errorf("%+v; want 0.1 s at least, CPU time, and the 40 MB that the program keeps", s)
	}
	if _, err := measure(t.Context(), 1, "sh", "-c", "echo no good >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "exit status") {
		t.Errorf("a program that fails: %v", err)
	}
}

func TestMedian(t *testing.T) {
	seconds := func(all ...float64) (s samples) {
		for _, x := range all {
			s = append(s, sample{Wall: time.Duration(x * float64(time.Second))})
		}
		return s
	}
	for _, tt := range []struct {
		s                 samples
		wantMedian, least float64
	}{
		{seconds(3), 3, 3},
		{seconds(9, 1, 2), 2, 1},
		{seconds(4, 1, 2, 9), 3, 1},
	} {
		if m, l := tt.s.median(wall), tt.s.min(wall); m != tt.wantMedian || l != tt.least {
			t.Errorf("%v: median %v, least %v; want %v, %v", tt.s, m, l, tt.wantMedian, tt.least)
		}
	}
}

// A core has what the dump says is there and the machine's memory behind it,
// and is as sparse as that.
func TestWriteCore(t *testing.T) {
	dir := t.TempDir()
	const size = 64 << 20
	ram, err := os.Create(filepath.Join(dir, "ram"))
	if err != nil {
		t.Fatal(err)
	}
	defer ram.Close()
	if err := ram.Truncate(size); err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("memory, "), 4096/8)
	for _, at := range []int64{2 << 20, 40<<20 - 4096, 40 << 20, size - 4096} {
		if _, err := ram.WriteAt(want, at); err != nil {
			t.Fatal(err)
		}
	}
	// The firmware's memory and a crash kernel's are left out.
	ranges := []vmcore.Range{{Start: ramBase + 1<<20, End: ramBase + 40<<20}, {Start: ramBase + 48<<20, End: ramBase + size}}
	info := "PAGESIZE=4096\nNUMBER(PAGE_OFFSET)=0xff60000000000000\nNUMBER(phys_ram_base)=0x80000000\n"
	dump, err := os.Create(filepath.Join(dir, "dump"))
	if err != nil {
		t.Fatal(err)
	}
	defer dump.Close()
	notes := []vmcore.Note{
		{Name: "CORE", Type: vmcore.NotePRStatus, Desc: make([]byte, 376)},
		{Name: "VMCOREINFO", Desc: []byte(info)},
	}
	h := vmcore.KdumpHeader{ByteOrder: binary.LittleEndian, PageSize: 4096, Notes: notes}
	h.Utsname.Machine = "riscv64"
	w, err := vmcore.NewKdumpWriter(dump, h, ranges, 0, vmcore.KdumpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(true); err != nil {
		t.Fatal(err)
	}
	d, err := vmcore.Open(dump.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	out, err := os.Create(filepath.Join(dir, "core"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	bytesOf, data, err := writeCore(out, d, ram)
	if err != nil {
		t.Fatal(err)
	}
	if bytesOf < 55<<20 || data < 2*4096 || data > 4<<20 {
		t.Errorf("%d bytes, %d of them data; want 55 MiB and little", bytesOf, data)
	}
	c, err := vmcore.Open(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Format() != vmcore.FormatELF || fmt.Sprint(c.Ranges()) != fmt.Sprint(ranges) || string(c.VMCoreInfo()) != info || len(c.Notes()) != 2 {
		t.Errorf("%v, ranges %x, %d notes, VMCOREINFO %q", c.Format(), c.Ranges(), len(c.Notes()), c.VMCoreInfo())
	}
	got := make([]byte, 4096)
	for at, there := range map[vmcore.PhysAddr]bool{2 << 20: true, 40<<20 - 4096: true, 40 << 20: false, size - 4096: true} {
		_, err := c.ReadPhys(got, ramBase+at)
		if there != (err == nil && bytes.Equal(got, want)) {
			t.Errorf("at %#x: %v, %.20q; want it there: %v", ramBase+at, err, got, there)
		}
	}
	if s := c.Segments()[0]; s.Virt != 0xff60000000000000+1<<20 {
		t.Errorf("memory is mapped at %#x", s.Virt)
	}
}

// What two dumps have is told apart page by page.
func TestCompareOutputs(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, complete bool, pfns ...vmcore.PFN) string {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		h := vmcore.KdumpHeader{PageSize: 4096}
		h.Utsname.Machine = "riscv64"
		w, err := vmcore.NewKdumpWriter(f, h, []vmcore.Range{{Start: ramBase, End: ramBase + 16<<20}}, 10, vmcore.KdumpOptions{})
		if err != nil {
			t.Fatal(err)
		}
		e := w.NewExtent(len(pfns))
		for _, pfn := range pfns {
			if err := e.Add(ramBase/4096+pfn, make([]byte, 4096)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
		if err := w.Finish(complete); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
	ours, theirs := write("ours", true, 1, 2, 3, 200), write("theirs", true, 2, 3, 9)
	o, err := compareOutputs(ours, theirs)
	if err != nil || o.OurPages != 4 || o.TheirPages != 3 || o.OnlyOurs != 2 || o.OnlyTheirs != 1 || o.same() || o.Ours == 0 {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := compareOutputs(ours, ours); err != nil || !o.same() {
		t.Errorf("with itself: %+v, %v", o, err)
	}
	if o, err := compareOutputs(ours, write("cut", false, 1)); err == nil {
		t.Errorf("with an incomplete one: %+v", o)
	}
	if o, err := compareOutputs(os.Args[0], ours); err == nil {
		t.Errorf("with no dump: %+v", o)
	}
}

func TestLinearMap(t *testing.T) {
	for _, info := range []string{"", "NUMBER(PAGE_OFFSET)=0x10\n", "NUMBER(PAGE_OFFSET)=x\nNUMBER(phys_ram_base)=0\n"} {
		if _, err := linearMap([]byte(info)); err == nil {
			t.Errorf("%q: no error", info)
		}
	}
}

// A source is built with what reading riscv64 cores on another machine takes,
// once.
func TestBuildPeer(t *testing.T) {
	needsCompiler(t)
	dir := t.TempDir()
	makefile := "makedumpfile:\n" +
		"\techo '#include <gnu/stubs-32.h>' | $(CC) -E - >/dev/null\n" +
		"\techo $(TARGET) $(USELZO) $(USESNAPPY) $(USEZSTD) >>$@\n"
	if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte(makefile), 0o644); err != nil {
		t.Fatal(err)
	}
	var said []string
	for range 2 {
		path, err := buildPeer(t.Context(), dir, func(f string, a ...any) { said = append(said, fmt.Sprintf(f, a...)) })
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != "riscv64 on on on\n" {
			t.Errorf("built with %q, %v", text, err)
		}
	}
	if len(said) != 1 {
		t.Errorf("built %d times", len(said))
	}
}

func TestFindPeer(t *testing.T) {
	dir := t.TempDir()
	fake := func(says string) string {
		path := filepath.Join(dir, "makedumpfile")
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	all := "makedumpfile: version 1.7.9 (released on 20 Apr 2026)\nlzo\tenabled\nsnappy\tenabled\nzstd\tenabled"
	t.Setenv("MAKEDUMPFILE", fake(all))
	p, err := findPeer(t.Context(), t.TempDir(), t.Logf)
	if err != nil || p.Version != "1.7.9" || p.Path != filepath.Join(dir, "makedumpfile") {
		t.Errorf("%+v, %v", p, err)
	}
	for _, says := range []string{"something else", strings.Replace(all, "snappy\tenabled", "snappy\tdisabled", 1)} {
		fake(says)
		if p, err := findPeer(t.Context(), t.TempDir(), t.Logf); err == nil {
			t.Errorf("one that says %q is taken: %+v", says, p)
		}
	}
}

// needsCompiler fails a test that builds something where nothing does.
func needsCompiler(t *testing.T) {
	t.Helper()
	for _, program := range []string{"make", "gcc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: apt install make gcc", err)
		}
	}
}

// A folder is built beside it, and stays as it is.
func TestPeerFromFolder(t *testing.T) {
	needsCompiler(t)
	src := t.TempDir()
	makefile := "makedumpfile:\n\tprintf '#!/bin/sh\\nprintf \"makedumpfile: version 2.0\\\\nlzo\\\\tenabled\\\\nsnappy\\\\tenabled\\\\nzstd\\\\tenabled\\\\n\"' >$@; chmod +x $@\n"
	if err := os.WriteFile(filepath.Join(src, "Makefile"), []byte(makefile), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MAKEDUMPFILE", "")
	t.Setenv("MAKEDUMPFILE_SRC", src)
	p, err := findPeer(t.Context(), t.TempDir(), t.Logf)
	if err != nil || p.Version != "2.0" || strings.HasPrefix(p.Path, src) {
		t.Errorf("%+v, %v", p, err)
	}
	if files, err := os.ReadDir(src); err != nil || len(files) != 1 {
		t.Errorf("%d files in the folder, %v", len(files), err)
	}
	t.Setenv("MAKEDUMPFILE_SRC", filepath.Join(src, "nothing"))
	if p, err := findPeer(t.Context(), t.TempDir(), t.Logf); err == nil {
		t.Errorf("a folder that is not there: %+v", p)
	}
}

func TestParse(t *testing.T) {
	b, err := parse([]string{"-cores", "2G,256G", "-levels", "31", "-runs", "0"})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(b.cores, b.levels, b.runs, b.compress) != "[2G 256G] [31] 1 [zstd lzo snappy zlib]" {
		t.Errorf("%+v", b)
	}
	for _, args := range [][]string{{"-cores", "3G"}, {"-levels", "7"}, {"-parts", "all"}, {"-nonesuch"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
