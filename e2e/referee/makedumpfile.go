package referee

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// makedumpfile is Debian sid's, for riscv64, run under qemu-user.
//
// At dump levels above 1 its releases up to 1.7.9 are no referee on riscv64:
// they read every struct page of a huge page as one of the first 64.
type makedumpfile struct {
	qemu, root string
	dir        string // for what it writes; to be removed
}

// newMakedumpfile has its files beside the given one.
func newMakedumpfile(ctx context.Context, beside string, say lab.Say) (*makedumpfile, error) {
	qemu, root, err := riscv64Program(ctx, "makedumpfile", say)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(beside), ".referee-")
	if err != nil {
		return nil, err
	}
	return &makedumpfile{qemu, root, dir}, nil
}

// riscv64Program is what runs a program of a riscv64 package of Debian sid on this
// machine, and where the package is unpacked.
func riscv64Program(ctx context.Context, pkg string, say lab.Say) (qemu, root string, err error) {
	if qemu, err = exec.LookPath("qemu-riscv64-static"); err != nil {
		if qemu, err = exec.LookPath("qemu-riscv64"); err != nil {
			return "", "", ui.Hint(errors.New("no qemu-riscv64 on this machine"), "apt-get install qemu-user-static (scripts/prerequisites does it)")
		}
	}
	root, err = lab.FetchSysroot(ctx, lab.SysrootOptions{Suite: "sid", Arch: "riscv64", Packages: []string{pkg}, Say: say})
	return qemu, root, err
}

// riscv64Command runs such a program with the libraries of its own suite.
func riscv64Command(ctx context.Context, qemu, root, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, qemu, append([]string{
		"-L", root, "-E", "LD_LIBRARY_PATH=" + filepath.Join(root, "usr/lib/riscv64-linux-gnu"),
		filepath.Join(root, "usr/bin", program),
	}, args...)...)
}

func (m *makedumpfile) close() error { return os.RemoveAll(m.dir) }

// file is a path for a file that goes away with m.
func (m *makedumpfile) file(name string) string { return filepath.Join(m.dir, name) }

// command is the program, told to print errors only and to write over files.
func (m *makedumpfile) command(ctx context.Context, args ...string) *exec.Cmd {
	return riscv64Command(ctx, m.qemu, m.root, "makedumpfile", append([]string{"--message-level", "4", "-f"}, args...)...)
}

// version is like "1.7.8".
func (m *makedumpfile) version(ctx context.Context) (string, error) {
	out, err := riscv64Command(ctx, m.qemu, m.root, "makedumpfile", "-v").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("makedumpfile -v: %w: %s", err, tail(string(out)))
	}
	var version string
	if _, err := fmt.Sscanf(string(out), "makedumpfile: version %s", &version); err != nil {
		return "", fmt.Errorf("makedumpfile -v says %q", tail(string(out)))
	}
	return version, nil
}

// run runs the program.
func (m *makedumpfile) run(ctx context.Context, args ...string) error {
	return m.runWith(ctx, nil, args...)
}

// runWith runs it with something at its standard input.
func (m *makedumpfile) runWith(ctx context.Context, in io.Reader, args ...string) error {
	c := m.command(ctx, args...)
	c.Stdin = in
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("makedumpfile %v: %w: %s", args, err, tail(string(out)))
	}
	return nil
}

// log compares the log that makedumpfile finds in the dump with ours.
func (r *Report) log(ctx context.Context, in Inputs) error {
	if in.Dmesg == "" {
		return nil
	}
	m, err := newMakedumpfile(ctx, in.Dump, in.Say)
	if err != nil {
		return err
	}
	defer m.close()
	theirs := m.file("dmesg.txt")
	if err := m.run(ctx, "--dump-dmesg", in.Dump, theirs); err != nil {
		r.Findings = append(r.Findings, Finding{Check: "makedumpfile extracts the log", Detail: err.Error()})
		return nil
	}
	f, err := compareFiles("makedumpfile --dump-dmesg equals our log", in.Dmesg, theirs)
	r.Findings = append(r.Findings, f)
	return err
}

