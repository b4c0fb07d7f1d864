package referee

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// Range is physical memory from Start up to, not including, End.
type Range struct{ Start, End uint64 }

// Inputs are what is judged. Dump and Raw must be of the same crash.
type Inputs struct {
	Dump string // kdump-compressed file
	Raw  string // ELF copy of /proc/vmcore
	// Dmesg is the log as panicroom saved it; "" leaves it out.
	Dmesg string
	Level int // dump level that was asked for
	// Unreadable is memory that the capture reported as unreadable: it may be
	// missing from the dump.
	Unreadable []Range
	// Referees are those to ask; 0 is all.
	Referees Referees
	Say      lab.Say
}

// Referees is a set of them. For a dump of level 31 and 1 GiB of memory Own
// takes a second, Readers and Log five, Refilter ten, all on an idle machine;
// Remake, at levels 0 and 1, up to a minute.
type Referees uint8

// The referees.
const (
	Own      Referees = 1 << iota // the classifier, and every page read by this package
	Readers                       // libkdumpfile and drgn
	Log                           // makedumpfile --dump-dmesg against Inputs.Dmesg
	Refilter                      // makedumpfile -d 1 of the dump
	Remake                        // makedumpfile of the raw copy at the dump's level, 0 or 1
	all      = Own | Readers | Log | Refilter | Remake
)

// Finding is one question and its answer.
type Finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// Report is what the referees found.
type Report struct {
	Findings []Finding      `json:"findings"`
	Classes  map[string]int `json:"classes"` // pages of the machine by class
	Dumped   int            `json:"dumped"`  // pages in the dump
	// Seconds tells how long each referee took.
	Seconds map[string]float64 `json:"seconds"`
}

// ErrDisagree means that a referee found the dump wrong.
var ErrDisagree = errors.New("the referees disagree with the dump")

// Err is nil if all findings are good, and otherwise names those that are not.
func (r *Report) Err() error {
	var bad []string
	for _, f := range r.Findings {
		if !f.OK {
			bad = append(bad, fmt.Sprintf("%s: %.300s", f.Check, f.Detail))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrDisagree, strings.Join(bad, "; "))
}

func (r *Report) timed(name string, start time.Time) {
	r.Seconds[name] = time.Since(start).Seconds()
}

// Check runs every referee. The error is that of a referee that could not do
// its work, or [ErrDisagree]; the report is there in both cases, as far as it
// went.
func Check(ctx context.Context, in Inputs) (*Report, error) {
	if in.Say == nil {
		in.Say = func(string, ...any) {}
	}
	r := &Report{Classes: map[string]int{}, Seconds: map[string]float64{}}
	run := func(name string, f func() error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		start := time.Now()
		before := len(r.Findings)
		err := f()
		r.timed(name, start)
		if err != nil {
			return fmt.Errorf("referee %s: %w", name, err)
		}
		bad := 0
		for _, f := range r.Findings[before:] {
			if !f.OK {
				bad++
			}
		}
		in.Say("referee %s: %d checks, %d wrong (%.1fs)", name, len(r.Findings)-before, bad, r.Seconds[name])
		return nil
	}

	c, err := openCore(in.Raw)
	if err != nil {
		return r, err
	}
	defer c.close()
	d, err := openDiskdump(in.Dump)
	if err != nil {
		return r, err
	}
	defer d.close()
	s, err := newSpace(c)
	if err != nil {
		return r, err
	}

	for pfn := range d.maxPFN {
		if bit(d.dumped, pfn) {
			r.Dumped++
		}
	}
	if in.Referees == 0 {
		in.Referees = all
	}
	for _, referee := range []struct {
		which Referees
		name  string
		ask   func() error
	}{
		{Own, "classifier", func() error { return r.classifier(s, d, in) }},
		{Own, "contents", func() error { return r.contents(c, d) }},
		{Readers, "libkdumpfile and drgn", func() error { return r.readers(ctx, s, d, in) }},
		{Log, "makedumpfile --dump-dmesg", func() error { return r.log(ctx, in) }},
		{Refilter, "makedumpfile of the dump", func() error { return r.refilter(ctx, d, in) }},
		{Remake, "makedumpfile of the raw copy", func() error { return r.remake(ctx, d, in) }},
	} {
		if in.Referees&referee.which == 0 {
			continue
		}
		if err := run(referee.name, referee.ask); err != nil {
			return r, err
		}
	}
	return r, r.Err()
}

func (r *Report) classifier(s *space, d *diskdump, in Inputs) error {
	z, err := classify(s)
	if err != nil {
		return err
	}
	r.countClasses(z)
	r.Findings = append(r.Findings,
		Finding{Check: "machine", OK: d.machine == "riscv64", Detail: d.machine},
		Finding{Check: "dump level", OK: d.level == in.Level, Detail: fmt.Sprintf("%d; want %d", d.level, in.Level)},
		Finding{Check: "complete", OK: d.status&statusIncomplete == 0, Detail: fmt.Sprintf("status %#x", d.status)},
		Finding{Check: "every page has a struct page", OK: z.unmapped <= len(in.Unreadable)*(128<<20/pageSize), Detail: fmt.Sprintf("%d have none", z.unmapped)},
	)
	r.Findings = append(r.Findings, comparePages(z, d, in.Level, in.Unreadable)...)
	more, err := conservation(s, z, d, in.Unreadable)
	if err != nil {
		return fmt.Errorf("conservation: %w", err)
	}
	r.Findings = append(r.Findings, more...)
	return nil
}
