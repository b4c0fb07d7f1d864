package referee

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // readers.py
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

//go:embed readers.py
var readersScript string

// readerPackages bring libkdumpfile, drgn and the Python that they are for.
var readerPackages = []string{"python3", "python3-drgn", "python3-libkdumpfile"}

// virtualRead is a kernel virtual address with what must stand there.
type virtualRead struct {
	Name string `json:"name"`
	VA   uint64 `json:"va"`
	Hex  string `json:"hex"`
	// tables: only page tables tell where it is, no segment of an ELF core.
	tables bool
}

type readersJob struct {
	Files    []string      `json:"files"`
	Raw      string        `json:"raw"`
	PageSize int           `json:"page_size"`
	Segments [][3]uint64   `json:"segments"` // phys, size, offset
	Runs     [][2]uint64   `json:"runs"`     // of pages that must be there; null: as the bitmap says
	Reads    []virtualRead `json:"reads"`
}

type readersAnswer struct {
	Libkdumpfile      *readerAnswer `json:"libkdumpfile"`
	LibkdumpfileError string        `json:"libkdumpfile_error"`
	Drgn              *readerAnswer `json:"drgn"`
	DrgnError         string        `json:"drgn_error"`
}

type readerAnswer struct {
	Format   string            `json:"format"`
	Arch     string            `json:"arch"`
	Release  string            `json:"release"`
	CPUs     int               `json:"cpus"`
	Bitmap   string            `json:"bitmap"`
	Virtual  map[string]string `json:"virtual"` // "" is right
	Physical struct {
		Pages    int     `json:"pages"`
		Wrong    int     `json:"wrong"`
		Examples [][]any `json:"examples"`
	} `json:"physical"`
	Seconds float64 `json:"seconds"`
}

// askReaders lets libkdumpfile and drgn of Debian sid read a dump.
func askReaders(ctx context.Context, s *space, raw string, files []string, runs [][2]uint64, reads []virtualRead, say lab.Say) (*readersAnswer, error) {
	root, err := lab.FetchSysroot(ctx, lab.SysrootOptions{Suite: "sid", Arch: "amd64", Packages: readerPackages, Say: say})
	if err != nil {
		return nil, err
	}
	job := readersJob{PageSize: pageSize, Runs: runs, Reads: reads}
	if job.Raw, err = filepath.Abs(raw); err != nil {
		return nil, err
	}
	for _, f := range files {
		path, err := filepath.Abs(f)
		if err != nil {
			return nil, err
		}
		job.Files = append(job.Files, path)
	}
	for _, l := range s.c.loads {
		job.Segments = append(job.Segments, [3]uint64{l.phys, l.size, l.offset})
	}
	a := &readersAnswer{}
	return a, runPython(ctx, root, readersScript, job, a)
}

// readers lets libkdumpfile and drgn read the dump.
func (r *Report) readers(ctx context.Context, s *space, d *diskdump, in Inputs) error {
	reads, err := s.virtualReads()
	if err != nil {
		return err
	}
	answers, err := askReaders(ctx, s, in.Raw, []string{in.Dump}, nil, reads, in.Say)
	if err != nil {
		return err
	}
	if answers.Libkdumpfile == nil {
		r.Findings = append(r.Findings, Finding{Check: "libkdumpfile opens the dump", Detail: answers.LibkdumpfileError})
	} else {
		r.judgeReader(s, "libkdumpfile", answers.Libkdumpfile, reads, r.Dumped, true)
		r.sameBitmap(d, answers.Libkdumpfile)
	}
	if answers.Drgn == nil {
		r.Findings = append(r.Findings, Finding{Check: "drgn opens the dump", Detail: answers.DrgnError})
	} else {
		r.judgeReader(s, "drgn", answers.Drgn, reads, r.Dumped, true)
	}
	return nil
}

func (r *Report) sameBitmap(d *diskdump, a *readerAnswer) {
	sum := sha256.Sum256(bytes.TrimRight(d.dumped, "\x00"))
	r.Findings = append(r.Findings, Finding{Check: "libkdumpfile sees the same pages in the dump", OK: a.Bitmap == hex.EncodeToString(sum[:])})
}

// judgeReader looks at what a reader said that opened the dump; pages is how many
// it must have read. One that walks no page tables must have failed where only they
// lead.
func (r *Report) judgeReader(s *space, name string, a *readerAnswer, reads []virtualRead, pages int, walks bool) {
	release := s.c.info.text("OSRELEASE")
	r.Seconds[name] = a.Seconds
	r.Findings = append(r.Findings,
		Finding{Check: name + " opens the dump", OK: strings.EqualFold(a.Arch, "riscv64") && a.Release == release,
			Detail: fmt.Sprintf("%s, kernel %s; want %s", a.Arch, a.Release, release)},
		Finding{Check: name + " reads every page as the raw copy has it", OK: a.Physical.Wrong == 0 && a.Physical.Pages == pages,
			Detail: fmt.Sprintf("%d of %d pages, %d wrong %v", a.Physical.Pages, pages, a.Physical.Wrong, a.Physical.Examples)})
	if name == string(libkdumpfile) {
		r.Findings = append(r.Findings, Finding{Check: "libkdumpfile sees every CPU", OK: a.CPUs == s.c.cpus, Detail: fmt.Sprintf("%d; want %d", a.CPUs, s.c.cpus)})
	}
	for _, want := range reads {
		said, ok := a.Virtual[want.Name]
		if !ok {
			said = "not read"
		}
		if want.tables && !walks {
			r.Findings = append(r.Findings, Finding{Check: name + " does not walk page tables for " + want.Name,
				OK: strings.Contains(said, "could not find memory segment"), Detail: said})
			continue
		}
		r.Findings = append(r.Findings, Finding{Check: fmt.Sprintf("%s reads %s", name, want.Name), OK: ok && said == "",
			Detail: strings.TrimSpace(fmt.Sprintf("at %#x %s", want.VA, said))})
	}
}

