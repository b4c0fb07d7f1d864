package referee

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// samplePages is how many pages crash is asked to show, all over memory.
const samplePages = 48

// crashLimit is for one session, on a machine that has much else to do.
const crashLimit = time.Hour

// crashQuestions are what people ask first.
var crashQuestions = []string{"sys", "log", "bt", "ps", "mod", "pages", "end"}

// crashMark stands before the answers in what crash prints: it is asked to evaluate
// this number, with the number of the question added.
const crashMark = 0x70616e00

var crashMarked = regexp.MustCompile(`^ *hexadecimal: ([0-9a-f]+)`)

// Crash lets Debian sid's riscv64 crash open a dump of the machine, ask it what
// people ask first, and show pages. vmlinux is the kernel with its debug data. It
// takes 100 to 150 seconds of CPU time under qemu-user, most of them to read debug
// data.
func (j *Judge) Crash(ctx context.Context, vmlinux string, f Form) (*Report, error) {
	r := j.report()
	start := time.Now()
	defer r.timed(string(crashR), start)
	pages, err := j.sample(f.Level)
	if err != nil {
		return r, err
	}
	var script strings.Builder
	for i, question := range crashQuestions {
		fmt.Fprintf(&script, "eval %#x\n", crashMark+i)
		switch question {
		case "pages":
			for _, pfn := range pages {
				fmt.Fprintf(&script, "rd -64 -p %#x %d\n", pfn*pageSize, pageSize/8)
			}
		case "end":
			fmt.Fprintln(&script, "exit")
		default:
			fmt.Fprintln(&script, question)
		}
	}

	modules, err := crashKnowsModules(vmlinux)
	if err != nil {
		return r, err
	}
	var without []string
	if !modules && f.refuses(crashR, j.s.levels) == "" {
		without = []string{"--no_modules"}
	}
	out, said, err := j.runCrash(ctx, vmlinux, f, script.String(), without...)
	if err != nil {
		return r, err
	}
	finding, more := j.opened(f, crashR, said)
	r.Findings = append(r.Findings, finding)
	if more {
		r.judgeCrash(j, out, pages, modules)
	}
	return r, r.Err()
}

// gplSymbols is the member of struct module without which crash up to 9.0.2 opens
// no dump at all, whoever wrote it; the kernel has lost it between 6.12 and 7.2.
const gplSymbols = "num_gpl_syms"

// crashKnowsModules tells whether a kernel's struct module is one that crash reads.
// It looks for the member's name in the debug data.
func crashKnowsModules(vmlinux string) (bool, error) {
	f, err := os.Open(vmlinux)
	if err != nil {
		return false, err
	}
	defer f.Close()
	name := []byte("\x00" + gplSymbols + "\x00")
	buf := make([]byte, 1<<20)
	kept := 0 // of what was read before, so that a name is found where two reads meet
	for {
		n, err := f.Read(buf[kept:])
		if bytes.Contains(buf[:kept+n], name) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		at := max(0, kept+n-len(name))
		kept = copy(buf, buf[at:kept+n])
	}
}

// CrashNeedsModules checks that crash, without --no_modules, still opens no dump of a
// kernel whose struct module it does not know, so that we hear of it when it learns.
// Of other kernels there is nothing to check.
func (j *Judge) CrashNeedsModules(ctx context.Context, vmlinux string, f Form) (*Report, error) {
	r := j.report()
	modules, err := crashKnowsModules(vmlinux)
	if err != nil || modules {
		return r, err
	}
	defer r.timed(string(crashR), time.Now())
	_, said, err := j.runCrash(ctx, vmlinux, f, "exit\n")
	if err != nil {
		return r, err
	}
	r.Findings = append(r.Findings, Finding{
		Check: "crash without --no_modules refuses it: " + gplSymbols, OK: strings.Contains(said, gplSymbols), Detail: said,
	})
	return r, r.Err()
}

// runCrash runs a script in crash. said is why crash did not come to the end of it,
// "" if it did.
func (j *Judge) runCrash(ctx context.Context, vmlinux string, f Form, script string, more ...string) (out []byte, said string, err error) {
	qemu, root, err := riscv64Program(ctx, "crash", j.say)
	if err != nil {
		return nil, "", err
	}
	m, err := j.makedumpfile(ctx) // it has a directory
	if err != nil {
		return nil, "", err
	}
	input := m.file("crash.in")
	if err := os.WriteFile(input, []byte(script), 0o600); err != nil {
		return nil, "", err
	}
	out, err = crashCommand(ctx, qemu, root, input, vmlinux, f.Files, more)
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		return nil, "", err
	}
	if _, ended := crashAnswers(out, crashQuestions)["end"]; !ended {
		return out, fmt.Sprintf("%v: %s", err, tail(string(out))), nil
	}
	return out, "", nil
}

