package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// answer is how one side did in one step.
type answer struct {
	ok   bool
	text string
}

// row is one line of the table.
type row struct {
	step        string
	stock, ours answer
	stockWorks  bool // is expected of the stock tools
}

// comparison is one run of everything.
type comparison struct {
	set    lab.Settings
	kernel *lab.Kernel
	stock  *lab.Stock
	dir    string
	say    lab.Say

	kexec string // version, as it says itself
	rows  []row
}

const (
	headerMiB = 1 // of the stock tools' /proc/vmcore, for its program headers
	sampleMiB = 128
)

// append is the command line that both crash kernels get beside the console.
const appendLine = "console=ttyS0 panic=-1 nr_cpus=1 cma=0 reset_devices sysctl.vm.overcommit_memory=1"

func named(name string, s script.Step) script.Step { s.Name = name; return s }

func loaded(name string) script.Step {
	return script.Step{Name: name, Show: &script.Show{Paths: []string{"/sys/kernel/kexec_crash_loaded"}}}
}

// scenario is the machine; both sides get the same.
func (c *comparison) scenario(name, crashkernel string) *lab.Scenario {
	return &lab.Scenario{
		Name: name, Dir: filepath.Join(c.dir, name), Kernel: c.kernel,
		CPUs: c.set.CPUs, MemMiB: c.set.MemMiB, SV: c.set.SV, Crashkernel: crashkernel,
		Disk: &lab.Disk{SizeMiB: 2*c.set.MemMiB + 512}, Limit: 30 * time.Minute,
	}
}

func (c *comparison) run(ctx context.Context) error {
	stock, err := c.runStock(ctx)
	if err != nil {
		return err
	}
	stockHigh, err := c.runStockHigh(ctx)
	if err != nil {
		return err
	}
	ours, err := c.runOurs(ctx)
	if err != nil {
		return err
	}
	oursHigh, err := c.runOursHigh(ctx)
	if err != nil {
		return err
	}
	if err := c.compare(ctx, stock, stockHigh, ours, oursHigh); err != nil {
		return err
	}
	return errors.Join(stock.Clean(), stockHigh.Clean(), ours.Clean(), oursHigh.Clean())
}

func (c *comparison) kexecLoad(name string, flags ...string) script.Step {
	args := append([]string{"kexec"}, flags...)
	return named(name, lab.Run(append(args, "-p", c.kernel.Image, "--initrd="+lab.StockInitrd, "--append="+appendLine)...))
}

// runStock lets the stock tools load, refuse, and save.
func (c *comparison) runStock(ctx context.Context) (*lab.Outcome, error) {
	c.say("the stock tools: load, refuse, save")
	s := c.scenario("stock", c.set.Crashkernel)
	s.Stock = c.stock
	s.Stock.Steps = []script.Step{
		named("log", lab.Run("makedumpfile", "--dump-dmesg", "/proc/vmcore", lab.CrashDir+"/dmesg.txt")),
		named("dump", lab.Run("makedumpfile", "-z", "-d", "31", "/proc/vmcore", lab.CrashDir+"/vmcore")),
		{Name: "header", Write: &script.Write{Path: lab.CrashDir + "/header", Copy: "/proc/vmcore", Size: headerMiB << 20}},
		{Name: "read", Write: &script.Write{Path: "/dev/null", Copy: "/proc/vmcore", Size: sampleMiB << 20}},
	}
	truncated := c.kexecLoad("truncated", "-c")
	truncated.Run.Args[3] = "/tmp/truncated"
	tooBig := c.kexecLoad("refused by the kernel", "-c")
	tooBig.Run.Args[4] = "--initrd=/tmp/big"
	s.Steps = []script.Step{
		lab.Burden(),
		named("version", lab.Run("kexec", "--version")),
		c.kexecLoad("file", "-s"),
		{Name: "write", Write: &script.Write{Path: "/tmp/truncated", Copy: c.kernel.Image, Size: 10 << 20}},
		truncated,
		c.kexecLoad("load", "-c"),
		loaded("loaded before"),
		{Name: "write", Write: &script.Write{Path: "/tmp/big", Size: 256 << 20}},
		tooBig,
		loaded("loaded after"),
		c.kexecLoad("load again", "-c"),
		{Name: "panic", Write: &script.Write{Path: "/proc/sysrq-trigger", Data: []byte("c")}},
	}
	return s.Run(ctx)
}

