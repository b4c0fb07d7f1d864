package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

var update = flag.Bool("update", false, "rewrite the golden reports in testdata")

// dead is a dead kernel for tests; the zero value knows nothing but where it
// would be in memory.
type dead struct {
	info    string
	uts     *kernel.Utsname
	log     []kernel.LogRecord
	logErr  error
	cpus    []kernel.CPU
	panic   int // CPU + 1
	taints  uint64
	modules []kernel.Module
	symbols map[kernel.VirtAddr]string // name by address, all of 0x100 bytes
}

var errGone = errors.New("page unreadable")

const riscvInfo = `OSRELEASE=6.12.107-test
BUILD-ID=0123abcd
PAGESIZE=4096
SYMBOL(swapper_pg_dir)=ffffffff81000000
NUMBER(VA_BITS)=48
NUMBER(PAGE_OFFSET)=0xffffaf8000000000
NUMBER(phys_ram_base)=2147483648
NUMBER(KERNEL_LINK_ADDR)=0xffffffff80000000
NUMBER(va_kernel_pa_offset)=0xfffffffeffe00000
`

func (d *dead) Info() *kernel.VMCoreInfo {
	info, err := kernel.ParseVMCoreInfo([]byte(riscvInfo + d.info))
	if err != nil {
		panic(err)
	}
	return info
}

func (d *dead) Arch() *kernel.Arch {
	a, err := kernel.NewArch(vmcore.MachineRISCV, d.Info())
	if err != nil {
		panic(err)
	}
	return a
}

func (d *dead) Utsname() (kernel.Utsname, error) {
	if d.uts == nil {
		return kernel.Utsname{}, fmt.Errorf("init_uts_ns: %w", errGone)
	}
	return *d.uts, nil
}

// What memory says beyond the log these kernels do not know.

func (d *dead) CommandLine() (string, error) { return "", errGone }

func (d *dead) Hardware() (string, error) { return "", errGone }

func (d *dead) Tainted() (uint64, error) { return d.taints, nil }

func (d *dead) Log() iter.Seq2[kernel.LogRecord, error] {
	return func(yield func(kernel.LogRecord, error) bool) {
		for _, r := range d.log {
			if !yield(r, nil) {
				return
			}
		}
		if d.logErr != nil {
			yield(kernel.LogRecord{}, d.logErr)
		}
	}
}

func (d *dead) CPUs() ([]kernel.CPU, error) {
	if d.cpus == nil {
		return nil, fmt.Errorf("crash notes: %w", kernel.ErrNotFound)
	}
	return d.cpus, nil
}

func (d *dead) PanicCPU() (int, error) {
	if d.panic == 0 {
		return -1, fmt.Errorf("panic_cpu: %w", errGone)
	}
	return d.panic - 1, nil
}

func (d *dead) Modules() iter.Seq2[kernel.Module, error] {
	return func(yield func(kernel.Module, error) bool) {
		for _, m := range d.modules {
			if !yield(m, nil) {
				return
			}
		}
		if d.modules == nil {
			yield(kernel.Module{}, fmt.Errorf("list of modules: %w", errGone))
		}
	}
}

func (d *dead) SymbolAt(va kernel.VirtAddr) (kernel.Symbol, uint64, error) {
	if d.symbols == nil {
		return kernel.Symbol{}, 0, fmt.Errorf("kallsyms: %w", errGone)
	}
	base := va &^ 0xff
	name, ok := d.symbols[base]
	if !ok {
		return kernel.Symbol{}, 0, kernel.ErrNotFound
	}
	name, module, _ := strings.Cut(name, " ")
	return kernel.Symbol{Name: name, Module: module, Addr: base, Size: 0x100}, uint64(va - base), nil
}

// parseLog makes records of lines as in dmesg.txt.
func parseLog(t testing.TB, text string) []kernel.LogRecord {
	t.Helper()
	var log []kernel.LogRecord
	for line := range strings.Lines(text) {
		stamp, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "] ")
		if !ok {
			t.Fatalf("line %q", line)
		}
		s, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimPrefix(stamp, "[")), 64)
		if err != nil {
			t.Fatal(err)
		}
		r := kernel.LogRecord{Seq: uint64(len(log)), Time: time.Duration(s * 1e9), Text: text}
		log = append(log, r)
	}
	return log
}

