package referee

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// defects are what releases of makedumpfile are known to get wrong on riscv64. With
// them its choice of pages can be told in advance, so that each difference from
// the rules has a name; one that has none is news.
type defects uint8

const (
	// hugeLeaf: of an address that a leaf of 2 MiB or more maps, only the lowest 12
	// bits are added to where the leaf begins. Linux maps struct pages by such
	// leaves, so that those of a whole section of 128 MiB are read as copies of its
	// first 64. Since 1.7.4, which was the first for riscv64; repaired by its
	// commit 863e2c4 of May 2026, which is in no release up to 1.7.9.
	hugeLeaf defects = 1 << iota
	// tailsUnseen: OFFSET(page.compound_info) is not known, which from Linux 7.1 on
	// tells tails; each page of a compound one is judged by itself. Repaired by
	// commit f50c015, in no release up to 1.7.9.
	tailsUnseen
	// waitersSlab: where NUMBER(PG_slab) is not exported (since Linux 6.10), bit 7 of
	// the flags is taken for it, which is PG_waiters there: pages that somebody
	// waits for are no free, offline or anonymous pages then.
	waitersSlab
	allDefects = hugeLeaf | tailsUnseen | waitersSlab
)

var defectNames = []struct {
	defect defects
	name   string
}{
	{hugeLeaf, "struct page of a huge leaf read wrongly"},
	{tailsUnseen, "tail pages not told"},
	{waitersSlab, "waiters taken for slab"},
}

// defectsOf are the known ones of a version, like "1.7.8".
func defectsOf(version string) (defects, error) {
	var major, minor, patch int
	if n, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); n != 3 {
		return 0, fmt.Errorf("makedumpfile's version %q: %w", version, err)
	}
	switch n := major*10000 + minor*100 + patch; {
	case n < 10708:
		return 0, fmt.Errorf("makedumpfile %s is older than what is known here", version)
	case n <= 10709:
		return allDefects, nil
	}
	// Whatever comes is compared with the rules alone, until somebody looks.
	return waitersSlab, nil
}

// verdict is what one struct page says of the pages from first on.
type verdict struct {
	first, pages uint64
	class        Class
}

// verdicts are those that makedumpfile comes to, with defects, for the pages that
// some level leaves out. Pages of holes and tails are not asked, and no block reaches
// beyond its section: as all are aligned, only copies of struct pages would.
func verdicts(s *space, l *pageLayout, d defects) ([]verdict, error) {
	var all []verdict
	rules := *l
	if d&waitersSlab != 0 && l.slabFlag == 0 {
		rules.slabFlag = 1 << 7
	}
	read := func(pfn uint64) (p structPage, ok bool, err error) {
		raw, err := s.structPage(l, pfn, d&hugeLeaf != 0)
		if errors.Is(err, errNotMapped) {
			return p, false, nil
		}
		if err != nil {
			return p, false, fmt.Errorf("struct page of frame %#x: %w", pfn, err)
		}
		return l.decode(raw), true, nil
	}
	section := uint64(1) << l.sectionBits
	unseen := d&tailsUnseen != 0 && l.compoundInfo
	end := s.c.end()
	has := coverage(s.c, end)
	for pfn := range end {
		if !has[pfn] {
			continue
		}
		p, ok, err := read(pfn)
		if err != nil {
			return nil, err
		}
		if !ok || p.compound&1 != 0 && !unseen {
			continue
		}
		var next structPage
		if p.flags&l.headMask != 0 {
			if next, _, err = read(pfn + 1); err != nil {
				return nil, err
			}
			if unseen {
				// The order is believed where nothing says that this is no tail.
				next.compound |= 1
			}
		}
		if class, n := rules.rules(p, next); class != Kept {
			left := section - pfn%section
			all = append(all, verdict{pfn, min(n, left), class})
		}
	}
	return all, nil
}

// leftOut is which pages a level leaves out by the verdicts, by page frame number:
// what one leaves out no other brings back.
func leftOut(all []verdict, end uint64, level int) []bool {
	out := make([]bool, end)
	for _, v := range all {
		if !v.class.excludedAt(level) {
			continue
		}
		for pfn := v.first; pfn < min(v.first+v.pages, end); pfn++ {
			out[pfn] = true
		}
	}
	return out
}

