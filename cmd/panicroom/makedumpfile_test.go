package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/panicroom-kdump/panicroom/internal/dumpline"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// mdf is makedumpfile with what it reads and says.
type mdf struct {
	in          string // on standard input
	root        fs.FS
	ctx         context.Context
	out, errOut string
}

func (m *mdf) run(args ...string) int {
	var out, errOut bytes.Buffer
	c := newMakedumpfile(strings.NewReader(m.in), &out, &errOut)
	if m.root != nil {
		c.root = m.root
	}
	ctx := m.ctx
	if ctx == nil {
		ctx = context.Background()
	}
	code := c.run(ctx, args)
	m.out, m.errOut = out.String(), errOut.String()
	return code
}

// must runs a command line that succeeds and gives its standard output.
func (m *mdf) must(t *testing.T, args ...string) string {
	t.Helper()
	if code := m.run(args...); code != dumpDone {
		t.Fatalf("makedumpfile %q = %d, %q", args, code, m.errOut)
	}
	return m.out
}

func TestMakedumpfileFormats(t *testing.T) {
	c := deadMachine()
	in := c.WriteFile(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	m := &mdf{}
	for option, want := range map[string]vmcore.Compression{"-c": vmcore.CompressionZlib, "-l": vmcore.CompressionLZO,
		"-p": vmcore.CompressionSnappy, "-z": vmcore.CompressionZstd, "-b4": vmcore.CompressionNone} {
		out := m.must(t, option, "-d", "1", in, at(option))
		d := sameMemory(t, c, at(option))
		if d.Format() != vmcore.FormatKdump || d.KdumpHeader().Compression != want || d.KdumpHeader().DumpLevel != 1 {
			t.Errorf("%s: %v, %+v", option, d.Format(), d.KdumpHeader())
		}
		if !strings.HasSuffix(out, "\nThe dumpfile is saved to "+at(option)+".\n\nmakedumpfile Completed.\n") {
			t.Errorf("%s says %q", option, out)
		}
		if st, err := os.Stat(at(option)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", option, st.Mode(), err)
		}
	}
	m.must(t, "-E", at("-l"), at("elf"))
	if d := sameMemory(t, c, at("elf")); d.Format() != vmcore.FormatELF {
		t.Errorf("-E: %v", d.Format())
	}

	// What goes through a pipe is a dump and nothing else.
	for _, option := range []string{"-l", "-E"} {
		m.in = ""
		flat := m.must(t, "-F", option, in)
		if !strings.Contains(m.errOut, "makedumpfile Completed.") {
			t.Errorf("-F says %q on standard error", m.errOut)
		}
		m.in = flat
		m.must(t, "-R", at("rearranged"+option))
		sameMemory(t, c, at("rearranged"+option))
		if err := os.WriteFile(at("flat"+option), []byte(flat), 0o600); err != nil {
			t.Fatal(err)
		}
		if d := sameMemory(t, c, at("flat"+option)); !d.Flattened() {
			t.Errorf("-F %s: not flattened", option)
		}
	}

	out := m.must(t, "--split", "-l", in, at("s1"), at("s2"), at("s3"))
	if !strings.Contains(out, "The dumpfiles are saved to "+at("s1")+", ") {
		t.Errorf("--split says %q", out)
	}
	sameMemory(t, c, at("s1"), at("s2"), at("s3"))
	m.must(t, "--reassemble", at("s3"), at("s1"), at("s2"), at("joined"))
	if d := sameMemory(t, c, at("joined")); d.KdumpHeader().Compression != vmcore.CompressionLZO || d.KdumpHeader().DumpLevel != 0 {
		t.Errorf("--reassemble: %+v", d.KdumpHeader())
	}
	// Without a part the result says that it is incomplete.
	if code := m.run("--reassemble", at("s2"), at("s3"), at("lacks")); code != dumpFailed {
		t.Errorf("without a part: %d, %q", code, m.errOut)
	}
	if d, err := vmcore.Open(at("lacks")); err != nil || !d.Incomplete() {
		t.Errorf("without a part: %v, or not marked incomplete", err)
	} else {
		d.Close()
	}
	if code := m.run("--reassemble", at("-l"), at("x")); code != dumpFailed {
		t.Errorf("not a part: %d, %q", code, m.errOut)
	}
}

// A file that is there is not touched without -f, and what is read not even
// with it.
func TestMakedumpfileKeepsFiles(t *testing.T) {
	c := deadMachine()
	in := c.WriteFile(t)
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	precious := bytes.Repeat([]byte("precious"), 1<<20)
	if err := os.WriteFile(there, precious, 0o644); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other")
	m := &mdf{}
	for _, args := range [][]string{{in, there}, {"--split", in, other, there}, {"-R", there}, {"--reassemble", in, there}, {"--dump-dmesg", in, there},
		{"-f", in, in}, {"-f", "--split", in, other, in}, {"-f", "--reassemble", in, in}, {"--check-params", "-f", in, there}, {"--dry-run", "-f", in, there}} {
		check := slices.Contains(args, "--check-params") || slices.Contains(args, "--dry-run")
		if code := m.run(args...); (code == dumpDone) != check {
			t.Errorf("makedumpfile %q = %d, %q", args, code, m.errOut)
		}
		if !check && !strings.Contains(m.errOut, "makedumpfile: ") {
			t.Errorf("makedumpfile %q says %q", args, m.errOut)
		}
		if b, err := os.ReadFile(there); err != nil || !bytes.Equal(b, precious) {
			t.Fatalf("makedumpfile %q: the file that was there has %d bytes, %v", args, len(b), err)
		}
		if _, err := os.Lstat(other); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("makedumpfile %q left %s", args, other)
		}
	}
	sameMemory(t, c, in)
	m.must(t, "-f", in, there)
	sameMemory(t, c, there)
	if st, err := os.Stat(there); err != nil || st.Mode().Perm() != 0o600 || st.Size() >= int64(len(precious)) {
		t.Errorf("written over: %v, %v", st, err)
	}
	// What is no dump leaves no file.
	for _, args := range [][]string{{there + "-none", other}, {os.DevNull, other}, {"-R", other}} {
		if code := m.run(args...); code != dumpFailed {
			t.Errorf("makedumpfile %q = %d", args, code)
		}
		if _, err := os.Lstat(other); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("makedumpfile %q left %s", args, other)
		}
	}
}

