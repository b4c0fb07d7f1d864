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
}

type readersJob struct {
	Dump     string        `json:"dump"`
	Raw      string        `json:"raw"`
	PageSize int           `json:"page_size"`
	Segments [][3]uint64   `json:"segments"` // phys, size, offset
	Reads    []virtualRead `json:"reads"`
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

// readers lets libkdumpfile and drgn of Debian sid read the dump.
func (r *Report) readers(ctx context.Context, s *space, d *diskdump, in Inputs) error {
	root, err := lab.FetchSysroot(ctx, lab.SysrootOptions{Suite: "sid", Arch: "amd64", Packages: readerPackages, Say: in.Say})
	if err != nil {
		return err
	}
	job := readersJob{PageSize: pageSize}
	if job.Dump, err = filepath.Abs(in.Dump); err != nil {
		return err
	}
	if job.Raw, err = filepath.Abs(in.Raw); err != nil {
		return err
	}
	for _, l := range s.c.loads {
		job.Segments = append(job.Segments, [3]uint64{l.phys, l.size, l.offset})
	}
	if job.Reads, err = s.virtualReads(); err != nil {
		return err
	}
	var answers struct {
		Libkdumpfile *readerAnswer `json:"libkdumpfile"`
		Drgn         *readerAnswer `json:"drgn"`
		Error        string        `json:"error"`
	}
	if err := runPython(ctx, root, readersScript, job, &answers); err != nil {
		return err
	}
	release := s.c.info.text("OSRELEASE")
	judge := func(name string, a *readerAnswer) {
		if a == nil {
			r.Findings = append(r.Findings, Finding{Check: name + " opens the dump", Detail: answers.Error})
			return
		}
		r.Seconds[name] = a.Seconds
		r.Findings = append(r.Findings,
			Finding{Check: name + " opens the dump", OK: strings.EqualFold(a.Arch, "riscv64") && a.Release == release,
				Detail: fmt.Sprintf("%s, kernel %s; want %s", a.Arch, a.Release, release)},
			Finding{Check: name + " reads every page as the raw copy has it", OK: a.Physical.Wrong == 0 && a.Physical.Pages == r.Dumped,
				Detail: fmt.Sprintf("%d of %d pages, %d wrong %v", a.Physical.Pages, r.Dumped, a.Physical.Wrong, a.Physical.Examples)})
		for _, want := range job.Reads {
			said, ok := a.Virtual[want.Name]
			if !ok {
				said = "not read"
			}
			r.Findings = append(r.Findings, Finding{Check: fmt.Sprintf("%s reads %s", name, want.Name), OK: ok && said == "",
				Detail: strings.TrimSpace(fmt.Sprintf("at %#x %s", want.VA, said))})
		}
	}
	judge("libkdumpfile", answers.Libkdumpfile)
	if a := answers.Libkdumpfile; a != nil {
		sum := sha256.Sum256(bytes.TrimRight(d.dumped, "\x00"))
		r.Findings = append(r.Findings,
			Finding{Check: "libkdumpfile sees the same pages in the dump", OK: a.Bitmap == hex.EncodeToString(sum[:])},
			Finding{Check: "libkdumpfile sees every CPU", OK: a.CPUs == s.c.cpus, Detail: fmt.Sprintf("%d; want %d", a.CPUs, s.c.cpus)})
	}
	judge("drgn", answers.Drgn)
	return nil
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
		reads = append(reads, virtualRead{name, va, hex.EncodeToString(b)})
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