// crashCommand runs crash. How it exits says nothing: that it came to the end of the
// script does.
func crashCommand(ctx context.Context, qemu, root, input, vmlinux string, files, more []string) ([]byte, error) {
	// Some dumps are known to make it loop (its issues 198 and 216).
	ctx, cancel := context.WithTimeout(ctx, crashLimit)
	defer cancel()
	args := slices.Concat([]string{"-s", "--no_crashrc", "--no_scroll"}, more, []string{"-i", input, vmlinux}, files)
	c := riscv64Command(ctx, qemu, root, "crash", args...)
	c.Env = append(os.Environ(), "TERM=dumb", "TZ=UTC")
	return c.CombinedOutput()
}

// sample are pages all over memory that a dump must have, with something in them
// where that can be.
func (j *Judge) sample(level int) ([]uint64, error) {
	var all []uint64
	page := make([]byte, pageSize)
	end := uint64(len(j.z.class))
	var kept []uint64
	for pfn := range end {
		if j.wanted(pfn, level) {
			kept = append(kept, pfn)
		}
	}
	for i := range samplePages {
		at := i * len(kept) / samplePages
		// The next one with anything in it, unless the whole part is empty.
		best := kept[at]
		for _, pfn := range kept[at:min(at+len(kept)/samplePages, at+2000, len(kept))] {
			if err := j.c.readPage(pfn, page); err != nil {
				return nil, err
			}
			if firstNonZero(page) >= 0 {
				best = pfn
				break
			}
		}
		all = append(all, best)
	}
	return all, nil
}

// crashAnswers takes what crash printed apart: by the question.
func crashAnswers(out []byte, questions []string) map[string]string {
	answers, question := map[string]string{}, ""
	for line := range strings.Lines(string(out)) {
		if m := crashMarked.FindStringSubmatch(line); m != nil {
			if n, err := strconv.ParseUint(m[1], 16, 32); err == nil && n-crashMark < uint64(len(questions)) {
				question = questions[n-crashMark]
			}
		}
		answers[question] += line
	}
	return answers
}

// crashWords is a line of rd: an address and one or two words of 8 bytes.
var crashWords = regexp.MustCompile(`^ *([0-9a-f]+): +([0-9a-f]{16})(?: ([0-9a-f]{16}))?`)

// judgeCrash looks at what crash said; modules tells whether it was let look at them.
func (r *Report) judgeCrash(j *Judge, out []byte, pages []uint64, modules bool) {
	answers := crashAnswers(out, crashQuestions)
	says := func(question, what string, pattern string) {
		ok, err := regexp.MatchString(pattern, answers[question])
		r.Findings = append(r.Findings, Finding{Check: "crash, " + question + ": " + what, OK: ok && err == nil, Detail: fmt.Sprintf("%.400q", tail(answers[question]))})
	}
	says("sys", "the kernel", `(?m)^ *RELEASE: `+regexp.QuoteMeta(j.c.info.text("OSRELEASE"))+`$`)
	says("sys", "the CPUs", fmt.Sprintf(`(?m)^ *CPUS: %d\b`, j.c.cpus))
	says("sys", "why it died", `(?m)^ *PANIC: .*(panic|sysrq)`)
	says("log", "from the first line", regexp.QuoteMeta("Linux version "+j.c.info.text("OSRELEASE")))
	says("log", "to the end", `Kernel panic - not syncing: `)
	says("bt", "the task that died", `(?m)^PID: \d+ +TASK: [0-9a-f]{16} +CPU: \d+ +COMMAND: "panicroom"`)
	says("bt", "how it died", `(?m)^ *#\d+ .*\b(sysrq_handle_crash|vpanic|panic)\b`)
	says("ps", "what ran when it died", `(?m)^> +\d+ .*\bpanicroom *$`)
	says("ps", "processes", `(?m)^[> ] +2 +0 .*\[kthreadd\] *$`)
	if modules {
		says("mod", "modules", `(?m)^[0-9a-f]{16} +\w+ +[0-9a-f]{16} +\d+`)
	}

	words := map[uint64]uint64{}
	for line := range strings.Lines(answers["pages"]) {
		w := crashWords.FindStringSubmatch(line)
		if w == nil {
			continue
		}
		at, err := strconv.ParseUint(w[1], 16, 64)
		if err != nil {
			continue
		}
		for i, word := range w[2:] {
			if n, err := strconv.ParseUint(word, 16, 64); err == nil {
				words[at+8*uint64(i)] = n
			}
		}
	}
	wrong := differences{what: "crash shows pages as the raw copy has them"}
	raw := make([]byte, pageSize)
	for _, pfn := range pages {
		if err := j.c.readPage(pfn, raw); err != nil {
			wrong.add(pfn, err.Error())
			continue
		}
		for off := uint64(0); off < pageSize; off += 8 {
			got, ok := words[pfn*pageSize+off]
			if want := binary.LittleEndian.Uint64(raw[off:]); !ok || got != want {
				wrong.add(pfn, fmt.Sprintf("at %#x %#x, shown %v; want %#x", pfn*pageSize+off, got, ok, want))
				break
			}
		}
	}
	f := wrong.finding(len(pages))
	if !f.OK {
		f.Detail += " " + tail(answers["pages"])
	}
	r.Findings = append(r.Findings, f)
}