// kernelMachine has pages of some classes and a log, the records of which say
// their numbers; from the third on they were logged after a clear.
func kernelMachine() *kerneltest.Machine {
	m := kerneltest.New(1)
	first := m.FirstPage()
	m.SetFree(first, 10)
	for i := range vmcore.PFN(300) {
		p := kerneltest.Page{Flags: kerneltest.LRU, Mapping: kerneltest.FileMapping, Refcount: 1}
		switch {
		case i < 100:
			p.Flags |= kerneltest.Private
		case i < 150:
			p.Mapping, p.Flags = kerneltest.AnonMapping, kerneltest.LRU|kerneltest.SwapBacked
		}
		m.Set(first+2048+i, p)
		m.Put(vmcore.PhysAddr(first+2048+i)*4096, []byte{1})
	}
	m.Set(first+4000, kerneltest.Page{Flags: kerneltest.HWPoison, Type: kerneltest.NoType, Refcount: 1})
	m.Set(first+4001, kerneltest.Page{Type: kerneltest.TypeOffline, Refcount: 1})
	addLog(m, "Linux version 6.12.107-test", "cleared\nin two lines", "Kernel panic", "end")
	m.Info["CRASHTIME"] = "1795423061"
	return m.Finish()
}

// addLog puts a printk ring into the kernel's image.
func addLog(m *kerneltest.Machine, texts ...string) {
	const (
		phys      = kerneltest.Base + 0x200000 // of the image
		virt      = 0xffffffff80000000
		prb       = 0x100000 // offsets in the image
		ring      = prb + 0x1000
		descs     = prb + 0x2000
		infos     = prb + 0x3000
		text      = prb + 0x4000
		clear     = prb + 0x5000
		firstID   = 1 << 20
		infoSize  = 88
		countBits = 4
		textBits  = 12
	)
	put := func(at vmcore.PhysAddr, v uint64) { m.PutUint64(phys+at, v) }
	put(prb, virt+ring)
	put(ring, countBits)
	put(ring+8, virt+descs)
	put(ring+16, virt+infos)
	put(ring+24, firstID+uint64(len(texts))-1) // head
	put(ring+32, firstID)                      // tail
	put(ring+48, textBits)
	put(ring+56, virt+text)
	pos := uint64(0)
	for i, s := range texts {
		next := pos + (8+uint64(len(s))+7)&^7
		d, info := descs+vmcore.PhysAddr(24*i), infos+vmcore.PhysAddr(infoSize*i)
		put(d, 2<<62|(firstID+uint64(i)))
		put(d+8, pos)
		put(d+16, next)
		put(text+vmcore.PhysAddr(pos), firstID+uint64(i))
		m.Put(phys+text+vmcore.PhysAddr(pos)+8, []byte(s))
		put(info, uint64(i))
		put(info+8, uint64(i)*1e9)
		put(info+16, uint64(len(s))|uint64(i)<<32)
		pos = next
	}
	put(clear, 1) // the second number is whole
	put(clear+8, 99)
	put(clear+16, 2)
	for k, v := range map[string]uint64{"SIZE(printk_ringbuffer)": 88, "OFFSET(printk_ringbuffer.desc_ring)": 0,
		"OFFSET(printk_ringbuffer.text_data_ring)": 48, "OFFSET(prb_desc_ring.count_bits)": 0, "OFFSET(prb_desc_ring.descs)": 8,
		"OFFSET(prb_desc_ring.infos)": 16, "OFFSET(prb_desc_ring.head_id)": 24, "OFFSET(prb_desc_ring.tail_id)": 32,
		"SIZE(prb_desc)": 24, "OFFSET(prb_desc.state_var)": 0, "OFFSET(prb_desc.text_blk_lpos)": 8,
		"OFFSET(prb_data_blk_lpos.begin)": 0, "OFFSET(prb_data_blk_lpos.next)": 8, "OFFSET(prb_data_ring.size_bits)": 0,
		"OFFSET(prb_data_ring.data)": 8, "OFFSET(atomic_long_t.counter)": 0, "SIZE(printk_info)": infoSize,
		"OFFSET(printk_info.seq)": 0, "OFFSET(printk_info.ts_nsec)": 8, "OFFSET(printk_info.text_len)": 16,
		"OFFSET(printk_info.caller_id)": 20, "SIZE(latched_seq)": 24, "OFFSET(latched_seq.val)": 8} {
		m.Info[k] = fmt.Sprint(v)
	}
	m.Info["SYMBOL(prb)"] = fmt.Sprintf("%x", uint64(virt+prb))
	m.Info["SYMBOL(clear_seq)"] = fmt.Sprintf("%x", uint64(virt+clear))
}

