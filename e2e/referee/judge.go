package referee

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// Judge judges many dumps of one crash, whose memory it has looked at once.
type Judge struct {
	raw  string
	say  lab.Say
	c    *core
	s    *space
	z    *census
	want []virtualRead
	m    *makedumpfile // nil until it is asked for
	log  []byte        // that makedumpfile finds in the raw copy; nil until it is asked for
}

// NewJudge takes a raw ELF copy of /proc/vmcore. Every judgement about dumps of the
// same crash is by the rules and what is in that copy.
func NewJudge(raw string, say lab.Say) (*Judge, error) {
	if say == nil {
		say = func(string, ...any) {}
	}
	c, err := openCore(raw)
	if err != nil {
		return nil, err
	}
	j := &Judge{raw: raw, say: say, c: c}
	if j.s, err = newSpace(c); err == nil {
		j.z, err = classify(j.s)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return j, nil
}

// Close removes what the judge has made.
func (j *Judge) Close() error {
	if j.m != nil {
		if err := j.m.close(); err != nil {
			return err
		}
	}
	return j.c.close()
}

func (j *Judge) report() *Report {
	r := &Report{Classes: map[string]int{}, Seconds: map[string]float64{}}
	r.countClasses(j.z)
	return r
}

func (j *Judge) makedumpfile(ctx context.Context) (*makedumpfile, error) {
	if j.m == nil {
		m, err := newMakedumpfile(ctx, j.raw, j.say)
		if err != nil {
			return nil, err
		}
		j.m = m
	}
	return j.m, nil
}

// theirLog is what makedumpfile says is the log in the raw copy.
func (j *Judge) theirLog(ctx context.Context) ([]byte, error) {
	if j.log != nil {
		return j.log, nil
	}
	m, err := j.makedumpfile(ctx)
	if err != nil {
		return nil, err
	}
	path := m.file("raw-dmesg.txt")
	if err := m.run(ctx, "--dump-dmesg", j.raw, path); err != nil {
		return nil, err
	}
	if j.log, err = os.ReadFile(path); err != nil {
		return nil, err
	}
	if !bytes.Contains(j.log, []byte("Linux version "+j.c.info.text("OSRELEASE"))) {
		return nil, fmt.Errorf("makedumpfile's log of the raw copy has no Linux version in it: %.200q", j.log)
	}
	return j.log, nil
}

// Levels judges which pages dumps of several levels have: by the rules, page frame
// by page frame. dumps has kdump-compressed files by level. What is in the pages is
// not looked at; [Judge.Form] does that.
func (j *Judge) Levels(dumps map[int]string) (*Report, error) {
	r := j.report()
	for _, level := range slices.Sorted(maps.Keys(dumps)) {
		d, err := openDiskdump(dumps[level])
		if err != nil {
			return r, err
		}
		found := comparePages(j.z, d, level, nil)
		found = append(found, Finding{Check: "dump level", OK: d.level == level, Detail: fmt.Sprintf("%d; want %d", d.level, level)})
		if err := d.close(); err != nil {
			return r, err
		}
		for _, f := range found {
			f.Check = fmt.Sprintf("level %d: %s", level, f.Check)
			r.Findings = append(r.Findings, f)
		}
	}
	return r, r.Err()
}

func (r *Report) countClasses(z *census) {
	for class := Kept; class < classes; class++ {
		if z.count[class] > 0 {
			r.Classes[class.String()] = z.count[class]
		}
	}
}
