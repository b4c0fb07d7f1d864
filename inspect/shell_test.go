package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/kernel"
)

var update = flag.Bool("update", false, "rewrite the golden answers in testdata")

// What is typed and what comes of it; answers of many lines stand in a file.
func TestAnswers(t *testing.T) {
	w := newWorld(t)
	sh := NewShell(New(w.kernel(t), false), false)
	var b strings.Builder
	for _, line := range []string{
		"help", "help rd", "help nothing", "",
		"struct task", "struct task.comm,next", "task", "enum color", "union task", "struct tasx", "struct nothing",
		"struct task first_task", "struct task.pid,next->comm first_task", "struct task first_task 2", "struct -x -m pid task first_task", "* queue runqueues:1",
		"struct task.none", "struct task.none first_task", "struct task 0", "struct task zzz", "struct task first_task 0", "struct", "struct task 1 2 3",
		"whatis schedule", "whatis runqueues", "whatis struct queue", "whatis jiffies", "whatis nothing",
		"p runqueues", "p runqueues:1.current->comm", "p runqueues:1", "p runqueues:7", "p jiffies", "p -x jiffies", "p big", "p nothing", "p jiffies.x", "p",
		"rd banner", "rd -a banner 24", "rd -8 banner 20", "rd -16 banner 3", "rd -32 banner 1", "rd -s first_task 4", "rd -p 80200000 1", "rd 0", "rd banner none", "rd -64 banner+8 1", "rd -12 banner",
		"dis schedule", "dis schedule+2 1", "dis -f schedule+2", "dis -r schedule+2", "dis nothing", "dis 0", "dis schedule none", "dis -f first_task 1",
		"list module_entry.list gadgets", "list -s number module_entry.list gadgets", "list -h module_entry.list zzz", "list task.comm first_task", "list task first_task", "list task.comm", "list module_entry.list first_task",
		"vtop banner", "vtop banner 0", "vtop nothing",
		"sym schedule", "sym sched*", "sym nothing", "sym nothing*", "sym [", "sym schedule+4", "sym schedule nothing",
		"mod", "mod ext4", "mod nothing", "lsmod | gadget",
		"log", "netstat", "bt -a -D", "foreach bt here", "kmem -n 3", "ps -k -u", "rd banner |", "| x", "rd banner | grep -v 6c", "sym * | grep -i ^.*SCHED | head 1", "rd banner | head x", "rd banner | sort -n", "rd banner | grep -z x", "rd banner | grep (", "rd 'banner", "# a comment", "rd banner 1 # here too", "quit now",
	} {
		fmt.Fprintf(&b, "> %s\n", line)
		err := sh.Eval(line, &b, 80)
		if errors.Is(err, errQuit) {
			fmt.Fprintln(&b, "(end)")
		} else if err != nil {
			ui.WriteError(&b, "error", err)
		}
	}
	// Where the linear map has what was made is the machine's business.
	text := regexp.MustCompile(`ffffaf8[0-9a-f]{9}`).ReplaceAllStringFunc(b.String(), func(s string) string {
		at, err := strconv.ParseUint(s, 16, 64)
		if err != nil {
			t.Error(err)
		}
		return fmt.Sprintf("(linear+%#06x)", at-w.base)
	})
	golden := filepath.Join("testdata", "answers.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), text); d != "" {
		t.Errorf("answers (-want +got), -update accepts them:\n%s", d)
	}
	for line := range strings.Lines(b.String()) {
		if n := len(strings.TrimSuffix(line, "\n")); n > 80 && !strings.HasPrefix(line, "error: ") && !strings.HasPrefix(line, "hint: ") && !strings.HasPrefix(line, "> ") {
			t.Errorf("line of %d columns: %q", n, line)
		}
	}
}