// structPage reads the struct page of a page; with flat as if huge leaves were
// small ones.
func (s *space) structPage(l *pageLayout, pfn uint64, flat bool) ([]byte, error) {
	va := l.vmemmap + pfn*l.size
	if !flat || va&(pageSize-1)+l.size > pageSize {
		return s.read(va, int(l.size))
	}
	base, size, err := s.leaf(va)
	if err != nil {
		return nil, err
	}
	at := base | va&(min(size, pageSize)-1)
	b, err := s.page(at / pageSize)
	if err != nil {
		return nil, err
	}
	return b[at%pageSize:][:l.size], nil
}

// explainer names the differences between the rules and what a version of
// makedumpfile dumps.
type explainer struct {
	z        *census
	version  string
	all      []verdict   // with all defects of the version
	repaired [][]verdict // with all but one, as defectNames
}

func newExplainer(s *space, z *census, version string) (*explainer, error) {
	d, err := defectsOf(version)
	if err != nil {
		return nil, err
	}
	e := &explainer{z: z, version: version}
	if e.all, err = verdicts(s, z.layout, d); err != nil {
		return nil, err
	}
	for _, n := range defectNames {
		r, err := verdicts(s, z.layout, d&^n.defect)
		if err != nil {
			return nil, err
		}
		e.repaired = append(e.repaired, r)
	}
	return e, nil
}

// explain compares the pages that makedumpfile has dumped of the raw copy at a
// level with the rules. One finding is that there is a reason for each difference,
// the other counts them.
func (e *explainer) explain(theirs *diskdump, level int) []Finding {
	end := uint64(len(e.z.class))
	model := leftOut(e.all, end, level)
	repaired := make([][]bool, len(e.repaired))
	for i, r := range e.repaired {
		repaired[i] = leftOut(r, end, level)
	}
	what := fmt.Sprintf("makedumpfile %s -d %d of the raw copy: ", e.version, level)
	unknown := differences{what: what + "each difference from the rules has a name"}
	counts := map[string]int{}
	pages := 0
	for pfn, class := range e.z.class {
		if class == Absent {
			continue
		}
		pages++
		rule, got := class.excludedAt(level), !bit(theirs.dumped, uint64(pfn))
		if got == rule && got == model[pfn] {
			continue
		}
		verb := "kept"
		if got {
			verb = "left out"
		}
		if got != model[pfn] {
			// Also where the defects should have led to a difference and did not:
			// they are not what they are thought to be.
			unknown.add(uint64(pfn), verb+" "+e.z.describe(uint64(pfn)))
			continue
		}
		reason := "several defects together"
		for i, n := range defectNames {
			if repaired[i][pfn] == rule {
				reason = n.name
				break
			}
		}
		counts[fmt.Sprintf("%s pages %s: %s", class, verb, reason)]++
	}
	var lines []string
	for reason, n := range counts {
		lines = append(lines, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(lines)
	if len(lines) == 0 {
		lines = []string{"none"}
	}
	return []Finding{unknown.finding(pages), {Check: what + "differences", OK: true, Detail: strings.Join(lines, "; ")}}
}

// Explain lets makedumpfile filter the raw copy at levels and names the reason of
// each difference from the rules.
func (j *Judge) Explain(ctx context.Context, levels []int) (*Report, error) {
	r := j.report()
	m, err := j.makedumpfile(ctx)
	if err != nil {
		return r, err
	}
	version, err := m.version(ctx)
	if err != nil {
		return r, err
	}
	e, err := newExplainer(j.s, j.z, version)
	if err != nil {
		return r, err
	}
	for _, level := range levels {
		start := time.Now()
		path := m.file("explained")
		if err := m.run(ctx, "-l", "-d", fmt.Sprint(level), j.raw, path); err != nil {
			return r, err
		}
		d, err := openDiskdump(path)
		if err != nil {
			return r, err
		}
		r.Findings = append(r.Findings, e.explain(d, level)...)
		if err := d.close(); err != nil {
			return r, err
		}
		r.timed(fmt.Sprintf("makedumpfile -d %d", level), start)
	}
	return r, r.Err()
}
