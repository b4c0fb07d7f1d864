package referee

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Kind is the format that a dump has.
type Kind string

// The formats.
const (
	Kdump Kind = "kdump"
	ELF   Kind = "elf"
	Raw   Kind = "raw"
)

// Form is a dump in one of all forms.
type Form struct {
	Kind        Kind
	Compression string // of kdump
	Flat        bool   // flattened
	Files       []string
	Level       int
}

// reader is somebody else's program, as it is told which form it opens.
type reader string

const (
	libkdumpfile  reader = "libkdumpfile"
	drgn          reader = "drgn"
	makedumpfileR reader = "makedumpfile"
	crashR        reader = "crash"
)

// refuses is what a reader of Debian sid says that does not open a form; "" for one
// that it opens, with page tables of so many levels. It is asserted, so that we hear
// of it when it learns.
func (f Form) refuses(who reader, levels int) string {
	switch {
	case who == crashR && levels == 4:
		// Up to 9.0.2 it takes a wrong entry of the table of level 1; repaired by its
		// commit 4f66cea, in no release yet. Whether that is an error of seeking or of
		// reading is up to the entry.
		return `type: "page table"`
	case f.Kind == Raw:
		// Memory without a header is no dump for anybody.
		return map[reader]string{
			libkdumpfile: "NotImplementedError", drgn: "not an ELF core file",
			makedumpfileR: "Can't get valid ehdr", crashR: "not a supported file format",
		}[who]
	case who == makedumpfileR && (f.Flat || len(f.Files) > 1):
		// It has -R and --reassemble for them.
		return "Can't get"
	case who == makedumpfileR && f.Compression == "snappy":
		return "snappy compression unsupported"
	}
	return ""
}

// Form lets every reader but crash open a dump and compares the pages that it must
// have with the raw copy, each of them.
func (j *Judge) Form(ctx context.Context, f Form) (*Report, error) {
	r := j.report()
	start := time.Now()
	plain, err := j.plain(ctx, r, f)
	if err != nil {
		return r, err
	}
	r.timed("plain", start)
	start = time.Now()
	if plain != "" {
		if err := j.own(r, f, plain); err != nil {
			return r, err
		}
	}
	r.timed("own", start)
	start = time.Now()
	if err := j.formReaders(ctx, r, f); err != nil {
		return r, err
	}
	r.timed("libkdumpfile and drgn", start)
	start = time.Now()
	if err := j.formMakedumpfile(ctx, r, f, plain); err != nil {
		return r, err
	}
	r.timed("makedumpfile", start)
	if plain != f.Files[0] && plain != "" {
		if err := os.Remove(plain); err != nil {
			return r, err
		}
	}
	return r, r.Err()
}