func (c *comparison) runStockHigh(ctx context.Context) (*lab.Outcome, error) {
	c.say("the stock tools: two regions")
	s := c.scenario("stock-high", "256M,high")
	s.MemMiB = 8192 // less has no memory above 4 GiB
	s.Stock = c.stock
	s.Stock.Steps = nil
	s.Steps = []script.Step{c.kexecLoad("load", "-c")}
	return s.Run(ctx)
}

func (c *comparison) oursOn(ctx context.Context, s *lab.Scenario) (*lab.Outcome, error) {
	program, err := lab.PanicRoom(ctx, c.kernel)
	if err != nil {
		return nil, err
	}
	s.Programs = []string{program}
	return s.Run(ctx)
}

func (c *comparison) oursLoad(name string, flags ...string) script.Step {
	return named(name, lab.Run(append([]string{"panicroom", "load", "--target", lab.CrashDir, "--final", "poweroff"}, flags...)...))
}

func (c *comparison) runOurs(ctx context.Context) (*lab.Outcome, error) {
	c.say("panicroom: load, refuse, save")
	s := c.scenario("ours", c.set.Crashkernel)
	s.Steps = []script.Step{
		lab.Burden(),
		{Name: "write", Write: &script.Write{Path: "/tmp/truncated", Copy: c.kernel.Image, Size: 10 << 20}},
		c.oursLoad("truncated", "--kernel", "/tmp/truncated"),
		c.oursLoad("load", "--test-raw"),
		loaded("loaded before"),
		c.oursLoad("refused by the kernel", "--test-omit-dtb"),
		loaded("loaded after"),
		named("panic", lab.Run("panicroom", "crash", "--yes")),
	}
	return c.oursOn(ctx, s)
}

func (c *comparison) runOursHigh(ctx context.Context) (*lab.Outcome, error) {
	c.say("panicroom: two regions")
	s := c.scenario("ours-high", "256M,high")
	s.MemMiB = 8192
	s.Steps = []script.Step{c.oursLoad("load"), named("panic", lab.Run("panicroom", "crash", "--yes"))}
	return c.oursOn(ctx, s)
}

// compare makes the rows.
func (c *comparison) compare(ctx context.Context, stock, stockHigh, ours, oursHigh *lab.Outcome) error {
	if r, ok := stock.Step("version"); ok {
		c.kexec = strings.TrimSpace(r.Stdout + r.Stderr)
	}
	stockFiles, err := stock.Files(ctx)
	if err != nil {
		return err
	}
	crash, ourErr := savedCrash(ctx, ours)
	_, highErr := savedCrash(ctx, oursHigh)
	inner, broken := stock.StockResults()
	if len(inner) == 0 {
		return fmt.Errorf("the stock tools' crash kernel did not come up (%s)\n%s", broken, stock.Story())
	}
	saved := map[string]lab.Result{}
	for _, r := range inner {
		saved[r.Name] = r
	}
	add := func(r row) { c.rows = append(c.rows, r) }

	ourLoad := step(ours, "load", "loads by kexec_load, the one way that all kernels have")
	add(row{step: "load by kexec_file_load (`-s`)", stock: step(stock, "file", "loads"), ours: ourLoad})
	add(row{step: "load by kexec_load", stock: step(stock, "load", "loads"), ours: ourLoad, stockWorks: true})
	add(row{step: "load two thirds of a kernel image missing",
		stock: refuses(stock, "truncated", 0), ours: refuses(ours, "truncated", 4)})
	add(row{step: "a load that the kernel refuses, with a panic kernel in place",
		stock: keeps(stock), ours: keeps(ours)})
	add(row{step: "load with `crashkernel=256M,high`", stock: step(stockHigh, "load", "loads"),
		ours: verdictOf(highErr, "loads, and the crash is saved")})

	covered, all, err := coverage(filepath.Join(stockFiles, "header"), stock)
	if err != nil {
		return err
	}
	oursCovered := answer{text: fmt.Sprint(ourErr)}
	if ourErr == nil {
		if oursCovered, err = ourCoverage(filepath.Join(crash, "vmcore.raw"), all); err != nil {
			return err
		}
	}
	add(row{step: "memory that /proc/vmcore shows",
		stock: answer{covered+8 >= all, fmt.Sprintf("%d of %d MiB", covered, all)}, ours: oursCovered})
	add(row{step: "save the log", stock: stepOf(saved["log"], "saved"), ours: hasFile(crash, "dmesg.txt", ourErr)})
	add(row{step: "save the dump (level 31)", stock: stepOf(saved["dump"], "saved"), ours: hasFile(crash, "vmcore", ourErr)})
	rate := float64(sampleMiB) / saved["read"].Took.Seconds()
	add(row{step: "read /proc/vmcore", stock: answer{true, fmt.Sprintf("%.0f MiB/s (read(2), %d MiB)", rate, sampleMiB)},
		ours: ourRate(ours, all), stockWorks: true})

	if ourErr != nil {
		return nil
	}
	c.say("makedumpfile on panicroom's header")
	theirs, err := c.makedumpfile(ctx, crash)
	if err != nil {
		return err
	}
	add(row{step: "filter at level 31 when the header is complete", stock: theirs, ours: readable(filepath.Join(crash, "vmcore"))})
	report, err := os.ReadFile(filepath.Join(crash, "report.txt"))
	add(row{step: "say what happened, without debug data", stock: answer{false, "no such tool"},
		ours: answer{err == nil && strings.Contains(string(report), "sysrq"), fmt.Sprintf("report.txt, %d lines", strings.Count(string(report), "\n"))}})
	return nil
}