// virtualReads picks one address of each part of the kernel's address space.
// What must stand there comes from the raw copy through this package's own
// page table walk.
func (s *space) virtualReads() ([]virtualRead, error) {
	n := need{v: s.c.info}
	uts := n.symbol("init_uts_ns") + uint64(n.number("OFFSET(uts_namespace.name)"))
	swapper := s.root / pageSize
	page := n.symbol("vmemmap") + swapper*uint64(n.number("SIZE(page)"))
	linear := uint64(n.number("NUMBER(PAGE_OFFSET)")) + s.root - uint64(n.number("NUMBER(phys_ram_base)"))
	vmalloc, vmallocEnd := uint64(n.number("NUMBER(VMALLOC_START)")), uint64(n.number("NUMBER(VMALLOC_END)"))
	modules, modulesEnd := uint64(n.number("NUMBER(MODULES_VADDR)")), uint64(n.number("NUMBER(MODULES_END)"))
	if err := n.err(); err != nil {
		return nil, err
	}
	found, err := s.symbols("linux_banner")
	if err != nil {
		return nil, err
	}
	var reads []virtualRead
	add := func(name string, va uint64, size int) ([]byte, error) {
		b, err := s.read(va, size)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		reads = append(reads, virtualRead{name, va, hex.EncodeToString(b), va < linear || va >= modules && va < modulesEnd})
		return b, nil
	}
	banner, err := add("linux_banner", found["linux_banner"], 128)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(banner, []byte("Linux version "+s.c.info.text("OSRELEASE"))) {
		return nil, fmt.Errorf("linux_banner reads %q", banner)
	}
	if _, err := add("init_uts_ns", uts, 6*65); err != nil {
		return nil, err
	}
	if _, err := add("a vmemmap address", page, 64); err != nil {
		return nil, err
	}
	if _, err := add("a linear address", linear, pageSize); err != nil {
		return nil, err
	}
	// The stack of a CPU is in vmalloc space; without one, and for modules,
	// the first word that is not zero.
	var inVmalloc, inModule uint64
	for _, sp := range s.c.stackPointers {
		if sp >= vmalloc && sp < vmallocEnd {
			inVmalloc = sp &^ 7
		}
	}
	err = s.walk(func(va, pfn, pages uint64, table bool) {
		if table || !s.c.has(pfn) {
			return
		}
		b, err := s.page(pfn)
		if err != nil {
			return
		}
		at := firstNonZero(b) &^ 63
		if at < 0 {
			return
		}
		va += uint64(at)
		if inVmalloc == 0 && va >= vmalloc && va < vmallocEnd {
			inVmalloc = va
		}
		if inModule == 0 && va >= modules && va < modulesEnd {
			inModule = va
		}
	})
	if err != nil {
		return nil, err
	}
	if inVmalloc == 0 {
		return nil, errors.New("nothing is mapped in vmalloc space")
	}
	if _, err := add("a vmalloc address", inVmalloc, 64); err != nil {
		return nil, err
	}
	if inModule != 0 {
		if _, err := add("a module's address", inModule, 64); err != nil {
			return nil, err
		}
	}
	return reads, nil
}

// firstNonZero is the offset of the first byte that is not zero, or -1.
func firstNonZero(b []byte) int {
	return bytes.IndexFunc(b, func(r rune) bool { return r != 0 })
}

// runPython runs a script with the Python of a sysroot, its own loader and its
// own libraries: nothing of it is installed.
func runPython(ctx context.Context, root, script string, in, out any) error {
	lib := filepath.Join(root, "usr/lib/x86_64-linux-gnu")
	input, err := json.Marshal(in)
	if err != nil {
		return err
	}
	pythons, err := filepath.Glob(filepath.Join(root, "usr/bin/python3.*[0-9]"))
	if err != nil || len(pythons) == 0 {
		return fmt.Errorf("no python in %s: %w", root, errors.Join(err, os.ErrNotExist))
	}
	slices.Sort(pythons)
	cmd := exec.CommandContext(ctx, filepath.Join(lib, "ld-linux-x86-64.so.2"), "--library-path", lib, pythons[0], "-c", script)
	cmd.Env = []string{
		"PYTHONHOME=" + filepath.Join(root, "usr"),
		"PYTHONPATH=" + filepath.Join(root, "usr/lib/python3/dist-packages"),
		"PYTHONDONTWRITEBYTECODE=1",
		"LC_ALL=C.UTF-8",
		// Debuginfo of the dumped kernel is not needed and not to be asked for.
		"DEBUGINFOD_URLS=",
	}
	cmd.Stdin = bytes.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(pythons[0]), err, tail(stderr.String()))
	}
	if err := json.Unmarshal(stdout.Bytes(), out); err != nil {
		return fmt.Errorf("%s said %q: %w", filepath.Base(pythons[0]), tail(stdout.String()), err)
	}
	return nil
}

// tail is the end of what a program said.
func tail(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 600 {
		s = "..." + s[len(s)-600:]
	}
	return s
}