// Each answer for programs is one object on one line.
func TestScript(t *testing.T) {
	w := newWorld(t)
	sh := NewShell(New(w.kernel(t), false), true)
	var out, errOut bytes.Buffer
	err := sh.Run(t.Context(), strings.NewReader("struct task first_task\nnothing\n\nsym schedule\np runqueues\nrd banner 1\nmod\nstruct queue\nquit\nsym jiffies\n"), &out, &errOut, 80)
	if !errors.Is(err, ErrLines) || !strings.HasPrefix(errOut.String(), "line 2: \"nothing\" is no question\nhint: ") {
		t.Errorf("%v, %q; want that line 2 was not answered", err, &errOut)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 6 {
		t.Errorf("%d lines of answers; want 6:\n%s", len(lines), &out)
	}
	for _, l := range lines {
		if !json.Valid([]byte(l)) {
			t.Errorf("no JSON: %s", l)
		}
	}
	for i, want := range []string{`"value":{"pid":100,"comm":"worker/0"`, `"name":"schedule"`, `"name":"runqueues:1"`, `"words":["0x`, `"taints":"O"`, `{"name":"running","type":"unsigned long","offset":0,"size":8}`} {
		if i < len(lines) && !strings.Contains(lines[i], want) {
			t.Errorf("answer %d is %s; want %s in it", i, lines[i], want)
		}
	}
}

func TestComplete(t *testing.T) {
	w := newWorld(t)
	sh := NewShell(New(w.kernel(t), false), false)
	for line, want := range map[string]string{
		"stru":                    "struct ",
		"help stru":               "help struct ",
		"struct ta":               "struct task", // and task_extra
		"struct task_":            "struct task_extra ",
		"struct task.co":          "struct task.comm",
		"struct task.pid,ne":      "struct task.pid,next",
		"struct task.next.c":      "struct task.next.comm",
		"struct queue.current->p": "struct queue.current->pid",
		"struct task fir":         "struct task first_task ",
		"whatis sch":              "whatis schedule",
		"rd jif":                  "rd jiffies ",
		"p runqueues:1.cur":       "p runqueues:1.current",
		"sym zzz":                 "sym zzz",
		"mod gad":                 "mod gadget ",
		"nothing x":               "nothing x",
		"ps | gre":                "ps | gre",
		"struct nothing.x":        "struct nothing.x",
		"":                        "",
	} {
		var shown strings.Builder
		got, pos := sh.Complete(line, len(line), &shown, 80)
		if got != want || pos != len(got) {
			t.Errorf("%q is completed to %q at %d; want %q", line, got, pos, want)
		}
		if line == "" && (!strings.Contains(shown.String(), "whatis") || !strings.Contains(shown.String(), "quit")) {
			t.Errorf("an empty line shows %q; want all verbs", &shown)
		}
	}
	var shown strings.Builder
	if sh.Complete("struct task", 11, &shown, 80); shown.String() != "task        task_extra\n" {
		t.Errorf("what task may become: %q", &shown)
	}
	// In the middle of a line what stands behind stays.
	if got, pos := sh.Complete("rd jif 4", 6, io.Discard, 80); got != "rd jiffies  4" || pos != 11 {
		t.Errorf("%q at %d", got, pos)
	}
}

// terminal is a person who types, and what she sees.
type terminal struct {
	io.Reader
	bytes.Buffer
}

func (t *terminal) Read(p []byte) (int, error) { return t.Reader.Read(p) }

func TestInteract(t *testing.T) {
	w := newWorld(t)
	sh := NewShell(New(w.kernel(t), false), false)
	history, err := OpenHistory(filepath.Join(t.TempDir(), "state", "history"))
	if err != nil {
		t.Fatal(err)
	}
	history.Add("rd banner 1")
	raws, restored := 0, 0
	raw := func() (func(), error) { raws++; return func() { restored++ }, nil }
	// A word is completed, ^C takes a line back, the key up brings an old one, ^D ends.
	tty := &terminal{Reader: strings.NewReader("sym sched\tx\x03sym jif\t\r\x1b[A\x1b[A\rnonsense\r\x04")}
	if err := sh.interact(t.Context(), tty, raw, func() (int, int) { return 80, 24 }, history); err != nil {
		t.Fatal(err)
	}
	seen := tty.String()
	for _, want := range []string{prompt, " D jiffies\n", "  Linux ve\n", "panicroom: \"nonsense\" is no question\nhint: help lists"} {
		if !strings.Contains(seen, want) {
			t.Errorf("%q is not seen in %q", want, seen)
		}
	}
	if raws != 4 || restored != raws {
		t.Errorf("the terminal was changed %d times and changed back %d times; want 4 each", raws, restored)
	}
	if got := []string{history.At(0), history.At(1), history.At(2)}; !slices.Equal(got, []string{"nonsense", "rd banner 1", "sym jiffies"}) {
		t.Errorf("history %q", got)
	}
}

func TestHistory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "history")
	h, err := OpenHistory(path)
	if err != nil || h.Len() != 0 {
		t.Fatal(h, err)
	}
	for _, l := range []string{"one", "two", "two", " ", "three"} {
		h.Add(l)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("%v, %v; want a file for its owner", info, err)
	}
	if dir, err := os.Stat(filepath.Dir(path)); err != nil || dir.Mode() != fs.ModeDir|0o700 {
		t.Errorf("%v, %v; want a directory for its owner", dir.Mode(), err)
	}
	if h, err = OpenHistory(path); err != nil || h.Len() != 3 || h.At(0) != "three" || h.At(2) != "one" {
		t.Errorf("%+v, %v", h, err)
	}
	// A file that has grown is cut, one with anything in it is no harm.
	f := slices.Repeat([]byte("a line that was typed long ago and has some length\n"), maxHistoryFile/40)
	f = append(f, "\x1b[31mred\nlast\n"...)
	if err := os.WriteFile(path, f, 0o600); err != nil {
		t.Fatal(err)
	}
	if h, err = OpenHistory(path); err != nil || h.Len() != maxHistory || h.At(0) != "last" || strings.Contains(h.At(1), "red") {
		t.Errorf("%d lines, %v", h.Len(), err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > maxHistoryFile || info.Mode() != 0o600 {
		t.Errorf("%v, %v; want a shorter file", info, err)
	}
	// Where nothing can be kept, it works all the same.
	h, err = OpenHistory(filepath.Join(path, "below"))
	if h.Add("x"); err == nil || h.Len() != 1 {
		t.Errorf("below a file: %+v, %v", h, err)
	}
	if h, err = OpenHistory(filepath.Dir(path)); err == nil || h.Len() != 0 {
		t.Errorf("a directory: %+v, %v", h, err)
	}
}

// ^C ends an answer, and nothing else.
func TestInterrupt(t *testing.T) {
	var b bytes.Buffer
	w := interruptible(&b)
	defer w.stop()
	if _, err := w.Write([]byte("before")); err != nil {
		t.Fatal(err)
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Signal(os.Interrupt)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.signal <- <-w.signal // it has come
	if _, err := w.Write([]byte("after")); !errors.Is(err, errInterrupted) || b.String() != "before" {
		t.Errorf("%q, %v; want no more after ^C", &b, err)
	}
	// A script ends when it should.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.Reset()
	sh := NewShell(New(newWorld(t).kernel(t), false), false)
	if err := sh.Run(ctx, strings.NewReader("help\nhelp\n"), &b, &b, 80); !errors.Is(err, context.Canceled) || b.Len() > 0 {
		t.Errorf("%q, %v", &b, err)
	}
}

// tearing fails some times, as lists of a running kernel do.
type tearing struct {
	fail, asked int
	err         error
}

func (q *tearing) Ask(*Session) (Answer, error) {
	if q.asked++; q.asked <= q.fail {
		return nil, fmt.Errorf("list: %w", q.err)
	}
	return &ModuleList{}, nil
}

func TestTorn(t *testing.T) {
	if torn(Read{}, kernel.ErrNotMapped) || !torn(Tasks{}, kernel.ErrNotMapped) {
		t.Error("a wrong address is no list that tears, and a list is")
	}
	for _, c := range []struct {
		live        bool
		fail, asked int
		err         error
		torn        bool
	}{
		{true, 2, 3, kernel.ErrCorrupt, false},
		{true, 99, attempts, kernel.ErrCorrupt, true},
		{true, 1, 2, kernel.ErrNotMapped, false},
		{true, 99, 1, kernel.ErrNoInfo, false},
		{false, 2, 1, kernel.ErrCorrupt, false},
	} {
		q := &tearing{fail: c.fail, err: c.err}
		_, err := New(nil, c.live).Ask(q)
		if q.asked != c.asked || errors.Is(err, ErrTorn) != c.torn || (c.fail >= c.asked) != (err != nil) {
			t.Errorf("%+v: asked %d times, %v", c, q.asked, err)
		}
	}
}

// Whatever is typed is answered, or refused with an error.
func FuzzEval(f *testing.F) {
	for _, line := range []string{"struct task first_task 2", "p runqueues.current->comm | grep -v '(' | head 3", "rd -8 banner 20", "sym sched*", "whatis x", "foreach UN bt", "help", "'", "||", "rd -s -a -p 80200000 4"} {
		f.Add(line)
	}
	w := newWorld(f)
	k := w.kernel(f)
	f.Fuzz(func(t *testing.T, line string) {
		sh := NewShell(New(k, false), false)
		var b bytes.Buffer
		sh.Eval(line, &b, 80)
		if b.Len() > 64<<20 {
			t.Errorf("%d bytes", b.Len())
		}
		if got, pos := sh.Complete(line, len(line), io.Discard, 80); pos > len(got) {
			t.Errorf("%q at %d", got, pos)
		}
	})
}