// step is the answer of a step that should succeed.
func step(o *lab.Outcome, name, works string) answer {
	r, ok := o.Step(name)
	if !ok {
		return answer{text: "the machine did not come so far"}
	}
	return stepOf(r, works)
}

func stepOf(r lab.Result, works string) answer {
	if r.Ended && r.Exit == 0 {
		return answer{true, works}
	}
	return answer{text: complaint(r)}
}

// noise are lines that a failure does not need.
var noise = regexp.MustCompile(`^(Warning: No|The kernel version is not supported|The makedumpfile operation|readpage_elf:|readmem:|hint:|makedumpfile Failed|$)`)

// complaint is what a failed program said, without what it always says.
func complaint(r lab.Result) string {
	if !r.Ended {
		return "did not end"
	}
	for line := range strings.Lines(r.Stderr + "\n" + r.Stdout) {
		if line = strings.TrimSpace(line); !noise.MatchString(line) {
			return fmt.Sprintf("fails: \"%s\"", line)
		}
	}
	return fmt.Sprintf("fails: exit %d %s", r.Exit, r.Text)
}

// refuses is the answer to a kernel image that cannot work: good is an error
// with the given code, 0 for any.
func refuses(o *lab.Outcome, name string, code int) answer {
	r, ok := o.Step(name)
	switch {
	case !ok || !r.Ended:
		return answer{text: "the machine did not come so far"}
	case r.Exit == 0:
		return answer{text: "loads it without a word; the crash would hang"}
	case code != 0 && r.Exit != code:
		return answer{text: fmt.Sprintf("exit %d: %s", r.Exit, complaint(r))}
	}
	return answer{true, "refuses: " + strings.TrimPrefix(complaint(r), "fails: ")}
}

// keeps tells whether the panic kernel survived a load that failed.
func keeps(o *lab.Outcome) answer {
	before, _ := o.Step("loaded before")
	refused, _ := o.Step("refused by the kernel")
	after, _ := o.Step("loaded after")
	switch {
	case strings.TrimSpace(before.Stdout) != "1":
		return answer{text: "nothing was loaded before"}
	case !refused.Ended || refused.Exit == 0:
		return answer{text: "it was not refused"}
	case strings.TrimSpace(after.Stdout) != "1":
		return answer{text: complaint(refused) + ", and the panic kernel that was there is gone"}
	}
	return answer{true, "what was there is there again"}
}

func verdictOf(err error, works string) answer {
	if err != nil {
		return answer{text: err.Error()}
	}
	return answer{true, works}
}

// savedCrash is the directory of the one complete crash on a disk.
func savedCrash(ctx context.Context, o *lab.Outcome) (string, error) {
	for _, r := range o.Results {
		if r.Name == "load" && (!r.Ended || r.Exit != 0) {
			return "", errors.New(complaint(r))
		}
	}
	crashes, err := o.Crashes(ctx)
	switch {
	case err != nil:
		return "", err
	case o.CrashKernel() < 0:
		return "", errors.New("the panic kernel did not start")
	case len(crashes) != 1 || strings.HasSuffix(crashes[0], "-incomplete"):
		return "", fmt.Errorf("saved crashes %q; want one, complete", crashes)
	}
	return crashes[0], nil
}

func hasFile(crash, name string, err error) answer {
	if err != nil {
		return answer{text: err.Error()}
	}
	st, err := os.Stat(filepath.Join(crash, name))
	if err != nil || st.Size() == 0 {
		return answer{text: fmt.Sprintf("no %s", name)}
	}
	return answer{true, "saved, " + ui.Bytes(uint64(st.Size()))}
}