const (
	wholeLog = "[    0.000000] [      T0] Linux version 6.12.107-test\n" +
		"[    1.000000] [      T1] cleared\n                          in two lines\n" + clearedLog
	clearedLog = "[    2.000000] [      T2] Kernel panic\n[    3.000000] [      T3] end\n"
	kexecLog   = "[    0.000000] Linux version 6.12.107-test\n[    1.000000] cleared\nin two lines\n[    2.000000] Kernel panic\n[    3.000000] end\n"
)

func TestMakedumpfileDmesg(t *testing.T) {
	in := kernelMachine().WriteFile(t)
	log := filepath.Join(t.TempDir(), "log")
	m := &mdf{}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--dump-dmesg", in, log}, wholeLog},
		{[]string{"--dump-dmesg", "-f", "-c", "-d", "31", in, log}, wholeLog},
		{[]string{"--dump-dmesg", "--partial-dmesg", "-f", in, log}, clearedLog},
	} {
		out := m.must(t, c.args...)
		if got, err := os.ReadFile(log); err != nil || string(got) != c.want {
			t.Errorf("makedumpfile %q writes %q, %v; want %q", c.args, got, err, c.want)
		}
		if !strings.Contains(out, "The dmesg log is saved to "+log) {
			t.Errorf("makedumpfile %q says %q", c.args, out)
		}
	}
	if st, err := os.Stat(log); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the log: %v, %v; want mode 0600", st, err)
	}
	if code := m.run("--dump-dmesg", "-f", "-L", "100", in, log); code != dumpFailed {
		t.Errorf("-L 100: %d", code)
	}
	if got, _ := os.ReadFile(log); string(got) != wholeLog[:100] {
		t.Errorf("-L 100: %q", got)
	}

	// As openSUSE's kdump-save calls it and reads what it says.
	if out := m.must(t, "-F", "--message-level", "8", "--dump-dmesg", in); out != wholeLog {
		t.Errorf("-F --dump-dmesg: %q", out)
	}
	said := map[string]string{}
	for line := range strings.Lines(m.errOut) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		said[key] = value
	}
	if said["CRASHTIME"] != "1795423061" || said["OSRELEASE"] != "6.12.107-test" {
		t.Errorf("-F --message-level 8 --dump-dmesg says %q", m.errOut)
	}
	// As retrace-server does.
	dump := filepath.Join(t.TempDir(), "dump")
	m.must(t, "-d", "17", in, dump)
	if out := m.must(t, "-D", "--dump-dmesg", "-f", dump, log); !strings.Contains(out, "\n  dump_level       : 17\n") {
		t.Errorf("-D --dump-dmesg says %q", out)
	}
	// A dump without a kernel has no log.
	if code := m.run("--dump-dmesg", deadMachine().WriteFile(t), log+"2"); code != dumpFailed {
		t.Errorf("a dump without a kernel: %d", code)
	}
}

