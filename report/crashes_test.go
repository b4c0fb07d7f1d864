package report

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
)

// recorded is a crash of a real machine: the end of its log, and beside it what the
// report must say and the stacks that were in its dump. TestKinds of e2e makes them;
// docs/kinds.md says what of.
type recorded struct {
	name           string
	kind           Kind
	class          Class
	detail, source string
	frames         []string
	crashed, stuck *stack.Stack
	log            []kernel.LogRecord
	symbols        map[kernel.VirtAddr]string // that the log needs
}

// readRecorded reads testdata/crashes: lines that begin with # say what was, the others
// are of dmesg.txt.
func readRecorded(t *testing.T, path string) recorded {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := recorded{name: strings.TrimSuffix(filepath.Base(path), ".log"), symbols: map[kernel.VirtAddr]string{}}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if fact, ok := strings.CutPrefix(line, "# "); ok {
			key, value, _ := strings.Cut(fact, " ")
			switch key {
			case "kind":
				c.kind = Kind(value)
			case "class":
				c.class = Class(value)
			case "detail":
				c.detail = value
			case "source":
				c.source = value
			case "frames":
				c.frames = strings.Fields(value)
			case "symbol":
				// The function that an address returns to.
				addr, name, _ := strings.Cut(value, " ")
				n, ok := leadingHex(addr)
				if !ok {
					t.Fatalf("%s: %q", path, line)
				}
				c.symbols[kernel.VirtAddr(n-1)&^0xff] = name
			case "crashed":
				c.crashed = frames(value)
			case "stuck":
				c.stuck = frames(value)
			default:
				t.Fatalf("%s: %q", path, line)
			}
			continue
		}
		c.log = append(c.log, dmesgLine(t, line))
	}
	return c
}

// dmesgLine reads "[   15.270354] [     T67] text".
func dmesgLine(t *testing.T, line string) kernel.LogRecord {
	t.Helper()
	stamp, rest, ok1 := strings.Cut(strings.TrimPrefix(line, "["), "] [")
	caller, text, ok2 := strings.Cut(rest, "] ")
	caller = strings.TrimSpace(caller)
	s, err1 := strconv.ParseFloat(strings.TrimSpace(stamp), 64)
	if !ok1 || !ok2 || err1 != nil || caller == "" {
		t.Fatalf("line %q", line)
	}
	id, err := strconv.ParseUint(caller[1:], 10, 31)
	if err != nil {
		t.Fatalf("caller in %q", line)
	}
	return kernel.LogRecord{Time: time.Duration(s * 1e9), Text: text, Caller: kernel.Caller{Kind: caller[0], ID: uint32(id)}}
}

// TestRecorded reads real crashes, and makes the signature of each from its log and
// from its stack: it is the same.
func TestRecorded(t *testing.T) {
	all, err := filepath.Glob("testdata/crashes/*.log")
	if err != nil || len(all) < 10 {
		t.Fatalf("%d recorded crashes, %v", len(all), err)
	}
	for _, path := range all {
		c := readRecorded(t, path)
		t.Run(c.name, func(t *testing.T) {
			d := &dead{log: c.log, symbols: c.symbols}
			r := build(d, nil)
			if r.Crash.Kind != c.kind || r.Crash.Class != c.class || r.Crash.Detail != c.detail || r.Crash.Source != c.source {
				t.Errorf("%s, %s, %q, at %q; want %s, %s, %q, at %q",
					r.Crash.Kind, r.Crash.Class, r.Crash.Detail, r.Crash.Source, c.kind, c.class, c.detail, c.source)
			}
			if got, want := strings.Join(r.Signature.Frames, " "), strings.Join(c.frames, " "); got != want {
				t.Errorf("frames of the log: %s; want %s", got, want)
			}
			if c.crashed == nil && c.stuck == nil {
				return
			}
			again := &Report{}
			again.Crash = r.Crash
			of := again.sign((&Report{}).readLog(d, 1), c.crashed, c.stuck)
			if of.ID != r.Signature.ID {
				t.Errorf("signature of the stack is %+v; that of the log %+v", of, r.Signature)
			}
		})
	}
}

// The same crash of two kernels has one signature.
func TestRecordedPairs(t *testing.T) {
	ids := map[string]map[string]string{} // by kind and kernel
	pairs, seen := 0, map[string]string{}
	all, err := filepath.Glob("testdata/crashes/*.log")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		c := readRecorded(t, path)
		release, name, ok := strings.Cut(c.name, "-")
		if !ok {
			t.Fatalf("%s: want KERNEL-KIND.log", path)
		}
		if ids[name] == nil {
			ids[name] = map[string]string{}
		}
		r := build(&dead{log: c.log, symbols: c.symbols}, nil)
		ids[name][release] = r.Signature.ID
	}
	sysrq := signature(string(KindSysrq), "", nil).ID // all of them are one
	for name, of := range ids {
		if len(of) == 2 {
			pairs++
		}
		for release, id := range of {
			if other := of["6.12"]; other != "" && id != other {
				t.Errorf("%s has signature %s on %s, and %s on 6.12", name, id, release, other)
			}
			if other, ok := seen[id]; ok && other != name && id != sysrq {
				t.Errorf("%s and %s have the same signature", name, other)
			}
			seen[id] = name
		}
	}
	if pairs < 4 {
		t.Errorf("%d crashes are recorded of two kernels", pairs)
	}
}