func testCPU(number int, pid uint32, pc, ra kernel.VirtAddr) kernel.CPU {
	c := kernel.CPU{Number: number, PID: pid, PC: pc, RA: ra, SP: 0xffff8f8000003000}
	for i, name := range []string{"pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1"} {
		v := uint64(i) * 0x1111
		switch name {
		case "pc":
			v = uint64(pc)
		case "ra":
			v = uint64(ra)
		}
		c.Registers = append(c.Registers, kernel.Register{Name: name, Value: v})
	}
	return c
}

// scenarios are dead kernels with golden reports in testdata.
func scenarios(t testing.TB) map[string]*dead {
	read := func(name string) []kernel.LogRecord {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return parseLog(t, string(b))
	}
	uts := &kernel.Utsname{
		Sysname: "Linux", Nodename: "board7", Release: "6.12.107-test",
		Version: "#1 SMP Debian 6.12.107-1 (2026-08-29)", Machine: "riscv64",
	}
	symbols := map[kernel.VirtAddr]string{
		0xffffffff806f1000: "sysrq_handle_crash", 0xffffffff806f1100: "sysrq_reset_seq_param_set",
		0xffffffff8000e400: "riscv_crash_save_regs", 0xffffffff80100600: "__crash_kexec",
		0xffffffff80a74f00: "default_idle_call", 0xffffffff02345600: "disk_read gadget",
	}
	return map[string]*dead{
		"sysrq": {
			info: "CRASHTIME=1795423061\n", uts: uts, log: read("sysrq.log"), panic: 2, symbols: symbols,
			cpus: []kernel.CPU{
				testCPU(0, 0, 0xffffffff80a74f36, 0xffffffff80a74f2e),
				testCPU(1, 1, 0xffffffff8000e470, 0xffffffff801006c6),
			},
			modules: []kernel.Module{{Name: "ext4", Size: 1 << 20, State: "live"}, {Name: "gadget", State: "coming"}},
		},
		// An oops that went to crash_kexec() directly: no word of panic.
		"oops": {
			uts: uts, log: read("oops.log"), symbols: symbols,
			cpus: []kernel.CPU{
				testCPU(-1, 0, 0xffffffff80a74f36, 0xffffffff80a74f2e),
				testCPU(-1, 245, 0xffffffff02345678, 0xffffffff02345600),
			},
			modules: []kernel.Module{},
		},
		// Nothing but the notes of the dump's header.
		"nothing": {logErr: fmt.Errorf("kernel log: %w", errGone)},
	}
}

func TestGolden(t *testing.T) {
	for name, d := range scenarios(t) {
		t.Run(name, func(t *testing.T) {
			var text bytes.Buffer
			r := build(d, &Options{LogLines: 12})
			if err := r.WriteText(&text, 80); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(text.String()) {
				if len(line) > 81 || strings.HasSuffix(line, " \n") {
					t.Errorf("line of %d columns: %q", len(line)-1, line)
				}
			}
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, text.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), text.String()); d != "" {
				t.Errorf("report (-want +got), -update accepts it:\n%s", d)
			}
			var js bytes.Buffer
			if err := r.WriteJSON(&js); err != nil {
				t.Fatal(err)
			}
			var back Report
			if err := json.Unmarshal(js.Bytes(), &back); err != nil {
				t.Fatal(err)
			}
			r.Log.short = nil
			if d := cmp.Diff(r, &back, cmp.AllowUnexported(Log{})); d != "" {
				t.Errorf("JSON loses something (-want +got):\n%s", d)
			}
		})
	}
}