// coverage is how many MiB of memory an elfcorehdr has, and how many there are
// outside of the crash kernel's.
func coverage(header string, o *lab.Outcome) (covered, all uint64, err error) {
	f, err := elf.Open(header)
	if err != nil {
		return 0, 0, fmt.Errorf("header of the stock tools' /proc/vmcore: %w", err)
	}
	defer f.Close()
	first := true
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		// The first maps the kernel's image, which is in another one again.
		if first {
			first = false
			continue
		}
		covered += p.Memsz
	}
	all = uint64(o.Scenario.MemMiB)<<20 - o.Facts.Crash
	return covered >> 20, all >> 20, nil
}

func ourCoverage(path string, all uint64) (answer, error) {
	d, err := vmcore.Open(path)
	if err != nil {
		return answer{}, err
	}
	defer d.Close()
	var sum uint64
	for _, r := range d.Ranges() {
		sum += uint64(r.End - r.Start)
	}
	// Everything but what belongs to the firmware.
	return answer{sum>>20+8 >= all, fmt.Sprintf("%d of %d MiB", sum>>20, all)}, nil
}

var dumpPhase = regexp.MustCompile(`panicroom: \[[0-9.]+\] phase dump: .*, ([0-9.]+) s$`)

// ourRate is the speed of the whole dump: reading, choosing, compressing and
// writing.
func ourRate(o *lab.Outcome, all uint64) answer {
	l, i := o.Console(dumpPhase, o.CrashKernel())
	if i < 0 {
		return answer{text: "no dump"}
	}
	var seconds float64
	fmt.Sscan(dumpPhase.FindStringSubmatch(l.Text)[1], &seconds)
	return answer{true, fmt.Sprintf("%.0f MiB/s (mmap; read, chosen, compressed and written in %.1f s)", float64(all)/seconds, seconds)}
}

// makedumpfile filters panicroom's raw copy, whose header is complete.
func (c *comparison) makedumpfile(ctx context.Context, crash string) (answer, error) {
	out := filepath.Join(c.dir, "makedumpfile.dump")
	if err := os.Remove(out); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return answer{}, err
	}
	text, err := exec.CommandContext(ctx, "qemu-riscv64-static", "-L", c.stock.Root,
		"-E", "LD_LIBRARY_PATH="+filepath.Join(c.stock.Root, "usr/lib/riscv64-linux-gnu"),
		filepath.Join(c.stock.Root, "usr/bin/makedumpfile"), "-z", "-d", "31", filepath.Join(crash, "vmcore.raw"), out).CombinedOutput()
	if err != nil {
		return answer{text: fmt.Sprintf("fails: %s", lastLine(text))}, nil
	}
	defer os.Remove(out)
	return readable(out), nil
}

// readable tells whether a dump still has what a reader needs first: the page
// tables on the way to the kernel's own banner and to its struct pages.
func readable(path string) answer {
	d, err := vmcore.Open(path)
	if err != nil {
		return answer{text: err.Error()}
	}
	defer d.Close()
	k, err := kernel.Open(d, nil)
	if err != nil {
		return answer{text: fmt.Sprintf("the dump does not open: %v", err)}
	}
	tables, missing := 0, 0
	page := make([]byte, d.PageSize())
	for pfn, err := range k.PageTables() {
		if err != nil {
			return answer{text: fmt.Sprintf("the dump's page tables: %v", err)}
		}
		tables++
		if _, err := d.ReadPhys(page, vmcore.PhysAddr(uint64(pfn)*d.PageSize())); err != nil {
			missing++
		}
	}
	if missing > 0 {
		return answer{text: fmt.Sprintf("drops %d of %d pages of page tables", missing, tables)}
	}
	return answer{true, fmt.Sprintf("all %d pages of page tables are in the dump", tables)}
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// table is the comparison for people, in Markdown.
func (c *comparison) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Linux %s, QEMU virt, %d harts, %s, crashkernel=%s; the stock tools are %s and makedumpfile of Debian sid.\n\n",
		c.kernel.Release, c.set.CPUs, ui.Bytes(uint64(c.set.MemMiB)<<20), c.set.Crashkernel, c.kexec)
	b.WriteString("| | kexec-tools, makedumpfile | panicroom |\n|---|---|---|\n")
	mark := func(a answer) string {
		if a.ok {
			return "yes: " + a.text
		}
		return "**no**: " + a.text
	}
	for _, r := range c.rows {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.step, mark(r.stock), mark(r.ours))
	}
	return b.String()
}