func TestVmcoreDmesg(t *testing.T) {
	in := kernelMachine().WriteFile(t)
	for _, c := range []struct {
		args   []string
		code   int
		out    string
		errOut string
	}{
		{[]string{in}, dmesgDone, kexecLog, ""},
		{nil, dmesgUsage, "", "usage: vmcore-dmesg VMCORE\n"},
		{[]string{in, in}, dmesgUsage, "", "usage: vmcore-dmesg VMCORE\n"},
		{[]string{in + "-none"}, dmesgFailed, "", "vmcore-dmesg: "},
		{[]string{deadMachine().WriteFile(t)}, dmesgFailed, "", "vmcore-dmesg: "},
		{[]string{"-?"}, dmesgDone, "usage: vmcore-dmesg VMCORE\n", ""},
	} {
		var out, errOut bytes.Buffer
		code := vmcoreDmesg(c.args, &out, &errOut)
		if code != c.code || !strings.HasPrefix(out.String(), c.out) || !strings.HasPrefix(errOut.String(), c.errOut) || c.errOut == "" && errOut.Len() > 0 {
			t.Errorf("vmcore-dmesg %q = %d, %q, %q; want %d, %q, %q", c.args, code, &out, &errOut, c.code, c.out, c.errOut)
		}
	}
}

func TestMakedumpfileLevels(t *testing.T) {
	in := kernelMachine().WriteFile(t)
	dir := t.TempDir()
	m := &mdf{}
	level := func(path string) int {
		t.Helper()
		d, err := vmcore.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if d.Incomplete() {
			return -1
		}
		return d.KdumpHeader().DumpLevel
	}
	size := map[string]int64{}
	for _, l := range []string{"0", "31"} {
		path := filepath.Join(dir, l)
		m.must(t, "-d", l, in, path)
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		size[l] = st.Size()
	}
	limit := fmt.Sprint(size["0"] - 8192)
	fits := filepath.Join(dir, "fits")
	out := m.must(t, "-d", "0,31", "-L", limit, in, fits)
	if got := level(fits); got != 31 || !strings.Contains(out, "the next level is 31") {
		t.Errorf("-d 0,31 -L %s: level %d, says %q", limit, got, out)
	}
	if st, err := os.Stat(fits); err != nil || st.Size() != size["31"] {
		t.Errorf("-d 0,31: %d bytes, %v; want %d: nothing of the first try", st.Size(), err, size["31"])
	}
	// The last level does not fit: what there is can be read, under the name
	// that scripts know.
	cut := filepath.Join(dir, "cut")
	if code := m.run("-d", "0", "-L", limit, in, cut); code != dumpFailed || !strings.Contains(m.errOut, cut+", incomplete: ") {
		t.Errorf("-d 0 -L %s = %d, %q", limit, code, m.errOut)
	}
	if got := level(cut); got != -1 {
		t.Errorf("cut: level %d; want one that is marked incomplete", got)
	}
	if st, err := os.Stat(cut); err != nil || st.Size() > size["0"]-8192 {
		t.Errorf("cut: %v, %v; want at most %s bytes", st, err, limit)
	}
	if strings.Contains(m.out, "Completed") || !strings.Contains(m.out, "makedumpfile Failed.") {
		t.Errorf("cut: says %q", m.out)
	}
	// What was made of it is incomplete, too.
	if code := m.run("-z", cut, filepath.Join(dir, "again")); code != dumpFailed {
		t.Errorf("of an incomplete dump: %d", code)
	}
	if got := level(filepath.Join(dir, "again")); got != -1 {
		t.Errorf("of an incomplete dump: level %d; want one that is marked incomplete", got)
	}
	// ^C or a signal.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	m.ctx = ctx
	if code := m.run(in, filepath.Join(dir, "killed")); code != dumpFailed {
		t.Errorf("killed: %d", code)
	}
	m.ctx = nil
	// A dump that says nothing of its kernel is saved whole, with a warning.
	c := deadMachine()
	whole := filepath.Join(dir, "whole")
	m.must(t, "-d", "31", c.WriteFile(t), whole)
	sameMemory(t, c, whole)
	if !strings.Contains(m.errOut, "warning: ") || level(whole) != 1 {
		t.Errorf("without a kernel: level %d, says %q", level(whole), m.errOut)
	}
}