// plain is the dump as one file that is not flattened: itself, or what makedumpfile
// makes of it. It is "" when that fails, which is a finding.
func (j *Judge) plain(ctx context.Context, r *Report, f Form) (string, error) {
	if !f.Flat && len(f.Files) == 1 {
		return f.Files[0], nil
	}
	m, err := j.makedumpfile(ctx)
	if err != nil {
		return "", err
	}
	path, what := m.file("plain"), "makedumpfile --reassemble"
	if f.Flat {
		what = "makedumpfile -R"
		in, err := os.Open(f.Files[0])
		if err != nil {
			return "", err
		}
		defer in.Close()
		err = m.runWith(ctx, in, "-R", path)
		r.Findings = append(r.Findings, Finding{what, err == nil, errorText(err)})
	} else {
		err := m.run(ctx, append(append([]string{"--reassemble"}, f.Files...), path)...)
		r.Findings = append(r.Findings, Finding{what, err == nil, errorText(err)})
	}
	if !r.Findings[len(r.Findings)-1].OK {
		return "", nil
	}
	return path, nil
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// wanted tells whether a dump of a level must have a page.
func (j *Judge) wanted(pfn uint64, level int) bool { return !j.z.class[pfn].excludedAt(level) }

// own reads a plain dump with the code of this package.
func (j *Judge) own(r *Report, f Form, path string) error {
	switch f.Kind {
	case Kdump:
		d, err := openDiskdump(path)
		if err != nil {
			r.Findings = append(r.Findings, Finding{Check: "it is a kdump-compressed file", Detail: err.Error()})
			return nil
		}
		defer d.close()
		r.Findings = append(r.Findings, comparePages(j.z, d, f.Level, nil)...)
		return r.contents(j.c, d)
	case ELF:
		return j.ownELF(r, f, path)
	}
	return j.ownRaw(r, f, path)
}

// ownELF compares an ELF core. Gaps of less than a MiB between pages that are kept
// are filled: that costs less than a program header each. What is in the file
// beyond the level's pages must be right, and not too much.
func (j *Judge) ownELF(r *Report, f Form, path string) error {
	const gap = 256
	c, err := openCore(path)
	if err != nil {
		r.Findings = append(r.Findings, Finding{Check: "it is an ELF core", Detail: err.Error()})
		return nil
	}
	defer c.close()
	missing := differences{what: "every page the rules keep is in the core"}
	surplus := differences{what: "no long run of pages the rules take is in the core"}
	wrong := differences{what: "every page of the core equals the raw copy"}
	raw, page := make([]byte, pageSize), make([]byte, pageSize)
	end, in, run := uint64(len(j.z.class)), 0, 0
	has := coverage(c, end)
	for pfn := range end {
		want := j.wanted(pfn, f.Level)
		if want || !has[pfn] {
			run = 0
		} else if run++; run >= gap {
			surplus.add(pfn, j.z.describe(pfn))
		}
		if !has[pfn] {
			if want {
				missing.add(pfn, j.z.describe(pfn))
			}
			continue
		}
		in++
		if err := errors.Join(c.readPage(pfn, page), j.c.readPage(pfn, raw)); err != nil {
			wrong.add(pfn, err.Error())
		} else if !bytes.Equal(raw, page) {
			wrong.add(pfn, "differs")
		}
	}
	r.Dumped = in
	r.Findings = append(r.Findings, missing.finding(int(end)), surplus.finding(int(end)), wrong.finding(in))
	return nil
}

// coverage is which pages are in a core.
func coverage(c *core, end uint64) []bool {
	has := make([]bool, end)
	for _, l := range c.loads {
		for pfn := l.phys / pageSize; pfn*pageSize < l.phys+l.size && pfn < end; pfn++ {
			has[pfn] = true
		}
	}
	return has
}

// ownRaw compares memory without a header: it begins with the machine's first page,
// and holes and what was left out are zeros.
func (j *Judge) ownRaw(r *Report, f Form, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	first := uint64(0)
	for j.z.class[first] == Absent {
		first++
	}
	wrong := differences{what: "memory lies as in the machine, zeros for what is left out"}
	raw, page := make([]byte, pageSize), make([]byte, pageSize)
	end := uint64(len(j.z.class))
	for pfn := first; pfn < end; pfn++ {
		n, err := file.ReadAt(page, int64(pfn-first)*pageSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		clear(page[n:])
		if j.wanted(pfn, f.Level) {
			if err := j.c.readPage(pfn, raw); err != nil {
				return err
			}
		} else {
			clear(raw)
		}
		if !bytes.Equal(raw, page) {
			wrong.add(pfn, "differs: "+j.z.describe(pfn))
		}
	}
	r.Findings = append(r.Findings, wrong.finding(int(end-first)))
	return nil
}

// opened is the finding that a reader opens a form, or refuses it for the known
// reason. Only when judge is true is there more to ask.
func (j *Judge) opened(f Form, who reader, said string) (_ Finding, judge bool) {
	why := f.refuses(who, j.s.levels)
	if why == "" {
		return Finding{Check: string(who) + " opens it", OK: said == "", Detail: said}, said == ""
	}
	return Finding{
		Check: fmt.Sprintf("%s refuses it: %s", who, why), OK: said != "" && strings.Contains(said, why), Detail: said,
	}, false
}

// formReaders lets libkdumpfile and drgn read every page that the dump must have.
func (j *Judge) formReaders(ctx context.Context, r *Report, f Form) error {
	if j.want == nil {
		var err error
		if j.want, err = j.s.virtualReads(); err != nil {
			return err
		}
	}
	runs, pages := j.runs(f.Level)
	a, err := askReaders(ctx, j.s, j.raw, f.Files, runs, j.want, j.say)
	if err != nil {
		return err
	}
	for _, one := range []struct {
		who    reader
		answer *readerAnswer
		said   string
	}{{libkdumpfile, a.Libkdumpfile, a.LibkdumpfileError}, {drgn, a.Drgn, a.DrgnError}} {
		finding, more := j.opened(f, one.who, one.said)
		r.Findings = append(r.Findings, finding)
		switch {
		case more && one.who == drgn && len(f.Files) > 1:
			r.onlyFirstPart(one.answer, pages)
		case more:
			// drgn reads an ELF core by itself, and has no page tables of riscv64.
			walks := one.who != drgn || f.Kind != ELF || f.Flat
			r.judgeReader(j.s, string(one.who), one.answer, j.want, pages, walks)
		}
	}
	return nil
}

// onlyFirstPart: drgn 0.3.0 takes one file of a split dump, and for it the pages of
// the others are not in the dump.
func (r *Report) onlyFirstPart(a *readerAnswer, pages int) {
	f := Finding{Check: "drgn has the pages of one part of a split dump, and no others", Detail: fmt.Sprintf("%d of %d pages missing %v", a.Physical.Wrong, pages, a.Physical.Examples)}
	f.OK = a.Physical.Pages == pages && a.Physical.Wrong > 0 && a.Physical.Wrong < pages
	for _, example := range a.Physical.Examples {
		f.OK = f.OK && len(example) == 2 && strings.Contains(fmt.Sprint(example[1]), "Excluded page")
	}
	r.Findings = append(r.Findings, f)
}

// runs are the runs [first, last) of pages that a dump of a level must have.
func (j *Judge) runs(level int) (runs [][2]uint64, pages int) {
	for pfn := range uint64(len(j.z.class)) {
		if !j.wanted(pfn, level) {
			continue
		}
		pages++
		if n := len(runs); n > 0 && runs[n-1][1] == pfn {
			runs[n-1][1]++
		} else {
			runs = append(runs, [2]uint64{pfn, pfn + 1})
		}
	}
	return runs, pages
}

// formMakedumpfile lets makedumpfile take the log out of the dump, and copy it.
func (j *Judge) formMakedumpfile(ctx context.Context, r *Report, f Form, plain string) error {
	m, err := j.makedumpfile(ctx)
	if err != nil {
		return err
	}
	log, err := j.theirLog(ctx)
	if err != nil {
		return err
	}
	ask := func(f Form, path string) error {
		out := m.file("dmesg.txt")
		defer os.Remove(out)
		finding, more := j.opened(f, makedumpfileR, errorText(m.run(ctx, "--dump-dmesg", path, out)))
		r.Findings = append(r.Findings, finding)
		if !more {
			return nil
		}
		got, err := os.ReadFile(out)
		if err != nil {
			return err
		}
		r.Findings = append(r.Findings, Finding{"makedumpfile finds the log", bytes.Equal(got, log), fmt.Sprintf("%d bytes; want %d", len(got), len(log))})
		return j.copied(ctx, r, m, f, path)
	}
	if err := ask(f, f.Files[0]); err != nil || plain == f.Files[0] || plain == "" {
		return err
	}
	f.Flat, f.Files = false, []string{plain}
	return ask(f, plain)
}

// copied lets makedumpfile read every page that is in the dump. It would leave pages
// out at the level that a dump says it has, which it does wrongly, so it is told
// that nothing was left out.
func (j *Judge) copied(ctx context.Context, r *Report, m *makedumpfile, f Form, path string) error {
	if f.Kind == Kdump {
		relabelled := m.file("level1")
		if err := relabel(path, relabelled, 1); err != nil {
			return err
		}
		defer os.Remove(relabelled)
		path = relabelled
	}
	out := m.file("copy")
	defer os.Remove(out)
	if err := m.run(ctx, "-l", "-d", "1", path, out); err != nil {
		r.Findings = append(r.Findings, Finding{Check: "makedumpfile copies it", Detail: err.Error()})
		return nil
	}
	d, err := openDiskdump(out)
	if err != nil {
		return err
	}
	defer d.close()
	missing := differences{what: "makedumpfile copies every page the rules keep"}
	for pfn := range uint64(len(j.z.class)) {
		if j.wanted(pfn, f.Level) && !bit(d.dumped, pfn) {
			missing.add(pfn, j.z.describe(pfn))
		}
	}
	r.Findings = append(r.Findings, missing.finding(len(j.z.class)))
	before := len(r.Findings)
	err = r.contents(j.c, d)
	for i := range r.Findings[before:] {
		r.Findings[before+i].Check = "makedumpfile's copy: " + r.Findings[before+i].Check
	}
	return err
}
