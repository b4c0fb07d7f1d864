package referee

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// Session is one run of Debian sid's riscv64 crash, under qemu-user: it takes
// minutes to start, so it is asked everything at once.
type Session struct {
	Vmlinux   string   // the kernel with its debug data
	Files     []string // of the dump
	Questions []string // commands of crash
	Say       lab.Say
}

// Answers are what a [Session] brought.
type Answers struct {
	// Text is what crash printed, by the question.
	Text map[string]string
	// Modules tells whether crash was let look at modules: of kernels from 7.0 on it
	// cannot, and opens the dump only when it is told not to.
	Modules bool
	Version string // of crash
	Took    time.Duration
}

// ErrRefused means that crash did not come to the end of its questions; what it said
// stands with it.
var ErrRefused = errors.New("crash did not answer")

// Ask runs crash.
func (s *Session) Ask(ctx context.Context) (*Answers, error) {
	if s.Say == nil {
		s.Say = func(string, ...any) {}
	}
	a := &Answers{}
	var err error
	if a.Modules, err = crashKnowsModules(s.Vmlinux); err != nil {
		return nil, err
	}
	crash, err := FetchCrash(ctx, s.Say)
	if err != nil {
		return nil, err
	}
	a.Version = crash.Version
	dir, err := os.MkdirTemp("", "panicroom-crash-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	lean := filepath.Join(dir, "vmlinux")
	if err := leanVmlinux(s.Vmlinux, lean); err != nil {
		return nil, err
	}
	input := filepath.Join(dir, "crash.in")
	questions := append(append([]string(nil), s.Questions...), "exit")
	var script strings.Builder
	for i, q := range questions {
		fmt.Fprintf(&script, "eval %#x\n%s\n", crashMark+i, q)
	}
	if err := os.WriteFile(input, []byte(script.String()), 0o600); err != nil {
		return nil, err
	}
	var more []string
	if !a.Modules {
		more = []string{"--no_modules"}
	}
	begin := time.Now()
	out, err := crashCommand(ctx, crash.qemu, crash.root, input, lean, s.Files, more)
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	a.Took = time.Since(begin)
	a.Text = crashAnswers(out, questions)
	if _, ended := a.Text["exit"]; !ended {
		return a, fmt.Errorf("%w (%v): %s", ErrRefused, err, tail(string(out)))
	}
	delete(a.Text, "exit")
	for q, text := range a.Text {
		a.Text[q] = withoutMark(text)
	}
	return a, nil
}

// withoutMark takes off what eval printed before an answer: four lines.
func withoutMark(text string) string {
	for range 4 {
		line, rest, _ := strings.Cut(text, "\n")
		if !evalLine.MatchString(line) {
			break
		}
		text = rest
	}
	return text
}

var evalLine = regexp.MustCompile(`^ *(hexadecimal|decimal|octal|binary): `)

// Crash is Debian sid's riscv64 crash and what runs it here.
type Crash struct {
	Version    string
	qemu, root string
}

// FetchCrash unpacks crash with its libraries into the cache.
func FetchCrash(ctx context.Context, say lab.Say) (*Crash, error) {
	c := &Crash{}
	var err error
	if c.qemu, c.root, err = riscv64Program(ctx, "crash", say); err != nil {
		return nil, err
	}
	out, err := riscv64Command(ctx, c.qemu, c.root, "crash", "-v").CombinedOutput()
	m := crashVersionLine.FindSubmatch(out)
	if m == nil {
		return nil, fmt.Errorf("crash -v says no version (%v): %s", err, tail(string(out)))
	}
	c.Version = string(m[1])
	return c, nil
}

var crashVersionLine = regexp.MustCompile(`(?m)^crash (\d\S*)`)

// Command is the command line that has crash play a script, quietly.
func (c *Crash) Command(ctx context.Context, script, vmlinux string, files ...string) []string {
	return riscv64Command(ctx, c.qemu, c.root, "crash", append([]string{"-s", "--no_crashrc", "--no_scroll", "-i", script, vmlinux}, files...)...).Args
}

// Emulator is what runs it: it runs other programs of riscv64 too.
func (c *Crash) Emulator() string { return c.qemu }