// refilter lets makedumpfile filter the dump again at level 1.
func (r *Report) refilter(ctx context.Context, d *diskdump, in Inputs) error {
	m, err := newMakedumpfile(ctx, in.Dump, in.Say)
	if err != nil {
		return err
	}
	defer m.close()
	// As it is. A dump says at which level it was made, and makedumpfile then
	// filters at least at that level, whatever it is asked for, which it does
	// wrongly (see above): what it leaves must still be ours.
	again := m.file("again")
	if err := m.run(ctx, "-d", "1", in.Dump, again); err != nil {
		r.Findings = append(r.Findings, Finding{Check: "makedumpfile -d 1 of the dump", Detail: err.Error()})
	} else {
		r.sameDump("makedumpfile -d 1 of the dump", d, again, in.Level > 1)
	}
	if in.Level <= 1 {
		return nil
	}
	// As a dump of level 1, so that it must keep every page.
	copied := m.file("level1")
	if err := relabel(in.Dump, copied, 1); err != nil {
		return err
	}
	if err := m.run(ctx, "-d", "1", copied, again); err != nil {
		r.Findings = append(r.Findings, Finding{Check: "makedumpfile -d 1 of the dump as one of level 1", Detail: err.Error()})
		return nil
	}
	r.sameDump("makedumpfile -d 1 of the dump as one of level 1", d, again, false)
	return nil
}

// remake compares dumps of levels 0 and 1 with what makedumpfile makes of the
// raw copy. It dies on memory that cannot be read, which ends the comparison.
func (r *Report) remake(ctx context.Context, d *diskdump, in Inputs) error {
	if in.Level > 1 || len(in.Unreadable) > 0 {
		return nil
	}
	m, err := newMakedumpfile(ctx, in.Dump, in.Say)
	if err != nil {
		return err
	}
	defer m.close()
	theirs := m.file("theirs")
	if err := m.run(ctx, "-d", fmt.Sprint(in.Level), in.Raw, theirs); err != nil {
		return err
	}
	r.sameDump(fmt.Sprintf("makedumpfile -d %d of the raw copy", in.Level), d, theirs, false)
	return nil
}

// relabel copies a dump and writes another dump level into its sub header.
func relabel(from, to string, level uint32) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if _, err := out.WriteAt(binary.LittleEndian.AppendUint32(nil, level), pageSize+8); err != nil {
		return err
	}
	return out.Close()
}

// sameDump compares a dump that makedumpfile made with ours: both bitmaps and
// every page. With fewer, theirs may lack pages that ours has.
func (r *Report) sameDump(name string, ours *diskdump, path string, fewer bool) {
	theirs, err := openDiskdump(path)
	if err != nil {
		r.Findings = append(r.Findings, Finding{Check: name, Detail: err.Error()})
		return
	}
	defer theirs.close()
	exists := differences{what: name + ": same pages of the machine"}
	dumped := differences{what: name + ": same pages dumped"}
	if fewer {
		dumped.what = name + ": no page that is not in ours"
	}
	contents := differences{what: name + ": same contents"}
	a, b := make([]byte, 0, pageSize), make([]byte, 0, pageSize)
	end, both := max(ours.maxPFN, theirs.maxPFN), 0
	for pfn := range end {
		if x, y := bit(ours.exists, pfn), bit(theirs.exists, pfn); x != y {
			exists.add(pfn, fmt.Sprintf("ours %v, theirs %v", x, y))
		}
		x, y := bit(ours.dumped, pfn), bit(theirs.dumped, pfn)
		if x != y && !(fewer && x) {
			dumped.add(pfn, fmt.Sprintf("ours %v, theirs %v", x, y))
		}
		if !x || !y {
			continue
		}
		both++
		p, err := ours.page(pfn, a)
		if err != nil {
			contents.add(pfn, err.Error())
			continue
		}
		q, err := theirs.page(pfn, b)
		if err != nil {
			contents.add(pfn, "theirs: "+err.Error())
			continue
		}
		if !bytes.Equal(p, q) {
			contents.add(pfn, "differs")
		}
	}
	same := contents.finding(both)
	same.OK = same.OK && both > 0
	r.Findings = append(r.Findings, exists.finding(int(end)), dumped.finding(int(end)), same)
}

func compareFiles(check, ours, theirs string) (Finding, error) {
	a, err := os.ReadFile(ours)
	if err != nil {
		return Finding{}, err
	}
	b, err := os.ReadFile(theirs)
	if err != nil {
		return Finding{}, err
	}
	f := Finding{Check: check, OK: bytes.Equal(a, b), Detail: fmt.Sprintf("%d bytes", len(a))}
	if f.OK && len(a) == 0 {
		f.OK, f.Detail = false, "both are empty"
	}
	if !f.OK && len(a) > 0 {
		i := 0
		for i < min(len(a), len(b)) && a[i] == b[i] {
			i++
		}
		line := func(s []byte) string {
			from := bytes.LastIndexByte(s[:min(i, len(s))], '\n') + 1
			l, _, _ := bytes.Cut(s[from:], []byte("\n"))
			return fmt.Sprintf("%.160q", l)
		}
		f.Detail = fmt.Sprintf("%d and %d bytes, first difference in line %d: ours %s, theirs %s",
			len(a), len(b), bytes.Count(a[:i], []byte("\n"))+1, line(a), line(b))
	}
	return f, nil
}
