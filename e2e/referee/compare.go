package referee

import (
	"bytes"
	"fmt"
	"strings"
)

// differences collects what is wrong with many pages and says it in runs.
type differences struct {
	what  string
	total int
	runs  []run
}

type run struct {
	first, last uint64
	detail      string
}

// maxRuns is how many runs of pages a finding names.
const maxRuns = 6

func (d *differences) add(pfn uint64, detail string) {
	d.total++
	if n := len(d.runs); n > 0 && d.runs[n-1].last+1 == pfn && d.runs[n-1].detail == detail {
		d.runs[n-1].last = pfn
		return
	}
	if len(d.runs) <= maxRuns {
		d.runs = append(d.runs, run{pfn, pfn, detail})
	}
}

func (d *differences) finding(checked int) Finding {
	f := Finding{Check: d.what, OK: d.total == 0, Detail: fmt.Sprintf("%d pages", checked)}
	if d.total == 0 {
		return f
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d pages wrong:", d.total, checked)
	for i, r := range d.runs {
		if i == maxRuns {
			b.WriteString(" ...")
			break
		}
		fmt.Fprintf(&b, " [%#x-%#x %s]", r.first, r.last, r.detail)
	}
	f.Detail = b.String()
	return f
}

// comparePages compares the dump with what the classifier expects of it, page
// frame by page frame.
func comparePages(z *census, d *diskdump, level int, unreadable []Range) []Finding {
	exists := differences{what: "first bitmap = pages of the machine"}
	missing := differences{what: "every page the rules keep is in the dump"}
	surplus := differences{what: "no page the rules take is in the dump"}
	beyond := differences{what: "nothing beyond the last page"}
	end := uint64(len(z.class))
	for pfn := range end {
		class := z.class[pfn]
		if got, want := bit(d.exists, pfn), class != Absent; got != want {
			exists.add(pfn, fmt.Sprintf("bit %v", got))
		}
		want := !class.excludedAt(level) && !within(unreadable, pfn)
		switch got := bit(d.dumped, pfn); {
		case want && !got:
			missing.add(pfn, z.describe(pfn))
		case got && !want:
			surplus.add(pfn, z.describe(pfn))
		}
	}
	for pfn := end; pfn < uint64(len(d.dumped))*8; pfn++ {
		if bit(d.exists, pfn) || bit(d.dumped, pfn) {
			beyond.add(pfn, "")
		}
	}
	n := int(end)
	return []Finding{exists.finding(n), missing.finding(n), surplus.finding(n), beyond.finding(len(d.dumped)*8 - n)}
}

func (z *census) describe(pfn uint64) string {
	p := z.pages[pfn]
	return fmt.Sprintf("%v flags=%#x type=%#x mapping=%#x private=%#x compound=%#x", z.class[pfn], p.flags, p.mapcount, p.mapping, p.private, p.compound)
}

func within(ranges []Range, pfn uint64) bool {
	for _, r := range ranges {
		if pfn*pageSize < r.End && (pfn+1)*pageSize > r.Start {
			return true
		}
	}
	return false
}

// contents compares every page of the dump with the same page of the raw copy,
// by the readers of this package.
func (r *Report) contents(c *core, d *diskdump) error {
	diff := differences{what: "every page of the dump equals the raw copy"}
	raw, buf := make([]byte, pageSize), make([]byte, 0, pageSize)
	n := 0
	for pfn := range d.maxPFN {
		if !bit(d.dumped, pfn) {
			continue
		}
		n++
		page, err := d.page(pfn, buf)
		if err != nil {
			diff.add(pfn, err.Error())
			continue
		}
		if err := c.readPage(pfn, raw); err != nil {
			diff.add(pfn, err.Error())
			continue
		}
		if !bytes.Equal(raw, page) {
			diff.add(pfn, "differs")
		}
	}
	f := diff.finding(n)
	f.OK = f.OK && n > 0
	r.Findings = append(r.Findings, f)
	return nil
}
