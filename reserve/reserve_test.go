package reserve

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/boot"
	"github.com/panicroom-kdump/panicroom/internal/host"
)

func recorded(t *testing.T, name string) *host.Machine {
	t.Helper()
	m, err := host.Read(os.DirFS(filepath.Join("../load/testdata/machines", name)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func facts() Facts {
	return Facts{
		Kernel: "6.12.117", Image: 30 * mib, Packed: 4 * mib, Unpacked: 13 * mib, CPUs: 1,
		Modules: []Module{
			{boot.ModuleSize{Name: "small", File: mib, Memory: mib, Start: mib}, mib},
			{boot.ModuleSize{Name: "large", File: 20 * mib, Memory: 5 * mib, Start: 10 * mib}, 2 * mib},
			{boot.ModuleSize{Name: "last", File: mib, Memory: mib, Start: mib}, mib},
		},
		Targets: []Kind{Ext4}, SectionRoots: 4 << 20, SectionBytes: 128 * mib, PageBytes: 4096, PageStruct: 64,
	}
}

// The addends are the sum, each has a reason, and what is recommended is more.
func TestSum(t *testing.T) {
	r := Recommend(facts())
	var sum uint64
	for _, a := range r.Addends {
		if a.Name == "" || a.Reason == "" {
			t.Errorf("%+v: no name or no reason", a)
		}
		sum += a.Bytes
	}
	if sum != r.Needed || r.Size < r.Needed+r.Slack.Bytes || r.Size >= r.Needed+r.Slack.Bytes+step || r.Size%step != 0 {
		t.Errorf("sum %d, needed %d, slack %d, recommended %d", sum, r.Needed, r.Slack.Bytes, r.Size)
	}
	peak := r.Addends[slices.IndexFunc(r.Addends, func(a Addend) bool { return strings.HasPrefix(a.Name, "peak") })]
	// Of all that the kernel hands out then, an eighth lies on lists.
	loading := uint64(2+1+20+10-1)*mib + supervisorWork
	lists := (uint64(13-4+7)*mib + kernelWork + loading) / 7
	if peak.Name != "peak: loading large" || peak.Bytes != loading+lists {
		t.Errorf("the peak is %+v; want %d and %d on lists", peak, loading, lists)
	}
	if !r.Enough(r.Needed) || r.Enough(r.Needed-1) || !r.Enough(r.Size) {
		t.Error("Enough is not at its border")
	}
	if got, want := Working(facts()), r.Needed-47*mib; got != want {
		t.Errorf("working memory %d; want %d", got, want)
	}
}

// More of anything never needs less, and the phases are alternatives: a small one
// that grows below the largest changes nothing.
func TestMonotonous(t *testing.T) {
	base := Recommend(facts()).Needed
	for name, change := range map[string]func(*Facts){
		"image":    func(f *Facts) { f.Image += mib },
		"unpacked": func(f *Facts) { f.Unpacked += mib },
		"packed":   func(f *Facts) { f.Packed += 100 * mib },
		"start":    func(f *Facts) { f.Modules[1].Start += mib },
		"file":     func(f *Facts) { f.Modules[1].File += mib },
		"memory":   func(f *Facts) { f.Modules[0].Memory += mib },
		"shipped":  func(f *Facts) { f.Modules[1].Shipped += mib; f.Unpacked += mib },
		"CPUs":     func(f *Facts) { f.CPUs = 2 },
		"ACPI":     func(f *Facts) { f.ACPI = true },
		"bounce":   func(f *Facts) { f.BounceBuffers = true },
		"limit":    func(f *Facts) { f.Limit = 128 * mib },
		"sections": func(f *Facts) { f.SectionRoots *= 2 },
	} {
		f := facts()
		change(&f)
		if got := Recommend(f).Needed; got <= base {
			t.Errorf("%s: %d is no more than %d", name, got, base)
		}
	}
	f := facts()
	f.Packed += mib
	f.Modules[0].File += mib
	if got := Recommend(f).Needed; got != base {
		t.Errorf("a phase that is not the largest: %d; want %d", got, base)
	}
}

func TestEnoughAsked(t *testing.T) {
	f := facts()
	f.RAM = 2 << 30
	r := Recommend(f)
	for value, want := range map[string]bool{"512M": true, "64M": false, "1G-4G:512M": true, "4G-:512M": false, "auto": false, "": false} {
		if r.EnoughAsked(value) != want {
			t.Errorf("EnoughAsked(%q) = %v", value, !want)
		}
	}
}

// What is not known is taken for something usual, not for nothing.
func TestUnknownFacts(t *testing.T) {
	if r := Recommend(Facts{}); r.Needed < 90*mib || r.Needed > 160*mib {
		t.Errorf("knowing nothing, %d bytes are needed", r.Needed)
	}
}

func TestOfMachine(t *testing.T) {
	f := OfMachine(recorded(t, "virt-7.2-sv57-2g"))
	if f.SectionRoots != 4194304 || f.SectionBytes != 128*mib || f.PageBytes != 4096 || f.PageStruct != 64 || f.BounceBuffers || !strings.HasPrefix(f.Kernel, "7.2.13") {
		t.Errorf("%+v", f)
	}
	if f := OfMachine(recorded(t, "virt-6.12-8g-high")); !f.BounceBuffers {
		t.Errorf("two regions: %+v", f)
	}
}

func TestAsked(t *testing.T) {
	for cmdline, want := range map[string]string{
		"quiet":                                     "",
		"crashkernel=128M quiet":                    "128M",
		"crashkernel=128M crashkernel=256M":         "256M",
		"crashkernel=1G,high crashkernel=128M,low":  "1G,high",
		"crashkernel=128M crashkernel=1G,high":      "128M",
		"crashkernel=64M,cma xcrashkernel=1M":       "",
		"crashkernel=1G-4G:128M,4G-:192M@0x1000000": "1G-4G:128M,4G-:192M@0x1000000",
	} {
		if got := Asked(cmdline); got != want {
			t.Errorf("Asked(%q) = %q; want %q", cmdline, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	const gib = 1 << 30
	for _, tt := range []struct {
		value string
		ram   uint64
		want  uint64
		bad   bool
	}{
		{"128M", gib, 128 * mib, false},
		{"0x8000000", gib, 128 * mib, false},
		{"128m@0x90000000", gib, 128 * mib, false},
		{"131072k", gib, 128 * mib, false},
		{"256M,high", 8 * gib, 256 * mib, false},
		{"1G-4G:128M,4G-:192M", 2 * gib, 128 * mib, false},
		// Firmware keeps some of 4 GiB: the kernel rounds up.
		{"1G-4G:128M,4G-:192M", 4*gib - 30*mib, 192 * mib, false},
		{"1G-4G:128M,4G-:192M", 512 * mib, 0, false},
		{"2G-:256M@16M", 4 * gib, 256 * mib, false},
		{"auto", gib, 0, true},
		{"", gib, 0, true},
		{"128MB", gib, 0, true},
		{"2G", gib, 0, true},
		{"1G-4G", gib, 0, true},
		{"4G-1G:1M", gib, 0, true},
		{"1G-2G:128M,high", gib, 0, true},
		{"128M@", gib, 0, true},
		{"99999999999999999999", gib, 0, true},
	} {
		got, err := Size(tt.value, tt.ram)
		if got != tt.want && !tt.bad || errors.Is(err, ErrValue) != tt.bad {
			t.Errorf("Size(%q, %d) = %d, %v; want %d, bad %v", tt.value, tt.ram, got, err, tt.want, tt.bad)
		}
	}
}

func FuzzSize(f *testing.F) {
	for _, s := range []string{"128M", "1G-4G:128M,4G-:192M@0x10", "256M,high", "0x", "0", "1E", "17179869184G", "-:", "1-:1@1"} {
		f.Add(s, uint64(4<<30))
	}
	f.Fuzz(func(t *testing.T, value string, ram uint64) {
		n, err := Size(value, ram)
		if err != nil && !errors.Is(err, ErrValue) {
			t.Errorf("%q: %v", value, err)
		}
		if err == nil && n > 0 && n >= roundUp(ram, ranged) && ram < 1<<60 {
			t.Errorf("%q: %d of %d", value, n, ram)
		}
	})
}

// Why nothing is reserved, for each line of the kernel's log.
func TestCurrent(t *testing.T) {
	m := recorded(t, "virt-6.12-none-1g")
	for _, tt := range []struct {
		name, cmdline, log, why string
	}{
		{"not asked", "quiet", "", "not on the running kernel's command line"},
		{"in use", "crashkernel=128M@0x80000000", "crashkernel reservation failed - memory is in use.", "something else at the address"},
		{"too much", "crashkernel=900M", "cannot allocate crashkernel (size:0x38400000)", "no free piece"},
		{"low", "crashkernel=900M,high", "cannot allocate crashkernel low memory (size:0x8000000).", "low region"},
		{"auto", "crashkernel=auto", "crashkernel: memory value expected", "does not understand"},
		{"6.12's letters", "crashkernel=1G-:1M@x", "crahskernel: Memory value expected after '@'", "does not understand"},
		{"zero", "crashkernel=8G-:512M", "crashkernel size resulted in zero bytes", "no range"},
		{"no log, no range", "crashkernel=8G-:512M", "something else", "no range for a machine"},
		{"no log, no value", "crashkernel=auto", "", "no size"},
		{"no log", "crashkernel=128M", "", "does not say why"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := *m
			n.Cmdline = tt.cmdline
			p := Current(&n, []string{"Linux version 6.12", tt.log})
			if p.Size != 0 || len(p.Why) != 1 || !strings.Contains(p.Why[0], tt.why) {
				t.Errorf("%+v; want one reason with %q", p, tt.why)
			}
			if tt.cmdline != "quiet" && len(p.Remedy) == 0 {
				t.Error("no remedy")
			}
		})
	}
	if p := Current(recorded(t, "virt-6.12-8g-high"), nil); p.Size != 384*mib || len(p.Regions) != 2 || len(p.Why) > 0 {
		t.Errorf("two regions: %+v", p)
	}
	shrunk := *recorded(t, "virt-7.2-sv57-2g")
	shrunk.CrashSize = 100 * mib
	if p := Current(&shrunk, nil); len(p.Why) != 1 || !strings.Contains(p.Why[0], "shrunk") {
		t.Errorf("shrunk: %+v", p)
	}
}

// The model is held to what make measure found: what is recommended works, and is not
// a quarter too much; what is a step too small for a crash to be saved is called so.
func TestMeasured(t *testing.T) {
	const step, most = 4, 1.25
	text, err := os.ReadFile("testdata/measured.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Row     string `json:"row"`
		Minimum uint64 `json:"minimum_mib"`
		Tries   []struct {
			MiB   uint64 `json:"mib"`
			Saved bool   `json:"saved"`
		} `json:"tries"`
		Facts Facts `json:"facts"`
	}
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) < 4 {
		t.Errorf("%d rows; want 4 or more", len(rows))
	}
	for _, row := range rows {
		r := Recommend(row.Facts)
		t.Logf("%-24s smallest %d MiB, needed %.1f, recommended %d", row.Row, row.Minimum, float64(r.Needed)/mib, r.Size/mib)
		if row.Minimum == 0 || row.Facts.Image == 0 || len(row.Facts.Modules) == 0 {
			t.Errorf("%s: not measured", row.Row)
		}
		tried := map[uint64]bool{}
		for _, x := range row.Tries {
			tried[x.MiB] = true
			if x.Saved != (x.MiB >= row.Minimum) {
				t.Errorf("%s: %d MiB, saved %v; the smallest is %d", row.Row, x.MiB, x.Saved, row.Minimum)
			}
		}
		if !tried[row.Minimum] || !tried[row.Minimum-step] {
			t.Errorf("%s: both sides of %d MiB were not tried", row.Row, row.Minimum)
		}
		smallest := row.Minimum * mib
		switch {
		case r.Size < smallest:
			t.Errorf("%s: recommended %d MiB; %d is the smallest that works", row.Row, r.Size/mib, row.Minimum)
		case float64(r.Size) > most*float64(smallest):
			t.Errorf("%s: recommended %d MiB; %d is enough", row.Row, r.Size/mib, row.Minimum)
		}
		if r.Enough(smallest - step*mib) {
			t.Errorf("%s: %d MiB are called enough, and fail", row.Row, row.Minimum-step)
		}
		if !r.Enough(r.Size) {
			t.Errorf("%s: what is recommended is not enough", row.Row)
		}
	}
}
