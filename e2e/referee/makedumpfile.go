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

// makedumpfile lets Debian sid's riscv64 makedumpfile extract the log, filter
// the dump again at level 1, and, for dumps of levels 0 and 1, make the same
// dump from the raw copy. At higher levels its releases up to 1.7.9 are no
// referee: they read every struct page of a huge page as one of the first 64.
func (r *Report) makedumpfile(ctx context.Context, d *diskdump, in Inputs) error {
	root, err := lab.FetchSysroot(ctx, lab.SysrootOptions{Suite: "sid", Arch: "riscv64", Packages: []string{"makedumpfile"}, Say: in.Say})
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(in.Dump), ".referee-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	run := func(args ...string) error { return runMakedumpfile(ctx, root, args...) }

	if in.Dmesg != "" {
		theirs := filepath.Join(dir, "dmesg.txt")
		if err := run("--dump-dmesg", in.Dump, theirs); err != nil {
			r.Findings = append(r.Findings, Finding{Check: "makedumpfile extracts the log", Detail: err.Error()})
		} else {
			f, err := compareFiles("makedumpfile --dump-dmesg equals our log", in.Dmesg, theirs)
			if err != nil {
				return err
			}
			r.Findings = append(r.Findings, f)
		}
	}

	// As it is. A dump says at which level it was made, and makedumpfile then
	// filters at least at that level, whatever it is asked for, which it does
	// wrongly (see above): what it leaves must still be ours.
	again := filepath.Join(dir, "again")
	if err := run("-d", "1", in.Dump, again); err != nil {
		r.Findings = append(r.Findings, Finding{Check: "makedumpfile filters the dump again", Detail: err.Error()})
	} else if err := r.sameDump("makedumpfile -d 1 of the dump", d, again, in.Level > 1); err != nil {
		return err
	}
	// As a dump of level 1, so that it must keep every page.
	if in.Level > 1 {
		copied := filepath.Join(dir, "level1")
		if err := relabel(in.Dump, copied, 1); err != nil {
			return err
		}
		if err := run("-f", "-d", "1", copied, again); err != nil {
			r.Findings = append(r.Findings, Finding{Check: "makedumpfile filters the dump as one of level 1", Detail: err.Error()})
		} else if err := r.sameDump("makedumpfile -d 1 of the dump as one of level 1", d, again, false); err != nil {
			return err
		}
	}
	if in.Level > 1 || len(in.Unreadable) > 0 {
		return nil // it dies on memory that cannot be read
	}
	theirs := filepath.Join(dir, "theirs")
	if err := run("-d", fmt.Sprint(in.Level), in.Raw, theirs); err != nil {
		return err
	}
	return r.sameDump(fmt.Sprintf("makedumpfile -d %d of the raw copy", in.Level), d, theirs, false)
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
func (r *Report) sameDump(name string, ours *diskdump, path string, fewer bool) error {
	theirs, err := openDiskdump(path)
	if err != nil {
		r.Findings = append(r.Findings, Finding{Check: name, Detail: err.Error()})
		return nil
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
	return nil
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

// runMakedumpfile runs the riscv64 program with the libraries of its sysroot.
func runMakedumpfile(ctx context.Context, root string, args ...string) error {
	qemu, err := exec.LookPath("qemu-riscv64-static")
	if err != nil {
		if qemu, err = exec.LookPath("qemu-riscv64"); err != nil {
			return ui.Hint(errors.New("no qemu-riscv64 on this machine"), "apt-get install qemu-user-static (scripts/prerequisites does it)")
		}
	}
	argv := append([]string{
		"-L", root, "-E", "LD_LIBRARY_PATH=" + filepath.Join(root, "usr/lib/riscv64-linux-gnu"),
		filepath.Join(root, "usr/bin/makedumpfile"), "--message-level", "4",
	}, args...)
	out, err := exec.CommandContext(ctx, qemu, argv...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("makedumpfile %v: %w: %s", args, err, tail(string(out)))
	}
	return nil
}