// As scripts read it.
func TestMakedumpfileReport(t *testing.T) {
	machine := kernelMachine()
	in := machine.WriteFile(t)
	dump := filepath.Join(t.TempDir(), "dump")
	m := &mdf{}
	number := func(out, name string) uint64 {
		t.Helper()
		_, rest, ok := strings.Cut(out, name)
		var n uint64
		if _, err := fmt.Sscanf(rest, ": 0x%x", &n); err != nil || !ok {
			t.Errorf("no %q in the report: %v\n%s", name, err, out)
		}
		return n
	}
	out := m.must(t, "--dry-run", "--show-stats", "-l", "-d", "31", in, dump)
	if _, err := os.Lstat(dump); !errors.Is(err, fs.ErrNotExist) {
		t.Error("--dry-run wrote a file")
	}
	original := number(out, "Original pages  ")
	zero := number(out, "    Pages filled with zero  ")
	for name, want := range map[string]uint64{"    Non-private cache pages ": 150, "    Private cache pages     ": 100, "    User process data pages ": 50,
		"    Free pages              ": 1024, "    Hwpoison pages          ": 1, "    Offline pages           ": 1,
		"Memory Hole     ": uint64(kerneltest.BasePFN), "Total pages     ": uint64(kerneltest.BasePFN) + machine.Pages,
		"  Excluded pages   ": 150 + 100 + 50 + 1024 + 2 + zero, "  Remaining pages  ": original - (150 + 100 + 50 + 1024 + 2 + zero)} {
		if got := number(out, name); got != want {
			t.Errorf("%q %d; want %d", name, got, want)
		}
	}
	if original != machine.Pages || zero < machine.Pages/2 {
		t.Errorf("%d pages, %d of them zero; want %d, most of them zero", original, zero, machine.Pages)
	}
	if !strings.Contains(out, "\nWrite bytes     : ") || !strings.Contains(out, "  (The number of pages is reduced to ") {
		t.Errorf("the report is\n%s", out)
	}
	// Level 1 leaves the others in; -F reports on standard error, and with
	// --dry-run nothing goes down the pipe.
	if out := m.must(t, "-F", "--dry-run", "--message-level", "16", "-d", "1", in); out != "" {
		t.Errorf("-F --dry-run writes %d bytes", len(out))
	}
	if n := number(m.errOut, "    Free pages              "); n != 0 || number(m.errOut, "    Pages filled with zero  ") <= zero {
		t.Errorf("level 1: %d free pages left out", n)
	}
	out = m.must(t, "--dry-run", "--show-stats", "-E", "-d", "31", in, dump)
	if strings.Count(out, "     in ELF format : 0x") != 2 {
		t.Errorf("-E: the report is\n%s", out)
	}
	// Nothing but the dump is asked for.
	if out := m.must(t, "--message-level", "0", "-d", "31", in, dump); out != "" || m.errOut != "" {
		t.Errorf("--message-level 0 says %q, %q", out, m.errOut)
	}
}