func TestReasons(t *testing.T) {
	const task = "[ 50.0] CPU: 3 PID: 77 Comm: my task 1 Kdump: loaded Tainted: G        W  OE      5.10.0-8 #1 Debian\n"
	for _, c := range []struct {
		name, log     string
		kind          Kind
		reason, cause string
		where         string
		pid           int64
	}{
		{
			"panic alone",
			"[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n" +
				"[ 1.0] CPU: 0 UID: 0 PID: 1 Comm: swapper/0 Not tainted 7.2.13 #1\n" +
				"[ 1.0] Call Trace:\n[ 1.0]  dump_stack+0x1/0x2\n[ 1.0]  vpanic+0x1/0x200\n[ 1.0]  mount_root_generic+0x1c/0x2c\n",
			KindPanic, "VFS: Unable to mount root fs on unknown-block(0,0)", "", "mount_root_generic+0x1c/0x2c", 1,
		},
		{
			"oops, then panic",
			"[ 50.0] BUG: kernel NULL pointer dereference, address: 0000000000000008\n[ 50.0] Oops: Oops: 0002 [#1] SMP\n" + task +
				"[ 50.0] RIP: 0010:my_write+0x12/0x40 [mine]\n[ 50.0] Call Trace:\n[ 50.0]  <TASK>\n[ 50.0]  ? die+0x1/0x2\n[ 50.0]  vfs_write+0x3/0x4\n" +
				"[ 50.1] ---[ end trace 0000000000000000 ]---\n[ 50.2] Kernel panic - not syncing: Fatal exception\n" +
				"[ 50.2] CPU: 9 PID: 99 Comm: other Not tainted 5.10.0-8 #1\n[ 50.2]  panic+0x1/0x2\n",
			KindOops, "Fatal exception", "BUG: kernel NULL pointer dereference, address: 0000000000000008", "my_write+0x12/0x40 [mine]", 77,
		},
		{
			"survived oops, long before sysrq",
			"[ 5.0] kernel BUG at mm/slub.c:1!\n[ 5.0] ---[ end trace ]---\n" +
				"[ 50.0] sysrq: Trigger a crash\n[ 50.0] Kernel panic - not syncing: sysrq triggered crash\n" + task,
			KindSysrq, "sysrq triggered crash", "sysrq: Trigger a crash", "", 77,
		},
		{
			"warning just before a panic of its own",
			"[ 49.0] WARNING: CPU: 1 PID: 2 at kernel/x.c:3\n[ 49.0] CPU: 1 PID: 2 Comm: warner Not tainted 6.1.0 #1\n" +
				"[ 50.0] Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled\n" + task,
			KindMemory, "Out of memory: system-wide panic_on_oom is enabled", "", "", 77,
		},
		{
			"warning that panics",
			"[ 50.0] WARNING: CPU: 1 PID: 2 at kernel/x.c:3\n" + task + "[ 50.0] Kernel panic - not syncing: kernel: panic_on_warn set ...\n",
			KindWarning, "kernel: panic_on_warn set ...", "WARNING: CPU: 1 PID: 2 at kernel/x.c:3", "", 77,
		},
		{
			"lockup",
			"[ 50.0] watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [my task 1:77]\n" + task +
				"[ 50.0] Kernel panic - not syncing: softlockup: hung tasks\n",
			KindLockup, "softlockup: hung tasks", "watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [my task 1:77]", "", 77,
		},
		{"nothing happened", "[ 1.0] hello\n[ 2.0] WARNING: old\n", KindUnknown, "", "", "", -1},
		{"survived", "[ 1.0] Oops [#1]\n" + task + "[ 400.0] hello\n", KindUnknown, "", "", "", -1},
		{"hostile", "[ 1.0] CPU: PID: Comm:\n[ 1.0] Kernel panic - not syncing\n[ 1.0] CPU: 99999999999 PID: x\n[ 1.0] [<zz>] +0x/0x\n[ 1.0]  +0x1/0x2\n",
			KindPanic, "", "", "", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := build(&dead{log: parseLog(t, c.log)}, nil)
			got := r.Crash
			if got.Kind != c.kind || got.Reason != c.reason || got.Cause != c.cause || got.Where != c.where {
				t.Errorf("got %s, reason %q, cause %q, at %q;\nwant %s, reason %q, cause %q, at %q",
					got.Kind, got.Reason, got.Cause, got.Where, c.kind, c.reason, c.cause, c.where)
			}
			pid := int64(-1)
			if got.Task != nil {
				pid = got.Task.PID
			}
			if pid != c.pid {
				t.Errorf("task %+v; want PID %d", got.Task, c.pid)
			}
			if pid == 77 && (got.Task.Comm != "my task 1" || got.Task.CPU != 3 || r.Kernel.Taint != "Tainted: G W OE") {
				t.Errorf("task %+v, taint %q", got.Task, r.Kernel.Taint)
			}
		})
	}
}

