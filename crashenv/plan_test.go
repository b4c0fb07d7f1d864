package crashenv

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
)

func testPlan() *Plan {
	return &Plan{Version: planVersion, Release: testRelease, Level: 31, Final: Reboot,
		Modules: []Module{{Name: "ext4", File: "/modules/ext4.ko"}},
		Targets: []Target{{Kind: Directory, Path: "/crash", UUID: "1234-ABCD", Type: "vfat", Dir: "/crash"}}}
}

func TestParsePlan(t *testing.T) {
	text := func(change func(*Plan)) []byte {
		p := testPlan()
		change(p)
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	p, err := ParsePlan(text(func(*Plan) {}))
	if err != nil || p.Targets[0].UUID != "1234-ABCD" {
		t.Fatalf("ParsePlan = %+v, %v", p, err)
	}
	if got := p.Deadlines.of(PhaseDevice); got != time.Minute {
		t.Errorf("deadline of a plan that has none = %v; want the default", got)
	}
	if p.input() != VMCore {
		t.Errorf("input %q", p.input())
	}
	for name, change := range map[string]func(*Plan){
		"version": func(p *Plan) { p.Version = 1 }, "no UUID": func(p *Plan) { p.Targets[0].UUID = "" },
		"relative dir": func(p *Plan) { p.Targets[0].Dir = "crash" }, "odd dir": func(p *Plan) { p.Targets[0].Dir = "/a/../b" },
		"final": func(p *Plan) { p.Final = "explode" }, "level": func(p *Plan) { p.Level = 32 },
		"memory": func(p *Plan) { p.MemLimit = 1 << 20 },
		"module": func(p *Plan) { p.Modules[0].File = "ext4.ko" },
	} {
		if p, err := ParsePlan(text(change)); p != nil || !errors.Is(err, ErrPlan) {
			t.Errorf("%s: ParsePlan = %+v, %v; want ErrPlan", name, p, err)
		}
	}
}

func TestDeadlines(t *testing.T) {
	if got := Deadlines(nil).of(PhaseDump); got != 0 {
		t.Errorf("no deadlines: %v; want none", got)
	}
	d := Deadlines{PhaseDump: 1.5}
	if got := d.of(PhaseDump); got != 1500*time.Millisecond {
		t.Errorf("deadline of the dump %v; want 1.5 s", got)
	}
	if got := d.of(PhaseLog); got != time.Minute {
		t.Errorf("deadline of the log %v; want the default", got)
	}
	for _, phase := range []string{PhaseMounts, PhaseModules, PhaseDevice, PhaseTarget, PhaseOpen, PhaseLog, PhaseIntegrity, PhaseDump, PhaseRaw,
		PhaseReport, PhaseHash, PhaseCommit, PhaseUnmount, PhaseRescue} {
		if DefaultDeadlines()[phase] <= 0 {
			t.Errorf("phase %s has no default deadline", phase)
		}
	}
	if got := (&Test{Die: "dump:hang"}).deadlines(d); got.of(PhaseDump) > 10*time.Second || d[PhaseDump] != 1.5 {
		t.Errorf("deadlines of a test that hangs: %v, of others %v", got, d)
	}
}

func FuzzParsePlan(f *testing.F) {
	text, err := json.Marshal(testPlan())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"version": 1, "target": {"uuid": "x", "type": "ext4", "dir": "/"}, "final": "halt", "layout": {}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if p, err := ParsePlan(text); (p == nil) == (err == nil) {
			t.Errorf("ParsePlan = %v, %v; want one of both", p, err)
		}
	})
}