func TestMakedumpfileVMCoreInfo(t *testing.T) {
	machine := kernelMachine()
	in := machine.WriteFile(t)
	dir := t.TempDir()
	info := func(text string) string {
		path := filepath.Join(dir, fmt.Sprintf("info%d", len(text)))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	m := &mdf{}
	out := filepath.Join(dir, "out")
	if code := m.run("-d", "31", "-i", info("OSRELEASE=6.1.0-9\nPAGESIZE=4096\n"), in, out); code != dumpWrongRelease || !strings.Contains(m.errOut, `"6.1.0-9"`) {
		t.Errorf("-i of another release: %d, %q; want %d", code, m.errOut, dumpWrongRelease)
	}
	if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Error("-i of another release leaves a file")
	}
	if code := m.run("-i", info(""), in, out); code != dumpFailed {
		t.Errorf("-i of nothing: %d", code)
	}
	m.must(t, "-d", "31", "-i", info("OSRELEASE=6.12.107-test\n"), in, out)
	// A dump that has no VMCOREINFO gets it so.
	machine.Notes = nil
	bare := machine.WriteFile(t)
	m.must(t, "-f", "-d", "16", "-i", info(machine.Text()), bare, out)
	d, err := vmcore.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if m.errOut != "" && strings.Contains(m.errOut, "warning") || d.KdumpHeader().DumpLevel != 16 {
		t.Errorf("-i for a dump without VMCOREINFO: level %d, %q", d.KdumpHeader().DumpLevel, m.errOut)
	}
}

// The running machine, as /proc/kcore shows it.
func TestMakedumpfileMemUsage(t *testing.T) {
	machine := kernelMachine()
	in := machine.WriteFile(t)
	m := &mdf{root: fstest.MapFS{"proc/iomem": {Data: []byte("80000000-87ffffff : System RAM\n  87000000-877fffff : Crash kernel\n")}}}
	out := m.must(t, "--mem-usage", in)
	pages := machine.Pages - 2048
	for _, want := range []string{"NON_PRI_CACHE\t150             \tyes\t", "PRI_CACHE\t100             \tyes\t", "USER\t\t50              \tyes\t",
		"FREE\t\t1024            \tyes\t", "KERN_DATA\t", fmt.Sprintf("Total pages on system:\t%-16d\n", pages), "page size:\t\t4096 "} {
		if !strings.Contains(out, "\n"+want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if code := m.run("--mem-usage", deadMachine().WriteFile(t)); code != dumpFailed {
		t.Errorf("a machine without a kernel: %d", code)
	}
	m.root = fstest.MapFS{}
	if code := m.run("--mem-usage", in); code != dumpFailed {
		t.Errorf("a machine without /proc/iomem: %d", code)
	}
}

func TestMakedumpfileAnswers(t *testing.T) {
	in := kernelMachine().WriteFile(t)
	out := filepath.Join(t.TempDir(), "out")
	m := &mdf{}
	for _, c := range []struct {
		args []string
		code int
		out  string
		err  string
	}{
		{[]string{"--help"}, dumpDone, dumpline.HelpText(), ""},
		{[]string{"-v"}, dumpDone, "makedumpfile: version 1.7.8 (", ""},
		{[]string{"--check-params", "-l", "-d", "31", "vmcore", "dumpfile"}, dumpDone, "", ""},
		{[]string{"--check-params", "-l", "-d", "32", "vmcore", "dumpfile"}, dumpFailed, "", "makedumpfile: wrong usage: "},
		{[]string{"--check-params", "--config", "f", "vmcore", "dumpfile"}, dumpFailed, "", "makedumpfile: not supported: --config: "},
		{[]string{}, dumpFailed, "", "makedumpfile: wrong usage: 0 files are named"},
		{[]string{"--vtop", "0xffffffff80000000", "--message-level", "2", "--dry-run", in, out}, dumpDone,
			"\nTranslating virtual address ffffffff80000000 to physical address.\nVIRTUAL           PHYSICAL\nffffffff80000000  80200000\n", ""},
		{[]string{"--vtop", "0x10", "--message-level", "0", "--dry-run", in, out}, dumpDone, "", "makedumpfile: warning: --vtop: "},
		{[]string{"-D", "-x", "vmlinux", "--dry-run", in, out}, dumpDone, "makedumpfile: version 1.7.8", "Copying data"},
		{[]string{"--message-level", "1", "--dry-run", in, out}, dumpDone, "", "Copying data                                      : [100.0 %] "},
	} {
		code := m.run(c.args...)
		if code != c.code || !strings.HasPrefix(m.out, c.out) || c.out == "" && m.out != "" || !strings.HasPrefix(m.errOut, c.err) || c.err == "" && m.errOut != "" {
			t.Errorf("makedumpfile %q = %d,\n%s%s", c.args, code, m.out, m.errOut)
		}
		if slices.Contains(c.args, "-D") && !strings.Contains(m.out, "-x has no effect: ") {
			t.Errorf("-D says %q", m.out)
		}
	}
}