// TestPrograms checks that what programs write to the log is not believed.
func TestPrograms(t *testing.T) {
	log := parseLog(t, "[ 1.0] Kernel panic - not syncing: only a joke\n")
	log[0].Facility = 1
	if r := build(&dead{log: log}, nil); r.Crash.Kind != KindUnknown {
		t.Errorf("kind %s of a program's words; want unknown", r.Crash.Kind)
	}
}

func TestMakeWithoutKernel(t *testing.T) {
	if r, err := Make(nil, nil); err == nil || r != nil {
		t.Errorf("Make(nil) = %v, %v; want an error", r, err)
	}
}

func TestLogTail(t *testing.T) {
	d := &dead{}
	for i := range 1000 {
		d.log = append(d.log, kernel.LogRecord{Text: fmt.Sprint(i), Caller: kernel.Caller{Kind: 'T', ID: 1}})
	}
	r := build(d, &Options{LogLines: 3})
	want := []string{"[    0.000000] [      T1] 997", "[    0.000000] [      T1] 998", "[    0.000000] [      T1] 999"}
	if d := cmp.Diff(want, r.Log.Tail); d != "" || r.Log.Records != 1000 {
		t.Errorf("%d records, tail (-want +got):\n%s", r.Log.Records, d)
	}
}

// Who reads of a crash must read of the doubts, in both forms, and first.
func TestWarnings(t *testing.T) {
	r := build(&dead{}, &Options{Warnings: []string{"the panic room's /init is not as it was loaded"}})
	var text, js bytes.Buffer
	if err := errors.Join(r.WriteText(&text, 80), r.WriteJSON(&js)); err != nil {
		t.Fatal(err)
	}
	want := "  warning    the panic room's /init is not as it was loaded\n"
	if head, _, _ := strings.Cut(text.String(), "  kernel "); !strings.Contains(head, want) {
		t.Errorf("text begins %q; want %q in it", head, want)
	}
	if !strings.Contains(js.String(), `"warnings": [`) {
		t.Errorf("JSON has no warnings:\n%s", &js)
	}
}

func TestDuration(t *testing.T) {
	for s, want := range map[float64]string{
		6.98: "7.0 s", 200: "3 min 20 s", 7300: "2 h 1 min", 100 * 3600: "4 days 4 h",
	} {
		if got := duration(s); got != want {
			t.Errorf("duration(%v) = %q; want %q", s, got, want)
		}
	}
}

func FuzzReport(f *testing.F) {
	f.Add("Kernel panic - not syncing: x\nCPU: 1 UID: 0 PID: 1 Comm: init Not tainted 6\n [<ffffffff80000000>] f+0x0/0x1 [m]", 80)
	f.Add("Oops\n---[ end \nKernel panic - not syncing\xff\x00\x1b[31m", 10)
	f.Fuzz(func(t *testing.T, text string, width int) {
		d := &dead{symbols: map[kernel.VirtAddr]string{}}
		for i, line := range strings.Split(text, "\n") {
			d.log = append(d.log, kernel.LogRecord{Time: time.Duration(i) * time.Second, Text: line})
		}
		width = width & 0xff
		r := build(d, nil)
		var b bytes.Buffer
		if err := r.WriteText(&b, width); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			line = strings.TrimSuffix(line, "\n")
			if width > 0 && len(line) > max(width, minWidth) {
				t.Errorf("%d columns, width %d: %q", len(line), width, line)
			}
			if printable(line) != line {
				t.Errorf("unprintable %q", line)
			}
		}
		if err := r.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
	})
}

// build makes a report of what has no memory to look into.
func build(k source, opts *Options) *Report {
	r, in, _ := begin(k, opts)
	r.explain(k, in, nil, nil, 0)
	return r
}
