package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/vm"
	"github.com/panicroom-kdump/panicroom/reserve"
)

const (
	memMiB = 1024
	// silence is how long the console of the panic kernel may say nothing before the
	// machine is taken for one that hangs: without enough memory it often does so
	// before its first line. The longest that a working one was silent is 8 s, on
	// two busy cores. Loading it says nothing for much longer.
	silence     = 2 * time.Minute
	longSilence = 10 * time.Minute
)

var (
	complete = regexp.MustCompile(`panicroom: .*\bend complete: (\S+); power off`)
	failed   = regexp.MustCompile(`panicroom: .*(phase [a-z]+: FAILED.*)`)
	// memory is what the panic kernel itself says; panicroom quotes the dead one.
	memory = regexp.MustCompile(`(?:^|^\[ *[\d.]+\] )(Out of memory.*|\S+: page allocation failure.*|Kernel panic.*)`)
)

// scenario is a machine of a row.
func (b *measurement) scenario(r row, k *lab.Kernel, name, crashkernel string, steps ...script.Step) *lab.Scenario {
	return &lab.Scenario{
		Name: name, Dir: filepath.Join(b.dir(r), name),
		Kernel: k, CPUs: 1, MemMiB: memMiB, Crashkernel: crashkernel,
		Programs: []string{b.program[k.Release]}, Steps: steps,
		Files: r.files, Limit: 15 * time.Minute,
	}
}

// dir is where the runs of a row leave their files.
func (b *measurement) dir(r row) string {
	return filepath.Join(b.out, strings.ReplaceAll(r.name, "/", "-"))
}

// attempt crashes a machine with a reservation and tells whether the crash was
// saved whole: the log, the dump, the report, and the machine powers off by
// itself.
func (b *measurement) attempt(ctx context.Context, r row, k *lab.Kernel, at place, mib int) (try, *lab.Outcome, string, error) {
	patient, cancel := context.WithCancel(ctx)
	defer cancel()
	quiet := time.AfterFunc(longSilence, cancel)
	defer quiet.Stop()
	load := lab.Run(append([]string{"panicroom", "load", "--final", "poweroff", "--test-cramped"}, at.target()...)...)
	s := b.scenario(r, k, fmt.Sprintf("%dM", mib), fmt.Sprintf("%dM", mib),
		lab.Burden(), load, lab.Run("panicroom", "crash", "--yes"))
	if err := at.prepare(s); err != nil {
		return try{}, nil, "", err
	}
	allowed := longSilence
	s.OnLine = func(l vm.Line) {
		if strings.Contains(l.Text, "Kernel panic - not syncing") {
			allowed = silence
		}
		quiet.Reset(allowed)
	}
	o, err := s.Run(patient)
	if ctx.Err() != nil || o == nil || o.Facts == nil {
		return try{}, o, "", errors.Join(ctx.Err(), err)
	}
	t := try{MiB: mib}
	if l, ok := o.Step(load.Name); ok && l.Ended && l.Exit != 0 {
		return t, o, "", fmt.Errorf("load with crashkernel=%dM: exit %d\n%s", mib, l.Exit, l.Stderr)
	}
	if !o.Panicked() {
		return t, o, "", errors.Join(err, fmt.Errorf("the machine did not panic\n%s", o.Story()))
	}
	crash := o.CrashKernel()
	if crash < 0 {
		t.End = "the panic kernel prints nothing"
		return t, o, "", nil
	}
	end, i := o.Console(complete, crash)
	bad, wrong := o.Console(failed, crash)
	switch {
	case i >= 0 && wrong < 0 && o.PoweredOff() && err == nil:
		t.Saved, t.End = true, "saved"
		return t, o, path.Base(complete.FindStringSubmatch(end.Text)[1]), nil
	case wrong >= 0:
		t.End = failed.FindStringSubmatch(bad.Text)[1]
	default:
		t.End = "the panic kernel hangs"
	}
	if why, i := o.Console(memory, crash); i >= 0 {
		t.End = memory.FindStringSubmatch(why.Text)[1]
	}
	return t, o, "", nil
}

// ask starts a machine with more than enough memory reserved and lets panicroom say
// what its recommendation is made of.
func (b *measurement) ask(ctx context.Context, r row, k *lab.Kernel, at place) (reserve.Facts, error) {
	step := lab.Run(append([]string{"panicroom", "reserve", "--json"}, at.target()...)...)
	s := b.scenario(r, k, "facts", "320M", step)
	if err := at.prepare(s); err != nil {
		return reserve.Facts{}, err
	}
	o, err := s.Run(ctx)
	if err != nil {
		return reserve.Facts{}, err
	}
	defer o.Clean()
	var answer struct {
		Recommendation reserve.Recommendation `json:"recommendation"`
	}
	if said, ok := o.Step(step.Name); !ok || said.Exit != 0 {
		return reserve.Facts{}, fmt.Errorf("panicroom reserve failed\n%s", o.Story())
	} else if err := json.Unmarshal([]byte(said.Stdout), &answer); err != nil {
		return reserve.Facts{}, err
	}
	return answer.Recommendation.Facts, nil
}
